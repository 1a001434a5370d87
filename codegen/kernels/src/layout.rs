//! The order in which a kernel reads its weights.
//!
//! For each output pixel, a convolution kernel reads *runs* of the input: contiguous ranges of memory. In NHWC storage a whole filter row
//! is one run if the filter is not dilated along the row and all channels take part; else each filter tap is a run. A run consists of
//! *steps*. Each step uses one *weight vector* per vector of output channels. The order of packed weights is therefore
//!
//! `[group][block of vectors][run][step][vector in block]`
//!
//! with `vectors_per_block` vectors in a block; the last block of a group may have fewer.

use crate::weights::WeightShape;

/// What one contiguous run of the input covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Runs {
    /// One filter row, so `kernel_height` runs. Its pixels are `pixel_stride` storage units apart. Only for one group and no dilation along
    /// the row. Units past the channels of a pixel have zero weights.
    Row {
        /// Storage units (codes, code pairs or floats) from one pixel to the next.
        pixel_stride: usize,
    },
    /// One filter tap, so `kernel_height * kernel_width` runs. A run is the input channels of one group at one pixel.
    Tap,
}

/// The order of packed weights: which weight sits in which vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightLayout {
    /// Extents of the weights; `inputs` counts storage units, for example pairs of codes if the kernel reads pairs.
    pub shape: WeightShape,
    /// What a run covers.
    pub runs: Runs,
    /// Output channels in one vector.
    pub channels_per_vector: usize,
    /// Storage units of the input per step.
    pub units_per_step: usize,
    /// Vectors of output channels that a tile computes together.
    pub vectors_per_block: usize,
}

impl WeightLayout {
    /// Runs per output pixel.
    pub fn run_count(&self) -> usize {
        match self.runs {
            Runs::Row { .. } => self.shape.kernel_height,
            Runs::Tap => self.shape.kernel_height * self.shape.kernel_width,
        }
    }

    /// Storage units in one run.
    pub fn run_length(&self) -> usize {
        match self.runs {
            Runs::Row { pixel_stride } => (self.shape.kernel_width - 1) * pixel_stride + self.shape.inputs,
            Runs::Tap => self.shape.inputs,
        }
    }

    /// Steps in one run.
    pub fn steps_per_run(&self) -> usize {
        self.run_length().div_ceil(self.units_per_step)
    }

    /// Steps of all runs.
    pub fn steps(&self) -> usize {
        self.run_count() * self.steps_per_run()
    }

    /// Vectors of output channels in one group.
    pub fn vectors(&self) -> usize {
        self.shape.outputs.div_ceil(self.channels_per_vector)
    }

    /// Weight vectors of all groups.
    pub fn vector_count(&self) -> usize {
        self.shape.groups * self.vectors() * self.steps()
    }

    /// Filter row, filter column and channel (in units) at `unit` of `run`; `None` between pixels and past the end.
    pub fn position(&self, run: usize, unit: usize) -> Option<(usize, usize, usize)> {
        let (ky, kx, channel) = match self.runs {
            Runs::Row { pixel_stride } => (run, unit / pixel_stride, unit % pixel_stride),
            Runs::Tap => (run / self.shape.kernel_width, run % self.shape.kernel_width, unit),
        };
        (kx < self.shape.kernel_width && channel < self.shape.inputs).then_some((ky, kx, channel))
    }

    /// Position, counted in vectors, of the weights for output-channel vector `vector` at (`run`, `step`).
    pub fn vector_index(&self, group: usize, vector: usize, run: usize, step: usize) -> usize {
        let block = vector / self.vectors_per_block;
        let in_block = self.vectors_per_block.min(self.vectors() - block * self.vectors_per_block);
        let block_start = (group * self.vectors() + block * self.vectors_per_block) * self.steps();
        block_start + (run * self.steps_per_run() + step) * in_block + vector % self.vectors_per_block
    }

    /// Calls `visit(group, vector, run, step, index)` for every weight vector.
    pub fn for_each_vector<E>(
        &self,
        mut visit: impl FnMut(usize, usize, usize, usize, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        for group in 0..self.shape.groups {
            for vector in 0..self.vectors() {
                for run in 0..self.run_count() {
                    for step in 0..self.steps_per_run() {
                        visit(group, vector, run, step, self.vector_index(group, vector, run, step))?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn layout(runs: Runs) -> WeightLayout {
        let shape = WeightShape { groups: 2, outputs: 11, inputs: 3, kernel_height: 2, kernel_width: 3 };
        WeightLayout { shape, runs, channels_per_vector: 4, units_per_step: 4, vectors_per_block: 2 }
    }

    #[test]
    fn every_vector_has_its_own_place() {
        for runs in [Runs::Row { pixel_stride: 3 }, Runs::Row { pixel_stride: 5 }, Runs::Tap] {
            let layout = layout(runs);
            let mut seen = vec![false; layout.vector_count()];
            let visited: Result<(), Infallible> = layout.for_each_vector(|_, _, _, _, index| {
                assert!(!std::mem::replace(&mut seen[index], true));
                Ok(())
            });
            visited.unwrap();
            assert!(seen.into_iter().all(|s| s));
        }
    }

    #[test]
    fn runs_meet_every_weight_once() {
        for runs in [Runs::Row { pixel_stride: 3 }, Runs::Row { pixel_stride: 5 }, Runs::Tap] {
            let layout = layout(runs);
            let mut positions: Vec<_> = (0..layout.run_count())
                .flat_map(|run| (0..layout.steps_per_run() * 4).map(move |unit| (run, unit)))
                .filter_map(|(run, unit)| layout.position(run, unit))
                .collect();
            positions.sort_unstable();
            let all: Vec<_> = (0..2).flat_map(|y| (0..3).flat_map(move |x| (0..3).map(move |c| (y, x, c)))).collect();
            assert_eq!(positions, all);
        }
    }
}
