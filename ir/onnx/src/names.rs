//! Unique names for tensors and nodes.

use std::collections::HashSet;

/// The names that are taken.
#[derive(Debug)]
pub(crate) struct Names {
    taken: HashSet<String>,
}

impl FromIterator<String> for Names {
    fn from_iter<I: IntoIterator<Item = String>>(names: I) -> Self {
        Names { taken: names.into_iter().collect() }
    }
}

impl Names {
    /// Takes this name. If it is taken already, appends a number to it.
    pub fn fresh(&mut self, like: &str) -> String {
        let mut name = like.to_string();
        let mut n = 1;
        while !self.taken.insert(name.clone()) {
            name = format!("{like}_{n}");
            n += 1;
        }
        name
    }
}
