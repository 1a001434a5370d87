//! The optional section of tunings. It is only written if the program has tunings.

use super::schema as s;
use crate::{TunedLayer, Tuning};
use prost::Message;

pub(super) fn encode(tunings: &[Tuning]) -> Vec<u8> {
    let layer =
        |l: &TunedLayer| s::TunedLayer { step: l.step, kernel: l.kernel.clone(), pixels: l.pixels, vectors: l.vectors };
    let tuning = |t: &Tuning| s::Tuning {
        cpu: t.cpu.clone(),
        tier: t.tier.clone(),
        layers: t.layers.iter().map(layer).collect(),
    };
    s::Tunings { tunings: tunings.iter().map(tuning).collect() }.encode_to_vec()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Tuning>, String> {
    let layer = |l: s::TunedLayer| TunedLayer { step: l.step, kernel: l.kernel, pixels: l.pixels, vectors: l.vectors };
    let tuning = |t: s::Tuning| Tuning { cpu: t.cpu, tier: t.tier, layers: t.layers.into_iter().map(layer).collect() };
    let message = s::Tunings::decode(bytes).map_err(|e| e.to_string())?;
    Ok(message.tunings.into_iter().map(tuning).collect())
}
