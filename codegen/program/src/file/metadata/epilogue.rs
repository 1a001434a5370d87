//! Encoding and decoding of epilogues. Each unary function is a field of the `oneof` in the schema. The field has the name that
//! the table of `catc-scalar` gives the function. Its field number is stored in files and must never change.

use super::decode::{Decoded, each, need};
use super::schema as s;
use super::schema::epilogue_step::Step as Message;
use crate::program::ConstantId;
use crate::tensor::TensorId;
use crate::{Binary, Epilogue, EpilogueStep, Operand, Unary};

pub(super) fn encode(e: &Epilogue) -> s::Epilogue {
    let steps = e.steps.iter().map(|step| s::EpilogueStep { step: Some(encode_step(*step)) }).collect();
    s::Epilogue { steps, requantize: e.requantize }
}

pub(super) fn decode(m: s::Epilogue) -> Decoded<Epilogue> {
    let step = |m: s::EpilogueStep| decode_step(need(m.step, "the function")?);
    Ok(Epilogue { steps: each(m.steps, "epilogue step", step)?, requantize: m.requantize })
}

/// Builds the message of a function from its parameters, if it has any.
macro_rules! parameters {
    ($variant:ident) => {
        s::Nothing {}
    };
    ($variant:ident { $($param:ident),+ }) => {
        s::$variant { $($param: Some($param)),+ }
    };
}

/// Builds the function of a message. All parameters must be present.
macro_rules! function {
    ($message:ident, $variant:ident) => {{
        let s::Nothing {} = $message;
        Unary::$variant
    }};
    ($message:ident, $variant:ident { $($param:ident: $what:literal),+ }) => {
        Unary::$variant { $($param: need($message.$param, $what)?),+ }
    };
}

/// Generates the encoder and the decoder from the table of functions. The compiler reports a function without a field in the
/// schema, and a field without a function.
macro_rules! define_steps {
    ($($variant:ident $name:literal $({ $($param:ident: $what:literal),+ })?;)*) => {
        fn encode_step(step: EpilogueStep) -> Message {
            match step {
                EpilogueStep::Binary { op, operand, scale } => Message::Binary(encode_binary(op, operand, scale)),
                EpilogueStep::Scale(factor) => Message::Scale(factor),
                $(EpilogueStep::Unary(Unary::$variant $({ $($param),+ })?) => {
                    Message::$variant(parameters!($variant $({ $($param),+ })?))
                })*
            }
        }

        fn decode_step(message: Message) -> Decoded<EpilogueStep> {
            Ok(match message {
                Message::Binary(m) => decode_binary(m)?,
                Message::Scale(factor) => EpilogueStep::Scale(factor),
                $(Message::$variant(m) => EpilogueStep::Unary(function!(m, $variant $({ $($param: $what),+ })?)),)*
            })
        }
    };
}

catc_scalar::unary_functions!(define_steps);

fn encode_binary(op: Binary, operand: Operand, scale: f32) -> s::Binary {
    let function = match op {
        Binary::Add => s::binary::Function::Add,
        Binary::Sub => s::binary::Function::Sub,
        Binary::Mul => s::binary::Function::Mul,
        Binary::Div => s::binary::Function::Div,
    };
    let operand = match operand {
        Operand::Tensor(t) => s::binary::Operand::Tensor(t.0),
        Operand::Constant(c) => s::binary::Operand::Constant(c.0),
    };
    s::Binary { function: function.into(), operand: Some(operand), scale: Some(scale) }
}

fn decode_binary(m: s::Binary) -> Decoded<EpilogueStep> {
    let op = match m.function() {
        s::binary::Function::Unspecified => return Err("there is no such function of two reals".into()),
        s::binary::Function::Add => Binary::Add,
        s::binary::Function::Sub => Binary::Sub,
        s::binary::Function::Mul => Binary::Mul,
        s::binary::Function::Div => Binary::Div,
    };
    let operand = match need(m.operand, "the operand")? {
        s::binary::Operand::Tensor(t) => Operand::Tensor(TensorId(t)),
        s::binary::Operand::Constant(c) => Operand::Constant(ConstantId(c)),
    };
    Ok(EpilogueStep::Binary { op, operand, scale: need(m.scale, "the scale")? })
}
