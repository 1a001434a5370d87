//! The driver.

pub mod data;
