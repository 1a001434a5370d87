//! The slots of one function.

use crate::storage::Slot;

/// The slots of one function, while it is lowered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
}

impl Slots {
    /// All slots, by number.
    pub fn as_slice(&self) -> &[Slot] {
        &self.slots
    }

    /// All slots, by number.
    pub fn into_vec(self) -> Vec<Slot> {
        self.slots
    }

    /// The regions among the slots.
    pub fn regions(&self) -> Vec<usize> {
        let region = |slot: &Slot| if let Slot::Region(region) = *slot { Some(region) } else { None };
        self.slots.iter().filter_map(region).collect()
    }

    /// The number of a slot, added if it is new.
    pub fn add(&mut self, slot: Slot) -> usize {
        self.slots.iter().position(|&s| s == slot).unwrap_or_else(|| {
            self.slots.push(slot);
            self.slots.len() - 1
        })
    }
}
