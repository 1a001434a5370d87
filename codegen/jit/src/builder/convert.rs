//! The conversion of a tensor from one placement to another.

use super::{Builder, Slots};
use crate::emit::copy::{CopyCode, whole};
use crate::emit::walk::Walk;
use crate::storage::Placed;

impl Builder<'_> {
    /// Appends the conversion.
    pub(super) fn convert(&mut self, name: &str, from: &Placed, to: &Placed) {
        let mut slots = Slots::default();
        let (out, input) = (slots.add(to.slot), slots.add(from.slot));
        let walk = Walk::of(&to.buffer);
        let nest = walk.nest(vec![whole(&walk, out, &to.buffer), whole(&walk, input, &from.buffer)]).simplified();
        let units = nest.outer[0];
        let code = CopyCode { nests: vec![nest], fill: None, halo: to.halo_fill(out), whole: None };
        self.push(&format!("{name} (copy)"), slots, units, code).op = "convert";
    }
}
