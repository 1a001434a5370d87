//! Byte sums of the look-up tiles: the order of output channels in a vector, and the widening of byte sums to 16-bit words.
//!
//! A tile keeps two totals for each vector, both of 16-bit words. One sums whole words, that is, the even byte plus 256 times the odd byte.
//! The other sums the odd bytes. At the end, 256 times the second total is subtracted from the first, which leaves the sum of the even bytes.

use crate::layout::WeightLayout;

/// The order of output channels in the bytes of an index vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The order for which widening by masks and shifts alone yields the channels in sequence. Widening yields byte 0 of every double
    /// word, then bytes 2, 1 and 3; these hold the first, second, third and last quarter of the channels.
    Quarters,
    /// Byte `i` is channel `i`, as in the output and in a shortcut of codes. After widening, a vector holds every fourth channel.
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

/// Reorders values of channels, in whole vectors of `lanes`, to match the widened sums of [`Order::Bytes`]: in each vector channels 0, 4, 8
/// and so on, then 1, 5, 9 and so on.
pub fn quarters<T: Copy>(values: &[T], lanes: usize) -> Vec<T> {
    let quarter = lanes / 4;
    let channel = |at: usize| at / lanes * lanes + 4 * (at % quarter) + at % lanes / quarter;
    (0..values.len() / lanes * lanes).map(|at| values[channel(at)]).collect()
}

/// The two 16-bit totals of each vector of `lanes` that stand for the given values of channels: whole words, then odd bytes, modulo 65536.
/// There is a value for each lane of each vector; `order` says which lane a channel has.
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

/// Steps of the next part if `left` steps remain for `parts` parts.
pub const fn part(left: usize, parts: usize) -> usize {
    left / parts
}

/// The fewest parts per run for which none of the `LANES` byte sums overflows, where a step with index `i` adds at most `most[i]`.
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

    /// Adds bytes to totals as the tiles do. Each channel must end with its start plus its byte, quarter by quarter.
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
