//! What a caller may choose about an import.

use catc_ir::Tensor;

/// What happens to a first input dimension that the file fixes, as exporters do that were not told of a dynamic batch.
///
/// Inputs whose first dimension is dynamic in the file always get the symbolic batch `N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BatchPolicy {
    /// It becomes `N`; constant shapes in the model that contain it (`Reshape` to `[1,512]`) follow. If the model uses
    /// the dimension in a way that no batch allows, the file's size is kept and a warning says why.
    #[default]
    Auto,
    /// It becomes `N`, or the import fails.
    Symbolic,
    /// It keeps the file's size.
    AsDeclared,
}

/// Options of an import.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportOptions {
    /// What happens to a batch size that the file fixes.
    pub batch: BatchPolicy,
    /// Sizes of inputs, whatever the file says of them: input name and all its dimensions, outermost first. The first one is the batch
    /// size, which counts where the network does not work for every batch.
    pub shapes: Vec<(String, Vec<usize>)>,
    /// Inputs that always have this value: they become constants and are no inputs of the graph any more. f32, i64 or
    /// truth values, as [`catc_ir::Tensor`] holds what the file's type becomes.
    pub values: Vec<(String, Tensor)>,
    /// Bytes that may be taken for what the file asks for without holding it: tensors that are spelled out, and calls of functions. What
    /// the file holds is not counted.
    pub memory: usize,
}

impl ImportOptions {
    /// What is allowed unless another limit is given: 2 GiB.
    pub const MEMORY: usize = 2 << 30;
}

impl Default for ImportOptions {
    fn default() -> Self {
        ImportOptions { batch: BatchPolicy::default(), shapes: vec![], values: vec![], memory: Self::MEMORY }
    }
}
