//! Rules for sliding windows over `[C,H,W]`.

use super::{MAX_ELEMENTS, MAX_WINDOW};
use crate::step::Geometry;

/// Checks the sizes that every window operation relies on, and returns the span of the taps, `[y, x]`.
fn spans(g: &Geometry, image: [usize; 3]) -> Result<[usize; 2], String> {
    let parts = [("kernel", &g.kernel[..]), ("strides", &g.strides), ("dilations", &g.dilations), ("pads", &g.pads)];
    for (what, sizes) in parts {
        let min = usize::from(what != "pads");
        if let Some(n) = sizes.iter().find(|n| !(min..=MAX_WINDOW).contains(*n)) {
            return Err(format!("{what} {n}: {min} to {MAX_WINDOW} are allowed"));
        }
    }
    // This cannot overflow: a dimension is below 2^29, and padding adds at most 2^17.
    let [c, h, w] = image;
    let rows = h + g.pads[0] + g.pads[2];
    let columns = w + g.pads[1] + g.pads[3];
    if c.checked_mul(rows).and_then(|n| n.checked_mul(columns)).is_none_or(|n| n >= MAX_ELEMENTS) {
        return Err(format!("the padded image [{c},{rows},{columns}] is too large"));
    }
    let mut spans = [0; 2];
    for (i, padded) in [rows, columns].into_iter().enumerate() {
        spans[i] = (g.kernel[i] - 1) * g.dilations[i] + 1;
        if spans[i] > padded {
            return Err(format!("a window of {} does not fit in {padded} padded positions", spans[i]));
        }
    }
    Ok(spans)
}

/// The output size of a convolution over an image `[C,H,W]`.
pub(super) fn conv_output(g: &Geometry, image: [usize; 3]) -> Result<[usize; 2], String> {
    let spans = spans(g, image)?;
    Ok(std::array::from_fn(|i| (image[i + 1] + g.pads[i] + g.pads[i + 2] - spans[i]) / g.strides[i] + 1))
}

/// Checks the output size of a pooling over an image `[C,H,W]`. The last window may extend beyond the padding, but every window
/// must cover at least one element of the image.
pub(super) fn pool_output(g: &Geometry, image: [usize; 3], output: [usize; 2]) -> Result<(), String> {
    let spans = spans(g, image)?;
    for i in 0..2 {
        let (size, pad, stride) = (image[i + 1], g.pads[i], g.strides[i]);
        let room = size + pad + g.pads[i + 2] - spans[i];
        let (floor, ceil) = (room / stride + 1, room.div_ceil(stride) + 1);
        if output[i] != floor && output[i] != ceil {
            return Err(format!("{} windows along axis {}, not {floor} or {ceil}", output[i], i + 1));
        }
        // A window that starts inside the image covers at least its first tap. Only the few windows that start before the image
        // need a closer check.
        let starts_inside = (output[i] - 1) * stride < size + pad;
        let before = pad.div_ceil(stride).min(output[i]);
        let covers = |o: usize| {
            let first = (pad - o * stride).div_ceil(g.dilations[i]);
            first < g.kernel[i] && o * stride + first * g.dilations[i] - pad < size
        };
        if !starts_inside || !(0..before).all(covers) {
            return Err(format!("a window along axis {} lies in the padding alone", i + 1));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Compares with a check of every tap of every window.
        #[test]
        fn windows_that_cover_nothing_are_found(
            (k, s, d) in (1usize..4, 1usize..4, 1usize..4), (before, after) in (0usize..5, 0usize..5), size in 1usize..9, extra in 0usize..2,
        ) {
            let g = Geometry { kernel: [k, 1], strides: [s, 1], pads: [before, 0, after, 0], dilations: [d, 1] };
            let span = (k - 1) * d + 1;
            prop_assume!(span <= size + before + after);
            let room = size + before + after - span;
            let out = if extra == 0 { room / s } else { room.div_ceil(s) } + 1;
            let inside = |o: usize| (0..k).any(|t| (before..before + size).contains(&(o * s + t * d)));
            let expected = (0..out).all(inside);
            prop_assert_eq!(pool_output(&g, [1, size, 1], [out, 1]).is_ok(), expected);
        }
    }

    #[test]
    fn sizes_do_not_overflow() {
        let mut g = Geometry { kernel: [1; 2], strides: [1; 2], pads: [0; 4], dilations: [1; 2] };
        assert_eq!(conv_output(&g, [3, 5, 6]), Ok([5, 6]));
        g.pads = [MAX_WINDOW; 4];
        assert!(conv_output(&g, [1, 1, 1]).unwrap_err().contains("too large"));
        g.pads = [usize::MAX; 4];
        assert!(conv_output(&g, [1, 1, 1]).unwrap_err().contains("pads"));
        g.pads = [0; 4];
        g.dilations = [MAX_WINDOW; 2];
        g.kernel = [MAX_WINDOW; 2];
        assert!(conv_output(&g, [1, 1, 1]).unwrap_err().contains("does not fit"));
    }
}
