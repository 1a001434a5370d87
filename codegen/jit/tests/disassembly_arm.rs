//! What the AArch64 code of the hot loops is made of, looked up in the bytes of object files: on any machine.
#![cfg(feature = "object")]

mod support;

use catc_jit::{ObjectFile, ObjectOptions, object};
use catc_kernels::{Architecture, Tier};
use catc_program::{Epilogue, Format, Op, Program};
use support::build::{Builder, codes, window};
use support::symbols::{code_of, two_convolutions};

/// Instructions by the bits that their operands leave alone (Arm Architecture Reference Manual for A-profile, C7.2).
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// `tbl` of 16 bytes from one register.
    Tbl,
    /// `sdot` of 16 bytes.
    Sdot,
    /// `usdot` of 16 bytes.
    Usdot,
    /// `smull`, `smull2` of bytes.
    Smull,
    /// `umull`, `mul` of widened bytes and all else that multiplies integers in vectors of 16 bits.
    Mul,
    /// `addp` of 16 bits.
    Addp,
    /// `fmla` of four floats by a lane.
    Fmla,
    /// `eor` of vectors.
    Eor,
    /// `add` of 16 bytes.
    AddBytes,
    /// `bl`, `blr`.
    Call,
}

fn is(kind: Kind, word: u32) -> bool {
    let three_operands = |pattern: u32| word & 0xffe0_fc00 == pattern;
    match kind {
        Kind::Tbl => three_operands(0x4e00_0000),
        Kind::Sdot => three_operands(0x4e80_9400),
        Kind::Usdot => three_operands(0x4e80_9c00),
        Kind::Smull => three_operands(0x0e20_c000) || three_operands(0x4e20_c000),
        Kind::Mul => three_operands(0x4e60_9c00) || three_operands(0x2e20_c000) || three_operands(0x6e20_c000),
        Kind::Addp => three_operands(0x4e60_bc00),
        Kind::Fmla => word & 0xffc0_f400 == 0x4f80_1000,
        Kind::Eor => three_operands(0x6e20_1c00),
        Kind::AddBytes => three_operands(0x4e20_8400),
        Kind::Call => word & 0xfc00_0000 == 0x9400_0000 || word & 0xffff_fc1f == 0xd63f_0000,
    }
}

fn count(code: &[u32], kind: Kind) -> usize {
    code.iter().filter(|&&word| is(kind, word)).count()
}

/// Instructions from a branch to its target, for branches with a displacement (`b`, `b.cond`, `cbz`, `cbnz`, `tbz`, `tbnz`).
fn branch(word: u32) -> Option<i64> {
    let field = |from: u32, bits: u32| i64::from(((word << (32 - from - bits)) as i32) >> (32 - bits));
    match word {
        _ if word & 0xfc00_0000 == 0x1400_0000 => Some(field(0, 26)),
        _ if word & 0xff00_0010 == 0x5400_0000 || word & 0x7e00_0000 == 0x3400_0000 => Some(field(5, 19)),
        _ if word & 0x7e00_0000 == 0x3600_0000 => Some(field(5, 14)),
        _ => None,
    }
}

/// The loops that contain no other loop.
fn innermost_loops(code: &[u32]) -> Vec<&[u32]> {
    let backward =
        |at: usize| branch(code[at]).filter(|&d| d <= 0 && at as i64 + d >= 0).map(|d| (at as i64 + d) as usize);
    let loops: Vec<(usize, usize)> = (0..code.len()).filter_map(|at| Some((backward(at)?, at))).collect();
    let contains = |outer: &(usize, usize), inner: &(usize, usize)| outer.0 <= inner.0 && inner.1 < outer.1;
    let innermost = loops.iter().filter(|outer| !loops.iter().any(|inner| contains(outer, inner)));
    innermost.map(|&(start, end)| &code[start..=end]).collect()
}

fn conv(w: u8, a: u8) -> Program {
    let mut b = Builder::new(1);
    let input = b.input(&[64, 12, 12]);
    let format = codes(&mut b.rng, a);
    let x = b.quantize(input, format);
    let format = codes(&mut b.rng, a);
    let y = b.conv(x, 64, 1, window(3, 1, 1), w, format, vec![]);
    let z = b.conv(y, 64, 1, window(3, 1, 1), w, Format::F32, vec![]);
    b.output(z);
    b.program
}

fn float_conv() -> Program {
    let mut b = Builder::new(1);
    let input = b.input(&[64, 12, 12]);
    let mut x = b.image(Format::F32, &[64, 12, 12]);
    b.step(Op::Map { scale: 1.5 }, &[input], Epilogue::default(), x);
    for _ in 0..2 {
        let weights = b.floats(&[64, 64, 3, 3], |r| r.float());
        let bias = b.floats(&[64], |r| r.float());
        let y = b.image(Format::F32, &[64, 12, 12]);
        let op = Op::FloatConv { geometry: window(3, 1, 1), groups: 1, weights, bias };
        b.step(op, &[x], Epilogue::default(), y);
        x = y;
    }
    b.output(x);
    b.program
}

fn made(w: u8, a: u8, tier: Tier) -> ObjectFile {
    let program = if w == 32 { float_conv() } else { conv(w, a) };
    object(&program, &ObjectOptions { tier, name: "net", listing: false }).unwrap()
}

fn words(code: Vec<u8>) -> Vec<u32> {
    code.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}

/// The code of the two convolutions, which run a kernel.
fn kernels(made: &ObjectFile, kernel: &str) -> Vec<Vec<u32>> {
    two_convolutions(made, kernel).into_iter().map(words).collect()
}

/// The innermost loop with the most instructions of a kind.
fn hottest(code: &[u32], kind: Kind) -> &[u32] {
    innermost_loops(code).into_iter().max_by_key(|l| count(l, kind)).unwrap()
}

#[test]
fn two_bit_convolutions_look_up_by_tbl() {
    for code in kernels(&made(2, 2, Tier::Aarch64Neon), "pairs-128") {
        assert_eq!(count(&code, Kind::Call), 0);
        let hot = hottest(&code, Kind::Tbl);
        let (look_ups, sums) = (count(hot, Kind::Tbl), count(hot, Kind::AddBytes));
        assert!(look_ups >= 96 && look_ups.is_multiple_of(24), "{look_ups} look-ups");
        assert_eq!(sums, look_ups - look_ups / 24);
        assert!(hot.len() < look_ups * 7 / 2, "{} instructions for {look_ups} look-ups", hot.len());
        for other in [Kind::Sdot, Kind::Usdot, Kind::Smull, Kind::Mul] {
            assert_eq!(count(hot, other), 0, "{other:?}");
        }
    }
}

#[test]
fn convolutions_multiply_by_the_best_instruction_of_the_tier() {
    let expected = [
        (Tier::Aarch64Neon, 4, "dot-maddubs", Kind::Smull),
        (Tier::Aarch64Neon, 8, "dot-signed", Kind::Smull),
        (Tier::Aarch64Dotprod, 2, "dot-signed", Kind::Sdot),
        (Tier::Aarch64Dotprod, 4, "dot-signed", Kind::Sdot),
        (Tier::Aarch64Dotprod, 8, "dot-signed", Kind::Sdot),
        (Tier::Aarch64I8mm, 2, "dot-usdot", Kind::Usdot),
        (Tier::Aarch64I8mm, 4, "dot-usdot", Kind::Usdot),
        (Tier::Aarch64I8mm, 8, "dot-usdot", Kind::Usdot),
    ];
    for (tier, bits, kernel, kind) in expected {
        for code in kernels(&made(bits, bits, tier), kernel) {
            assert_eq!(count(&code, Kind::Call), 0);
            let hot = hottest(&code, kind);
            let products = count(hot, kind);
            assert!(products >= 32, "{tier} {bits} bits: {products} of {kind:?}");
            // An instruction for each step of a cell, or up to six with its two `smull`; and the loads that the cells of a tile share.
            let most = if kind == Kind::Smull { products * 7 / 2 } else { products * 9 / 5 };
            assert!(hot.len() < most, "{tier} {bits} bits: {} instructions for {products}", hot.len());
            for other in [Kind::Sdot, Kind::Usdot, Kind::Smull, Kind::Mul] {
                assert!(other == kind || count(hot, other) == 0, "{tier} {bits} bits: {other:?}");
            }
            // Unsigned codes become signed ones only where they do not fit and the instruction asks for it.
            let shifted = bits == 8 && kernel == "dot-signed";
            assert_eq!(count(hot, Kind::Eor) > 0, shifted, "{tier} {bits} bits");
            assert_eq!(count(hot, Kind::Addp) > 0, kernel == "dot-maddubs", "{tier} {bits} bits");
        }
    }
}

#[test]
fn floats_are_multiplied_and_added_at_once() {
    for tier in Tier::of(Architecture::Aarch64) {
        for code in kernels(&made(32, 32, tier), "float") {
            let hot = hottest(&code, Kind::Fmla);
            let products = count(hot, Kind::Fmla);
            assert!(
                products >= 64 && hot.len() < products * 3 / 2,
                "{tier}: {} instructions for {products}",
                hot.len()
            );
        }
    }
}

#[test]
fn code_stays_within_its_tier() {
    for (w, a) in [(2, 2), (4, 4), (8, 8)] {
        for (tier, forbidden) in
            [(Tier::Aarch64Neon, &[Kind::Sdot, Kind::Usdot][..]), (Tier::Aarch64Dotprod, &[Kind::Usdot][..])]
        {
            let made = made(w, a, tier);
            for step in &made.steps {
                let code = words(code_of(&made, &step.symbol));
                for &kind in forbidden {
                    assert_eq!(count(&code, kind), 0, "{tier} W{w}A{a} {}: {kind:?}", step.name);
                }
            }
        }
    }
}
