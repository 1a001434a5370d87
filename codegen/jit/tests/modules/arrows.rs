//! Arrows between named nodes, and a circle of them.

use super::source::Source;
use std::collections::{BTreeMap, BTreeSet};

/// From a node to those that it uses, each with a place where it does.
pub struct Arrows(BTreeMap<String, BTreeMap<String, String>>);

impl Arrows {
    /// Those between the modules of a crate. `node` gives the node of a module's path, if the module is looked at.
    pub fn of(source: &Source, node: impl Fn(&[String]) -> Option<String>) -> Arrows {
        let mut arrows: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for found in source.uses() {
            if let (Some(from), Some(to)) = (node(&found.from), node(&found.to))
                && from != to
            {
                let place = format!("crate::{} uses crate::{}", found.from.join("::"), found.to.join("::"));
                arrows.entry(from).or_default().entry(to).or_insert(place);
            }
        }
        Arrows(arrows)
    }

    /// Those of a table.
    pub fn from_pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Arrows {
        let mut arrows: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (from, to) in pairs {
            arrows.entry(from.to_owned()).or_default().insert(to.to_owned(), "the table".to_owned());
        }
        Arrows(arrows)
    }

    /// All of them in the order of the names: from, to, and a place.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.0
            .iter()
            .flat_map(|(from, used)| used.iter().map(move |(to, place)| (from.as_str(), to.as_str(), place.as_str())))
    }

    /// Whether there is the arrow.
    pub fn contains(&self, from: &str, to: &str) -> bool {
        self.0.get(from).is_some_and(|used| used.contains_key(to))
    }

    /// A circle, if there is one: its nodes, each with the place where it uses the next.
    pub fn circle(&self) -> Option<String> {
        let mut done = BTreeSet::new();
        self.0.keys().find_map(|start| self.circle_from(start, &mut Vec::new(), &mut done))
    }

    /// A circle that is reached from a node. `path` leads to the node; nothing reached from `done` is on a circle.
    fn circle_from<'a>(
        &'a self,
        node: &'a str,
        path: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<String> {
        if let Some(first) = path.iter().position(|before| *before == node) {
            let round: Vec<&str> = path[first..].iter().copied().chain([node]).collect();
            let arrows = round.windows(2).map(|pair| format!("{} ({}) -> ", pair[0], self.0[pair[0]][pair[1]]));
            return Some(arrows.collect::<String>() + node);
        }
        if done.contains(node) {
            return None;
        }
        path.push(node);
        let found = self.0.get(node).and_then(|used| used.keys().find_map(|to| self.circle_from(to, path, done)));
        path.pop();
        done.insert(node);
        found
    }
}
