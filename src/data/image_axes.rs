//! Where rows, columns and channels are in a uint8 array of images.

use super::array::Array;
use super::error::DataError;
use super::image::Pixels;
use super::preprocess::ImageLayout;

/// Where height, width and channels of a uint8 image are.
#[derive(Clone, Copy, Debug)]
pub(super) struct ImageAxes {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
    /// Channels before rows, not after columns.
    planar: bool,
}

impl ImageAxes {
    /// The axes of one uint8 image of shape `item`, which has two axes (grey) or three.
    pub(super) fn of(array: &Array, item: &[usize], layout: ImageLayout) -> Result<ImageAxes, DataError> {
        let (height, width, channels) = match *item {
            [height, width] => (height, width, 1),
            [height, width, channels] if layout == ImageLayout::Nhwc => (height, width, channels),
            [channels, height, width] => (height, width, channels),
            _ => {
                let advice = ": uint8 arrays are images; convert other samples to float32".to_owned();
                return Err(array.wrong_shape("images of 2 or 3 axes".to_owned(), advice));
            }
        };
        let layout = ImageAxes { height, width, channels, planar: layout == ImageLayout::Nchw };
        if !matches!(channels, 1 | 3) || height == 0 || width == 0 {
            let (name, other) = if layout.planar { ("nchw", "nhwc") } else { ("nhwc", "nchw") };
            let advice = format!(": layout is \"{name}\" in the preprocess file; is it \"{other}\"?");
            return Err(array.wrong_shape(format!("images of 1 or 3 channels, found {channels}"), advice));
        }
        Ok(layout)
    }

    /// One image of the array, channels last.
    pub(super) fn pixels(&self, bytes: Vec<u8>) -> Pixels {
        let ImageAxes { height, width, channels, planar } = *self;
        let data = if planar && channels > 1 {
            let plane = height * width;
            (0..plane * channels).map(|at| bytes[at % channels * plane + at / channels]).collect()
        } else {
            bytes
        };
        Pixels { width, height, channels, data }
    }
}
