//! Loads and runs compiled models.
