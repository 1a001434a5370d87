//! What the passes share that compare a quantized network with the float one: which images they use ([`split`]), how far the logits are
//! apart ([`comparison`]), what nodes are needed for ([`layout`]), and evaluation layer by layer ([`tail`]), and a search without derivatives ([`powell`]).

pub(crate) mod comparison;
pub(crate) mod needs;
pub(crate) mod powell;
pub(crate) mod split;
pub(crate) mod tail;
