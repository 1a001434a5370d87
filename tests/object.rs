//! The example as an object file: linked into a C program, which computes what the runtime computes.

mod common;
use common::{catc, compile_digits, digits};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A C compiler and what runs its programs.
struct Tools {
    triple: &'static str,
    cpus: &'static [&'static str],
    gcc: &'static str,
    runner: &'static [&'static str],
}

const NATIVE: Tools = Tools {
    triple: "x86_64-unknown-linux-gnu",
    cpus: &["x86-64-v2", "x86-64-v3", "x86-64-v3-vnni", "avx512-vnni"],
    gcc: "gcc",
    runner: &[],
};

const ARM: Tools = Tools {
    triple: "aarch64-unknown-linux-gnu",
    cpus: &["aarch64-neon", "aarch64-dotprod", "aarch64-i8mm"],
    gcc: "aarch64-linux-gnu-gcc",
    runner: &["qemu-aarch64", "-cpu", "max", "-L", "/usr/aarch64-linux-gnu"],
};

fn works(command: &str) -> bool {
    Command::new(command).arg("--version").output().is_ok_and(|out| out.status.success())
}

impl Tools {
    fn present(&self) -> bool {
        let found = cfg!(target_arch = "x86_64") && works(self.gcc) && self.runner.first().is_none_or(|r| works(r));
        if !found {
            println!("skipped: no {} or nothing to run its programs", self.gcc);
        }
        found
    }

    /// The C example's printed classes and its outputs. `None` if this CPU cannot run the code.
    fn classify(&self, dir: &Path, model: &Path, cpu: &str) -> Option<(String, Vec<u8>)> {
        let emit = format!("obj={0}/net.o,header={0}/net.h", dir.display());
        let arguments = ["--target", self.triple, "--cpu", cpu, "--name", "net", "--emit", &emit];
        let report = catc().arg(model).args(arguments).assert().success();
        let report = String::from_utf8_lossy(&report.get_output().stdout).into_owned();
        assert!(report.contains(cpu) && report.contains("workspace"), "{report}");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/c/classify.c");
        let flags =
            ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O2", "-I", ".", "net.o", "-o", "classify"];
        let built = Command::new(self.gcc).arg(&source).args(flags).current_dir(dir).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let program = dir.join("classify");
        let mut command = match self.runner {
            [] => Command::new(&program),
            [runner, arguments @ ..] => {
                let mut command = Command::new(runner);
                command.args(arguments).arg(&program);
                command
            }
        };
        let outputs = dir.join("outputs");
        let run = command.arg(digits("test.npy")).arg(&outputs).output().unwrap();
        let message = String::from_utf8_lossy(&run.stderr);
        if message.contains("lacks instructions") {
            assert_eq!(run.status.code(), Some(1));
            println!("{cpu}: refused by this CPU");
            return None;
        }
        assert!(run.status.success(), "{cpu}: {message}");
        Some((String::from_utf8(run.stdout).unwrap(), fs::read(outputs).unwrap()))
    }
}

/// What `catc run` computes: the bytes behind the header of the .npy file.
fn run(model: &Path, dir: &Path) -> Vec<u8> {
    let npy = dir.join("run.npy");
    let (input, output) = (digits("test.npy"), npy.clone());
    catc()
        .arg("run")
        .arg(model)
        .args(["--preprocess".as_ref(), digits("digits.toml").as_os_str()])
        .args(["--input".as_ref(), input.as_os_str(), "--output".as_ref(), output.as_os_str()])
        .assert()
        .success();
    let bytes = fs::read(npy).unwrap();
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    bytes[header..].to_vec()
}

#[test]
fn the_c_example_computes_what_the_runtime_computes() {
    for (bits, tools) in [("2", [&NATIVE, &ARM]), ("8", [&NATIVE, &ARM])] {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let model = dir.join("digits.bin");
        compile_digits(&model, &["--wbits", bits, "--abits", bits, "--method", "mse"]);
        let expected = run(&model, dir);
        assert_eq!(expected.len(), 597 * 10 * 4);
        let floats: Vec<f32> = expected.chunks(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
        let best = |row: &[f32]| (0..10).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
        let classes: String = floats.chunks(10).enumerate().map(|(i, row)| format!("{i}\t{}\n", best(row))).collect();
        for tools in tools.into_iter().filter(|t| t.present()) {
            for cpu in tools.cpus {
                let Some((printed, outputs)) = tools.classify(dir, &model, cpu) else { continue };
                assert!(outputs == expected, "W{bits}A{bits} {cpu}: the outputs differ");
                assert_eq!(printed, classes, "{cpu}");
            }
        }
    }
}

#[test]
fn a_cpu_without_the_instructions_is_refused() {
    if !ARM.present() {
        return;
    }
    let a53 = Tools { runner: &["qemu-aarch64", "-cpu", "cortex-a53", "-L", "/usr/aarch64-linux-gnu"], ..ARM };
    let n1 = Tools { runner: &["qemu-aarch64", "-cpu", "neoverse-n1", "-L", "/usr/aarch64-linux-gnu"], ..ARM };
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let model = dir.join("digits.bin");
    compile_digits(&model, &["--wbits", "4", "--abits", "4", "--method", "minmax"]);
    for (tools, cpu, runs) in [
        (&a53, "aarch64-neon", true),
        (&a53, "aarch64-dotprod", false),
        (&a53, "aarch64-i8mm", false),
        (&n1, "aarch64-dotprod", true),
        (&n1, "aarch64-i8mm", false),
    ] {
        assert_eq!(tools.classify(dir, &model, cpu).is_some(), runs, "{cpu} on {:?}", tools.runner);
    }
}

#[test]
fn every_kind_of_text_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let emit: Vec<String> = [("obj", "n.o"), ("header", "n.h"), ("asm", "n.s"), ("clif", "n.clif"), ("ir", "n.catir")]
        .iter()
        .map(|(kind, file)| format!("{kind}={}", at(file).display()))
        .collect();
    let out = catc()
        .arg(digits("digits_resnet.onnx"))
        .args(["--samples", "4", "--method", "minmax", "--wbits", "2", "--abits", "2", "--json"])
        .args(["--target", "aarch64-unknown-linux-gnu", "--cpu", "aarch64-i8mm", "--emit", &emit.join(",")])
        .assert()
        .success();
    let report: serde_json::Value = serde_json::from_slice(&out.get_output().stdout).unwrap();
    assert_eq!(report["emitted"]["name"], "digits_resnet");
    assert_eq!(report["emitted"]["files"].as_array().unwrap().len(), 5);
    let text = |name: &str| fs::read_to_string(at(name)).unwrap();
    assert!(fs::read(at("n.o")).unwrap().starts_with(b"\x7fELF"));
    assert!(text("n.h").contains("int digits_resnet_run(const float *input, float *output, void *workspace);"));
    assert!(text("n.s").contains("usdot "));
    assert!(text("n.clif").contains("iadd_pairwise"));
    assert!(text("n.catir").contains("conv"));
}

#[test]
fn what_cannot_be_emitted_is_a_usage_error() {
    let model = digits("digits_resnet.onnx");
    for (arguments, expected) in [
        (vec!["--emit", "elf=x"], "obj, header"),
        (vec!["--emit", "obj="], "KIND=PATH"),
        (vec!["--emit", "obj=x.o", "--target", "riscv64"], "aarch64-unknown-linux-gnu"),
        (vec!["--emit", "obj=x.o", "--target", "aarch64-unknown-linux-gnu", "--cpu", "x86-64-v3"], "aarch64-dotprod"),
        (vec!["--emit", "obj=x.o", "--name", "a-b"], "--name"),
        (vec!["-o", "x.bin", "--cpu", "x86-64-v2"], "--emit"),
        (vec![], "--output"),
    ] {
        let out = catc().arg(&model).args(&arguments).assert().code(2);
        let message = String::from_utf8_lossy(&out.get_output().stderr).into_owned();
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
}

#[test]
fn targets_lists_instruction_sets_and_their_kernels() {
    let out = catc().arg("targets").assert().success();
    let text = String::from_utf8_lossy(&out.get_output().stdout).into_owned();
    for word in ["aarch64-unknown-linux-gnu", "x86_64-unknown-linux-gnu", "aarch64-i8mm", "dot-usdot", "pairs-128"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let out = catc().args(["targets", "--json"]).assert().success();
    let list: serde_json::Value = serde_json::from_slice(&out.get_output().stdout).unwrap();
    for target in list.as_array().unwrap() {
        for cpu in target["cpus"].as_array().unwrap() {
            assert!(cpu["object_kernels"].as_array().unwrap().contains(&"pairs-128".into()), "{cpu}");
        }
    }
}
