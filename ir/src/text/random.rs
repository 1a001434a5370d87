//! Constants made on the spot by `random(seed, kind, parameter)`: fixed sequences that never change, since snapshots
//! hold what passes make of them.

/// `n` elements of SplitMix64 mapped to a normal (Irwin-Hall sum of twelve, deviation `parameter`) or uniform
/// (`-parameter..parameter`) distribution; `None` for another kind.
pub(super) fn random(seed: u64, kind: &str, parameter: f32, n: usize) -> Option<Vec<f32>> {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    };
    match kind {
        "normal" => Some((0..n).map(|_| ((0..12).map(|_| uniform()).sum::<f32>() - 6.0) * parameter).collect()),
        "uniform" => Some((0..n).map(|_| (2.0 * uniform() - 1.0) * parameter).collect()),
        _ => None,
    }
}
