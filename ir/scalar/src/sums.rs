//! Sums of products or numbers in a fixed order. They use four lanes, like the additions of a 128-bit vector.

/// The dot product of two slices of equal length, in four lanes. Lane `j` starts at 0 and adds `a[i] * b[i]` for
/// `i = j, j + 4, j + 8, ..` in order. The product and the sum are rounded separately. The result is `(l0 + l1) + (l2 + l3)`.
///
/// If the lengths differ, the rest of the longer slice is ignored.
pub fn dot4(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len().min(b.len());
    let (a, b) = (&a[..n], &b[..n]);
    let mut lanes = [0f32; 4];
    let (ca, cb) = (a.chunks_exact(4), b.chunks_exact(4));
    let (ra, rb) = (ca.remainder(), cb.remainder());
    for (x, y) in ca.zip(cb) {
        for j in 0..4 {
            lanes[j] += x[j] * y[j];
        }
    }
    for (j, (x, y)) in ra.iter().zip(rb).enumerate() {
        lanes[j] += x * y;
    }
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
}

/// The sum of a slice, in four lanes as in [`dot4`].
pub fn sum4(x: &[f32]) -> f32 {
    let mut lanes = [0f32; 4];
    let chunks = x.chunks_exact(4);
    let rest = chunks.remainder();
    for c in chunks {
        for j in 0..4 {
            lanes[j] += c[j];
        }
    }
    for (j, x) in rest.iter().enumerate() {
        lanes[j] += x;
    }
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
}

/// [`sum4`] of the items of an iterator.
pub fn sum4_of(items: impl IntoIterator<Item = f32>) -> f32 {
    let mut lanes = [0f32; 4];
    for (i, x) in items.into_iter().enumerate() {
        lanes[i % 4] += x;
    }
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_take_their_lanes() {
        let x = [1e8, 1.0, -1e8, 1.0, 3.0, 0.5, 0.25];
        // l0 = 1e8 + 3, l1 = 1.5, l2 = -1e8 + 0.25, l3 = 1.
        let expected = ((1e8f32 + 3.0) + 1.5) + ((-1e8f32 + 0.25) + 1.0);
        assert_eq!(sum4(&x), expected);
        assert_eq!(sum4_of(x), expected);
        assert_eq!(dot4(&x, &[1.0; 7]), expected);
        assert_eq!(sum4(&[]), 0.0);
    }
}
