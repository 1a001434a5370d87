//! Arranges convolution windows as the columns of a matrix.

use catc_ir::ops::Window;
use std::ops::Range;

/// The geometry of a convolution over one image.
#[derive(Clone, Debug)]
pub(crate) struct Geometry {
    pub window: Window,
    /// The size of the input, `[h, w]`.
    pub input: [usize; 2],
    /// The size of the output, `[h, w]`.
    pub output: [usize; 2],
}

impl Geometry {
    /// The number of taps of the window.
    pub fn taps(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }

    /// The number of output positions.
    pub fn positions(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// The number of input pixels.
    pub fn pixels(&self) -> usize {
        self.input[0] * self.input[1]
    }

    /// Whether each window is a single pixel and the windows cover the pixels in order.
    pub fn is_pointwise(&self) -> bool {
        self.window.kernel == [1, 1] && self.window.strides == [1, 1] && self.window.pads == [0; 4]
    }

    /// The outputs `lo..hi` along `axis` whose tap `t` lies inside the input. The range may be empty.
    pub fn inside(&self, axis: usize, t: usize) -> (usize, usize) {
        let (stride, pad) = (self.window.strides[axis], self.window.pads[axis]);
        let shift = t * self.window.dilations[axis];
        let lo = pad.saturating_sub(shift).div_ceil(stride);
        let hi = (self.input[axis] + pad).saturating_sub(shift).div_ceil(stride).min(self.output[axis]);
        (lo.min(hi), hi)
    }

    /// The input index of tap `t` of output `o` along `axis`. `o` must be in the range of [`Geometry::inside`].
    pub fn source(&self, axis: usize, o: usize, t: usize) -> usize {
        o * self.window.strides[axis] + t * self.window.dilations[axis] - self.window.pads[axis]
    }
}

/// Writes the windows of the output rows `rows` as the columns of `out`. The input is `x` `[C,H,W]`. `out` is row-major
/// `[C * taps, rows * W']`, with a row for each channel and tap. Taps in the padding are 0.
pub(crate) fn im2col(x: &[f32], channels: usize, g: &Geometry, rows: Range<usize>, out: &mut [f32]) {
    let [kh, kw] = g.window.kernel;
    let width = g.output[1];
    let columns = rows.len() * width;
    if columns == 0 || g.taps() == 0 {
        return;
    }
    let stride = g.window.strides[1];
    let mut matrix_rows = out.chunks_exact_mut(columns);
    for c in 0..channels {
        let plane = &x[c * g.pixels()..][..g.pixels()];
        for ky in 0..kh {
            let (top, bottom) = g.inside(0, ky);
            for kx in 0..kw {
                let Some(row) = matrix_rows.next() else { return };
                let (left, right) = g.inside(1, kx);
                if stride == 1 && g.window.strides[0] == 1 && width == g.input[1] {
                    shifted(plane, g, &rows, [ky, kx], row);
                    continue;
                }
                for (oy, line) in rows.clone().zip(row.chunks_exact_mut(width)) {
                    if oy < top || oy >= bottom || left == right {
                        line.fill(0.0);
                        continue;
                    }
                    let first = g.source(0, oy, ky) * g.input[1] + g.source(1, left, kx);
                    line[..left].fill(0.0);
                    line[right..].fill(0.0);
                    let (line, source) = (&mut line[left..right], &plane[first..]);
                    if stride == 1 {
                        line.copy_from_slice(&source[..right - left]);
                    } else {
                        for (d, s) in line.iter_mut().zip(source.iter().step_by(stride)) {
                            *d = *s;
                        }
                    }
                }
            }
        }
    }
}

/// Writes the matrix row of one tap, if the output and the input have equal widths and the strides are 1. Except for the padding,
/// this row is the plane shifted by a constant.
fn shifted(plane: &[f32], g: &Geometry, rows: &Range<usize>, [ky, kx]: [usize; 2], row: &mut [f32]) {
    let width = g.output[1];
    let ((top, bottom), (left, right)) = (g.inside(0, ky), g.inside(1, kx));
    let (top, bottom) = (top.clamp(rows.start, rows.end), bottom.clamp(rows.start, rows.end));
    if top >= bottom || left == right {
        return row.fill(0.0);
    }
    let (first, last) = ((top - rows.start) * width, (bottom - rows.start) * width);
    row[..first].fill(0.0);
    row[last..].fill(0.0);
    let source = &plane[g.source(0, top, ky) * width + g.source(1, left, kx)..];
    let lines = &mut row[first..last];
    let len = lines.len() - left - (width - right);
    lines[left..][..len].copy_from_slice(&source[..len]);
    if left > 0 || right < width {
        for line in lines.chunks_exact_mut(width) {
            line[..left].fill(0.0);
            line[right..].fill(0.0);
        }
    }
}
