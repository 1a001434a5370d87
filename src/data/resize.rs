//! Bilinear resizing with antialiasing, value for value as PIL's `Image.resize(size, Image.Resampling.BILINEAR)`.
//!
//! Every output pixel is a weighted sum over the input pixels under a triangle filter whose width grows with the scale when
//! shrinking (that is the antialiasing). Rows are filtered first, then columns; the result of each is rounded to 8 bits, with
//! weights in 22-bit fixed point. This is what networks trained behind PIL have seen, so it is reproduced exactly, in integers
//! alone: the result does not depend on the machine.

use super::image::Pixels;

/// Fraction bits of the weights: 8 bits of value, and two bits of headroom, in 32.
const PRECISION: u32 = 32 - 8 - 2;

/// For one output position: the first input position and the weights from there on.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// Resizes to `height` x `width`, both at least 1.
pub fn bilinear(image: Pixels, height: usize, width: usize) -> Pixels {
    let image = if image.width == width { image } else { rows(&image, &taps(image.width, width)) };
    if image.height == height { image } else { columns(&image, &taps(image.height, height)) }
}

/// The triangle filter from `from` to `to` positions.
fn taps(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0);
    (0..to)
        .map(|position| {
            let centre = (position as f64 + 0.5) * scale;
            let first = ((centre - support + 0.5).max(0.0)) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            let triangle: Vec<f64> =
                (first..end).map(|input| (1.0 - ((input as f64 - centre + 0.5) / support).abs()).max(0.0)).collect();
            let sum: f64 = triangle.iter().sum();
            let weights = triangle
                .iter()
                .map(|weight| {
                    let weight = if sum == 0.0 { *weight } else { weight / sum };
                    (0.5 + weight * f64::from(1u32 << PRECISION)) as i32
                })
                .collect();
            Taps { first, weights }
        })
        .collect()
}

fn round(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

fn rows(image: &Pixels, taps: &[Taps]) -> Pixels {
    let channels = image.channels;
    let mut data = Vec::with_capacity(image.height * taps.len() * channels);
    for row in image.data.chunks_exact(image.width * channels) {
        for Taps { first, weights } in taps {
            let inputs = &row[first * channels..];
            for channel in 0..channels {
                let sum = inputs[channel..].iter().step_by(channels).zip(weights);
                let sum: i32 = sum.map(|(&value, &weight)| i32::from(value) * weight).sum();
                data.push(round(sum + (1 << (PRECISION - 1))));
            }
        }
    }
    Pixels { width: taps.len(), height: image.height, channels, data }
}

fn columns(image: &Pixels, taps: &[Taps]) -> Pixels {
    let stride = image.width * image.channels;
    let mut data = Vec::with_capacity(taps.len() * stride);
    let mut sums = vec![0i32; stride];
    for Taps { first, weights } in taps {
        sums.fill(1 << (PRECISION - 1));
        for (row, &weight) in image.data[first * stride..].chunks_exact(stride).zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        data.extend(sums.iter().map(|&sum| round(sum)));
    }
    Pixels { width: image.width, height: taps.len(), channels: image.channels, data }
}
