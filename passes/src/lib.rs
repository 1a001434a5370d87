//! The passes over the IR and the recipes made of them.
