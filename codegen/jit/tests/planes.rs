//! Images of planes that become pixels of codes, as the first step of most networks has it.

mod support;

use catc_program::{Epilogue, Op};
use proptest::prelude::*;
use support::build::{Builder, codes, window};
use support::check;

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn planes_of_any_size(seed: u64, bits in 2u8..=8) {
        let mut b = Builder::new(seed);
        let dims = [b.rng.size(1, 5), b.rng.size(1, 4), b.rng.size(1, 70)];
        let input = b.input(&dims);
        let format = codes(&mut b.rng, bits);
        let x = b.image(format, &dims);
        let epilogue = Epilogue { requantize: Some((1 << bits) as f32 * 0.6), ..Epilogue::default() };
        b.step(Op::Map { scale: 0.7 }, &[input], epilogue, x);
        // A reader with padding, and one without.
        let format = codes(&mut b.rng, 8);
        let y = b.conv(x, 3, 1, window(3, 1, 1), 4, format, vec![]);
        b.output(x);
        b.output(y);
        let mut inputs = b.inputs();
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 3e9, f32::MIN_POSITIVE / 4.0];
        for (at, value) in odd.into_iter().enumerate() {
            let length = inputs[0].len();
            inputs[0][(at * 37 + seed as usize % 64) % length] = value;
        }
        check(&b.program, &inputs, 0.0);
    }
}
