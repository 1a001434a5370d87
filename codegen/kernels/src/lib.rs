//! The table of inner kernels.
