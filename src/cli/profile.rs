//! The time of a run, layer by layer.

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

    fn macs_per_cycle(&self, layer: &LayerTime) -> Option<f64> {
        Some(layer.rate()? / self.clock?)
    }

    /// A table of the layers and a line for all of them.
    pub fn text(&self) -> String {
        let head = ["layer", "step", "kernel", "MMAC", "us", "share", "MAC/cycle", "GMAC/s"];
        let mut lines = vec![head.map(String::from).to_vec()];
        let number = |value: Option<f64>| value.map(|v| format!("{v:.1}")).unwrap_or_default();
        for layer in &self.layers {
            lines.push(vec![
                layer.name.clone(),
                layer.op.into(),
                layer.kernel_and_tile(),
                if layer.macs > 0 { format!("{:.2}", layer.macs as f64 / 1e6) } else { String::new() },
                format!("{:.1}", layer.shortest * 1e6),
                format!("{:.1} %", 100.0 * layer.shortest / self.total()),
                number(self.macs_per_cycle(layer)),
                number(layer.rate().map(|r| r / 1e9)),
            ]);
        }
        let macs: u64 = self.layers.iter().map(|l| l.macs).sum();
        let clock = self.clock.map_or(String::new(), |c| {
            format!(" ({:.1} each cycle of {:.2} GHz)", macs as f64 / self.total() / c, c / 1e9)
        });
        let (total, millions) = (self.total() * 1e3, macs as f64 / 1e6);
        format!(
            "{}\nall layers: {total:.3} ms, the shortest time of each; {millions:.1} million multiply-accumulates{clock}\n",
            table(&lines, &[3, 4, 5, 6, 7])
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
                "macs_per_cycle": self.macs_per_cycle(l),
                "gmacs_per_second": l.rate().map(|r| r / 1e9),
            })
        };
        json!({ "clock_ghz": self.clock.map(|c| c / 1e9), "layers": self.layers.iter().map(layer).collect::<Vec<_>>() })
    }
}
