//! `dead-code`: removes nodes whose outputs nothing takes, and frees the constants that nothing takes.
//!
//! - Before: any phase. After: every node contributes to an output of the graph. Exact.
//! - Other passes: the folds leave dead nodes behind only where they say so; this pass ends a series of them.
//! - Example: with `output v1`, the second line goes away.
//!   ```text
//!   v1: f32[N,4] = relu v0
//!   v2: f32[N,4] = sigmoid v0
//!   ```

use crate::context::PassContext;
use crate::pass::{Changed, Pass, PassError};
use crate::registry::{PassEntry, PassOptions, RegistryError};
use crate::rewrite::remove_dead_nodes;
use catc_ir::{Graph, Phase};

/// Removes what contributes to no output.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadCode;

impl DeadCode {
    /// Its entry in the registry.
    pub const ENTRY: PassEntry = PassEntry {
        name: "dead-code",
        summary: "removes nodes and constants that contribute to no output",
        options: &[],
        build: |_: &mut PassOptions| -> Result<Box<dyn Pass>, RegistryError> { Ok(Box::new(DeadCode)) },
    };
}

impl Pass for DeadCode {
    fn name(&self) -> &'static str {
        Self::ENTRY.name
    }

    fn phases(&self) -> &'static [Phase] {
        &[Phase::Float, Phase::Qdq, Phase::Integer]
    }

    fn run(&self, graph: &mut Graph, _: &mut PassContext) -> Result<Changed, PassError> {
        Ok(Changed::from_flag(remove_dead_nodes(graph) > 0, "every node contributes to an output"))
    }
}
