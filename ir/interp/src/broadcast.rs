//! Numpy broadcasting as runs over contiguous memory.

/// The row-major strides of `shape`, aligned with the output shape `out`. Broadcast axes have stride 0.
fn strides(out: &[usize], shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![0; out.len()];
    let missing = out.len() - shape.len();
    let mut step = 1;
    for (i, &n) in shape.iter().enumerate().rev() {
        strides[missing + i] = if n == 1 { 0 } else { step };
        step *= n;
    }
    strides
}

/// A contiguous run of the output. Along the run, each input either advances with the output or stays at one element.
pub(crate) struct Run<const K: usize> {
    /// The index of the first output element.
    pub start: usize,
    /// The number of elements.
    pub len: usize,
    /// The index of the first element of each input.
    pub offset: [usize; K],
    /// Whether each input advances.
    pub advances: [bool; K],
}

/// Calls `f` for runs that cover the output in order. The shapes of the inputs must broadcast to `out`.
pub(crate) fn runs<const K: usize>(out: &[usize], shapes: [&[usize]; K], mut f: impl FnMut(Run<K>)) {
    // The axes as (size, strides). Neighbouring axes are merged if every input can traverse both with one stride.
    let mut axes: Vec<(usize, [usize; K])> = vec![];
    let all = shapes.map(|s| strides(out, s));
    for (i, &n) in out.iter().enumerate() {
        if n == 0 {
            return;
        }
        if n == 1 {
            continue;
        }
        let step: [usize; K] = std::array::from_fn(|k| all[k][i]);
        match axes.last_mut() {
            Some((m, outer)) if (0..K).all(|k| outer[k] == step[k] * n) => {
                *m *= n;
                *outer = step;
            }
            _ => axes.push((n, step)),
        }
    }
    let (len, inner) = axes.pop().unwrap_or((1, [0; K]));
    let mut index = vec![0; axes.len()];
    let mut offset = [0; K];
    let mut start = 0;
    loop {
        f(Run { start, len, offset, advances: inner.map(|s| s != 0) });
        start += len;
        let mut axis = axes.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            let (n, step) = axes[axis];
            index[axis] += 1;
            (0..K).for_each(|k| offset[k] += step[k]);
            if index[axis] < n {
                break;
            }
            index[axis] = 0;
            (0..K).for_each(|k| offset[k] -= step[k] * n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(out: &[usize], a: &[usize], b: &[usize]) -> (usize, Vec<(usize, usize)>) {
        let (mut count, mut pairs) = (0, vec![]);
        runs(out, [a, b], |r| {
            count += 1;
            assert_eq!(r.start, pairs.len());
            let at = |k: usize, i: usize| r.offset[k] + if r.advances[k] { i } else { 0 };
            (0..r.len).for_each(|i| pairs.push((at(0, i), at(1, i))));
        });
        (count, pairs)
    }

    #[test]
    fn runs_cover_the_output_in_order() {
        let (count, pairs) = covered(&[2, 3, 4], &[2, 3, 4], &[3, 1]);
        assert_eq!(count, 6);
        let expected: Vec<_> = (0..24).map(|i| (i, i / 4 % 3)).collect();
        assert_eq!(pairs, expected);
    }

    #[test]
    fn equal_shapes_are_one_run() {
        assert_eq!(covered(&[2, 3, 4], &[2, 3, 4], &[2, 3, 4]).0, 1);
        assert_eq!(covered(&[2, 3, 4], &[2, 3, 4], &[]).0, 1);
        assert_eq!(covered(&[2, 3, 4], &[2, 3, 4], &[3, 4]).0, 2);
        assert_eq!(covered(&[], &[], &[]).1, [(0, 0)]);
        assert_eq!(covered(&[0, 2], &[0, 2], &[2]).0, 0);
    }
}
