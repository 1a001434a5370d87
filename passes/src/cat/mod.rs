//! The mathematics of the cluster-wise affine correction of logits (CAT, arXiv 2509.26277, section 3.1): principal
//! components ([`pca`]), k-means ([`kmeans`]), the affine map of each cluster ([`affine`]), the divergence that judges
//! it ([`divergence`]), the choice of its parameters ([`select`]) and the whole fit ([`fit()`]). Nothing here knows of
//! graphs; the passes `append-cat` and `fold-cat` put a [`CatModel`] into one.
//!
//! Matrices hold one sample a column: logits are `C x N`, which is the memory of a row-major `[N,C]` tensor. Everything
//! is computed in f64, in an order that does not depend on the number of threads.

pub mod affine;
pub mod divergence;
pub mod fit;
pub mod kmeans;
pub mod pca;
pub mod select;

pub use fit::{CatFit, CatModel, CatOptions, FitReport, HeldOut, Selection, fit};
pub use select::Judge;
