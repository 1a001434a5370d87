//! The example, end to end: the trained network to W2A2 and other widths, evaluated through machine code.

mod common;
use common::{compile_digits, digits, eval_digits};
use std::fs;

#[test]
fn two_bits_keep_nine_tenths_of_the_accuracy() {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("digits.bin");
    let float = eval_digits(&digits("digits_resnet.onnx"));
    assert!((float - 0.9883).abs() < 0.002, "fp32 top-1 {float}");
    // The default method with fewer steps.
    let few = ["--iters", "40", "--set", "refine-scales.steps=40"];
    compile_digits(&bin, &[&["--wbits", "2", "--abits", "2"][..], &few].concat());
    let quantized = eval_digits(&bin);
    assert!(quantized >= 0.9 * float, "W2A2 top-1 {quantized}, fp32 {float}");
    let bytes = fs::metadata(&bin).unwrap().len();
    assert!(bytes < 308_074 * 4 / 8, "{bytes} bytes for 308,074 parameters");
}

#[test]
fn eight_bits_are_as_good_as_float() {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("digits.bin");
    compile_digits(&bin, &["--wbits", "8", "--abits", "8", "--method", "mse", "--no-cat"]);
    let quantized = eval_digits(&bin);
    assert!((quantized - 0.9883).abs() <= 0.005, "W8A8 top-1 {quantized}");
}

#[test]
fn the_same_seed_gives_the_same_bytes_for_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let files = ["1", "2"].map(|threads| {
        let bin = dir.path().join(format!("digits_{threads}.bin"));
        let few = ["--iters", "10", "--set", "refine-scales.steps=10"];
        compile_digits(
            &bin,
            &[&["--wbits", "2", "--abits", "2", "--seed", "3", "--threads", threads][..], &few].concat(),
        );
        fs::read(bin).unwrap()
    });
    assert!(files[0] == files[1], "one and two threads gave different model files");
}
