//! What the machine code of the hot loops is made of. Instructions are found by pattern matching inside Cranelift, which can fail
//! without a word: these tests look. `disassembly_arm.rs` does the same for AArch64.
#![cfg(all(target_arch = "x86_64", feature = "object"))]

mod support;

use catc_jit::{ObjectOptions, Options, compile, object};
use catc_kernels::{Architecture, Tier};
use catc_program::{Format, Program};
use iced_x86::{CpuidFeature, Decoder, EncodingKind, FlowControl, Instruction, Mnemonic};
use support::build::{Builder, codes, window};
use support::symbols::two_convolutions;
use support::tiers;

fn decode(code: &[u8]) -> Vec<Instruction> {
    Decoder::with_ip(64, code, 0, 0).into_iter().collect()
}

/// The loops that contain no other loop: the instructions from a backward jump's target to the jump.
fn innermost_loops(code: &[Instruction]) -> Vec<&[Instruction]> {
    let backward = |i: &Instruction| {
        // Where values move from turn to turn, the jump back may stand alone behind the moves.
        let jump = matches!(i.flow_control(), FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch);
        jump && i.near_branch_target() <= i.ip()
    };
    let mut loops = Vec::new();
    for (end, jump) in code.iter().enumerate().filter(|(_, i)| backward(i)) {
        let start = code.iter().position(|i| i.ip() == jump.near_branch_target()).unwrap();
        let body = &code[start..=end];
        if body.iter().filter(|i| backward(i)).count() == 1 {
            loops.push(body);
        }
    }
    loops
}

fn count(code: &[Instruction], mnemonics: &[Mnemonic]) -> usize {
    code.iter().filter(|i| mnemonics.contains(&i.mnemonic())).count()
}

fn calls(code: &[Instruction]) -> usize {
    code.iter().filter(|i| matches!(i.flow_control(), FlowControl::Call | FlowControl::IndirectCall)).count()
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

/// The code of the two convolutions in an object file, which run an emitted kernel.
fn kernels(program: &Program, tier: Tier, kernel: &str) -> Vec<Vec<Instruction>> {
    let made = object(program, &ObjectOptions { tier, name: "net", listing: false }).unwrap();
    two_convolutions(&made, kernel).iter().map(|code| decode(code)).collect()
}

#[test]
fn two_bit_convolutions_look_up() {
    for tier in Tier::of(Architecture::X86_64) {
        for code in kernels(&conv(2, 2), tier, "pairs-128") {
            assert_eq!(calls(&code), 0);
            let loops = innermost_loops(&code);
            let hot = loops.iter().max_by_key(|l| l.len()).unwrap();
            let look_ups = count(hot, &[Mnemonic::Pshufb, Mnemonic::Vpshufb]);
            let sums = count(hot, &[Mnemonic::Paddb, Mnemonic::Vpaddb]);
            // 24 steps for each cell of the tile; the first step of a list starts the sums.
            assert!(look_ups >= 96 && look_ups.is_multiple_of(24), "{tier}: {look_ups} look-ups");
            assert_eq!(sums, look_ups - look_ups / 24, "{tier}");
            // Beside look-up and sum a share of a fetch, a row and an index vector, and a move where there are two operands only.
            assert!(hot.len() < look_ups * 5, "{tier}: {} instructions for {look_ups} look-ups", hot.len());
            let products =
                [Mnemonic::Pmaddubsw, Mnemonic::Vpmaddubsw, Mnemonic::Pmaddwd, Mnemonic::Vpmaddwd, Mnemonic::Vpdpbusd];
            assert_eq!(count(hot, &products), 0);
        }
    }
}

#[test]
fn wider_convolutions_multiply_and_add() {
    let expected = [
        (Tier::X86V2, 4, "dot-maddubs", Mnemonic::Pmaddubsw),
        (Tier::X86V3, 4, "dot-maddubs", Mnemonic::Vpmaddubsw),
        (Tier::X86V2, 8, "dot-madd16", Mnemonic::Pmaddwd),
        (Tier::X86V3, 8, "dot-madd16", Mnemonic::Vpmaddwd),
        (Tier::X86V3Vnni, 4, "dot-vnni", Mnemonic::Vpdpbusd),
        (Tier::X86V3Vnni, 8, "dot-vnni", Mnemonic::Vpdpbusd),
    ];
    for (tier, bits, kernel, mnemonic) in expected {
        for code in kernels(&conv(bits, bits), tier, kernel) {
            assert_eq!(calls(&code), 0);
            let loops = innermost_loops(&code);
            let hot = loops.iter().max_by_key(|l| count(l, &[mnemonic])).unwrap();
            let products = count(hot, &[mnemonic]);
            assert!(products >= 32, "{kernel}: {products} of {mnemonic:?}");
            assert!(hot.len() < products * 5, "{kernel}: {} instructions for {products} products", hot.len());
            let general = [Mnemonic::Pmullw, Mnemonic::Vpmullw, Mnemonic::Phaddd, Mnemonic::Vphaddd];
            assert_eq!(count(hot, &general), 0, "{kernel}");
        }
    }
}

/// A tier's code uses nothing that the tier does not promise.
#[test]
fn code_stays_within_its_tier() {
    use CpuidFeature::*;
    let v2: &[CpuidFeature] =
        &[INTEL8086, INTEL186, INTEL286, INTEL386, X64, CMOV, SSE, SSE2, SSE3, SSSE3, SSE4_1, SSE4_2, POPCNT];
    let v3: &[CpuidFeature] = &[AVX, AVX2, BMI1, BMI2, LZCNT];
    let vnni: &[CpuidFeature] = &[AVX_VNNI, AVX512_VNNI, AVX512VL, AVX512F];
    for tier in tiers() {
        let mut allowed = v2.to_vec();
        if tier >= Tier::X86V3 {
            allowed.extend(v3);
        }
        if tier >= Tier::X86V3Vnni {
            allowed.extend(vnni);
        }
        for (w, a) in [(2, 2), (4, 4), (8, 8)] {
            for step in compile(&conv(w, a), &Options { tier: Some(tier), ..Default::default() }).unwrap().steps() {
                for instruction in decode(step.code) {
                    if instruction.encoding() == EncodingKind::Legacy && instruction.cpuid_features().is_empty() {
                        continue;
                    }
                    // Constants lie behind the code; what decodes as nonsense there is not reached.
                    if instruction.is_invalid() {
                        break;
                    }
                    let known = instruction.cpuid_features().iter().all(|f| allowed.contains(f));
                    assert!(known, "{tier} W{w}A{a}: {:?} in `{instruction}`", instruction.cpuid_features());
                    if instruction.mnemonic() == Mnemonic::Ret {
                        break;
                    }
                }
            }
        }
    }
}
