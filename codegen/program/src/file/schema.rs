//! The messages of the metadata section, generated from `proto/program.proto`.
#![allow(missing_docs, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/catc.program.rs"));
