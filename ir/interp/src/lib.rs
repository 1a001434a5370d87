//! The reference evaluator of the IR.
