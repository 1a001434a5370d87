//! Programs that were made to lead code out of its memory.

mod support;

use catc_jit::{Input, Options, OutputMut, ParallelFor, compile};
use catc_program::{Binary, EpilogueStep, Format, Layout, Op, Operand};
use std::ops::Range;
use support::build::{Builder, window};
use support::check;

fn add(operand: catc_program::TensorId) -> EpilogueStep {
    EpilogueStep::Binary { op: Binary::Add, operand: Operand::Tensor(operand), scale: 1.0 }
}

/// Floats that the next layer adds twice: as they are, and through a view with another order of dimensions, whose rows lie elsewhere.
/// The two layers must not share a band of rows.
#[test]
fn floats_that_are_added_through_a_view_too_stay_whole() {
    for (bits, size) in [(8, [64, 64, 64]), (2, [64, 64, 64]), (8, [40, 72, 60])] {
        let mut b = Builder::new(11);
        let input = b.input(&size);
        let format = Format::Codes { signed: false, bits, scale: 0.05, zero_point: 1 };
        let x = b.quantize(input, format);
        let sum = b.conv(x, size[0], 1, window(1, 1, 0), bits, Format::F32, vec![]);
        let view = b.tensor(Format::F32, &size, Layout::RowMajor);
        b.step(Op::View, &[sum], Default::default(), view);
        for operands in [vec![add(sum), add(view)], vec![add(view), add(sum)], vec![add(sum), add(sum)]] {
            let mut b = Builder { program: b.program.clone(), rng: support::Rng(5) };
            let last = b.conv(x, size[0], 1, window(1, 1, 0), bits, Format::F32, operands);
            b.output(last);
            b.centre();
            let inputs = b.inputs();
            check(&b.program, &inputs, 0.0);
        }
    }
}

/// A window of two taps that moves by three: the packed rows and pixels of look-ups end with the last tap that is met.
#[test]
fn windows_that_skip_pixels_end_at_the_last_tap() {
    for size in [[5, 2, 2], [33, 5, 8], [64, 8, 5], [3, 11, 11]] {
        for (kernel, stride) in [(2, 3), (2, 5), (1, 4), (3, 4)] {
            if size[1] < kernel || size[2] < kernel {
                continue;
            }
            let mut b = Builder::new(3);
            let input = b.input(&size);
            let x = b.quantize(input, Format::Codes { signed: false, bits: 2, scale: 0.05, zero_point: 0 });
            let y = b.conv(x, 70, 1, window(kernel, stride, 0), 2, Format::F32, vec![]);
            b.output(y);
            b.centre();
            let inputs = b.inputs();
            check(&b.program, &inputs, 0.0);
        }
    }
}

/// Hands out a unit that the step does not have, or a worker that there is none of.
struct Beyond {
    worker: usize,
    past: usize,
}

// SAFETY: one call after the other; what is out of range the caller must find.
unsafe impl ParallelFor for Beyond {
    fn workers(&self) -> usize {
        1
    }

    fn parallel_for(&self, units: usize, _: f64, part: &(dyn Fn(usize, Range<usize>) + Sync)) {
        part(self.worker, 0..units + self.past);
    }
}

#[test]
fn units_and_workers_out_of_range_are_found() {
    let mut b = Builder::new(1);
    let input = b.input(&[4, 6, 6]);
    b.output(input);
    let compiled = compile(&b.program, &Options::default()).unwrap();
    let inputs = b.inputs();
    for (beyond, fails) in [
        (Beyond { worker: 0, past: 0 }, false),
        (Beyond { worker: 0, past: 1 }, true),
        (Beyond { worker: 0, past: 1 << 40 }, true),
        (Beyond { worker: 1, past: 0 }, true),
    ] {
        let mut out = vec![0.0; inputs[0].len()];
        let mut workspace = compiled.workspace(1).unwrap();
        let run = std::panic::AssertUnwindSafe(|| {
            let outputs = &mut [OutputMut::F32(&mut out)];
            compiled.run_observed(&[Input::F32(&inputs[0])], outputs, &mut workspace, Some(&beyond), |_, call| call())
        });
        assert_eq!(std::panic::catch_unwind(run).is_err(), fails);
    }
}
