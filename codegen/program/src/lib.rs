//! The program and its file format, model.bin.
