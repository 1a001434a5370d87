//! Activation memory: which regions share bytes because they never live at the same time.

/// A region to be placed: its size and the steps, first to last, that use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    /// Bytes.
    pub bytes: usize,
    /// First step that touches it.
    pub first: usize,
    /// Last step that touches it.
    pub last: usize,
}

/// Alignment of every region.
const ALIGNMENT: usize = 64;

/// Bytes behind the last region that may be read, not used.
pub(crate) const SLACK: usize = 64;

/// Offsets of the regions and the bytes needed in all. Greedy by size: the largest region first, each at the lowest place that
/// is free during its whole life.
pub(crate) fn plan(regions: &[Region]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..regions.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(regions[i].bytes), i));
    let mut offsets = vec![0; regions.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut total = 0;
    for i in order {
        let region = regions[i];
        let size = region.bytes.next_multiple_of(ALIGNMENT);
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&p| regions[p].first <= region.last && region.first <= regions[p].last)
            .map(|&p| (offsets[p], offsets[p] + regions[p].bytes.next_multiple_of(ALIGNMENT)))
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
    (offsets, total + SLACK)
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
        let (offsets, total) = plan(&regions);
        for (i, a) in regions.iter().enumerate() {
            assert!(offsets[i] % ALIGNMENT == 0 && offsets[i] + a.bytes + SLACK <= total);
            for (j, b) in regions.iter().enumerate().skip(i + 1) {
                let together = a.first <= b.last && b.first <= a.last;
                let apart = offsets[i] + a.bytes <= offsets[j] || offsets[j] + b.bytes <= offsets[i];
                assert!(!together || apart || a.bytes == 0 || b.bytes == 0);
            }
        }
    }

    #[test]
    fn a_chain_needs_two_buffers() {
        let regions: Vec<Region> = (0..10).map(|i| Region { bytes: 640, first: i, last: i + 1 }).collect();
        assert_eq!(plan(&regions).1, 2 * 640 + SLACK);
    }
}
