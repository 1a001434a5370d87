//! Why each convolution of a program has the kernel that it has.

use crate::assign::Choices;
use crate::error::JitError;
use catc_kernels::{Considered, KernelSet, consider};
use catc_program::Program;

/// The kernels that were considered for a step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepKernels {
    /// The number of the program's step.
    pub step: usize,
    /// Every kernel of the set: what it is said to cost, or why it does not serve the step.
    pub considered: Vec<Considered>,
}

/// Asks every kernel of a set about every convolution of a program, as the choice does. Nothing is compiled.
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
