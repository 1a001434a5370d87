//! The numbers that encode the functions of epilogue steps.

use super::ProgramStep;
use catc_scalar::{Binary, Unary, unary_functions};
#[cfg(any(test, target_arch = "x86_64"))]
use catc_scalar::{Visitor, functions};

/// `t * x`.
pub const SCALE: u32 = 0;
/// `t + r`, with `r` the operand's float.
pub const ADD_FLOAT: u32 = FLOAT;
/// `t + (code - zero) as f32 * x` for codes below 16.
pub const ADD_SMALL_CODE: u32 = SMALL_CODE;
/// `min(max(t, x), y)`.
pub const CLIP: u32 = UNARY + Number::Clip as u32;

/// The first number of `t op r`, where `r` is the operand's float. The number of the binary function `op` is added.
const FLOAT: u32 = 0x100;
/// The first number of `t op (r * x)`.
const SCALED_FLOAT: u32 = 0x200;
/// The first number of `t op ((code - zero) as f32 * x)`, where the operand has one byte for each channel.
const CODE: u32 = 0x300;
/// As [`CODE`], for codes below 16.
const SMALL_CODE: u32 = 0x400;
/// The first number of `t op (r * x)`, where `r` is one float for all channels of a pixel.
const ONE_FLOAT: u32 = 0x600;
/// The first number of unary functions, which have the parameters `x` and `y`. The number of the function is added.
const UNARY: u32 = 0x500;

/// Whether a number encodes a unary function.
#[cfg(any(test, target_arch = "x86_64"))]
pub(super) fn is_unary(function: u32) -> bool {
    function & !0xff == UNARY
}

/// The elements of a step's operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperandKind {
    /// f32, used without a factor.
    Float,
    /// f32 times `x`.
    ScaledFloat,
    /// One f32 for all channels of a pixel, times `x`.
    OneFloat,
    /// Bytes.
    Code,
    /// Bytes below 16.
    SmallCode,
}

/// What a step does with the running value `t`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StepFunction {
    /// `t * x`.
    Scale,
    /// `t op r`.
    Binary(Binary, OperandKind),
    /// `f(t)`.
    Unary(Unary),
}

impl StepFunction {
    /// Its number, and the parameters `x` and `y`, which are 0 for all but unary functions.
    pub(super) fn encode(self) -> (u32, [f32; 2]) {
        match self {
            StepFunction::Scale => (SCALE, [0.0; 2]),
            StepFunction::Binary(op, kind) => {
                let first = match kind {
                    OperandKind::Float => FLOAT,
                    OperandKind::ScaledFloat => SCALED_FLOAT,
                    OperandKind::OneFloat => ONE_FLOAT,
                    OperandKind::Code => CODE,
                    OperandKind::SmallCode => SMALL_CODE,
                };
                (first + op as u32, [0.0; 2])
            }
            StepFunction::Unary(unary) => encode_unary(unary),
        }
    }

    /// The function of a step; `None` if no function has its number.
    #[inline(always)]
    pub fn of(step: &ProgramStep) -> Option<StepFunction> {
        let op = || Binary::ALL.get((step.function & 0xff) as usize).copied();
        let binary = |kind| Some(StepFunction::Binary(op()?, kind));
        match step.function & !0xff {
            SCALE if step.function == SCALE => Some(StepFunction::Scale),
            FLOAT => binary(OperandKind::Float),
            SCALED_FLOAT => binary(OperandKind::ScaledFloat),
            ONE_FLOAT => binary(OperandKind::OneFloat),
            CODE => binary(OperandKind::Code),
            SMALL_CODE => binary(OperandKind::SmallCode),
            UNARY => decode_unary(step).map(StepFunction::Unary),
            _ => None,
        }
    }
}

/// Numbers the unary functions in the order of their table, and defines the encoding and decoding of steps by these numbers.
macro_rules! numbered {
    ($($variant:ident $name:literal $({ $($param:ident: $what:literal),+ })?;)*) => {
        #[derive(Clone, Copy)]
        enum Number {
            $($variant),*
        }

        fn encode_unary(unary: Unary) -> (u32, [f32; 2]) {
            let mut parameters = [0.0; 2];
            let number = match unary {
                $(Unary::$variant { .. } => Number::$variant,)*
            };
            for (to, (_, parameter)) in parameters.iter_mut().zip(unary.params()) {
                *to = parameter;
            }
            (UNARY + number as u32, parameters)
        }

        #[inline(always)]
        fn decode_unary(step: &ProgramStep) -> Option<Unary> {
            let mut parameters = [step.x, step.y].into_iter();
            let mut next = || parameters.next().unwrap_or_default();
            // Uses the closure even if no function of the table has parameters.
            let _ = &mut next;
            Some(match step.function {
                $(number if number == UNARY + Number::$variant as u32 => {
                    Unary::$variant $({ $($param: next()),+ })?
                })*
                _ => return None,
            })
        }

        /// Hands the function of one real of a step to a visitor, in one jump; `None` if it is none.
        #[cfg(any(test, target_arch = "x86_64"))]
        #[inline(always)]
        pub(super) fn visit_unary<V: Visitor>(step: &ProgramStep, visitor: V) -> Option<V::Output> {
            let mut parameters = [step.x, step.y].into_iter();
            let mut next = || parameters.next().unwrap_or_default();
            let _ = &mut next;
            match step.function {
                $(number if number == UNARY + Number::$variant as u32 => {
                    Some(visitor.visit(functions::$variant $({ $($param: next()),+ })?))
                })*
                _ => None,
            }
        }
    };
}

unary_functions!(numbered);

#[cfg(test)]
mod tests {
    use super::*;

    /// Every unary function, with distinct parameters.
    fn functions() -> impl Iterator<Item = Unary> {
        let unary = |name| Unary::build(name, |_, position| Ok::<_, ()>(1.5 + position as f32));
        Unary::NAMES.iter().map(move |name| unary(name).unwrap().unwrap())
    }

    #[test]
    fn steps_say_their_function() {
        let floats = [OperandKind::Float, OperandKind::ScaledFloat, OperandKind::OneFloat];
        let kinds = floats.into_iter().chain([OperandKind::Code, OperandKind::SmallCode]);
        let binary = |kind| Binary::ALL.map(|op| StepFunction::Binary(op, kind));
        let all = kinds.flat_map(binary).chain(functions().map(StepFunction::Unary));
        let mut numbers = std::collections::BTreeSet::new();
        for function in all.chain([StepFunction::Scale]) {
            let (number, [x, y]) = function.encode();
            assert!(numbers.insert(number), "{function:?} has the number of another");
            assert_eq!(
                StepFunction::of(&ProgramStep { function: number, x, y, ..ProgramStep::default() }),
                Some(function)
            );
        }
        let unknown = |function| StepFunction::of(&ProgramStep { function, ..ProgramStep::default() });
        assert_eq!((1..0x800).filter(|&n| unknown(n).is_some()).count() + 1, numbers.len());
    }

    #[test]
    fn no_function_has_more_than_two_parameters() {
        assert!(functions().all(|function| function.params().len() <= 2));
    }
}
