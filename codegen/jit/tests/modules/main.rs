//! Who may know whom inside this crate: the arrows between its modules.
//!
//! A folder of `src` is one module here, and so is every other file. The files of `src/steps` are looked at one by one too, because they are
//! many. `lib.rs` is left out: it names everything.

mod arrows;
mod source;

use arrows::Arrows;
use source::Source;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What every module may use.
const EVERYWHERE: &[&str] = &["error", "limits"];

/// Every other arrow. An arrow that is not here is a design change. Modules stand below those that they use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("limits", &[]),
    ("memory", &[]),
    ("isa", &[]),
    ("block", &[]),
    ("storage", &[]),
    ("weights", &[]),
    ("assign", &["storage", "weights"]),
    ("explain", &["assign"]),
    ("emit", &["storage"]),
    ("builder", &["block", "emit", "storage"]),
    ("parallel_for", &["builder"]),
    ("row_fusion", &["builder", "emit", "storage"]),
    ("steps", &["assign", "builder", "emit", "storage", "weights"]),
    ("verify", &["builder", "emit", "storage"]),
    ("place", &["assign", "builder", "memory", "parallel_for", "row_fusion", "steps", "storage", "verify"]),
    ("functions", &["emit", "verify"]),
    ("object", &["emit", "functions", "isa", "place"]),
    ("code", &["emit", "functions", "isa", "verify"]),
    ("compiled", &["assign", "block", "builder", "code", "parallel_for", "place"]),
    ("tune", &["assign", "builder", "compiled"]),
];

/// The modules of this crate.
fn crate_source() -> Source {
    Source::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

/// The first name of a module's path: folders are one module.
fn top(path: &[String]) -> Option<String> {
    path.first().cloned()
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let source = crate_source();
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ALLOWED.iter().map(|(name, used)| (*name, used.iter().copied().collect())).collect();
    let listed: BTreeSet<String> = allowed.keys().map(|name| (*name).to_owned()).collect();
    assert_eq!(
        source.modules().filter_map(|path| top(path)).collect::<BTreeSet<_>>(),
        listed,
        "the modules and the table"
    );
    let found = Arrows::of(&source, top);
    if let Some(circle) = found.circle() {
        panic!("modules use each other in a circle: {circle}");
    }
    for (from, to, place) in found.iter().filter(|(_, to, _)| !EVERYWHERE.contains(to)) {
        assert!(allowed[from].contains(to), "`{from}` must not use `{to}`: {place}");
    }
    for (from, used) in &allowed {
        for to in used {
            assert!(found.contains(from, to), "`{from}` no longer uses `{to}`: take the arrow out of the table");
        }
    }
}

#[test]
fn the_table_itself_has_no_circle() {
    let pairs = ALLOWED.iter().flat_map(|(from, used)| used.iter().map(move |to| (*from, *to)));
    assert_eq!(Arrows::from_pairs(pairs).circle(), None);
}

#[test]
fn the_files_of_the_steps_use_one_another_without_a_circle() {
    let source = crate_source();
    let steps = Arrows::of(&source, |path| (top(path)? == "steps").then(|| path.join("/")));
    if let Some(circle) = steps.circle() {
        panic!("files of the steps use each other in a circle: {circle}");
    }
    assert!(steps.contains("steps", "steps/conv") && steps.contains("steps/conv", "steps/conv/dot"));
}

/// The tests above would see nothing if paths were not found.
#[test]
fn paths_are_found_wherever_they_stand() {
    let source = Source::from_texts(&[
        ("", "mod a; mod b; mod c; pub use b::Reexported;"),
        ("a", "mod inner; fn calls() -> u32 { inner::one() + crate::b::two() }"),
        ("a/inner", "use super::super::{b::{X as Y, Z}, c}; pub(super) fn one() -> u32 { 1 }"),
        ("b", "pub struct S(crate::c::T); fn f(&self) { println!(\"{}\", [crate::a::N][self.0]); }"),
        ("c", "#[cfg(test)] mod tests { use crate::a; } #[cfg(test)] use crate::b::X; fn g(x: crate::Reexported) {}"),
    ]);
    let arrows = Arrows::of(&source, top);
    let found: Vec<(&str, &str)> = arrows.iter().map(|(from, to, _)| (from, to)).collect();
    assert_eq!(found, [("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("c", "b")]);
    assert_eq!(arrows.circle().as_deref(), Some("a (crate::a uses crate::b) -> b (crate::b uses crate::a) -> a"));
    let inside = Arrows::of(&source, |path| (top(path)? == "a").then(|| path.join("/")));
    assert_eq!(inside.iter().map(|(from, to, _)| (from, to)).collect::<Vec<_>>(), [("a", "a/inner")]);
    assert_eq!(inside.circle(), None);
}
