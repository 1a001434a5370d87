//! Options of the import.

use catc_ir::Tensor;

/// How to treat a first input dimension that the file fixes. Exporters fix it unless they are told that the batch is dynamic.
///
/// Inputs whose first dimension is dynamic in the file always get the symbolic batch `N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BatchPolicy {
    /// It becomes `N`, and constant shapes in the model that contain it (`Reshape` to `[1,512]`) are adapted. If the model uses
    /// the dimension in a way that only works with a fixed batch size, the size in the file is kept and a warning explains why.
    #[default]
    Auto,
    /// It becomes `N`, or the import fails.
    Symbolic,
    /// It keeps the size in the file.
    AsDeclared,
}

/// Options of an import.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportOptions {
    /// How to treat a batch size that the file fixes.
    pub batch: BatchPolicy,
    /// Sizes of inputs, which override those in the file. Each entry holds the name of the input and all its dimensions,
    /// outermost first. The first dimension is the batch size. It is only used if the network does not work with every batch
    /// size.
    pub shapes: Vec<(String, Vec<usize>)>,
    /// Inputs with a fixed value. They become constants and are no longer inputs of the graph. The tensor holds f32, i64 or
    /// booleans, depending on the type in the file.
    pub values: Vec<(String, Tensor)>,
    /// The limit on the memory, in bytes, for data that the file describes without containing it: expanded tensors and inlined
    /// functions. Data that the file contains does not count.
    pub memory: usize,
}

impl ImportOptions {
    /// The default limit of `memory`: 2 GiB.
    pub const MEMORY: usize = 2 << 30;
}

impl Default for ImportOptions {
    fn default() -> Self {
        ImportOptions { batch: BatchPolicy::default(), shapes: vec![], values: vec![], memory: Self::MEMORY }
    }
}
