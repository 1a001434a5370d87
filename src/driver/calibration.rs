//! Calibration data for the passes, and its division between the fits.

use super::inputs::{input_specs, tensor_of};
use crate::data::{DataError, DataSet, Preprocess, draw, split};
use catc_ir::{Element, Graph, Tensor};
use catc_onnx::WholeType;
use catc_passes::{BoxError, CalibrationData};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Samples that are drawn when no calibration data is given.
const SYNTHETIC_SAMPLES: usize = 32;

/// Where calibration inputs come from.
#[derive(Clone, Copy, Debug, Default)]
pub struct CalibrationSource<'a> {
    /// The file or folder; synthetic inputs without it.
    pub path: Option<&'a Path>,
    /// How images become network inputs.
    pub preprocess: Option<&'a Preprocess>,
    /// At most this many samples, drawn at random: files may be sorted.
    pub limit: Option<usize>,
    /// Inputs for the correction alone.
    pub correction: Option<&'a Path>,
    /// Without those, how many of the calibration samples are held out for the correction alone; if 0, it is fitted on all of them.
    pub holdout: usize,
}

/// Opened calibration inputs: those that ranges and scales are fitted on, and those kept for the correction of the outputs.
pub struct Calibration {
    /// For ranges and scales.
    pub ranges: SampleSet,
    /// For the correction: other inputs if some were given or held out, else the same.
    pub correction: Option<SampleSet>,
    /// In words, for reports.
    pub description: String,
    /// Whether the inputs are random numbers.
    pub synthetic: bool,
    /// Notes on the files, for the user.
    pub notes: Vec<String>,
}

impl Calibration {
    /// Opens the data for the inputs of `graph`, whose types in the model's file are `whole` where they are no reals. `correct` says whether
    /// the outputs will be corrected. Every sample that will be used is read, and checked for what no input takes: NaN, infinities, indices
    /// outside of their table.
    pub fn open(
        source: &CalibrationSource,
        graph: &Graph,
        whole: &[Option<WholeType>],
        correct: bool,
        seed: u64,
    ) -> Result<Calibration, DataError> {
        let specs = input_specs(graph, whole);
        let elements: Vec<Element> = graph.inputs.iter().map(|(v, _)| graph.value_type(*v).element).collect();
        let all = |sets| SampleSet::all(sets, elements.clone());
        let Some(path) = source.path else {
            let n = source.limit.unwrap_or(SYNTHETIC_SAMPLES);
            let ranges = all(DataSet::synthetic_inputs(&specs, seed, n)?);
            let kind = match specs.iter().filter(|s| s.whole.is_some()).count() {
                0 => "standard normal",
                whole if whole == specs.len() => "whole numbers",
                _ => "standard normal and whole numbers",
            };
            let description = format!("{n} synthetic inputs ({kind}, seed {seed})");
            return Ok(Calibration { ranges, correction: None, description, synthetic: true, notes: vec![] });
        };
        let sets = DataSet::open_inputs(path, source.preprocess, &specs)?;
        let mut notes: Vec<String> = sets.iter().flat_map(|s| s.notes()).cloned().collect();
        let samples = all;
        let mut all = samples(sets);
        let total = all.len();
        if let Some(limit) = source.limit {
            all.indices = draw(total, limit, seed);
            if limit > total {
                notes.push(format!("{}: {limit} samples were asked for, {total} are there.", path.display()));
            }
        }
        all.sets.iter().try_for_each(|s| s.validate(&all.indices))?;
        let mut description = all.sets[0].describe(all.len());
        if all.len() < total {
            description += &format!("; drawn by seed {seed}");
        }
        let correction = match source.correction {
            _ if !correct => None,
            Some(path) => {
                let sets = DataSet::open_inputs(path, source.preprocess, &specs)?;
                notes.extend(sets.iter().flat_map(|s| s.notes()).cloned());
                sets.iter().try_for_each(|s| s.validate_all())?;
                description += &format!("; correction fitted on {}", sets[0].describe(sets[0].len()));
                Some(samples(sets))
            }
            None if source.holdout == 0 => Some(all.clone()),
            None => {
                let parts = split(all.len(), source.holdout, seed)?;
                let chosen = |part: Vec<usize>| part.into_iter().map(|i| all.indices[i]).collect();
                let correction = SampleSet { indices: chosen(parts.held_out), ..all.clone() };
                all.indices = chosen(parts.fit);
                description += &format!("; {} of them held out for the correction", source.holdout);
                Some(correction)
            }
        };
        Ok(Calibration { ranges: all, correction, description, synthetic: false, notes })
    }
}

/// Some samples of a data set for each network input.
#[derive(Clone)]
pub struct SampleSet {
    sets: std::sync::Arc<Vec<DataSet>>,
    elements: Vec<Element>,
    indices: Vec<usize>,
    read: std::sync::Arc<AtomicBool>,
}

impl SampleSet {
    fn all(sets: Vec<DataSet>, elements: Vec<Element>) -> Self {
        let indices = (0..sets.first().map_or(0, DataSet::len)).collect();
        SampleSet { sets: std::sync::Arc::new(sets), elements, indices, read: Default::default() }
    }
}

impl SampleSet {
    /// Whether any sample was asked for.
    pub fn was_read(&self) -> bool {
        self.read.load(Ordering::Relaxed)
    }
}

impl CalibrationData for SampleSet {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn sample(&self, index: usize) -> Result<Vec<Tensor>, BoxError> {
        self.read.store(true, Ordering::Relaxed);
        let tensor = |(set, element): (&DataSet, &Element)| Ok(tensor_of(set, *element, self.indices[index])?);
        self.sets.iter().zip(&self.elements).map(tensor).collect()
    }
}
