//! Lowering of the integer IR to a program: [`lower`].
//!
//! A program works on one image. The leading batch dimension is dropped. Image tensors `[N,C,H,W]` become channels-last
//! `[C,H,W]`, and all other tensors are row-major.
//!
//! Each fused node becomes one step. A fully connected layer on codes becomes a convolution over a single column. If it flattens
//! an image, it becomes a convolution whose kernel covers the image. Element-wise f32 nodes become part of the epilogue of the
//! step before them, if that step allows an epilogue and nothing else uses its output. Layouts are converted where a step needs a
//! different layout than its input has. Nodes that change nothing are removed, and equal constants are shared.

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
