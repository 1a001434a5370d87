//! 2-bit convolutions by look-ups of three channels ([`packing`]).

#[cfg(target_arch = "x86_64")]
pub mod avx512;
pub mod packing;
