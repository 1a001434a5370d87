//! What samples are made of: reals, or whole numbers.

use super::array::{Array, unravel};
use super::dataset::{ACCEPTS, DataSet, WholeNumbers};
use super::error::DataError;
use super::synthetic::{fill_normal, fill_whole};

/// An element of a sample: f32, or i64 for networks that take whole numbers.
pub trait Number: Copy + Default + Send + Sync {
    /// Copies the sample of number `index` that starts at element `first` of an array, checked.
    fn copy(set: &DataSet, array: &Array, index: usize, first: usize, sample: &mut [Self]) -> Result<(), DataError>;
    /// Fills a synthetic sample.
    fn draw(sample: &mut [Self], whole: Option<WholeNumbers>, seed: u64, input: u16, index: u64);
    /// What a pixel becomes, whose value after normalization is known.
    fn of_pixel(pixel: u8, normalized: f32) -> Self;
}

impl Number for f32 {
    fn copy(set: &DataSet, array: &Array, index: usize, first: usize, sample: &mut [f32]) -> Result<(), DataError> {
        let values = array.floats(first..first + sample.len())?.ok_or_else(|| array.wrong_dtype(ACCEPTS))?;
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(DataError::NotFinite {
                place: array.place().to_owned(),
                sample: index,
                position: unravel(at, set.shape()),
                value: array.float_at(first + at)?.unwrap_or(f64::NAN),
            });
        }
        sample.copy_from_slice(&values);
        Ok(())
    }

    fn draw(sample: &mut [f32], _: Option<WholeNumbers>, seed: u64, input: u16, index: u64) {
        fill_normal(sample, seed, input, index);
    }

    fn of_pixel(_: u8, normalized: f32) -> f32 {
        normalized
    }
}

impl Number for i64 {
    fn copy(set: &DataSet, array: &Array, index: usize, first: usize, sample: &mut [i64]) -> Result<(), DataError> {
        let (low, high) = set.whole().map_or((i64::MIN, i64::MAX), |w| (w.low, w.high));
        let numbers = array.whole_numbers(first..first + sample.len())?;
        for (at, (number, to)) in numbers.into_iter().zip(sample).enumerate() {
            *to = number.filter(|n| (low..=high).contains(n)).ok_or_else(|| DataError::NotWhole {
                place: array.place().to_owned(),
                sample: index,
                position: unravel(at, set.shape()),
                value: array.text_at(first + at).into(),
                low,
                high,
            })?;
        }
        Ok(())
    }

    fn draw(sample: &mut [i64], whole: Option<WholeNumbers>, seed: u64, input: u16, index: u64) {
        fill_whole(sample, whole.map_or((0, 1), |w| w.drawn), seed, input, index);
    }

    fn of_pixel(pixel: u8, _: f32) -> i64 {
        pixel.into()
    }
}
