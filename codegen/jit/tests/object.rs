//! Object files: linked by the C compiler in every way, run, and compared with the code in memory byte for byte.
#![cfg(feature = "object")]

mod support;

use catc_jit::{JitError, ObjectFile, ObjectOptions, Options, compile, object};
use catc_kernels::{Architecture, Implementation, Tier};
use catc_program::{Format, Program};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::build::{Builder, codes, window};
use support::{reference, run};

/// The compiler and its kin for an architecture, if this machine has them, and what runs programs.
struct Tools {
    prefix: &'static str,
    runner: Option<&'static [&'static str]>,
}

fn works(command: &str) -> bool {
    Command::new(command).arg("--version").output().is_ok_and(|out| out.status.success())
}

fn tools(architecture: Architecture) -> Option<Tools> {
    if cfg!(not(target_arch = "x86_64")) {
        println!("skipped: objects are linked on x86-64 only");
        return None;
    }
    let (prefix, runner): (_, &'static [&'static str]) = match architecture {
        Architecture::X86_64 => ("", &[]),
        Architecture::Aarch64 => {
            ("aarch64-linux-gnu-", &["qemu-aarch64", "-cpu", "max", "-L", "/usr/aarch64-linux-gnu"])
        }
    };
    let gcc = format!("{prefix}gcc");
    if !works(&gcc) {
        println!("skipped: no {gcc}");
        return None;
    }
    let runs = runner.first().is_none_or(|command| works(command));
    Some(Tools { prefix, runner: runs.then_some(runner) })
}

impl Tools {
    fn call(&self, tool: &str, dir: &Path, arguments: &[&str]) -> String {
        let command = format!("{}{tool}", self.prefix);
        let out = Command::new(&command).args(arguments).current_dir(dir).output().unwrap();
        assert!(out.status.success(), "{command} {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
        assert!(out.stderr.is_empty(), "{command} {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// Runs a program that reads `in` and writes `out`.
    fn run(&self, program: &Path, dir: &Path, arguments: &[&str]) -> Vec<u8> {
        let words: Vec<&str> = self.runner.unwrap().to_vec();
        let mut command = match words.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            None => Command::new(program),
        };
        let out = command.args(arguments).current_dir(dir).env("LD_LIBRARY_PATH", dir).output().unwrap();
        assert!(out.status.success(), "{}: {:?}", program.display(), out.status);
        fs::read(dir.join("out")).unwrap()
    }
}

/// Two inputs, two outputs, every kind of kernel that bits select, and functions of floats.
fn network() -> (Program, Vec<Vec<f32>>) {
    let mut b = Builder::new(11);
    let input = b.input(&[6, 9, 11]);
    let second = b.input(&[3]);
    for bits in [2, 4, 8] {
        let format = codes(&mut b.rng, bits);
        let x = b.quantize(input, format);
        let format = codes(&mut b.rng, bits);
        let y = b.conv(x, 18, 1, window(3, 1, 1), bits, format, vec![]);
        let z = b.conv(y, 18, 18, window(3, 1, 1), bits, format, vec![]);
        let z = b.conv(z, 7, 1, window(3, 2, 1), bits, Format::F32, vec![]);
        b.output(z);
    }
    b.output(second);
    let inputs = b.inputs();
    (b.program, inputs)
}

fn made(program: &Program, tier: Tier) -> ObjectFile {
    object(program, &ObjectOptions { tier, name: "net", listing: true }).unwrap_or_else(|e| panic!("{tier}: {e}"))
}

const MAIN: &str = r#"
#include "net.h"
#include <stdio.h>
#include <stdlib.h>
static float a[NET_INPUT0_ELEMENTS], b[NET_INPUT1_ELEMENTS];
static float w[NET_OUTPUT0_ELEMENTS], x[NET_OUTPUT1_ELEMENTS], y[NET_OUTPUT2_ELEMENTS], z[NET_OUTPUT3_ELEMENTS];
int main(void) {
    const int dims[NET_INPUT0_RANK] = NET_INPUT0_DIMS;
    if (dims[0] * dims[1] * dims[2] != NET_INPUT0_ELEMENTS) return 2;
    if (!net_supported()) return 3;
    char *space = aligned_alloc(NET_WORKSPACE_ALIGNMENT, NET_WORKSPACE_BYTES + 64);
    for (int i = 0; i < NET_WORKSPACE_BYTES + 64; i++) space[i] = (char)0xa5;
    FILE *in = fopen("in", "rb"), *out = fopen("out", "wb");
    if (fread(a, sizeof a, 1, in) != 1 || fread(b, sizeof b, 1, in) != 1) return 4;
    if (net_run(a, b, w, x, y, z, 0) != 1 || net_run(a, b, w, x, y, z, space + 4) != 1) return 5;
    for (int turn = 0; turn < 2; turn++) if (net_run(a, b, w, x, y, z, space) != 0) return 6;
    for (int i = 0; i < 64; i++) if (space[NET_WORKSPACE_BYTES + i] != (char)0xa5) return 7;
    fwrite(w, sizeof w, 1, out); fwrite(x, sizeof x, 1, out); fwrite(y, sizeof y, 1, out); fwrite(z, sizeof z, 1, out);
    return fclose(out) != 0;
}
"#;

fn bytes(values: &[Vec<f32>]) -> Vec<u8> {
    values.iter().flatten().flat_map(|v| v.to_le_bytes()).collect()
}

/// Whether this machine runs code of a tier: itself, or the emulator, which has everything.
fn runs(tier: Tier, tools: &Tools) -> bool {
    tier.is_available() || (tier.architecture() != Architecture::X86_64 && tools.runner.is_some())
}

#[test]
fn objects_link_in_every_way_and_compute_the_same() {
    let (program, inputs) = network();
    let expected = bytes(&reference::run(&program, &inputs));
    let here = compile(&program, &Options::default()).unwrap();
    assert_eq!(bytes(&run(&here, &program, &inputs)), expected);
    for architecture in Architecture::ALL {
        let Some(tools) = tools(architecture) else { continue };
        for tier in Tier::of(architecture) {
            let folder = tempfile::tempdir().unwrap();
            let dir = folder.path();
            let made = made(&program, tier);
            fs::write(dir.join("net.o"), &made.bytes).unwrap();
            fs::write(dir.join("net.h"), &made.header).unwrap();
            fs::write(dir.join("main.c"), MAIN).unwrap();
            fs::write(dir.join("in"), bytes(&inputs)).unwrap();
            let undefined = tools.call("nm", dir, &["-u", "net.o"]);
            assert_eq!(undefined, "", "{tier}: the object refers to something outside itself");
            let exported = tools.call("nm", dir, &["-g", "--defined-only", "net.o"]);
            assert_eq!(exported.lines().count(), 1, "{exported}");
            assert!(exported.trim_end().ends_with(" T net_run"), "{exported}");
            let warn = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-Wl,--fatal-warnings"];
            let link = |name: &str, flags: &[&str]| -> PathBuf {
                tools.call("gcc", dir, &[&warn[..], flags, &["-o", name]].concat());
                let target = dir.join(name);
                let dynamic = tools.call("readelf", dir, &["-d", name]);
                assert!(!dynamic.contains("TEXTREL"), "{tier} {name}: {dynamic}");
                target
            };
            let library = link("libnet.so", &["-shared", "-Wl,-z,text", "net.o"]);
            assert!(library.exists());
            let programs = [
                link("pie", &["-pie", "-fPIE", "-Wl,-z,text", "main.c", "net.o"]),
                link("static", &["-static", "-no-pie", "main.c", "net.o"]),
                link("shared", &["-pie", "-fPIE", "main.c", "-L.", "-lnet"]),
            ];
            if !runs(tier, &tools) {
                println!("{tier}: linked, not run");
                continue;
            }
            for linked in programs {
                let arguments: &[&str] = &[];
                assert!(tools.run(&linked, dir, arguments) == expected, "{tier}: {}", linked.display());
            }
        }
    }
}

#[test]
fn objects_have_emitted_kernels_only() {
    let (program, _) = network();
    for tier in Tier::ALL {
        let made = made(&program, tier);
        let kernels: Vec<_> = made.steps.iter().filter_map(|s| s.kernel).collect();
        assert_eq!(kernels.len(), 9);
        assert!(kernels.iter().all(|k| k.info().implementation == Implementation::Emitted), "{tier}: {kernels:?}");
        assert!(made.assembly.contains("net_run") && made.clif.contains("net_step_0"), "{tier}");
        assert!(made.code_bytes > 1000 && made.constant_bytes > 1000 && made.workspace_bytes > 1000);
        assert!(made.header.contains(tier.name()));
    }
}

#[test]
fn the_same_program_gives_the_same_bytes() {
    let (program, _) = network();
    for tier in [Tier::X86V3, Tier::Aarch64Dotprod] {
        assert!(made(&program, tier).bytes == made(&program, tier).bytes);
    }
}

#[test]
fn a_name_that_c_does_not_take_is_refused() {
    let (program, _) = network();
    for name in ["", "3net", "a-b", "a b", "n\u{e9}t", "x;y"] {
        let error = object(&program, &ObjectOptions { tier: Tier::X86V2, name, listing: false }).unwrap_err();
        assert!(matches!(error, JitError::Name { .. }), "{error}");
    }
}
