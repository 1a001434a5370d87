//! The time of a run, layer by layer and by kinds of layers.

use super::table::table;
use catc_runtime::{InputArray, RunError, Session, cycles_per_second};
use serde_json::{Value, json};

/// The times of a session's layers.
pub struct Profile {
    layers: Vec<LayerTime>,
    /// Cycles of the CPU in a second, if they could be measured.
    clock: Option<f64>,
}

struct LayerTime {
    name: String,
    op: &'static str,
    kernel: Option<&'static str>,
    /// Pixels and vectors of the kernel's tile, where it has several.
    tile: Option<(usize, usize)>,
    /// Multiply-accumulates of one image.
    macs: u64,
    /// Shortest and median time of one image in seconds.
    shortest: f64,
    median: f64,
}

impl LayerTime {
    fn kernel_and_tile(&self) -> String {
        let kernel = self.kernel.unwrap_or_default();
        self.tile.map_or(kernel.into(), |(pixels, vectors)| format!("{kernel} {pixels}x{vectors}"))
    }

    /// Multiply-accumulates per second.
    fn rate(&self) -> Option<f64> {
        (self.macs > 0 && self.shortest > 0.0).then(|| self.macs as f64 / self.shortest)
    }
}

/// The layers of one kind: those with the same kernel, or, without one, with the same operation.
struct Group<'a> {
    kind: &'a str,
    layers: usize,
    macs: u64,
    /// The sum of the shortest times in seconds.
    shortest: f64,
}

impl Group<'_> {
    /// Multiply-accumulates per second.
    fn rate(&self) -> Option<f64> {
        (self.macs > 0 && self.shortest > 0.0).then(|| self.macs as f64 / self.shortest)
    }
}

impl Profile {
    /// Runs the inputs that many times.
    pub fn measure(session: &Session, inputs: &[InputArray<'_>], runs: u32) -> Result<Profile, RunError> {
        let mut times = vec![Vec::new(); session.layers().count()];
        let before = cycles_per_second();
        for _ in 0..runs {
            session.run_timed(inputs, &mut |layer, time| times[layer].push(time.as_secs_f64()))?;
        }
        let clock = before.zip(cycles_per_second()).map(|(before, after)| before.max(after));
        let layers = session
            .layers()
            .zip(&mut times)
            .map(|(layer, times)| {
                times.sort_by(f64::total_cmp);
                LayerTime {
                    name: layer.name.to_string(),
                    op: layer.op,
                    kernel: layer.kernel(),
                    tile: layer.tile(),
                    macs: layer.macs(),
                    shortest: times.first().copied().unwrap_or(0.0),
                    median: times.get(times.len() / 2).copied().unwrap_or(0.0),
                }
            })
            .collect();
        Ok(Profile { layers, clock })
    }

    /// The sum of the layers' shortest times in seconds.
    fn total(&self) -> f64 {
        self.layers.iter().map(|l| l.shortest).sum()
    }

    /// Of a number of multiply-accumulates per second.
    fn per_cycle(&self, rate: Option<f64>) -> Option<f64> {
        Some(rate? / self.clock?)
    }

    /// The kinds of layers, the slowest first.
    fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: Vec<Group<'_>> = Vec::new();
        for layer in &self.layers {
            let kind = layer.kernel.unwrap_or(layer.op);
            let at = groups.iter().position(|group| group.kind == kind).unwrap_or_else(|| {
                groups.push(Group { kind, layers: 0, macs: 0, shortest: 0.0 });
                groups.len() - 1
            });
            let group = &mut groups[at];
            group.layers += 1;
            group.macs += layer.macs;
            group.shortest += layer.shortest;
        }
        groups.sort_by(|a, b| b.shortest.total_cmp(&a.shortest));
        groups
    }

    /// A table of the layers, a table of their kinds, and a line for all of them.
    pub fn text(&self) -> String {
        let head = ["layer", "step", "kernel", "MMAC", "us", "share", "MAC/cycle", "GMAC/s"];
        let mut lines = vec![head.map(String::from).to_vec()];
        for layer in &self.layers {
            lines.push(vec![
                layer.name.clone(),
                layer.op.into(),
                layer.kernel_and_tile(),
                millions(layer.macs),
                format!("{:.1}", layer.shortest * 1e6),
                format!("{:.1} %", 100.0 * layer.shortest / self.total()),
                number(self.per_cycle(layer.rate())),
                number(layer.rate().map(|r| r / 1e9)),
            ]);
        }
        let head = ["kind", "layers", "MMAC", "us", "share", "MAC/cycle", "GMAC/s"];
        let mut kinds = vec![head.map(String::from).to_vec()];
        for group in self.groups() {
            kinds.push(vec![
                group.kind.into(),
                group.layers.to_string(),
                millions(group.macs),
                format!("{:.1}", group.shortest * 1e6),
                format!("{:.1} %", 100.0 * group.shortest / self.total()),
                number(self.per_cycle(group.rate())),
                number(group.rate().map(|r| r / 1e9)),
            ]);
        }
        let macs: u64 = self.layers.iter().map(|l| l.macs).sum();
        let clock = self.clock.map_or(String::new(), |c| {
            format!(" ({:.1} each cycle of {:.2} GHz)", macs as f64 / self.total() / c, c / 1e9)
        });
        let (total, macs) = (self.total() * 1e3, macs as f64 / 1e6);
        format!(
            "{}\n{}\nall layers: {total:.3} ms, the shortest time of each; {macs:.1} million multiply-accumulates{clock}\n",
            table(&lines, &[3, 4, 5, 6, 7]),
            table(&kinds, &[1, 2, 3, 4, 5, 6])
        )
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let layer = |l: &LayerTime| {
            json!({
                "name": l.name,
                "op": l.op,
                "kernel": l.kernel,
                "macs": l.macs,
                "min_us": l.shortest * 1e6,
                "median_us": l.median * 1e6,
                "share": l.shortest / self.total(),
                "macs_per_cycle": self.per_cycle(l.rate()),
                "gmacs_per_second": l.rate().map(|r| r / 1e9),
            })
        };
        let group = |g: &Group| {
            json!({
                "kind": g.kind,
                "layers": g.layers,
                "macs": g.macs,
                "min_us": g.shortest * 1e6,
                "share": g.shortest / self.total(),
                "macs_per_cycle": self.per_cycle(g.rate()),
            })
        };
        json!({
            "clock_ghz": self.clock.map(|c| c / 1e9),
            "layers": self.layers.iter().map(layer).collect::<Vec<_>>(),
            "kinds": self.groups().iter().map(group).collect::<Vec<_>>(),
        })
    }
}

/// Multiply-accumulates in millions; nothing if there are none.
fn millions(macs: u64) -> String {
    if macs > 0 { format!("{:.2}", macs as f64 / 1e6) } else { String::new() }
}

fn number(value: Option<f64>) -> String {
    value.map(|v| format!("{v:.1}")).unwrap_or_default()
}
