//! Programs to machine code with Cranelift.
