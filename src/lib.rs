//! catc: trained ONNX networks in, fused 2-8-bit CPU kernels out.
//!
//! This package is the command and the driver behind it. The stages are crates of their own; to run compiled models from
//! Rust, use `catc-runtime`.

pub mod cli;
pub mod data;
pub mod driver;
pub mod sweep;

/// Runs the code blocks of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
