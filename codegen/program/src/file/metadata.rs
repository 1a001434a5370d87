//! The metadata section: the messages of the schema from and to the types of a program. The elements of constants are not in it.

mod decode;
mod encode;
mod epilogue;

use super::schema;
use crate::Program;
use prost::Message;

/// A program whose constants have their dimensions and formats but no elements yet.
pub(super) fn decode(bytes: &[u8]) -> Result<Program, String> {
    let message = schema::Program::decode(bytes).map_err(|e| e.to_string())?;
    decode::program(message)
}

/// The bytes of the section. Equal programs give equal bytes.
pub(super) fn encode(program: &Program) -> Vec<u8> {
    encode::program(program).encode_to_vec()
}
