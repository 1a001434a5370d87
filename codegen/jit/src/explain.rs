//! Explains the choice of the kernel of each convolution.

use crate::assign::Choices;
use crate::error::JitError;
use catc_kernels::{Considered, KernelSet, consider};
use catc_program::Program;

/// The kernels that were considered for a step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepKernels {
    /// The number of the program's step.
    pub step: usize,
    /// Every kernel of the set, with its estimated cost or the reason why it does not serve the step.
    pub considered: Vec<Considered>,
}

/// Queries every kernel of a set for every convolution of a program, as the choice of a kernel does. Nothing is compiled.
///
/// # Errors
/// If the program is not valid.
pub fn explain(program: &Program, kernels: KernelSet) -> Result<Vec<StepKernels>, JitError> {
    program.validate()?;
    let mut choices = Choices::new(program, kernels, u64::MAX);
    let mut steps = Vec::new();
    for (number, step) in program.steps.iter().enumerate() {
        if let Some(considered) = choices.query(step, |query, _| Ok(consider(query)))? {
            steps.push(StepKernels { step: number, considered });
        }
    }
    Ok(steps)
}
