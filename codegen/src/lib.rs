//! Lowering of the integer IR to a program: [`lower`].
//!
//! A program works on one image: the leading batch dimension goes away, and image tensors `[N,C,H,W]` become channels-last
//! `[C,H,W]`; everything else is row-major. Fused nodes become one step each. A fully connected layer over codes is a convolution over a
//! single column; where it flattens an image, one whose kernel is the image. Element-wise f32 nodes go into the epilogue of the
//! step before them where that allows one and nothing else uses its output. Layouts are converted where a step needs another one
//! than its input has, nodes that change nothing disappear, and constants are shared.

mod builder;
mod elementwise;
mod epilogue;
mod error;
mod layers;
mod lowering;
mod materialization;
mod movement;
mod selection;

pub use error::CodegenError;
pub use lowering::{check, lower};
