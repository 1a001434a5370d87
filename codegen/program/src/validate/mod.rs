//! The rules that a program must satisfy before machine code is generated from it.
//!
//! A program comes from an untrusted file, and the generated code reads and writes memory according to the sizes in it. After
//! [`Program::validate`] has passed, the following holds:
//!
//! 1. There is at least one input, one output and one step. Every id is in range. Exactly one step writes each tensor that is not
//!    an input, and all reads come after it.
//! 2. Ports are distinct row-major tensors of f32 or indices. No two inputs and no two outputs have the same name. No input is an
//!    output. Only inputs of indices have a range, and the range is not empty.
//! 3. Dimensions are at least 1, and ranks are at most [`MAX_RANK`]. A tensor or constant has fewer than [`MAX_ELEMENTS`]
//!    elements, so byte offsets of f32 elements stay below 2^31. All tensors together have at most [`MAX_TOTAL_ELEMENTS`]
//!    elements. Channels-last tensors have rank 3.
//! 4. Code formats have 2 to 8 bits, finite positive scales, and zero points that are codes. The number of elements of a constant
//!    matches its dimensions. Codes lie in the range of their format.
//! 5. The output of a step has the format, dimensions and layout that follow from its inputs. Kernel sizes, strides, padding and
//!    dilations are at most [`MAX_WINDOW`], and a padded image has fewer than [`MAX_ELEMENTS`] elements. Every window of a
//!    pooling covers at least one element of the image.
//! 6. Sums of codes fit in i32. `K * span_x * span_w` in a convolution and `count * span_x` in an average are at most 2^31 - 1,
//!    where `span` is the largest code minus the smallest. In a convolution this also bounds sums of raw codes. In a convolution
//!    of codes, a weight minus its zero point fits in a signed byte, so 8-bit weights are symmetric or nearly so.
//! 7. Tunings name each CPU and instruction set at most once, name only existing steps, and respect the limits in
//!    [`crate::tuning`].
//! 8. Only operations that allow an epilogue have one, and it has at most [`MAX_EPILOGUE`] steps. Its factors are finite. Its
//!    operands are written before and broadcast to the output. Parameters of activations are not NaN, and the bounds of a clip
//!    are in order. Only such operations produce codes from f32 values, and only they set `requantize`.

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
/// Every tensor and constant has fewer elements than this.
pub const MAX_ELEMENTS: usize = 1 << 29;
/// All activation tensors of one image together have at most this many elements.
pub const MAX_TOTAL_ELEMENTS: u64 = 1 << 32;
/// The largest kernel size, stride, padding or dilation.
pub const MAX_WINDOW: usize = 1 << 16;

/// The largest number of steps in an epilogue.
pub const MAX_EPILOGUE: usize = 1024;

/// Validation stops after this many violations.
const MAX_VIOLATIONS: usize = 64;

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The tensor, constant, port or step.
    pub place: String,
    /// What is wrong there.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Why a program is not valid. No machine code is generated from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidProgram {
    /// The violations. The list is not empty.
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
    /// Checks every rule of [`crate::validate`]. The error lists the violations, up to the first 64.
    pub fn validate(&self) -> Result<(), InvalidProgram> {
        let mut v = Validator { program: self, violations: vec![] };
        v.data();
        // Each group of rules relies on the ones before it. In particular, the rules of steps look up ids and multiply sizes,
        // which must be known to be safe.
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
