//! Who may know whom: the arrows between the crates of the workspace.

use cargo_metadata::{DependencyKind, MetadataCommand};
use std::collections::BTreeSet;
use std::process::Command;

/// Every allowed arrow. An arrow that is not here is a design change: see ARCHITECTURE.md.
const ALLOWED: &[(&str, &[&str])] = &[
    ("catc-scalar", &[]),
    ("catc-ir", &["catc-scalar"]),
    ("catc-onnx", &["catc-ir"]),
    ("catc-interp", &["catc-ir", "catc-scalar"]),
    ("catc-passes", &["catc-ir", "catc-interp", "catc-scalar"]),
    ("catc-program", &["catc-scalar"]),
    ("catc-kernels", &["catc-scalar"]),
    ("catc-codegen", &["catc-ir", "catc-program", "catc-scalar"]),
    ("catc-jit", &["catc-program", "catc-kernels", "catc-scalar"]),
    ("catc-runtime", &["catc-program", "catc-jit", "catc-kernels"]),
    (
        "catc",
        &[
            "catc-ir",
            "catc-onnx",
            "catc-interp",
            "catc-passes",
            "catc-program",
            "catc-codegen",
            "catc-kernels",
            "catc-jit",
            "catc-runtime",
        ],
    ),
];

#[test]
fn crates_depend_only_as_the_architecture_allows() {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata");
    let members: BTreeSet<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    let listed: BTreeSet<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    assert_eq!(members, listed, "the workspace's crates and the table above");
    for package in &metadata.packages {
        let (_, allowed) = ALLOWED.iter().find(|(name, _)| *name == package.name.as_str()).expect("listed");
        for d in package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development) {
            if members.contains(d.name.as_str()) {
                assert!(allowed.contains(&d.name.as_str()), "{} must not depend on {}", package.name, d.name);
            }
        }
    }
}

#[test]
fn a_program_that_only_runs_models_has_no_object_writer_and_no_foreign_code_generator() {
    let arguments = ["tree", "--locked", "-p", "catc-runtime", "-e", "normal", "--prefix", "none", "-f", "{p} {f}"];
    let done = Command::new(env!("CARGO")).args(arguments).output().expect("cargo tree");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let tree = String::from_utf8(done.stdout).expect("UTF-8");
    let crates = || tree.lines().filter_map(|line| line.split_once(' '));
    assert!(crates().all(|(name, _)| !["cranelift-object", "object"].contains(&name)), "{tree}");
    let (_, generator) = crates().find(|(name, _)| *name == "cranelift-codegen").expect("a code generator");
    let features = generator.rsplit(' ').next().expect("its features");
    assert!(features.split(',').all(|feature| !["x86", "arm64", "all-arch"].contains(&feature)), "{features}");
    assert!(features.contains("host-arch"), "{features}");
}
