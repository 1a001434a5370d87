//! The fastest measured choices for one CPU. They are hints: they affect the speed of a program, but never its results.

/// The choices for one CPU and one instruction set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// The measured CPU: vendor, family and model.
    pub cpu: String,
    /// The name of the instruction set.
    pub tier: String,
    /// The choices, in ascending order of their steps. The code generator decides for all other steps.
    pub layers: Vec<TunedLayer>,
}

/// The choice for one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunedLayer {
    /// The index of the step.
    pub step: u32,
    /// The name of the inner kernel.
    pub kernel: String,
    /// The number of pixels in the kernel's tile, or 0 if the kernel has only one tile size.
    pub pixels: u32,
    /// The number of vectors of output channels in the tile, or 0 if the kernel has only one tile size.
    pub vectors: u32,
}

/// The largest number of tunings in a file.
pub const MAX_TUNINGS: usize = 64;

/// The longest name of a CPU, an instruction set or a kernel, in bytes.
pub const MAX_NAME: usize = 128;

/// The largest size of a tile in either dimension.
pub const MAX_TILE: u32 = 64;

/// Checks everything that readers rely on. `steps` is the number of steps of the program.
pub(crate) fn rules(tunings: &[Tuning], steps: usize) -> Result<(), String> {
    if tunings.len() > MAX_TUNINGS {
        return Err(format!("{} CPUs, at most {MAX_TUNINGS} are allowed", tunings.len()));
    }
    for (number, tuning) in tunings.iter().enumerate() {
        let names = [&tuning.cpu, &tuning.tier].into_iter().chain(tuning.layers.iter().map(|l| &l.kernel));
        for name in names {
            if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
                return Err(format!(
                    "the name {name:?} is empty, longer than {MAX_NAME} bytes or holds control characters"
                ));
            }
        }
        if tunings[..number].iter().any(|t| (&t.cpu, &t.tier) == (&tuning.cpu, &tuning.tier)) {
            return Err(format!("{} with {} stands twice", tuning.cpu, tuning.tier));
        }
        if !tuning.layers.is_sorted_by(|a, b| a.step < b.step) {
            return Err("its layers are not in the order of the steps".into());
        }
        for layer in &tuning.layers {
            if layer.step as usize >= steps {
                return Err(format!("there is no step {}", layer.step));
            }
            if layer.pixels > MAX_TILE || layer.vectors > MAX_TILE || (layer.pixels == 0) != (layer.vectors == 0) {
                return Err(format!("a tile of {} pixels and {} vectors", layer.pixels, layer.vectors));
            }
        }
    }
    Ok(())
}
