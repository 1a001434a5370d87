//! Joins two layers into one function, which computes some rows of both at a time. If the floats of a layer are only added to the sums of
//! the next layer, they stay in the cache instead of going through memory. Where tiles go through all pixels as one sequence, its parts take
//! the place of rows.

use crate::builder::UnplacedStep;
use crate::emit::emitter::Emitter;
use crate::emit::{SharedCode, StepCode};
use crate::storage::{RowPlace, Slot};
use cranelift_codegen::ir::InstBuilder;

/// Floats of up to this many bytes stay in the second-level cache without joining.
const SMALL: usize = 512 << 10;

/// The most bytes of a band, the rows that are computed at a time; a band has at least one row.
const BAND: usize = 192 << 10;

/// Bytes past a band that may be read but not used.
const SLACK: usize = 64;

/// The code of a step and of the next step, which adds its results.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FusedRows {
    producer: SharedCode,
    consumer: SharedCode,
    /// Slots of the floats in the joined function: `written` is the producer's, `read` is the consumer's. The producer's slots come first.
    written: usize,
    read: usize,
    /// The number of the consumer's first slot.
    consumer_slots: usize,
    scratch_slot: usize,
    /// Offset of the floats in scratch memory.
    at: usize,
    rows: usize,
    row_bytes: i64,
}

impl StepCode for FusedRows {
    fn emit(&self, e: &mut Emitter<'_>) {
        let (first, last) = (e.first, e.last);
        let scratch = e.slot(self.scratch_slot);
        let floats = e.offset(scratch, self.at as i64);
        let count = e.b.ins().isub(last, first);
        let raised = e.offset(count, self.rows as i64 - 1);
        let by = e.int(self.rows as i64);
        let bands = e.b.ins().udiv(raised, by);
        let zero = e.int(0);
        e.range(zero, bands, &[], vec![], |e, band, _, _| {
            let done = e.times(band, self.rows as i64);
            let start = e.b.ins().iadd(first, done);
            let end = e.offset(start, self.rows as i64);
            let end = e.b.ins().smin(end, last);
            // The first row of the band is at the start of the scratch floats.
            let above = e.times(start, self.row_bytes);
            let base = e.b.ins().isub(floats, above);
            e.replace_slots(0, Some((self.written, base)));
            (e.first, e.last) = (start, end);
            self.producer.emit(e);
            e.replace_slots(self.consumer_slots, Some((self.read, base)));
            (e.first, e.last) = (start, end);
            self.consumer.emit(e);
            e.replace_slots(0, None);
            vec![]
        });
    }
}

/// Joins each step with the next one if only the next one uses its floats, by adding them. `kept` are regions that are read after the last
/// step. The region of joined floats is no longer needed; its size becomes 0.
pub(crate) fn join(steps: Vec<UnplacedStep>, regions: &mut [usize], kept: &[usize]) -> Vec<UnplacedStep> {
    let mut uses = vec![0; regions.len()];
    for region in steps.iter().flat_map(|step| &step.regions).chain(kept) {
        uses[*region] += 1;
    }
    let mut joined: Vec<UnplacedStep> = Vec::with_capacity(steps.len());
    for step in steps {
        let Some((region, written, read, row_bytes)) =
            joined.last().and_then(|before| added(before, &step)).filter(|&(region, ..)| {
                // The two uses are those of the producer and the consumer.
                uses[region] == 2 && regions[region] > SMALL
            })
        else {
            joined.push(step);
            continue;
        };
        let Some(producer) = joined.pop() else { continue };
        regions[region] = 0;
        joined.push(pair(producer, step, (region, written, read), row_bytes));
    }
    joined
}

/// The region that one step writes and the next one only adds, its slot in both, and its bytes from row to row.
fn added(before: &UnplacedStep, after: &UnplacedStep) -> Option<(usize, usize, usize, i64)> {
    let (from, to) = (before.code.rows()?, after.code.rows()?);
    let RowPlace { slot: written, origin: 0, row } = from.output else { return None };
    let Slot::Region(region) = before.slots[written] else { return None };
    let same = |slot: usize| after.slots[slot] == Slot::Region(region);
    // Checks all operands, because another one may be a view of the same memory with other dimensions.
    let read = to.operands.iter().find(|o| same(o.slot))?.slot;
    if !to.operands.iter().filter(|o| same(o.slot)).all(|o| *o == RowPlace { slot: read, origin: 0, row }) {
        return None;
    }
    let alone = !same(to.input) && !same(to.output.slot) && before.units == after.units && row > 0;
    alone.then_some((region, written, read, row))
}

fn pair(
    producer: UnplacedStep,
    consumer: UnplacedStep,
    (region, written, read): (usize, usize, usize),
    row_bytes: i64,
) -> UnplacedStep {
    let units = consumer.units;
    let rows = (BAND / row_bytes as usize).clamp(1, units);
    let at = producer.scratch.max(consumer.scratch).next_multiple_of(64);
    let consumer_slots = producer.slots.len();
    let mut slots: Vec<Slot> = producer.slots.into_iter().chain(consumer.slots).collect();
    // The joined function replaces these slots by addresses in scratch memory.
    slots[written] = Slot::Scratch;
    slots[consumer_slots + read] = Slot::Scratch;
    let code = FusedRows {
        producer: producer.code,
        consumer: consumer.code,
        written,
        read: consumer_slots + read,
        consumer_slots,
        scratch_slot: written,
        at,
        rows,
        row_bytes,
    };
    UnplacedStep {
        name: format!("{} + {}", producer.name, consumer.name),
        op: consumer.op,
        work: producer.work.into_iter().chain(consumer.work).collect(),
        slots,
        units,
        scratch: at + rows * row_bytes as usize + SLACK,
        code: SharedCode::new(code),
        regions: producer.regions.into_iter().chain(consumer.regions).filter(|&r| r != region).collect(),
    }
}
