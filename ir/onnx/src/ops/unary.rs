//! The operators that are unary functions, in one table for import and export.

use super::Rule;
use super::activation::{clip, evaluated, gelu, swish, unary};
use crate::message::float;
use crate::proto::AttributeProto;
use catc_ir::ops::{Unary, UncompiledUnary};

/// Declares the operators. Each row holds the function, its operator, and the first opset that has the operator. For the import
/// it also holds the parameters that are attributes with their defaults, or a special rule.
macro_rules! operators {
    (
        compiled { $($variant:ident $op:literal since $since:literal $({ $($param:ident = $default:literal),+ })? $(by $rule:ident)?;)* }
        forms { $($form:ident $form_op:literal since $form_since:literal;)* }
        evaluated { $($other:ident $other_op:literal since $other_since:literal;)* }
    ) => {
        /// The rule of an operator.
        pub(super) fn rule(op: &str) -> Option<Rule> {
            Some(match op {
                $($op => Rule { since: $since, translate: translate!($variant $({ $($param = $default),+ })? $(by $rule)?) },)*
                $($other_op => Rule { since: $other_since, translate: |cx| evaluated(cx, UncompiledUnary::$other) },)*
                _ => return None,
            })
        }

        /// The operator of a function and its attributes. The bounds of `Clip` are inputs instead, and the attribute that selects a
        /// form is not included.
        pub(crate) fn operator(f: Unary) -> (&'static str, Vec<AttributeProto>) {
            match f {
                $(Unary::$variant { $($($param,)+)? .. } => ($op, vec![$($(float(stringify!($param), $param)),+)?]),)*
                $(Unary::$form => ($form_op, vec![]),)*
            }
        }

        /// The first opset that has the operator of a function.
        pub(crate) fn since(f: Unary) -> i64 {
            match f {
                $(Unary::$variant { .. } => $since,)*
                $(Unary::$form => $form_since,)*
            }
        }

        /// The operator of a function that is evaluated only.
        pub(crate) fn evaluated_operator(f: UncompiledUnary) -> &'static str {
            match f {
                $(UncompiledUnary::$other => $other_op,)*
            }
        }
    };
}

macro_rules! translate {
    ($variant:ident by $rule:ident) => {
        $rule
    };
    ($variant:ident) => {
        |cx| unary(cx, Unary::$variant)
    };
    ($variant:ident { $($param:ident = $default:literal),+ }) => {
        |cx| {
            $(let $param = cx.float(stringify!($param))?.unwrap_or($default);)+
            unary(cx, Unary::$variant { $($param),+ })
        }
    };
}

operators! {
    compiled {
        Abs "Abs" since 1;
        Ceil "Ceil" since 1;
        Celu "Celu" since 12 { alpha = 1.0 };
        Clip "Clip" since 1 by clip;
        Elu "Elu" since 1 { alpha = 1.0 };
        Erf "Erf" since 9;
        Exp "Exp" since 1;
        Floor "Floor" since 1;
        Gelu "Gelu" since 20 by gelu;
        HardSigmoid "HardSigmoid" since 1 { alpha = 0.2, beta = 0.5 };
        HardSwish "HardSwish" since 14;
        LeakyRelu "LeakyRelu" since 1 { alpha = 0.01 };
        Log "Log" since 1;
        Mish "Mish" since 18;
        Relu "Relu" since 1;
        Round "Round" since 11;
        Selu "Selu" since 1 { alpha = 1.673_263_2, gamma = 1.050_701 };
        Sigmoid "Sigmoid" since 1;
        Silu "Swish" since 24 by swish;
        Softplus "Softplus" since 1;
        Softsign "Softsign" since 1;
        Sqrt "Sqrt" since 1;
        Tanh "Tanh" since 1;
    }
    // Functions that an attribute of another operator selects.
    forms {
        GeluTanh "Gelu" since 20;
    }
    evaluated {
        Acos "Acos" since 7;
        Acosh "Acosh" since 9;
        Asin "Asin" since 7;
        Asinh "Asinh" since 9;
        Atan "Atan" since 7;
        Atanh "Atanh" since 9;
        Cos "Cos" since 7;
        Cosh "Cosh" since 9;
        Sign "Sign" since 9;
        Sin "Sin" since 7;
        Sinh "Sinh" since 9;
        Tan "Tan" since 7;
    }
}
