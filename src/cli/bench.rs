//! `catc bench MODEL.bin`

use super::args::BenchArgs;
use super::profile::Profile;
use super::{Failure, human_bytes, print, print_json};
use crate::data::DataSet;
use crate::driver::limits;
use crate::driver::{array_of, input_array, port_spec};
use catc_runtime::{InputArray, Model, SessionOptions};
use serde_json::json;
use std::time::Instant;

/// Runs before the timed ones.
const WARM_UP: u32 = 5;

/// Times runs of a compiled model on random inputs.
pub fn run(args: &BenchArgs) -> Result<(), Failure> {
    let start = Instant::now();
    let model = Model::open(&args.model)?;
    let session = model.session(&SessionOptions {
        threads: args.threads.into(),
        tier: args.cpu,
        limits: limits(args.memory.max_memory),
    })?;
    let ready_ms = start.elapsed().as_secs_f64() * 1e3;
    let batch = args.batch as usize;
    let mut arrays = vec![];
    for port in model.inputs() {
        let shape: Vec<usize> = [batch].iter().chain(&port.dims).copied().collect();
        let all: Vec<usize> = (0..batch).collect();
        arrays.push((shape, array_of(&DataSet::synthetic(&port_spec(port), 0, batch)?, &all)?));
    }
    let inputs: Vec<InputArray> = arrays.iter().map(|(shape, data)| input_array(shape, data)).collect();
    for _ in 0..WARM_UP {
        session.run(&inputs)?;
    }
    let mut times = Vec::with_capacity(args.runs as usize);
    for _ in 0..args.runs {
        let start = Instant::now();
        session.run(&inputs)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let quantile = |q: f64| times[((times.len() - 1) as f64 * q).round() as usize];
    let (median, min, p90) = (quantile(0.5), times[0], quantile(0.9));
    let memory = session.memory();
    let peak = peak_resident_bytes();
    let profile = if args.profile { Some(Profile::measure(&session, &inputs, args.runs)?) } else { None };
    if args.json {
        let mut report = json!({
            "median_ms": median,
            "min_ms": min,
            "p90_ms": p90,
            "threads": args.threads,
            "batch": args.batch,
            "runs": args.runs,
            "ready_ms": ready_ms,
            "tier": session.tier().to_string(),
            "packed_bytes": memory.constants,
            "code_bytes": memory.code,
            "workspace_bytes": memory.workspace,
            "peak_resident_bytes": peak,
        });
        if let Some(profile) = profile {
            report["profile"] = profile.json();
        }
        return print_json(&report);
    }
    let [packed, code, workspace] = [memory.constants, memory.code, memory.workspace].map(|n| human_bytes(n as u64));
    let peak = peak.map_or("not known".into(), human_bytes);
    let profile = profile.map_or(String::new(), |p| format!("\n{}", p.text()));
    print(&format!(
        "{}: median {median:.3} ms, min {min:.3} ms, 90th percentile {p90:.3} ms ({} runs, batch {batch}, {} thread(s), {}); \
         ready after {ready_ms:.0} ms\n\
         memory: {packed} of packed weights, {code} of code, {workspace} of activations for each image at a time; peak of the process {peak}\n{profile}",
        args.model.display(),
        args.runs,
        args.threads,
        session.tier()
    ))
}

/// The most memory that this process has had resident, as far as the system tells.
pub fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
