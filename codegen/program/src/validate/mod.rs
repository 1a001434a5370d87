//! What a program must satisfy before machine code is made from it.
//!
//! A program comes from a file that anyone may have written, and code made from it reads and writes memory by the sizes it claims. After
//! [`Program::validate`] has passed:
//!
//! 1. There is an input, an output and a step. Every id is in range. Every tensor but the inputs is written by one step, and read only after it.
//! 2. Ports are distinct tensors, row-major, f32 or indices; names of inputs, and of outputs, are unique. No input is an output. Only
//!    inputs of indices have a range, and there is a number in it.
//! 3. Dimensions are at least 1, ranks at most [`MAX_RANK`]; a tensor or constant has fewer than [`MAX_ELEMENTS`] elements, so that byte offsets of
//!    f32 elements stay below 2^31; all tensors together have at most [`MAX_TOTAL_ELEMENTS`]. Channels-last tensors have rank 3.
//! 4. Code formats have 2 to 8 bits, finite positive scales and zero-points that are codes. Constants have the elements that their dimensions
//!    ask for, and codes lie in the range of their format.
//! 5. The output of a step has the format, dimensions and layout that follow from its inputs. Kernel sizes, strides, paddings and
//!    dilations are at most [`MAX_WINDOW`], and a padded image has fewer than [`MAX_ELEMENTS`] elements. Every window of a pooling covers an element of the image.
//! 6. Sums of codes fit i32: `K * span_x * span_w` in a convolution (which also bounds sums of raw codes) and `count * span_x` in an average are at most
//!    2^31 - 1, where `span` is the largest code less the smallest. Weights of a convolution of codes less their zero-point fit a signed byte (so
//!    8-bit weights are symmetric, or nearly).
//! 7. Tunings name each CPU once and steps that are there, and are no larger than [`crate::tuning`] allows.
//! 8. An epilogue stands only on operations that allow one, and has at most [`MAX_EPILOGUE`] steps; its factors are finite, its operands are written and broadcast to the output; parameters of
//!    activations are no NaN and the bounds of a clip in order. Only such an operation makes codes from reals, and only there is `requantize` set.

mod data;
mod steps;
mod window;

pub(crate) use data::volume;

use crate::program::{Port, Program};
use crate::tensor::{Format, Layout};
use std::collections::HashSet;
use std::fmt;

/// The largest rank of a tensor or constant.
pub const MAX_RANK: usize = 8;
/// A tensor or constant has fewer elements than this.
pub const MAX_ELEMENTS: usize = 1 << 29;
/// All activation tensors of one image together have at most this many elements.
pub const MAX_TOTAL_ELEMENTS: u64 = 1 << 32;
/// The largest kernel size, stride, padding or dilation.
pub const MAX_WINDOW: usize = 1 << 16;

/// The most steps of an epilogue.
pub const MAX_EPILOGUE: usize = 1024;

/// After this many violations the rest is not looked for.
const MAX_VIOLATIONS: usize = 64;

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The tensor, constant, port or step.
    pub place: String,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Why no machine code is made from a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidProgram {
    /// What is wrong; not empty.
    pub violations: Vec<Violation>,
}

impl std::error::Error for InvalidProgram {}

impl fmt::Display for InvalidProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        f.write_str("the program is not valid: ")?;
        for (i, v) in self.violations.iter().take(SHOWN).enumerate() {
            write!(f, "{}{v}", if i > 0 { "; " } else { "" })?;
        }
        if let Some(more) = self.violations.len().checked_sub(SHOWN + 1) {
            write!(f, "; and {} more", more + 1)?;
        }
        Ok(())
    }
}

impl Program {
    /// Checks every rule of [`crate::validate`]. The error names each thing that breaks one (the first 64).
    pub fn validate(&self) -> Result<(), InvalidProgram> {
        let mut v = Validator { program: self, violations: vec![] };
        v.data();
        // The rules of steps look things up and multiply sizes: only once both are safe.
        if v.violations.is_empty() {
            v.ports();
        }
        if v.violations.is_empty() {
            v.dataflow();
        }
        if v.violations.is_empty() {
            v.steps();
        }
        v.check(|| "tuning".into(), crate::tuning::rules(&self.tunings, self.steps.len()));
        if v.violations.is_empty() { Ok(()) } else { Err(InvalidProgram { violations: v.violations }) }
    }
}

struct Validator<'p> {
    program: &'p Program,
    violations: Vec<Violation>,
}

impl Validator<'_> {
    fn report(&mut self, place: impl Into<String>, message: impl Into<String>) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(Violation { place: place.into(), message: message.into() });
        }
    }

    fn check(&mut self, place: impl FnOnce() -> String, result: Result<(), String>) {
        if let Err(message) = result {
            self.report(place(), message);
        }
    }

    fn ports(&mut self) {
        let p = self.program;
        if p.inputs.is_empty() || p.outputs.is_empty() || p.steps.is_empty() {
            self.report("program", "it needs an input, an output and a step");
        }
        let mut taken = HashSet::new();
        for (kind, ports) in [("input", &p.inputs), ("output", &p.outputs)] {
            let mut names = HashSet::new();
            for (i, port) in ports.iter().enumerate() {
                let place = || format!("{kind} {i} {:?}", port.name);
                self.check(place, port_rules(p, port, kind == "input"));
                if !taken.insert(port.tensor) {
                    self.report(place(), format!("tensor {} is a port already", port.tensor.0));
                }
                if !names.insert(port.name.as_str()) {
                    self.report(place(), "the name stands twice");
                }
            }
        }
    }

    fn dataflow(&mut self) {
        let p = self.program;
        let mut written = vec![false; p.tensors.len()];
        for port in &p.inputs {
            written[port.tensor.0 as usize] = true;
        }
        for (i, step) in p.steps.iter().enumerate() {
            let place = || step_place(i, &step.name);
            for t in step.reads() {
                match written.get(t.0 as usize) {
                    None => self.report(place(), format!("there is no tensor {}", t.0)),
                    Some(false) => self.report(place(), format!("reads tensor {} before it is written", t.0)),
                    Some(true) => {}
                }
            }
            for c in step.constants() {
                if c.0 as usize >= p.constants.len() {
                    self.report(place(), format!("there is no constant {}", c.0));
                }
            }
            match written.get_mut(step.output.0 as usize) {
                None => self.report(place(), format!("there is no tensor {}", step.output.0)),
                Some(true) => {
                    self.report(place(), format!("writes tensor {}, which is written already", step.output.0))
                }
                Some(w) => *w = true,
            }
        }
        for (i, _) in written.iter().enumerate().filter(|(_, w)| !**w) {
            self.report(tensor_place(p, i), "no step writes it");
        }
    }

    fn steps(&mut self) {
        let p = self.program;
        for (i, step) in p.steps.iter().enumerate() {
            self.check(|| step_place(i, &step.name), steps::step_rules(p, step));
        }
    }
}

fn port_rules(p: &Program, port: &Port, input: bool) -> Result<(), String> {
    let Some(t) = p.tensors.get(port.tensor.0 as usize) else {
        return Err(format!("there is no tensor {}", port.tensor.0));
    };
    if let Some(range) = port.range {
        if !input || t.format != Format::Index {
            return Err("only an input of indices has a range".into());
        }
        if range.low > range.high {
            return Err(format!("there is no number from {} to {}", range.low, range.high));
        }
    }
    match (t.format, t.layout) {
        (Format::F32 | Format::Index, Layout::RowMajor) => Ok(()),
        _ => Err("a port holds f32 or indices, row-major".into()),
    }
}

fn step_place(index: usize, name: &str) -> String {
    format!("step {index} {name:?}")
}

fn tensor_place(p: &Program, index: usize) -> String {
    format!("tensor {index} {:?}", p.tensors[index].name)
}
