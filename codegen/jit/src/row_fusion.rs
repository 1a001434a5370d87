//! Two layers in one function, some rows at a time: where a layer's floats are only added to the next layer's sums, they stay in the
//! cache that way instead of going to memory and back.

use crate::builder::UnplacedStep;
use crate::emit::emitter::Emitter;
use crate::emit::{SharedCode, StepCode};
use crate::storage::{RowPlace, Slot};
use cranelift_codegen::ir::InstBuilder;

/// Bytes of floats that stay in the second-level cache anyway.
const SMALL: usize = 512 << 10;

/// Bytes of a band.
const BAND: usize = 192 << 10;

/// Bytes behind a band that may be read, not used.
const SLACK: usize = 64;

/// The functions of a step and of the one that adds its results.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FusedRows {
    producer: SharedCode,
    consumer: SharedCode,
    /// Slot of the floats in the producer's numbering, which is the first part of the function's, and in the function's.
    written: usize,
    read: usize,
    /// The number of the consumer's first slot.
    consumer_slots: usize,
    scratch_slot: usize,
    /// Where the floats lie in scratch memory.
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
            // The first row of the band lies at the start of the memory.
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

/// Joins steps whose floats only the next step adds. `kept` are regions that are read after the last step; what is joined needs no
/// region any more, which leaves it without a use.
pub(crate) fn join(steps: Vec<UnplacedStep>, regions: &mut [usize], kept: &[usize]) -> Vec<UnplacedStep> {
    let mut uses = vec![0; regions.len()];
    for region in steps.iter().flat_map(|step| &step.regions).chain(kept) {
        uses[*region] += 1;
    }
    let mut joined: Vec<UnplacedStep> = Vec::with_capacity(steps.len());
    for step in steps {
        let Some((region, written, read, row_bytes)) =
            joined.last().and_then(|before| added(before, &step)).filter(|&(region, ..)| {
                // The producer and the consumer.
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

/// The region that one step writes and the next only adds, its slot in both, and its bytes from row to row.
fn added(before: &UnplacedStep, after: &UnplacedStep) -> Option<(usize, usize, usize, i64)> {
    let (from, to) = (before.code.rows()?, after.code.rows()?);
    let RowPlace { slot: written, origin: 0, row } = from.output else { return None };
    let Slot::Region(region) = before.slots[written] else { return None };
    let same = |slot: usize| after.slots[slot] == Slot::Region(region);
    // All of them: another may be a view, which has the same memory under other dimensions.
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
    // Nothing is left that reads these.
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
