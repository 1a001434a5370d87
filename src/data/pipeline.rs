//! Pixels to the network's input: colour, resize, crop, normalise, in this order.

use super::dataset::InputSpec;
use super::error::DataError;
use super::image::{MAX_PIXELS, Pixels};
use super::number::Number;
use super::preprocess::{Color, ImageLayout, Preprocess, Resize};
use super::resize::bilinear;

/// Longest side an image may be resized to.
const MAX_RESIZED_SIDE: usize = u16::MAX as usize;

/// A preprocess file made ready for one input of a network.
#[derive(Clone)]
pub struct Pipeline {
    color: Color,
    resize: Option<Resize>,
    crop: Option<[usize; 2]>,
    /// Channels, height and width that the network takes.
    expected: [usize; 3],
    /// Whether it takes the channels last.
    channels_last: bool,
    /// For each channel the network's value of each pixel value: computed in float64, rounded once.
    normalized: Vec<[f32; 256]>,
}

impl std::fmt::Debug for Pipeline {
    /// Leaves out the tables, which are long and follow from the preprocess file.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Pipeline { color, resize, crop, expected, channels_last, normalized: _ } = self;
        let last = if *channels_last { ", channels last" } else { "" };
        write!(f, "Pipeline({color:?}, resize {resize:?}, crop {crop:?}, to {expected:?}{last})")
    }
}

impl Pipeline {
    /// The pipeline for an input of three axes, channels first or last; `place` names the data in errors.
    pub fn new(preprocess: &Preprocess, input: &InputSpec, place: &str) -> Result<Pipeline, DataError> {
        let expected = &input.shape[..];
        let wrong = |found: String, advice: &str| DataError::Shape {
            place: place.to_owned(),
            found,
            expected: format!("{expected:?}"),
            advice: advice.to_owned(),
        };
        if input.whole.is_some() {
            check_pixels(preprocess, input, place)?;
        }
        let &[first, second, third] = expected else {
            let advice = ": images are for inputs of three axes; save the samples as the network takes them";
            return Err(wrong("[channels, height, width] of an image".to_owned(), advice));
        };
        let wanted = preprocess.color.channels();
        let layout = preprocess.network_layout.unwrap_or(match (first == wanted, third == wanted) {
            (false, true) => ImageLayout::Nhwc,
            _ => ImageLayout::Nchw,
        });
        let (channels, height, width) = match layout {
            ImageLayout::Nchw => (first, second, third),
            ImageLayout::Nhwc => (third, first, second),
        };
        if channels != wanted {
            let (color, layout) = (preprocess.color.name(), layout.name());
            let found = match layout {
                "nchw" => format!("[{wanted}, height, width] with color = \"{color}\""),
                _ => format!("[height, width, {wanted}] with color = \"{color}\""),
            };
            return Err(wrong(
                found,
                ": set `color` in the preprocess file to \"rgb\" or \"bgr\" (3 channels) or \"gray\" (1), and `network_layout` to \
                 \"nchw\" or \"nhwc\", as the network takes its channels first or last",
            ));
        }
        let normalized = preprocess
            .mean
            .iter()
            .zip(&preprocess.std)
            .map(|(mean, std)| std::array::from_fn(|value| ((value as f64 * preprocess.scale - mean) / std) as f32))
            .collect();
        Ok(Pipeline {
            color: preprocess.color,
            resize: preprocess.resize,
            crop: preprocess.crop,
            expected: [channels, height, width],
            channels_last: layout == ImageLayout::Nhwc,
            normalized,
        })
    }

    /// Refuses an image of this size if it would not come out in the expected shape.
    pub fn check(&self, height: usize, width: usize, place: &str) -> Result<(), DataError> {
        self.sizes(height, width, place).map(|_| ())
    }

    /// Fills `sample`, which has the elements of the expected shape, with the network's input for `image`.
    pub fn apply<T: Number>(&self, image: Pixels, sample: &mut [T], place: &str) -> Result<(), DataError> {
        let ([height, width], [top, left]) = self.sizes(image.height, image.width, place)?;
        let image = bilinear(colored(image, self.color), height, width);
        let [channels, rows, columns] = self.expected;
        let value = |pixel: u8, channel: usize| T::of_pixel(pixel, self.normalized[channel][usize::from(pixel)]);
        if self.channels_last {
            for (row, values) in sample.chunks_exact_mut(columns * channels).enumerate() {
                let start = ((top + row) * width + left) * channels;
                for (at, (to, &pixel)) in values.iter_mut().zip(&image.data[start..]).enumerate() {
                    *to = value(pixel, at % channels);
                }
            }
            return Ok(());
        }
        for (channel, plane) in sample.chunks_exact_mut(rows * columns).enumerate() {
            for (row, values) in plane.chunks_exact_mut(columns).enumerate() {
                let start = ((top + row) * width + left) * channels + channel;
                for (to, &pixel) in values.iter_mut().zip(image.data[start..].iter().step_by(channels)) {
                    *to = value(pixel, channel);
                }
            }
        }
        Ok(())
    }

    /// Height and width after resizing, and top and left of the crop.
    fn sizes(&self, height: usize, width: usize, place: &str) -> Result<([usize; 2], [usize; 2]), DataError> {
        let [channels, rows, columns] = self.expected;
        let wrong = |found: String, advice: &str| DataError::Shape {
            place: place.to_owned(),
            found,
            expected: format!("[{channels}, {rows}, {columns}]"),
            advice: advice.to_owned(),
        };
        let [resized_height, resized_width] = match self.resize {
            None => [height, width],
            Some(Resize::Exact(size)) => size,
            Some(Resize::Shorter(side)) if height <= width => [side, longer(side, width, height)],
            Some(Resize::Shorter(side)) => [longer(side, height, width), side],
        };
        if resized_height.max(resized_width) > MAX_RESIZED_SIDE
            || resized_height as u64 * resized_width as u64 > MAX_PIXELS
        {
            let found = format!("[{channels}, {resized_height}, {resized_width}] after `resize`");
            return Err(wrong(found, "; that is too large, give `resize` as [height, width]"));
        }
        let [cropped_height, cropped_width] = self.crop.unwrap_or([resized_height, resized_width]);
        if cropped_height > resized_height || cropped_width > resized_width {
            let found = format!(
                "[{channels}, {resized_height}, {resized_width}], smaller than `crop` of [{cropped_height}, {cropped_width}]"
            );
            return Err(wrong(found, "; set `resize` in the preprocess file so that the image covers the crop"));
        }
        if [cropped_height, cropped_width] != [rows, columns] {
            let done = match (self.resize, self.crop) {
                (None, None) => "",
                (Some(_), None) => " after `resize`",
                (None, Some(_)) => " after `crop`",
                (Some(_), Some(_)) => " after `resize` and `crop`",
            };
            let found = format!("[{channels}, {cropped_height}, {cropped_width}]{done}");
            return Err(wrong(found, "; set `resize` and `crop` in the preprocess file accordingly"));
        }
        let offset = [(resized_height - cropped_height) / 2, (resized_width - cropped_width) / 2];
        Ok(([resized_height, resized_width], offset))
    }
}

/// Networks of whole numbers take pixels as they are.
fn check_pixels(preprocess: &Preprocess, input: &InputSpec, place: &str) -> Result<(), DataError> {
    if !input.whole.is_some_and(|whole| whole.are_pixels()) {
        let found = "pixels from 0 to 255".to_owned();
        let expected = "the whole numbers that the network takes, which are no uint8, in an .npy".to_owned();
        return Err(DataError::Dtype { place: place.to_owned(), found, expected });
    }
    if !preprocess.keeps_pixels() {
        let reason = "the network takes uint8 pixels as they are: leave out `scale`, `mean` and `std`".to_owned();
        return Err(DataError::Preprocess { place: format!("for {place}"), reason });
    }
    Ok(())
}

/// The longer side when the shorter becomes `side`, rounded down.
fn longer(side: usize, longer: usize, shorter: usize) -> usize {
    // Both sides are at most 64 Mi and `side` at most 16,384: no overflow.
    (side as u64 * longer as u64 / (shorter as u64).max(1)) as usize
}

/// The image in the channels the network takes.
fn colored(image: Pixels, color: Color) -> Pixels {
    let Pixels { width, height, channels, data } = image;
    let data = match (channels, color) {
        (1, Color::Gray) | (3, Color::Rgb) => data,
        (1, _) => data.iter().flat_map(|&value| [value; 3]).collect(),
        (_, Color::Gray) => data.as_chunks::<3>().0.iter().map(luma).collect(),
        (_, _) => data.as_chunks::<3>().0.iter().flat_map(|&[red, green, blue]| [blue, green, red]).collect(),
    };
    Pixels { width, height, channels: color.channels(), data }
}

/// ITU-R BT.601 luma in 16-bit fixed point, with PIL's constants.
fn luma(&[red, green, blue]: &[u8; 3]) -> u8 {
    ((19_595 * u32::from(red) + 38_470 * u32::from(green) + 7_471 * u32::from(blue) + (1 << 15)) >> 16) as u8
}
