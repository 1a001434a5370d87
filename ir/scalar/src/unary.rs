//! The table of the unary functions that can be compiled, and the code generated from it.

use crate::arithmetic::Arithmetic;
use crate::functions::{self, UnaryFunction};
use std::fmt;

/// Passes the table of functions to a macro. Each row holds the variant of [`Unary`], the name in the text form, and the f32
/// parameters in order, each with its description for messages. The variant is also the name of the type in [`crate::functions`]
/// and, in snake case, the name of the field in the schema of program files.
#[macro_export]
macro_rules! unary_functions {
    ($callback:ident) => {
        $callback! {
            Relu "relu";
            LeakyRelu "leaky_relu" { alpha: "the slope" };
            Clip "clip" { min: "the lower bound", max: "the upper bound" };
            Sigmoid "sigmoid";
            HardSigmoid "hard_sigmoid" { alpha: "the slope", beta: "the offset" };
            HardSwish "hard_swish";
            Exp "exp";
            Log "log";
            Sqrt "sqrt";
            Tanh "tanh";
            Erf "erf";
            Gelu "gelu";
            Abs "abs";
            Floor "floor";
            Ceil "ceil";
            Round "round";
            Softplus "softplus";
            Silu "silu";
            GeluTanh "gelu_tanh";
            Mish "mish";
            Softsign "softsign";
            Elu "elu" { alpha: "the negative of the limit at -inf" };
            Selu "selu" { alpha: "the parameter of elu", gamma: "the factor" };
            Celu "celu" { alpha: "the negative of the limit at -inf" };
        }
    };
}

/// An action on a function whose type is known statically. The compiler generates a separate copy of its loops for each function.
pub trait Visitor {
    /// The result of the action.
    type Output;

    /// Performs the action on a function.
    fn visit<F: UnaryFunction>(self, function: F) -> Self::Output;
}

macro_rules! define_unary {
    ($($variant:ident $name:literal $({ $($param:ident: $what:literal),+ })?;)*) => {
        /// A unary function with its parameters. The type of the same name in [`crate::functions`] defines it.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Unary {
            $(
                #[doc = concat!("[`", stringify!($variant), "`](crate::functions::", stringify!($variant), ").")]
                $variant $({
                    $(#[doc = concat!("Parameter: ", $what, ".")] $param: f32),+
                })?
            ),*
        }

        impl Unary {
            /// The names of all functions, in the order of the table.
            pub const NAMES: &[&str] = &[$($name),*];

            /// The name in the text form and in listings.
            pub fn name(self) -> &'static str {
                match self {
                    $(Unary::$variant { .. } => $name,)*
                }
            }

            /// The parameters in order, with their names.
            pub fn params(self) -> Vec<(&'static str, f32)> {
                match self {
                    $(Unary::$variant $({ $($param),+ })? => vec![$($((stringify!($param), $param)),+)?],)*
                }
            }

            /// The function with this name, or `None` if there is none. `param(name, position)` provides its parameters.
            ///
            /// # Errors
            /// Returns the first error of `param`.
            pub fn build<E>(
                name: &str,
                mut param: impl FnMut(&'static str, usize) -> Result<f32, E>,
            ) -> Result<Option<Self>, E> {
                let mut position = 0..;
                Ok(Some(match name {
                    $($name => Unary::$variant $({
                        $($param: param(stringify!($param), position.next().unwrap_or_default())?),+
                    })?,)*
                    _ => return Ok(None),
                }))
            }

            /// Passes the function to a visitor as a value of its own type.
            #[inline(always)]
            pub fn visit<V: Visitor>(self, visitor: V) -> V::Output {
                match self {
                    $(Unary::$variant $({ $($param),+ })? => visitor.visit(functions::$variant $({ $($param),+ })?),)*
                }
            }

            /// [`UnaryFunction::value`].
            #[inline(always)]
            pub fn value<A: Arithmetic>(self, a: &mut A, x: A::Real) -> A::Real {
                match self {
                    $(Unary::$variant $({ $($param),+ })? => functions::$variant $({ $($param),+ })?.value(a, x),)*
                }
            }

            /// The value for one number.
            #[inline(always)]
            pub fn apply(self, x: f32) -> f32 {
                match self {
                    $(Unary::$variant $({ $($param),+ })? => functions::$variant $({ $($param),+ })?.at(x),)*
                }
            }

            /// [`UnaryFunction::bound`].
            pub fn bound(self, bound: f32) -> Option<f32> {
                match self {
                    $(Unary::$variant $({ $($param),+ })? => functions::$variant $({ $($param),+ })?.bound(bound),)*
                }
            }

            /// [`UnaryFunction::is_non_decreasing`].
            pub fn is_non_decreasing(self) -> bool {
                match self {
                    $(Unary::$variant $({ $($param),+ })? => functions::$variant $({ $($param),+ })?.is_non_decreasing(),)*
                }
            }

            /// [`UnaryFunction::rescaled`].
            pub fn rescaled(self, s: f32) -> Option<Unary> {
                match self {
                    $(Unary::$variant $({ $($param),+ })? => functions::$variant $({ $($param),+ })?.rescaled(s),)*
                }
            }

            /// [`UnaryFunction::check`].
            ///
            /// # Errors
            /// Returns a message that names the invalid parameters.
            pub fn check(self) -> Result<(), String> {
                match self {
                    $(Unary::$variant $({ $($param),+ })? => functions::$variant $({ $($param),+ })?.check(),)*
                }
            }
        }
    };
}

unary_functions!(define_unary);

/// Prints `relu` or `clip(0.0, 6.0)`.
impl fmt::Display for Unary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        let params: Vec<String> = self.params().iter().map(|(_, x)| format!("{x:?}")).collect();
        if params.is_empty() { Ok(()) } else { write!(f, "({})", params.join(", ")) }
    }
}
