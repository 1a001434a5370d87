//! `catc targets`: what can be compiled for.

use super::args::TargetsArgs;
use super::{Failure, print, print_json};
use catc_kernels::{Architecture, Implementation, KernelRef, KernelSet, Tier};
use serde_json::json;
use std::fmt::Write;

/// Lists targets, their instruction sets and the kernels of each, from the list of kernels.
pub fn run(args: &TargetsArgs) -> Result<(), Failure> {
    if args.json {
        let names = |set: KernelSet| set.kernels().map(KernelRef::name).collect::<Vec<_>>();
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
            let emitted: Vec<_> = KernelSet::emitted(tier).kernels().map(KernelRef::name).collect();
            let _ = writeln!(text, "    in objects and in memory: {}", emitted.join(", "));
            let precompiled = |kernel: &KernelRef| kernel.info().implementation == Implementation::Precompiled;
            let more: Vec<_> = KernelSet::all(tier).kernels().filter(precompiled).map(KernelRef::name).collect();
            if !more.is_empty() {
                let _ = writeln!(text, "    in memory alone: {}", more.join(", "));
            }
        }
    }
    print(&text)
}
