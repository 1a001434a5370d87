//! Single-threaded f32 matrix products.

use gemm::Parallelism;

/// A matrix in memory. Element `(i, j)` is at index `i * row + j * column`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub data: &'a [f32],
    /// The distance between rows, in elements.
    pub row: usize,
    /// The distance between columns, in elements.
    pub column: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix whose rows are `row` elements apart.
    pub fn rows(data: &'a [f32], row: usize) -> Self {
        Matrix { data, row, column: 1 }
    }

    /// The transpose of a row-major matrix whose rows are `row` elements apart.
    pub fn transposed(data: &'a [f32], row: usize) -> Self {
        Matrix { data, row: 1, column: row }
    }

    /// The transposed matrix.
    pub fn transpose(self) -> Self {
        Matrix { data: self.data, row: self.column, column: self.row }
    }

    /// The matrix without its first `first` rows.
    pub fn below(self, first: usize) -> Self {
        Matrix { data: &self.data[(first * self.row).min(self.data.len())..], ..self }
    }

    /// The number of elements that an `m` by `n` matrix spans in memory, from its first element to its last.
    fn span(&self, m: usize, n: usize) -> usize {
        if m == 0 || n == 0 { 0 } else { (m - 1) * self.row + (n - 1) * self.column + 1 }
    }
}

/// Computes `dst = a b`, or `dst += a b` if `add` is true. `a` is `[m,k]` and `b` is `[k,n]`. `dst` is `[m,n]`, row-major with
/// rows `dst_row` elements apart. The GEMM crate determines the order of the sums, which is the same for equal sizes on the same
/// CPU.
///
/// # Panics
/// Panics if a slice is too short for its matrix or if rows of `dst` overlap. Callers take the sizes from verified shapes.
pub(crate) fn gemm_f32([m, n, k]: [usize; 3], dst: &mut [f32], dst_row: usize, add: bool, a: Matrix, b: Matrix) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(dst_row >= n || m == 1, "rows of the product overlap");
    assert!(dst.len() > (m - 1) * dst_row + (n - 1), "the product does not fit");
    assert!(a.data.len() >= a.span(m, k) && b.data.len() >= b.span(k, n), "a factor is too short");
    if k == 0 {
        if !add {
            (0..m).for_each(|i| dst[i * dst_row..][..n].fill(0.0));
        }
        return;
    }
    // SAFETY: the assertions above keep every element that is read or written inside its slice, and `dst` is borrowed
    // exclusively.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            1,
            dst_row as isize,
            add,
            a.data.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.column as isize,
            b.row as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
