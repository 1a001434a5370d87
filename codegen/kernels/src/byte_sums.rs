//! Byte sums of the look-up tiles: which byte of a vector is which output channel, how bytes become words, and when they must.
//!
//! A tile keeps two totals of 16-bit words for each vector: the sum of the words as they lie, and of their upper bytes, which are the sums
//! of the odd bytes. What these have added to the former is taken from it at the end.

use crate::layout::WeightLayout;

/// Which byte of an index vector belongs to which output channel of the vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Widening by masks and shifts alone leaves bytes 0 of all double words in order, then bytes 2, 1 and 3: the channels of the
    /// first quarter, of the second and so on.
    Quarters,
    /// Channel by channel: after widening every fourth channel, as they lie in the bytes of the output and of a shortcut.
    Bytes,
}

impl Order {
    /// The byte of a channel in a vector of `lanes`.
    pub const fn lane(self, channel: usize, lanes: usize) -> usize {
        const BYTES: [usize; 4] = [0, 2, 1, 3];
        let quarter = lanes / 4;
        match self {
            Order::Quarters => 4 * (channel % quarter) + BYTES[channel / quarter],
            Order::Bytes => channel,
        }
    }
}

/// What belongs to channels, in whole vectors of `lanes`, in the order of the widened sums of [`Order::Bytes`]: in each vector channels
/// 0, 4, 8 and so on, then 1, 5, 9 and so on.
pub fn quarters<T: Copy>(values: &[T], lanes: usize) -> Vec<T> {
    let quarter = lanes / 4;
    let channel = |at: usize| at / lanes * lanes + 4 * (at % quarter) + at % lanes / quarter;
    (0..values.len() / lanes * lanes).map(|at| values[channel(at)]).collect()
}

/// What the two 16-bit totals of a vector of `lanes` are to hold for channels, in whole vectors of that order: for each vector the words
/// of all bytes, and those of the odd ones, modulo 65536.
pub fn words(values: &[i32], order: Order, lanes: usize) -> Vec<i16> {
    let mut words = Vec::with_capacity(values.len());
    let mut bytes = vec![0i16; lanes];
    for vector in values.chunks_exact(lanes) {
        vector.iter().enumerate().for_each(|(channel, &value)| bytes[order.lane(channel, lanes)] = value as i16);
        let pairs = bytes.as_chunks::<2>().0;
        words.extend(pairs.iter().map(|[even, odd]| even.wrapping_add(odd << 8)));
        words.extend(pairs.iter().map(|[_, odd]| odd));
    }
    words
}

/// Steps of the next part where `left` steps are left for `parts` parts.
pub const fn part(left: usize, parts: usize) -> usize {
    left / parts
}

/// The fewest parts of a run for which no byte of `LANES` overflows, where a step with index `i` adds up to `most[i]`.
pub(crate) fn fewest_parts<const LANES: usize>(indices: &[u8], layout: &WeightLayout, most: &[u16]) -> usize {
    let steps = layout.steps_per_run();
    let fits = |parts: usize| {
        (0..layout.vectors()).all(|vector| {
            (0..layout.run_count()).all(|run| {
                let mut step = 0;
                (1..=parts).rev().all(|parts| {
                    let end = step + part(steps - step, parts);
                    let mut sums = [0u16; LANES];
                    for step in step..end {
                        let at = LANES * layout.vector_index(0, vector, run, step);
                        for (sum, &index) in sums.iter_mut().zip(&indices[at..at + LANES]) {
                            *sum = sum.saturating_add(most[usize::from(index) % most.len()]);
                        }
                    }
                    step = end;
                    sums.iter().all(|&sum| sum <= u16::from(u8::MAX))
                })
            })
        })
    };
    let largest = most.iter().copied().max().unwrap_or(0).max(1);
    let enough = steps.div_ceil(usize::from(u16::from(u8::MAX) / largest).max(1)).max(1);
    (1..enough).find(|&parts| fits(parts)).unwrap_or(enough)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Totals as the tiles keep them, from bytes as they add them: they end as sums and what they started with, quarter by quarter.
    #[test]
    fn totals_are_sums_and_their_starts() {
        for lanes in [32, 64] {
            let starts: Vec<i32> = (0..2 * lanes as i32).map(|c| 61 * c - 3000).collect();
            let words = words(&starts, Order::Bytes, lanes);
            let order = quarters(&(0..starts.len()).collect::<Vec<_>>(), lanes);
            for vector in 0..2 {
                let bytes: Vec<u8> = (0..lanes).map(|lane| (lane * 37 + vector * 11) as u8).collect();
                let (mut even, mut odd) = (vec![0i16; lanes / 2], vec![0i16; lanes / 2]);
                for word in 0..lanes / 2 {
                    let at = lanes * vector + word;
                    let sum = i16::from_le_bytes([bytes[2 * word], bytes[2 * word + 1]]);
                    odd[word] = words[at + lanes / 2].wrapping_add(i16::from(bytes[2 * word + 1]));
                    even[word] = words[at].wrapping_add(sum).wrapping_sub(odd[word] << 8);
                }
                for (at, &channel) in order[lanes * vector..][..lanes].iter().enumerate() {
                    let (quarter, lane) = (at / (lanes / 4), at % (lanes / 4));
                    let byte = bytes[Order::Bytes.lane(channel - lanes * vector, lanes)];
                    let words = if quarter % 2 == 0 { &even } else { &odd };
                    let expected = i32::from(byte) + starts[channel];
                    assert_eq!(i32::from(words[2 * lane + quarter / 2]), expected, "channel {channel} of {lanes}");
                }
            }
        }
    }

    #[test]
    fn every_lane_has_its_channel() {
        for (order, lanes) in [(Order::Quarters, 32), (Order::Quarters, 64), (Order::Bytes, 64)] {
            let mut seen = vec![false; lanes];
            (0..lanes).for_each(|channel| seen[order.lane(channel, lanes)] = true);
            assert!(seen.iter().all(|&s| s));
        }
    }
}
