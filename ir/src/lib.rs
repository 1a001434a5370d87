//! The intermediate representation of catc.
