//! Lowering of the integer IR to a program.
