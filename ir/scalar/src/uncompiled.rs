//! Unary functions that are evaluated only. A network that contains them between its layers cannot be compiled.

/// Declares the functions. Each row holds the documentation, the variant, the name in the text form, the value and the
/// derivative.
macro_rules! functions {
    ($($(#[$doc:meta])* $variant:ident $name:literal: |$x:pat_param| $value:expr, |$at:pat_param| $slope:expr;)*) => {
        /// A unary function that is not defined in terms of [`Arithmetic`](crate::Arithmetic). The standard library computes it
        /// in f64.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum UncompiledUnary {
            $($(#[$doc])* $variant,)*
        }

        impl UncompiledUnary {
            /// All functions.
            pub const ALL: &[UncompiledUnary] = &[$(UncompiledUnary::$variant),*];

            /// The name in the text form.
            pub fn name(self) -> &'static str {
                match self {
                    $(UncompiledUnary::$variant => $name,)*
                }
            }

            /// The value for one number, computed in f64 and rounded to f32.
            pub fn apply(self, x: f32) -> f32 {
                match self {
                    $(UncompiledUnary::$variant => {
                        let $x = f64::from(x);
                        ($value) as f32
                    })*
                }
            }

            /// The derivative at one number.
            pub fn slope(self, x: f32) -> f32 {
                match self {
                    $(UncompiledUnary::$variant => {
                        let $at = f64::from(x);
                        ($slope) as f32
                    })*
                }
            }
        }
    };
}

functions! {
    /// The sign: -1, 0 or 1. NaN gives NaN.
    Sign "sign": |x| if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { x * 0.0 }, |_| 0.0;
    /// Sine.
    Sin "sin": |x| x.sin(), |x| x.cos();
    /// Cosine.
    Cos "cos": |x| x.cos(), |x| -x.sin();
    /// Tangent.
    Tan "tan": |x| x.tan(), |x| 1.0 / (x.cos() * x.cos());
    /// Inverse sine.
    Asin "asin": |x| x.asin(), |x| 1.0 / (1.0 - x * x).sqrt();
    /// Inverse cosine.
    Acos "acos": |x| x.acos(), |x| -1.0 / (1.0 - x * x).sqrt();
    /// Inverse tangent.
    Atan "atan": |x| x.atan(), |x| 1.0 / (1.0 + x * x);
    /// Hyperbolic sine.
    Sinh "sinh": |x| x.sinh(), |x| x.cosh();
    /// Hyperbolic cosine.
    Cosh "cosh": |x| x.cosh(), |x| x.sinh();
    /// Inverse hyperbolic sine.
    Asinh "asinh": |x| x.asinh(), |x| 1.0 / (x * x + 1.0).sqrt();
    /// Inverse hyperbolic cosine.
    Acosh "acosh": |x| x.acosh(), |x| 1.0 / (x * x - 1.0).sqrt();
    /// Inverse hyperbolic tangent.
    Atanh "atanh": |x| x.atanh(), |x| 1.0 / (1.0 - x * x);
}

impl UncompiledUnary {
    /// The function with this name.
    pub fn parse(name: &str) -> Option<Self> {
        UncompiledUnary::ALL.iter().copied().find(|f| f.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_agree_with_finite_differences() {
        for &f in UncompiledUnary::ALL {
            // Points inside the domain, away from poles and jumps.
            let points: &[f32] = if f == UncompiledUnary::Acosh { &[1.5, 2.0, 7.0] } else { &[-0.8, -0.3, 0.2, 0.7] };
            for &x in points {
                let (low, high) = (x - 1e-2, x + 1e-2);
                let found = (f.apply(high) - f.apply(low)) / (high - low);
                let slope = f.slope(x);
                assert!((found - slope).abs() <= 2e-3 * (1.0 + slope.abs()), "{}({x}): {slope} for {found}", f.name());
            }
        }
    }
}
