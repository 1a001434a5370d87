//! The metadata section. It converts between the messages of the schema and the types of a program. It does not hold the elements
//! of constants.

mod decode;
mod encode;
mod epilogue;

use super::schema;
use crate::Program;
use prost::Message;

/// Decodes a program. Its constants have dimensions and formats, but no elements yet.
pub(super) fn decode(bytes: &[u8]) -> Result<Program, String> {
    let message = schema::Program::decode(bytes).map_err(|e| e.to_string())?;
    decode::program(message)
}

/// Encodes the section. Equal programs give equal bytes.
pub(super) fn encode(program: &Program) -> Vec<u8> {
    encode::program(program).encode_to_vec()
}
