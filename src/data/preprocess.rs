//! The preprocess file: how pixels become the network's input.
//!
//! A TOML file with the keys of [`KEYS`], all optional. See `docs/preprocess.md` for what each means; the steps themselves are
//! in the module `pipeline`.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use super::array::open_regular;
use super::error::DataError;

/// Every key of a preprocess file.
pub const KEYS: [&str; 8] = ["layout", "network_layout", "color", "scale", "mean", "std", "resize", "crop"];

/// Largest size that `resize` and `crop` take.
const MAX_SIDE: usize = 16_384;

/// A preprocess file is a few lines; one of more than this is a mistake.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Order of the axes of images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageLayout {
    /// Samples, rows, columns, channels.
    #[default]
    Nhwc,
    /// Samples, channels, rows, columns.
    Nchw,
}

impl ImageLayout {
    /// The word of the preprocess file.
    pub fn name(self) -> &'static str {
        match self {
            ImageLayout::Nhwc => "nhwc",
            ImageLayout::Nchw => "nchw",
        }
    }
}

/// The channels the network takes, in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One channel of luma.
    Gray,
}

impl Color {
    /// Number of channels.
    pub fn channels(self) -> usize {
        match self {
            Color::Rgb | Color::Bgr => 3,
            Color::Gray => 1,
        }
    }

    /// The word of the preprocess file.
    pub fn name(self) -> &'static str {
        match self {
            Color::Rgb => "rgb",
            Color::Bgr => "bgr",
            Color::Gray => "gray",
        }
    }
}

/// What images are resized to, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// The shorter side becomes this, the longer side keeps the proportion (rounded down).
    Shorter(usize),
    /// Height and width, whatever the proportion.
    Exact([usize; 2]),
}

/// The contents of a preprocess file, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocess {
    /// Order of the axes of uint8 arrays (image files have none).
    pub layout: ImageLayout,
    /// Order of the axes of the network's input; if absent, channels last only where nothing else fits `color`.
    pub network_layout: Option<ImageLayout>,
    /// The channels the network takes.
    pub color: Color,
    /// Multiplies each pixel value 0-255 first.
    pub scale: f64,
    /// Subtracted after scaling: one value per channel of `color`.
    pub mean: Vec<f64>,
    /// Divides last: one value per channel of `color`, positive.
    pub std: Vec<f64>,
    /// Resizing of the whole image, before `crop`.
    pub resize: Option<Resize>,
    /// Height and width cut out of the centre.
    pub crop: Option<[usize; 2]>,
}

impl Preprocess {
    /// Reads a preprocess file.
    pub fn from_file(path: &Path) -> Result<Preprocess, DataError> {
        let place = path.display().to_string();
        let (_, length) = open_regular(path)?;
        if length > MAX_FILE_BYTES {
            let reason = format!("it is {length} bytes long, which no preprocess file is");
            return Err(DataError::Preprocess { place, reason });
        }
        let bytes = std::fs::read(path).map_err(|error| DataError::Read { place: place.clone(), error })?;
        let text = String::from_utf8(bytes)
            .map_err(|_| DataError::Preprocess { place: place.clone(), reason: "it is not UTF-8 text".to_owned() })?;
        Preprocess::from_toml(&text, &place)
    }

    /// Reads the text of a preprocess file; `place` names it in errors.
    pub fn from_toml(text: &str, place: &str) -> Result<Preprocess, DataError> {
        let keys: Keys = toml::from_str(text).map_err(|error| DataError::Preprocess {
            place: place.to_owned(),
            reason: match error.span() {
                Some(span) => {
                    let line = text.as_bytes()[..span.start.min(text.len())].iter().filter(|&&b| b == b'\n').count();
                    format!("line {}: {}", line + 1, error.message().replace('\n', "; "))
                }
                None => error.message().replace('\n', "; "),
            },
        })?;
        keys.checked().map_err(|reason| DataError::Preprocess { place: place.to_owned(), reason })
    }
}

impl Preprocess {
    /// Whether pixels stay the numbers from 0 to 255 that they are.
    pub(super) fn keeps_pixels(&self) -> bool {
        self.scale == 1.0 && self.mean.iter().all(|&m| m == 0.0) && self.std.iter().all(|&s| s == 1.0)
    }
}

impl fmt::Display for Preprocess {
    /// One line that echoes every setting.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layout {}", self.layout.name())?;
        if let Some(layout) = self.network_layout {
            write!(f, ", network_layout {}", layout.name())?;
        }
        write!(f, ", color {}", self.color.name())?;
        match self.resize {
            Some(Resize::Shorter(side)) => write!(f, ", resize {side}")?,
            Some(Resize::Exact(size)) => write!(f, ", resize {size:?}")?,
            None => {}
        }
        if let Some(size) = self.crop {
            write!(f, ", crop {size:?}")?;
        }
        write!(f, ", scale {}, mean {:?}, std {:?}", self.scale, self.mean, self.std)
    }
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    #[serde(default)]
    layout: ImageLayout,
    network_layout: Option<ImageLayout>,
    #[serde(default)]
    color: Color,
    scale: Option<f64>,
    mean: Option<PerChannel>,
    std: Option<PerChannel>,
    resize: Option<Sides>,
    crop: Option<Sides>,
}

impl Keys {
    fn checked(self) -> Result<Preprocess, String> {
        let scale = self.scale.unwrap_or(1.0);
        if !scale.is_finite() || scale == 0.0 {
            return Err(format!(
                "`scale` is {scale}; it must be a number other than 0, such as 1/255 = 0.00392156862745098"
            ));
        }
        let per_channel = |key: &str, values: Option<PerChannel>, default: f64| {
            let channels = self.color.channels();
            let values = match values {
                None => vec![default; channels],
                Some(PerChannel::One(value)) => vec![value; channels],
                Some(PerChannel::Each(values)) if values.len() == channels => values,
                Some(PerChannel::Each(values)) => {
                    return Err(format!(
                        "`{key}` has {} values, but color = \"{}\" has {channels} channel{}",
                        values.len(),
                        self.color.name(),
                        if channels == 1 { "" } else { "s" }
                    ));
                }
            };
            match values.iter().find(|value| !value.is_finite()) {
                Some(value) => Err(format!("`{key}` holds {value}")),
                None => Ok(values),
            }
        };
        let mean = per_channel("mean", self.mean, 0.0)?;
        let std = per_channel("std", self.std, 1.0)?;
        if let Some(value) = std.iter().find(|&&value| value <= 0.0) {
            return Err(format!("`std` holds {value}; it divides, and must be positive"));
        }
        let largest = std.iter().zip(&mean).map(|(s, m)| ((255.0 * scale).abs() + m.abs()) / s).fold(0.0, f64::max);
        if largest > f64::from(f32::MAX) {
            return Err("pixels would become larger than float32 can hold; check `scale`, `mean` and `std`".to_owned());
        }
        let resize = self.resize.map(|sides| match sides {
            Sides::One(side) => Resize::Shorter(side),
            Sides::Both(size) => Resize::Exact(size),
        });
        let crop = self.crop.map(|sides| match sides {
            Sides::One(side) => [side, side],
            Sides::Both(size) => size,
        });
        let Keys { layout, network_layout, .. } = self;
        Ok(Preprocess { layout, network_layout, color: self.color, scale, mean, std, resize, crop })
    }
}

/// A number for all channels, or one for each.
enum PerChannel {
    One(f64),
    Each(Vec<f64>),
}

impl<'de> Deserialize<'de> for PerChannel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Numbers;
        impl<'de> Visitor<'de> for Numbers {
            type Value = PerChannel;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a list of numbers, one per channel")
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<PerChannel, E> {
                Ok(PerChannel::One(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<PerChannel, E> {
                Ok(PerChannel::One(value as f64))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<PerChannel, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(PerChannel::Each(values))
            }
        }
        deserializer.deserialize_any(Numbers)
    }
}

/// A size in pixels, or height and width.
enum Sides {
    One(usize),
    Both([usize; 2]),
}

impl<'de> Deserialize<'de> for Sides {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Clone, Copy)]
        struct Sizes;
        impl<'de> Visitor<'de> for Sizes {
            type Value = Sides;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a number of pixels from 1 to {MAX_SIDE}, or a list of two of them, [height, width]")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Sides, E> {
                let side = usize::try_from(value).ok().filter(|side| (1..=MAX_SIDE).contains(side));
                side.map(Sides::One).ok_or_else(|| E::invalid_value(de::Unexpected::Signed(value), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Sides, A::Error> {
                let mut sizes = Vec::new();
                while let Some(value) = list.next_element::<i64>()? {
                    match self.visit_i64::<A::Error>(value)? {
                        Sides::One(side) if sizes.len() < 3 => sizes.push(side),
                        _ => break,
                    }
                }
                match sizes[..] {
                    [height, width] => Ok(Sides::Both([height, width])),
                    _ => Err(de::Error::invalid_length(sizes.len(), &self)),
                }
            }
        }
        deserializer.deserialize_any(Sizes)
    }
}
