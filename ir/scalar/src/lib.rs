//! The single definition of every f32 operation that remains in the integer phase. The evaluator, the program, generated code and
//! vector kernels are derived from it, so their results agree bit for bit.
//!
//! Each function is written once in terms of the operations of [`Arithmetic`] (see [`functions`]). [`Scalar`] computes it on
//! plain f32. A code generator or a vector type that implements the same trait gets every function. [`Unary`] is the table of all
//! unary functions.
//!
//! Every f32 operation of [`Arithmetic`] is one IEEE single-precision operation. It rounds to nearest even and keeps subnormals.
//! A multiplication and an addition are never fused. [`max`] and [`min`] define how NaN is handled.
//!
//! The following table defines the operations of the integer phase. `x[k]` are the elements from which one output element is
//! computed, in row-major order:
//!
//! | operation | value |
//! |---|---|
//! | linear | [`dot4`]`(x, w) + bias`, without the last addition if there is no bias |
//! | matmul | [`dot4`] of a row and a column |
//! | reduce_mean | [`sum4`]`(x) / count` |
//! | avg_pool | `(..((0 + x[0]) + x[1]) + ..) / count` over the taps inside the input |
//! | softmax | `e[i] / `[`sum4`]`(e)` with `e[i] = `[`Exp`](functions::Exp)` of x[i] - m` and `m` the [`max`] of all `x` |
//! | squared_distance | [`sum4`] of `d * d` with `d = x[k] - c[k]` |
//! | layer_norm | `d = x - m` with `m = `[`sum4`]`(x) / count`, `s = sqrt(`[`sum4`]`(d * d) / count + eps)`, then `((d / s) * scale) + bias` |
//! | batch_norm | `((x - mean) / sqrt(variance + eps)) * scale + bias` |
//! | blend | `(1 - alpha) * a + alpha * b` |
//! | unary functions | [`Unary::apply`] |
//! | sums, differences, products, quotients | [`Binary::apply`] |

pub mod arithmetic;
pub mod binary;
pub mod epilogue;
pub mod functions;
pub mod sums;
pub mod unary;
pub mod uncompiled;

pub use arithmetic::{Arithmetic, Scalar, max, min};
pub use binary::Binary;
pub use epilogue::EpilogueStep;
pub use functions::UnaryFunction;
pub use sums::{dot4, sum4, sum4_of};
pub use unary::{Unary, Visitor};
pub use uncompiled::UncompiledUnary;
