//! Places regions in the activation memory. Regions that never live at the same time may share bytes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// A region to be placed, with its lifetime as a range of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    /// Bytes.
    pub bytes: usize,
    /// First step that accesses it.
    pub first: usize,
    /// Last step that accesses it.
    pub last: usize,
}

impl Region {
    fn rounded(&self) -> usize {
        self.bytes.next_multiple_of(ALIGNMENT)
    }
}

/// Alignment of every region.
const ALIGNMENT: usize = 64;

/// Bytes past the last region that may be read but not used.
pub(crate) const SLACK: usize = 64;

/// More regions than this are placed in the order of first use, which needs slightly more memory but much less time.
const MANY: usize = 4096;

/// Offsets of the regions, and total bytes.
pub(crate) fn place(regions: &[Region]) -> (Vec<usize>, usize) {
    let (offsets, total) = if regions.len() > MANY { by_time(regions) } else { by_size(regions) };
    (offsets, total + SLACK)
}

/// Places regions in the order of first use, each in the smallest gap that is large enough.
fn by_time(regions: &[Region]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..regions.len()).collect();
    order.sort_by_key(|&i| (regions[i].first, i));
    let mut offsets = vec![0; regions.len()];
    let mut live = BinaryHeap::new();
    let mut gaps = Gaps::default();
    for i in order {
        let region = regions[i];
        while let Some(&Reverse((last, ended))) = live.peek()
            && last < region.first
        {
            live.pop();
            gaps.free(offsets[ended], Region::rounded(&regions[ended]));
        }
        offsets[i] = gaps.take(region.rounded());
        live.push(Reverse((region.last, i)));
    }
    (offsets, gaps.end)
}

/// The free ranges of memory below `end`.
#[derive(Default)]
struct Gaps {
    /// End of each gap, by its start.
    by_place: BTreeMap<usize, usize>,
    /// Size and start of each gap.
    by_size: BTreeSet<(usize, usize)>,
    end: usize,
}

impl Gaps {
    fn insert(&mut self, start: usize, end: usize) {
        if start < end {
            self.by_place.insert(start, end);
            self.by_size.insert((end - start, start));
        }
    }

    fn remove(&mut self, start: usize, end: usize) {
        self.by_place.remove(&start);
        self.by_size.remove(&(end - start, start));
    }

    /// Takes `size` bytes and returns their offset.
    fn take(&mut self, size: usize) -> usize {
        let gap = self.by_size.range((size, 0)..).next().map(|&(gap, start)| (start, start + gap));
        // If no gap is large enough, takes a gap at the end of memory and extends it.
        let last = self.by_place.iter().next_back().map(|(&start, &end)| (start, end)).filter(|gap| gap.1 == self.end);
        let (start, end) = gap.or(last).unwrap_or((self.end, self.end));
        self.remove(start, end);
        self.insert(start + size, end);
        self.end = self.end.max(start + size);
        start
    }

    /// Frees bytes that were taken, and merges them with adjacent gaps.
    fn free(&mut self, start: usize, size: usize) {
        let (mut start, mut end) = (start, start + size);
        if let Some((&before, &until)) = self.by_place.range(..start).next_back()
            && until == start
        {
            self.remove(before, until);
            start = before;
        }
        if let Some(&until) = self.by_place.get(&end) {
            self.remove(end, until);
            end = until;
        }
        self.insert(start, end);
    }
}

/// Places regions in the order of size, the largest first, each at the lowest offset that is free during its whole lifetime.
fn by_size(regions: &[Region]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..regions.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(regions[i].bytes), i));
    let mut offsets = vec![0; regions.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut total = 0;
    for i in order {
        let region = regions[i];
        let size = region.rounded();
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&p| regions[p].first <= region.last && region.first <= regions[p].last)
            .map(|&p| (offsets[p], offsets[p] + regions[p].rounded()))
            .collect();
        taken.sort_unstable();
        let mut at = 0;
        for (start, end) in taken {
            if at + size <= start {
                break;
            }
            at = at.max(end);
        }
        offsets[i] = at;
        total = total.max(at + size);
        placed.push(i);
    }
    (offsets, total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_that_live_together_do_not_overlap() {
        let mut state = 5u32;
        let mut next = |bound: u32| {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            ((state >> 16) % bound) as usize
        };
        let regions: Vec<Region> = (0..60)
            .map(|_| {
                let first = next(40);
                Region { bytes: next(5000), first, last: first + next(6) }
            })
            .collect();
        for (offsets, total) in [by_size(&regions), by_time(&regions)] {
            for (i, a) in regions.iter().enumerate() {
                assert!(offsets[i] % ALIGNMENT == 0 && offsets[i] + a.bytes <= total);
                for (j, b) in regions.iter().enumerate().skip(i + 1) {
                    let together = a.first <= b.last && b.first <= a.last;
                    let apart = offsets[i] + a.bytes <= offsets[j] || offsets[j] + b.bytes <= offsets[i];
                    assert!(!together || apart || a.bytes == 0 || b.bytes == 0);
                }
            }
        }
    }

    #[test]
    fn a_chain_needs_two_buffers() {
        let regions: Vec<Region> = (0..10).map(|i| Region { bytes: 640, first: i, last: i + 1 }).collect();
        assert_eq!(place(&regions).1, 2 * 640 + SLACK);
        assert_eq!(by_time(&regions).1, 2 * 640);
    }
}
