//! Moving and combining elements of known tensors.

use crate::size::Size;
use crate::value::Known;
use catc_ir::{Tensor, TensorData};

/// Larger results are computed by nodes of the graph, where a pass folds constants. Results that models compute from shapes are
/// far smaller.
pub(crate) const FOLD_ELEMENTS: usize = 4096;

/// The row-major strides, in elements.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

/// Calls `visit` with the indices of all elements in row-major order.
pub(crate) fn each_index(shape: &[usize], mut visit: impl FnMut(&[usize])) {
    let mut index = vec![0; shape.len()];
    for _ in 0..shape.iter().product::<usize>() {
        visit(&index);
        for i in (0..shape.len()).rev() {
            index[i] += 1;
            if index[i] < shape[i] {
                break;
            }
            index[i] = 0;
        }
    }
}

/// For each element of a tensor of shape `to`, the position of the element of `from` that broadcasts to it.
pub(crate) fn spread(from: &[usize], to: &[usize]) -> Vec<usize> {
    let (missing, steps) = (to.len() - from.len(), strides(from));
    let mut places = vec![];
    each_index(to, |at| {
        places.push((0..from.len()).map(|i| if from[i] == 1 { 0 } else { at[i + missing] * steps[i] }).sum());
    });
    places
}

/// The tensor of shape `shape` with the elements of `known` at the positions `picks`, in row-major order.
pub(crate) fn pick(known: &Known, shape: Vec<usize>, picks: &[usize]) -> Known {
    fn take<T: Copy>(items: &[T], picks: &[usize]) -> Vec<T> {
        picks.iter().map(|&i| items[i]).collect()
    }
    match known {
        Known::Sizes { items, .. } => Known::sizes(shape, take(items, picks)),
        Known::Tensor(t) => Tensor::new(
            shape,
            match t.data() {
                TensorData::F32(v) => TensorData::F32(take(v, picks)),
                TensorData::I64(v) => TensorData::I64(take(v, picks)),
                TensorData::Bool(v) => TensorData::Bool(take(v, picks)),
                TensorData::Code(v) => TensorData::Code(take(v, picks)),
            },
        )
        .into(),
    }
}

/// Selects indices of `known` along one axis.
pub(crate) fn pick_along(known: &Known, axis: usize, indices: &[usize]) -> Known {
    let mut shape = known.shape().to_vec();
    let strides = strides(&shape);
    shape[axis] = indices.len();
    let mut picks = vec![];
    each_index(&shape, |at| {
        picks.push(at.iter().enumerate().map(|(i, &x)| strides[i] * if i == axis { indices[x] } else { x }).sum());
    });
    pick(known, shape, &picks)
}

/// Permutes the axes of `known`.
pub(crate) fn transpose(known: &Known, perm: &[usize]) -> Known {
    let strides = strides(known.shape());
    let shape: Vec<usize> = perm.iter().map(|&i| known.shape()[i]).collect();
    let mut picks = vec![];
    each_index(&shape, |at| picks.push(at.iter().zip(perm).map(|(&x, &i)| x * strides[i]).sum()));
    pick(known, shape, &picks)
}

/// The same elements with another shape of the same size.
pub(crate) fn reshape(known: &Known, shape: Vec<usize>) -> Known {
    let picks: Vec<usize> = (0..known.len()).collect();
    pick(known, shape, &picks)
}

/// Concatenates tensors along an axis. `None` if their element types or their other axes differ.
pub(crate) fn concat(parts: &[Known], axis: usize) -> Option<Known> {
    let first = parts.first()?;
    let mut shape = first.shape().to_vec();
    let same = |p: &Known| {
        p.element() == first.element()
            && p.shape().len() == shape.len()
            && p.shape().iter().zip(&shape).enumerate().all(|(i, (a, b))| i == axis || a == b)
    };
    if !parts.iter().all(same) {
        return None;
    }
    shape[axis] = parts.iter().map(|p| p.shape()[axis]).sum();
    let outer: usize = shape[..axis].iter().product();
    let inner: usize = shape[axis + 1..].iter().product();
    // A list of all elements of the parts, and the position in it of each element of the result.
    let all = join(parts)?;
    let starts: Vec<usize> = parts
        .iter()
        .scan(0, |sum, p| {
            let start = *sum;
            *sum += p.len();
            Some(start)
        })
        .collect();
    let mut picks = Vec::with_capacity(all.len());
    for o in 0..outer {
        for (p, start) in parts.iter().zip(&starts) {
            let run = p.shape()[axis] * inner;
            picks.extend(start + o * run..start + (o + 1) * run);
        }
    }
    Some(pick(&all, shape, &picks))
}

/// All elements of tensors of the same element type, as one list.
fn join(parts: &[Known]) -> Option<Known> {
    let count = parts.iter().map(|p| p.len()).sum();
    if let Some(sizes) = parts.iter().map(|p| p.as_sizes()).collect::<Option<Vec<_>>>() {
        return Some(Known::list(sizes.concat()));
    }
    if let Some(reals) = parts.iter().map(|p| p.as_f32()).collect::<Option<Vec<_>>>() {
        return Some(Tensor::f32(&[count], reals.concat()).into());
    }
    let bools = |p: &Known| match p {
        Known::Tensor(t) => match t.data() {
            TensorData::Bool(v) => Some(v.clone()),
            _ => None,
        },
        Known::Sizes { .. } => None,
    };
    let all = parts.iter().map(bools).collect::<Option<Vec<_>>>()?.concat();
    Some(Tensor::new(vec![count], TensorData::Bool(all)).into())
}

/// Applies `f` to each pair of elements of two tensors with broadcasting. `None` if the shapes do not broadcast.
pub(crate) fn zip<A: Copy, B>(
    (a_shape, a): (&[usize], &[A]),
    (b_shape, b): (&[usize], &[A]),
    mut f: impl FnMut(A, A) -> B,
) -> Option<(Vec<usize>, Vec<B>)> {
    let shape = catc_ir::Shape::fixed(a_shape).broadcast(&catc_ir::Shape::fixed(b_shape))?.as_fixed()?;
    let position = |own: &[usize], at: &[usize]| -> usize {
        let missing = at.len() - own.len();
        let steps = strides(own);
        (0..own.len()).map(|i| if own[i] == 1 { 0 } else { at[i + missing] * steps[i] }).sum()
    };
    let mut out = vec![];
    each_index(&shape, |at| out.push(f(a[position(a_shape, at)], b[position(b_shape, at)])));
    Some((shape, out))
}

/// Combines integers pairwise with broadcasting. `Err` names the pair that has no result.
pub(crate) fn zip_sizes(a: &Known, b: &Known, f: impl Fn(Size, Size) -> Option<Size>) -> Option<Result<Known, String>> {
    let (x, y) = (a.as_sizes()?, b.as_sizes()?);
    let (shape, items) = zip((a.shape(), &x), (b.shape(), &y), |p, q| f(p, q).ok_or_else(|| format!("{p} and {q}")))?;
    Some(items.into_iter().collect::<Result<Vec<_>, _>>().map(|items| Known::sizes(shape, items)))
}
