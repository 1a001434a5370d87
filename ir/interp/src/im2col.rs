//! Convolution windows as the columns of a matrix.

use catc_ir::ops::Window;
use pulp::Arch;
use std::ops::Range;

/// The geometry of a convolution over one image.
#[derive(Clone, Debug)]
pub(crate) struct Geometry {
    pub window: Window,
    /// Size of the input, `[h, w]`.
    pub input: [usize; 2],
    /// Size of the output, `[h, w]`.
    pub output: [usize; 2],
}

impl Geometry {
    /// Taps of the window.
    pub fn taps(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1]
    }

    /// Positions of the output.
    pub fn positions(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Positions of the input.
    pub fn pixels(&self) -> usize {
        self.input[0] * self.input[1]
    }

    /// Whether the windows are the pixels themselves, in order.
    pub fn is_pointwise(&self) -> bool {
        self.window.kernel == [1, 1] && self.window.strides == [1, 1] && self.window.pads == [0; 4]
    }

    /// The outputs along `axis` whose tap `t` lies inside the input: `lo..hi`, maybe empty.
    pub fn inside(&self, axis: usize, t: usize) -> (usize, usize) {
        let (stride, pad) = (self.window.strides[axis], self.window.pads[axis]);
        let shift = t * self.window.dilations[axis];
        let lo = pad.saturating_sub(shift).div_ceil(stride);
        let hi = (self.input[axis] + pad).saturating_sub(shift).div_ceil(stride).min(self.output[axis]);
        (lo.min(hi), hi)
    }

    /// Where tap `t` of output `o` lies in the input, for outputs that [`Geometry::inside`] gives.
    pub fn source(&self, axis: usize, o: usize, t: usize) -> usize {
        o * self.window.strides[axis] + t * self.window.dilations[axis] - self.window.pads[axis]
    }
}

/// Writes the windows of the output rows `rows` as columns: `out` `[C * taps, (rows) * W']` row-major, a row for each channel and tap, from
/// planes `x` `[C,H,W]`. Taps in the padding are 0.
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

/// The row of one tap where output and input have one width and the window moves by single pixels: the plane shifted by a
/// constant, but for the padding.
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

/// Writes the windows of the output rows `rows` as rows: `out` `[(rows) * W', taps * C]` row-major, the taps outside and the channels
/// inside, from pixels `x` `[H * W, C]`. Taps in the padding are 0.
pub(crate) fn im2row(x: &[f32], channels: usize, g: &Geometry, rows: Range<usize>, out: &mut [f32]) {
    let [kh, kw] = g.window.kernel;
    let step = channels * g.window.dilations[1];
    let ys: Vec<_> = (0..kh).map(|ky| g.inside(0, ky)).collect();
    let xs: Vec<_> = (0..kw).map(|kx| g.inside(1, kx)).collect();
    let places = rows.flat_map(|oy| (0..g.output[1]).map(move |ox| (oy, ox)));
    for ((oy, ox), row) in places.zip(out.chunks_exact_mut(kh * kw * channels)) {
        for ((ky, &(top, bottom)), line) in ys.iter().enumerate().zip(row.chunks_exact_mut(kw * channels)) {
            if oy < top || oy >= bottom {
                line.fill(0.0);
                continue;
            }
            let start = g.source(0, oy, ky) * g.input[1];
            // The taps of this output that lie inside: all at once where they are neighbours.
            let first = xs.iter().position(|&(l, r)| (l..r).contains(&ox)).unwrap_or(kw);
            let count = xs[first..].iter().take_while(|&&(l, r)| (l..r).contains(&ox)).count();
            line[..first * channels].fill(0.0);
            line[(first + count) * channels..].fill(0.0);
            if count == 0 {
                continue;
            }
            let source = &x[(start + g.source(1, ox, first)) * channels..];
            let line = &mut line[first * channels..(first + count) * channels];
            if step == channels {
                line.copy_from_slice(&source[..line.len()]);
            } else {
                for (i, pixel) in line.chunks_exact_mut(channels).enumerate() {
                    pixel.copy_from_slice(&source[i * step..][..channels]);
                }
            }
        }
    }
}

/// `out` `[n,m]` is `x` `[m,n]` transposed, both row-major.
pub(crate) fn transpose(x: &[f32], [m, n]: [usize; 2], out: &mut [f32]) {
    const TILE: usize = 16;
    for i in (0..m).step_by(TILE) {
        let rows = i..(i + TILE).min(m);
        for j in (0..n).step_by(TILE) {
            for k in j..(j + TILE).min(n) {
                for r in rows.clone() {
                    out[k * m + r] = x[r * n + k];
                }
            }
        }
    }
}

/// Adds columns back to the pixels they came from: the transpose of [`im2col`], with the same sizes. Spoils `columns`.
pub(crate) fn col2im(columns: &mut [f32], channels: usize, g: &Geometry, rows: Range<usize>, x: &mut [f32]) {
    let [kh, kw] = g.window.kernel;
    let (width, stride) = (g.output[1], g.window.strides[1]);
    let n = rows.len() * width;
    if n == 0 || g.taps() == 0 {
        return;
    }
    let one_width = stride == 1 && g.window.strides[0] == 1 && width == g.input[1];
    let mut matrix_rows = columns.chunks_exact_mut(n);
    for c in 0..channels {
        let plane = &mut x[c * g.pixels()..][..g.pixels()];
        for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
            let Some(row) = matrix_rows.next() else { return };
            let ((top, bottom), (left, right)) = (g.inside(0, ky), g.inside(1, kx));
            let (top, bottom) = (top.clamp(rows.start, rows.end), bottom.clamp(rows.start, rows.end));
            if top >= bottom || left == right {
                continue;
            }
            let lines = &mut row[(top - rows.start) * width..(bottom - rows.start) * width];
            let first = g.source(0, top, ky) * g.input[1] + g.source(1, left, kx);
            if one_width {
                // What came from the padding is made 0, so that the rest adds up as one shifted plane.
                for line in lines.chunks_exact_mut(width).filter(|_| left > 0 || right < width) {
                    line[..left].fill(0.0);
                    line[right..].fill(0.0);
                }
                let len = lines.len() - left - (width - right);
                let (to, from) = (&mut plane[first..][..len], &lines[left..][..len]);
                Arch::new().dispatch(|| to.iter_mut().zip(from).for_each(|(t, f)| *t += f));
                continue;
            }
            for (i, line) in lines.chunks_exact(width).enumerate() {
                let to = plane[first + i * g.window.strides[0] * g.input[1]..].iter_mut().step_by(stride);
                to.zip(&line[left..right]).for_each(|(t, f)| *t += f);
            }
        }
    }
}
