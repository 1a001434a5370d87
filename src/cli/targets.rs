//! `catc targets`: what can be compiled for.

use super::args::TargetsArgs;
use super::{Failure, print, print_json};
use catc_kernels::{Architecture, Implementation, KernelInfo, KernelSet, TABLE, Tier};
use serde_json::json;
use std::fmt::Write;

/// Lists targets, their instruction sets and the kernels of each, from the table of kernels.
pub fn run(args: &TargetsArgs) -> Result<(), Failure> {
    if args.json {
        let names = |set: KernelSet| kernels(set).map(|k| k.name).collect::<Vec<_>>();
        let cpu = |tier: Tier| {
            json!({
                "name": tier.name(),
                "here": tier.is_available(),
                "object_kernels": names(KernelSet::emitted(tier)),
                "memory_kernels": names(KernelSet::all(tier)),
            })
        };
        let target = |a: Architecture| json!({"target": a.triple(), "cpus": Tier::of(a).map(cpu).collect::<Vec<_>>()});
        return print_json(&json!(Architecture::ALL.map(target)));
    }
    let mut text = String::new();
    for architecture in Architecture::ALL {
        let _ = writeln!(text, "{}", architecture.triple());
        for tier in Tier::of(architecture) {
            let here = if tier.is_available() { "  (this CPU runs it)" } else { "" };
            let _ = writeln!(text, "  {tier}{here}");
            let emitted: Vec<_> = kernels(KernelSet::emitted(tier)).map(|k| k.name).collect();
            let _ = writeln!(text, "    in objects and in memory: {}", emitted.join(", "));
            let precompiled = |k: &&KernelInfo| k.implementation != Implementation::Emitted;
            let more: Vec<_> = kernels(KernelSet::all(tier)).filter(precompiled).map(|k| k.name).collect();
            if !more.is_empty() {
                let _ = writeln!(text, "    in memory alone: {}", more.join(", "));
            }
        }
    }
    print(&text)
}

fn kernels(set: KernelSet) -> impl Iterator<Item = &'static KernelInfo> {
    TABLE.iter().filter(move |info| set.contains(info.id))
}
