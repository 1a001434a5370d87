//! Functions of single floats by the book.

use catc_program::Unary;
use catc_scalar::UnaryFunction;
use catc_scalar::functions::{Erf, Gelu, Log, Tanh};

/// The larger one; the second if one is no number.
pub fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The smaller one; the second if one is no number.
pub fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// The exponential function as the steps define it.
pub fn exp(x: f32) -> f32 {
    let x = min(89.0, x);
    let x = max(-104.0, x);
    let whole = (x * std::f32::consts::LOG2_E).round_ties_even();
    let r = (x - whole * (355.0 / 512.0)) - whole * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4f32;
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + c;
    }
    let y = (p * (r * r) + r) + 1.0;
    let n = whole as i32;
    let a = n >> 1;
    let power = |i: i32| f32::from_bits(((i + 127) << 23) as u32);
    (y * power(a)) * power(n - a)
}

/// A sum in four lanes.
pub fn lanes(items: impl Iterator<Item = f32>) -> f32 {
    let mut l = [0f32; 4];
    for (i, x) in items.enumerate() {
        l[i % 4] += x;
    }
    (l[0] + l[1]) + (l[2] + l[3])
}

/// A function of an epilogue.
pub fn unary(f: Unary, t: f32) -> f32 {
    match f {
        Unary::Relu => max(t, 0.0),
        Unary::LeakyRelu { alpha } => {
            if t >= 0.0 {
                t
            } else {
                alpha * t
            }
        }
        Unary::Clip { min: low, max: high } => min(max(t, low), high),
        Unary::Sigmoid => 1.0 / (1.0 + exp(-t)),
        Unary::HardSigmoid { alpha, beta } => min(max(alpha * t + beta, 0.0), 1.0),
        Unary::HardSwish => t * min(max(t * (1.0 / 6.0) + 0.5, 0.0), 1.0),
        Unary::Exp => exp(t),
        Unary::Log => Log.at(t),
        Unary::Sqrt => t.sqrt(),
        Unary::Tanh => Tanh.at(t),
        Unary::Erf => Erf.at(t),
        Unary::Gelu => Gelu.at(t),
        Unary::Abs => t.abs(),
        Unary::Floor => t.floor(),
        Unary::Ceil => t.ceil(),
        Unary::Round => t.round_ties_even(),
        Unary::Softplus => softplus(t),
        Unary::Silu => t * (1.0 / (1.0 + exp(-t))),
        Unary::GeluTanh => (t * 0.5) * (Tanh.at((t + t * t * t * 0.044715) * 0.797_884_6) + 1.0),
        Unary::Mish => t * Tanh.at(softplus(t)),
        Unary::Softsign => t / (t.abs() + 1.0),
        Unary::Elu { alpha } => max(t, 0.0) + (exp(min(t, 0.0)) - 1.0) * alpha,
        Unary::Selu { alpha, gamma } => (max(t, 0.0) + (exp(min(t, 0.0)) - 1.0) * alpha) * gamma,
        Unary::Celu { alpha } => max(t, 0.0) + (exp(min(t, 0.0) / alpha) - 1.0) * alpha,
    }
}

fn softplus(t: f32) -> f32 {
    max(t, 0.0) + Log.at(exp(-t.abs()) + 1.0)
}
