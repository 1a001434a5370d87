//! What a sweep measures: networks (bits, method, seed) and the variants of their outputs.

use catc_passes::cat::{CatOptions, Selection};
use catc_passes::{Method, RecipeOptions, recipe_passes};
use std::fmt;
use std::path::PathBuf;

/// Alpha, and clusters and dimensions, of the points of a curve along another axis, unless the plan fixes them: the paper's values.
const CURVE_ALPHA: f64 = 0.4;
const CURVE_AT_2_BITS: (usize, usize) = (4, 5);
const CURVE_ABOVE: (usize, usize) = (64, 50);

/// What to sweep.
#[derive(Clone, Debug)]
pub struct SweepOptions {
    /// The ONNX file.
    pub model: PathBuf,
    /// Calibration inputs.
    pub calib: PathBuf,
    /// At most this many of them, drawn by the seed of each network.
    pub limit: Option<usize>,
    /// Inputs for the correction alone.
    pub cat_data: Option<PathBuf>,
    /// Without those, how many calibration inputs are held out for the correction alone; if 0, it is fitted on all of them.
    pub holdout: usize,
    /// How images become network inputs.
    pub preprocess: Option<PathBuf>,
    /// Test inputs. Nothing is fitted or chosen on them.
    pub data: PathBuf,
    /// Their labels.
    pub labels: PathBuf,
    /// The folder of journal, logits and results.
    pub out: PathBuf,
    /// What networks and variants there are.
    pub plan: SweepPlan,
    /// Memory for what methods that learn keep of the calibration inputs, in bytes, for each job.
    pub max_memory: usize,
    /// Networks made at once.
    pub jobs: usize,
    /// Threads in all.
    pub threads: usize,
}

/// How the outputs of a network are treated in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Correction {
    /// Not at all.
    Off,
    /// The cluster-wise affine correction, by cross-validation where nothing is fixed.
    On,
    /// One affine map for all images (K = 1, alpha = 1): the plain affine transformation of the paper's table 1.
    Plain,
}

/// The names of the corrections, as options take them.
pub const CORRECTIONS: &[(&str, Correction)] =
    &[("on", Correction::On), ("off", Correction::Off), ("plain", Correction::Plain)];

/// The combinations.
#[derive(Clone, Debug, Default)]
pub struct SweepPlan {
    /// Bits of weights.
    pub wbits: Vec<u8>,
    /// Bits of activations.
    pub abits: Vec<u8>,
    /// Methods.
    pub methods: Vec<Method>,
    /// All other options of the recipes; the bits, method and correction in it are ignored.
    pub recipe: RecipeOptions,
    /// Seeds.
    pub seeds: Vec<u64>,
    /// Corrections in the tables.
    pub corrections: Vec<Correction>,
    /// Weights of the correction. One value fixes the weight; several make a curve. The same holds for the next three fields.
    pub alphas: Vec<f64>,
    /// Numbers of clusters.
    pub clusters: Vec<usize>,
    /// Dimensions that clusters are formed in.
    pub dims: Vec<usize>,
    /// Numbers of images that the correction is fitted to.
    pub samples: Vec<usize>,
}

/// What a curve runs along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Axis {
    /// Weight of the correction (figure 3).
    Alpha,
    /// Number of clusters (figure 4).
    Clusters,
    /// Dimensions of the principal space (figure 5).
    Pca,
    /// Images that it is fitted to (table 4).
    Samples,
}

impl Axis {
    /// All of them.
    pub const ALL: [Axis; 4] = [Axis::Alpha, Axis::Clusters, Axis::Pca, Axis::Samples];

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Axis::Alpha => "alpha",
            Axis::Clusters => "clusters",
            Axis::Pca => "pca",
            Axis::Samples => "samples",
        }
    }

    /// What it counts, for a figure.
    pub fn title(self) -> &'static str {
        match self {
            Axis::Alpha => "weight alpha of the correction",
            Axis::Clusters => "clusters K",
            Axis::Pca => "principal components p",
            Axis::Samples => "images that the correction is fitted to",
        }
    }
}

/// One way of treating a network's outputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Variant {
    /// For the tables.
    Table(Correction),
    /// A point of a curve: the axis and the place on it.
    Curve(Axis, f64),
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Variant::Table(c) => f.write_str(CORRECTIONS.iter().find(|(_, d)| d == c).map_or("", |(name, _)| name)),
            Variant::Curve(axis, x) => write!(f, "{}={x}", axis.name()),
        }
    }
}

/// A quantized network, before its outputs are corrected.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Its recipe, without correction.
    pub recipe: RecipeOptions,
    /// Its seed.
    pub seed: u64,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "W{}A{} {} seed {}", self.recipe.wbits, self.recipe.abits, self.recipe.method, self.seed)
    }
}

/// How a correction is fitted.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// The options of the fit.
    pub options: CatOptions,
    /// The number of images, all if absent.
    pub samples: Option<usize>,
}

impl SweepPlan {
    /// The networks, method by method in the order given, so that cheap ones come first if they are named first.
    pub fn networks(&self) -> Vec<Network> {
        let mut networks = vec![];
        for &method in &self.methods {
            for &wbits in &self.wbits {
                for &abits in &self.abits {
                    let mut recipe =
                        RecipeOptions { method, wbits, abits, cat: false, real_inputs: true, ..self.recipe.clone() };
                    // Options of a pass apply to the recipes that have the pass.
                    let passes = recipe_passes(&recipe);
                    recipe.overrides.retain(|o| passes.contains(&o.pass.as_str()));
                    networks.extend(self.seeds.iter().map(|&seed| Network { recipe: recipe.clone(), seed }));
                }
            }
        }
        networks
    }

    /// The variants of each network. The network without correction comes first: all others are compared with it.
    pub fn variants(&self) -> Vec<Variant> {
        let mut variants = vec![Variant::Table(Correction::Off)];
        let others = self.corrections.iter().filter(|c| **c != Correction::Off);
        variants.extend(others.map(|&c| Variant::Table(c)));
        for axis in Axis::ALL {
            variants.extend(self.curve(axis).iter().map(|&x| Variant::Curve(axis, x)));
        }
        variants
    }

    /// Whether any variant has a correction to fit, which needs images.
    pub fn corrects(&self) -> bool {
        self.variants().len() > 1
    }

    /// The places along an axis; none unless there are several.
    pub fn curve(&self, axis: Axis) -> Vec<f64> {
        let whole = |v: &[usize]| v.iter().map(|&n| n as f64).collect();
        let places: Vec<f64> = match axis {
            Axis::Alpha => self.alphas.clone(),
            Axis::Clusters => whole(&self.clusters),
            Axis::Pca => whole(&self.dims),
            Axis::Samples => whole(&self.samples),
        };
        if places.len() > 1 { places } else { vec![] }
    }

    /// How a variant of a network is fitted; `None` for the network as it is.
    pub fn fit(&self, network: &Network, variant: Variant) -> Option<Fit> {
        let fixed = CatOptions {
            alpha: only(&self.alphas),
            clusters: only(&self.clusters),
            dims: only(&self.dims),
            seed: network.seed,
            activation_bits: network.recipe.abits,
            ..CatOptions::default()
        };
        let samples = only(&self.samples);
        match variant {
            Variant::Table(Correction::Off) => None,
            Variant::Table(Correction::On) => Some(Fit { options: fixed, samples }),
            Variant::Table(Correction::Plain) => {
                let options = CatOptions { alpha: Some(1.0), clusters: Some(1), dims: None, ..fixed };
                Some(Fit { options, samples })
            }
            Variant::Curve(axis, x) => {
                let (clusters, dims) = if network.recipe.abits <= 3 { CURVE_AT_2_BITS } else { CURVE_ABOVE };
                let mut fit = Fit {
                    options: CatOptions {
                        alpha: fixed.alpha.or(Some(CURVE_ALPHA)),
                        clusters: fixed.clusters.or(Some(clusters)),
                        dims: fixed.dims.or(Some(dims)),
                        selection: Selection::Regime,
                        ..fixed
                    },
                    samples,
                };
                match axis {
                    Axis::Alpha => fit.options.alpha = Some(x),
                    Axis::Clusters => fit.options.clusters = Some(x as usize),
                    Axis::Pca => fit.options.dims = Some(x as usize),
                    Axis::Samples => fit.samples = Some(x as usize),
                }
                Some(fit)
            }
        }
    }
}

/// The element of a list of one.
fn only<T: Copy>(list: &[T]) -> Option<T> {
    match list {
        [x] => Some(*x),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> SweepPlan {
        SweepPlan {
            wbits: vec![2, 4],
            abits: vec![2],
            methods: vec![Method::MinMax, Method::Mse],
            seeds: vec![0, 1],
            corrections: vec![Correction::On, Correction::Off],
            alphas: vec![0.0, 0.5],
            clusters: vec![8],
            ..SweepPlan::default()
        }
    }

    #[test]
    fn networks_are_every_combination_and_the_base_comes_first() {
        let plan = plan();
        let names: Vec<String> = plan.networks().iter().map(Network::to_string).collect();
        assert_eq!(names.len(), 8);
        assert_eq!((names[0].as_str(), names[7].as_str()), ("W2A2 minmax seed 0", "W4A2 mse seed 1"));
        let variants: Vec<String> = plan.variants().iter().map(Variant::to_string).collect();
        assert_eq!(variants, ["off", "on", "alpha=0", "alpha=0.5"]);
    }

    #[test]
    fn options_of_passes_are_set_where_there_is_the_pass() {
        let mut plan = plan();
        plan.methods = vec![Method::Mse, Method::QDrop];
        plan.recipe.overrides = vec!["reconstruct.batch=8".parse().unwrap()];
        let set: Vec<usize> = plan.networks().iter().map(|n| n.recipe.overrides.len()).collect();
        assert_eq!(set, [0, 0, 0, 0, 1, 1, 1, 1]);
    }

    #[test]
    fn one_value_fixes_and_several_are_a_curve() {
        let plan = plan();
        let network = &plan.networks()[0];
        assert_eq!(plan.fit(network, Variant::Table(Correction::Off)), None);
        let on = plan.fit(network, Variant::Table(Correction::On)).unwrap().options;
        assert_eq!((on.alpha, on.clusters, on.selection), (None, Some(8), Selection::CrossValidated));
        let point = plan.fit(network, Variant::Curve(Axis::Alpha, 0.5)).unwrap().options;
        assert_eq!((point.alpha, point.clusters, point.dims), (Some(0.5), Some(8), Some(5)));
        let plain = plan.fit(network, Variant::Table(Correction::Plain)).unwrap().options;
        assert_eq!((plain.alpha, plain.clusters), (Some(1.0), Some(1)));
    }
}
