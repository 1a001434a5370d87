//! PNG and JPEG files to 8-bit pixels.
//!
//! What is there is decided by the first bytes, not by the name. An image is refused before memory is taken for it if it has
//! more than [`MAX_PIXELS`], or more pixels than its bytes can possibly code. Rules where formats leave a choice, all as PIL
//! has them except the last: alpha is dropped, not blended; an EXIF orientation is not applied; CMYK is converted without a
//! colour profile; of 16-bit samples the high byte is taken (PIL clips 16-bit grey instead, which turns it white).

use std::io::Cursor;

use png::{ColorType, Transformations};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::error::DataError;

/// Most pixels of an image: 64 Mi, 8,192 x 8,192.
pub const MAX_PIXELS: u64 = 64 << 20;

/// The largest compression ratio of DEFLATE.
const MAX_DEFLATE_RATIO: u64 = 1032;

/// A JPEG spends at least one bit on each block of 8 x 8 pixels.
const MAX_JPEG_PIXELS_PER_BYTE: u64 = 8 * 64;

const START_OF_SCAN: [u8; 2] = [0xff, 0xda];
const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];

/// 8-bit pixels, rows from the top, channels interleaved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// `height * width * channels` values.
    pub data: Vec<u8>,
}

/// The format a file's first bytes belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// Portable network graphics.
    Png,
    /// JPEG, baseline or progressive.
    Jpeg,
}

impl ImageFormat {
    /// The format of a file that starts with `bytes`.
    pub fn of(bytes: &[u8]) -> Option<ImageFormat> {
        if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            Some(ImageFormat::Png)
        } else if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
            Some(ImageFormat::Jpeg)
        } else {
            None
        }
    }
}

/// Decodes the bytes of a whole file; `place` names it in errors.
pub fn decode(bytes: &[u8], place: &str) -> Result<Pixels, DataError> {
    let decoded = match ImageFormat::of(bytes) {
        Some(ImageFormat::Png) => decode_png(bytes),
        Some(ImageFormat::Jpeg) => decode_jpeg(bytes),
        None if bytes.is_empty() => Err("the file is empty".to_owned()),
        None => Err("it is neither PNG nor JPEG".to_owned()),
    };
    decoded.map_err(|reason| {
        // Decoders quote and break some of their messages.
        let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ").replace('"', "");
        DataError::Image { place: place.to_owned(), reason }
    })
}

fn check_size(width: u64, height: u64, most: u64) -> Result<(), String> {
    let pixels = width.saturating_mul(height);
    if pixels == 0 {
        return Err(format!("it is {width}x{height} pixels"));
    }
    if pixels > MAX_PIXELS {
        return Err(format!("it is {width}x{height} pixels, more than the limit of {MAX_PIXELS}"));
    }
    if pixels > most {
        return Err(format!("it declares {width}x{height} pixels, more than its bytes can hold: truncated or damaged"));
    }
    Ok(())
}

fn decode_png(bytes: &[u8]) -> Result<Pixels, String> {
    let said = |error: png::DecodingError| error.to_string();
    // The row buffers that the decoder counts are small against the output, which is checked below.
    let limits = png::Limits { bytes: 256 << 20 };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let header = decoder.read_header_info().map_err(said)?;
    let (width, height) = (header.width as usize, header.height as usize);
    let bits = header.bits_per_pixel() as u64;
    let unpacked_bits = (bytes.len() as u64).saturating_mul(MAX_DEFLATE_RATIO * 8);
    check_size(width as u64, height as u64, unpacked_bits / bits.max(1))?;
    let mut reader = decoder.read_info().map_err(said)?;
    let size = reader.output_buffer_size().ok_or("its size overflows")?;
    let mut data = vec![0; size];
    let frame = reader.next_frame(&mut data).map_err(said)?;
    // The checksums of all chunks, and that the file ends as it should.
    reader.finish().map_err(said)?;
    data.truncate(frame.buffer_size());
    let (channels, data) = match frame.color_type {
        ColorType::Grayscale => (1, data),
        ColorType::Rgb => (3, data),
        ColorType::GrayscaleAlpha => (1, without_alpha::<2>(data)),
        ColorType::Rgba => (3, without_alpha::<4>(data)),
        ColorType::Indexed => return Err("its palette could not be expanded".to_owned()),
    };
    complete(Pixels { width, height, channels, data })
}

fn decode_jpeg(bytes: &[u8]) -> Result<Pixels, String> {
    let said = |error: zune_jpeg::errors::DecodeErrors| error.to_string();
    // Without the strict mode a truncated image would be filled up with grey and be used as a sample.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(u16::MAX.into())
        .set_max_height(u16::MAX.into())
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(said)?;
    // The decoder does not notice when some of the last row of blocks is missing. In the coded pixels the byte ff is always
    // followed by 00 or a restart marker, so that neither marker can be found there by chance.
    let last = |marker: [u8; 2]| bytes.windows(2).rposition(|pair| pair == marker);
    if last(END_OF_IMAGE) <= last(START_OF_SCAN) {
        return Err("it stops without an end marker: truncated".to_owned());
    }
    let info = decoder.info().ok_or("its header is incomplete")?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    check_size(width as u64, height as u64, (bytes.len() as u64).saturating_mul(MAX_JPEG_PIXELS_PER_BYTE))?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    if grey {
        decoder.set_options(options.jpeg_set_out_colorspace(ColorSpace::Luma));
    }
    let data = decoder.decode().map_err(said)?;
    complete(Pixels { width, height, channels: if grey { 1 } else { 3 }, data })
}

/// Drops the last of every `N` values.
fn without_alpha<const N: usize>(mut data: Vec<u8>) -> Vec<u8> {
    let pixels = data.len() / N;
    for pixel in 0..pixels {
        data.copy_within(pixel * N..pixel * N + N - 1, pixel * (N - 1));
    }
    data.truncate(pixels * (N - 1));
    data
}

fn complete(pixels: Pixels) -> Result<Pixels, String> {
    let expected = pixels.width * pixels.height * pixels.channels;
    if pixels.data.len() == expected {
        return Ok(pixels);
    }
    Err(format!("the decoder gave {} values where {expected} were expected", pixels.data.len()))
}
