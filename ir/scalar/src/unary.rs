//! The table of the functions of one real that compile, and all that follows from it alone.

use crate::arithmetic::Arithmetic;
use crate::functions::{self, UnaryFunction};
use std::fmt;

/// Hands the table to a macro: a row for each function with its variant of [`Unary`] (which is also the name of its type in
/// [`crate::functions`] and, in snake case, of its field in the schema of program files), its name in texts, and its f32 parameters
/// in order, each with what messages call it.
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
        }
    };
}

/// What is done with a function whose type is known, so that a loop over elements is compiled for each function apart.
pub trait Visitor {
    /// What it gives.
    type Output;

    /// Does it.
    fn visit<F: UnaryFunction>(self, function: F) -> Self::Output;
}

macro_rules! define_unary {
    ($($variant:ident $name:literal $({ $($param:ident: $what:literal),+ })?;)*) => {
        /// A function of one real with its parameters. The definition of each is in the type of the same name in
        /// [`crate::functions`].
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

            /// Its name in texts.
            pub fn name(self) -> &'static str {
                match self {
                    $(Unary::$variant { .. } => $name,)*
                }
            }

            /// Its parameters in order, with their names.
            pub fn params(self) -> Vec<(&'static str, f32)> {
                match self {
                    $(Unary::$variant $({ $($param),+ })? => vec![$($((stringify!($param), $param)),+)?],)*
                }
            }

            /// The function of this name, its parameters given by `param(name, position)`; `None` if there is none.
            ///
            /// # Errors
            /// The first error of `param`.
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

            /// Hands the function to a visitor, by its own type.
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

            /// The value at one real.
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
            /// A sentence that names the parameters.
            pub fn check(self) -> Result<(), String> {
                match self {
                    $(Unary::$variant $({ $($param),+ })? => functions::$variant $({ $($param),+ })?.check(),)*
                }
            }
        }
    };
}

unary_functions!(define_unary);

/// `relu`, `clip(0.0, 6.0)`.
impl fmt::Display for Unary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        let params: Vec<String> = self.params().iter().map(|(_, x)| format!("{x:?}")).collect();
        if params.is_empty() { Ok(()) } else { write!(f, "({})", params.join(", ")) }
    }
}
