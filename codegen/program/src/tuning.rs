//! What was measured to be fast on one CPU: hints that change how long a program takes, never what it computes.

/// Choices for one CPU and one instruction set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// The CPU that was measured: vendor, family and model.
    pub cpu: String,
    /// The name of the instruction set.
    pub tier: String,
    /// The choices, by ascending step. Steps that are not named are left to the code generator.
    pub layers: Vec<TunedLayer>,
}

/// The choice for a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunedLayer {
    /// The step's number.
    pub step: u32,
    /// The name of its inner kernel.
    pub kernel: String,
    /// Pixels of the kernel's tile; 0 if it has but one.
    pub pixels: u32,
    /// Vectors of output channels of the tile; 0 if it has but one.
    pub vectors: u32,
}

/// More CPUs than a file names.
pub const MAX_TUNINGS: usize = 64;

/// The longest name of a CPU, an instruction set or a kernel, in bytes.
pub const MAX_NAME: usize = 128;

/// The largest side of a tile.
pub const MAX_TILE: u32 = 64;

/// Checks all that a reader relies on, for a program of that many steps.
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
