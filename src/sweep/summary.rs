//! The results of a sweep and their means and deviations over the seeds.

use super::journal::Outcome;
use super::plan::{Network, SweepOptions, SweepPlan, Variant};
use catc_passes::Method;

/// A measurement: the network, the variant and the outcome.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The network.
    pub network: Network,
    /// What was done with its outputs.
    pub variant: Variant,
    /// What came of it.
    pub outcome: Outcome,
}

/// All that is known of a sweep.
#[derive(Clone, Debug)]
pub struct Results {
    /// What was swept.
    pub options: SweepOptions,
    /// The float network.
    pub float: Outcome,
    measured: Vec<Measured>,
}

/// Bits and method: what seeds are averaged over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Bits of weights.
    pub wbits: u8,
    /// Bits of activations.
    pub abits: u8,
    /// Method.
    pub method: Method,
}

/// Mean and sample deviation of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistic {
    /// Mean.
    pub mean: f64,
    /// Deviation, by n - 1; absent for a single value.
    pub deviation: Option<f64>,
    /// Number of values.
    pub count: usize,
}

impl Statistic {
    /// Of these values; `None` of none.
    pub fn of(values: &[f64]) -> Option<Statistic> {
        let count = values.len();
        if count == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
        let deviation = (count > 1).then(|| (squares / (count - 1) as f64).sqrt());
        Some(Statistic { mean, deviation, count })
    }
}

/// Top-1 in percent.
pub fn percent(outcome: &Outcome) -> f64 {
    100.0 * outcome.top1 as f64 / outcome.n.max(1) as f64
}

impl Results {
    /// Results of which only the float network's are known.
    pub fn new(options: &SweepOptions, float: Outcome) -> Results {
        Results { options: options.clone(), float, measured: vec![] }
    }

    /// Adds a measurement.
    pub fn add(&mut self, measured: Measured) {
        self.measured.push(measured);
    }

    /// What was swept.
    pub fn plan(&self) -> &SweepPlan {
        &self.options.plan
    }

    /// The measurements in the order of the plan, whatever the order they were made in.
    pub fn all(&self) -> Vec<&Measured> {
        let (networks, variants) = (self.plan().networks(), self.plan().variants());
        let found = |network: &Network, variant: Variant| {
            self.measured.iter().find(|m| m.variant == variant && m.network == *network)
        };
        networks.iter().flat_map(|n| variants.iter().filter_map(move |&v| found(n, v))).collect()
    }

    /// Bits and methods: bits by bits, in the order given.
    pub fn settings(&self) -> Vec<Setting> {
        let plan = self.plan();
        let mut settings = vec![];
        for &wbits in &plan.wbits {
            for &abits in &plan.abits {
                settings.extend(plan.methods.iter().map(|&method| Setting { wbits, abits, method }));
            }
        }
        settings
    }

    fn of(&self, setting: Setting, variant: Variant) -> Vec<(u64, f64)> {
        let fits = |m: &&Measured| {
            let r = &m.network.recipe;
            m.variant == variant && (r.wbits, r.abits, r.method) == (setting.wbits, setting.abits, setting.method)
        };
        let mut found: Vec<(u64, f64)> =
            self.measured.iter().filter(fits).map(|m| (m.network.seed, percent(&m.outcome))).collect();
        // Sums in the order of the seeds, whatever order the jobs ended in.
        found.sort_by_key(|(seed, _)| *seed);
        found
    }

    /// Top-1 in percent over the seeds.
    pub fn top1(&self, setting: Setting, variant: Variant) -> Option<Statistic> {
        Statistic::of(&self.of(setting, variant).iter().map(|(_, x)| *x).collect::<Vec<_>>())
    }

    /// The differences of two variants of the same networks, seed by seed, in points.
    pub fn differences(&self, setting: Setting, from: Variant, to: Variant) -> Vec<f64> {
        let base = self.of(setting, from);
        let of = |seed| base.iter().find(|(s, _)| *s == seed).map(|(_, x)| *x);
        self.of(setting, to).into_iter().filter_map(|(seed, x)| Some(x - of(seed)?)).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::sweep::plan::Correction;

    /// Two methods, two seeds, corrected or not, and a curve; invented counts.
    pub(in crate::sweep) fn results() -> Results {
        let plan = SweepPlan {
            wbits: vec![2],
            abits: vec![2, 4],
            methods: vec![Method::MinMax, Method::Mse],
            seeds: vec![0, 1],
            corrections: vec![Correction::Off, Correction::On],
            alphas: vec![0.0, 0.5, 1.0],
            ..SweepPlan::default()
        };
        let options = SweepOptions {
            model: "net.onnx".into(),
            calib: "calib.npy".into(),
            limit: None,
            cat_data: None,
            holdout: 0,
            preprocess: None,
            data: "test.npy".into(),
            labels: "labels.npy".into(),
            out: "out".into(),
            plan,
            max_memory: 1 << 30,
            jobs: 1,
            threads: 1,
        };
        let outcome = |top1| Outcome { top1, top5: 190, n: 200, correction: None, note: None, seconds: 1.0 };
        let mut results = Results::new(&options, outcome(180));
        // In reverse: the results must not depend on the order.
        for (i, network) in options.plan.networks().into_iter().enumerate().rev() {
            for (j, variant) in options.plan.variants().into_iter().enumerate() {
                results.add(Measured { network: network.clone(), variant, outcome: outcome(100 + 10 * i + j) });
            }
        }
        results
    }

    #[test]
    fn statistics_by_hand() {
        assert_eq!(Statistic::of(&[]), None);
        assert_eq!(Statistic::of(&[3.0]), Some(Statistic { mean: 3.0, deviation: None, count: 1 }));
        assert_eq!(Statistic::of(&[1.0, 3.0]), Some(Statistic { mean: 2.0, deviation: Some(2f64.sqrt()), count: 2 }));
    }

    #[test]
    fn seeds_are_paired_and_the_plan_orders() {
        let results = results();
        let (off, on) = (Variant::Table(Correction::Off), Variant::Table(Correction::On));
        let first = results.settings()[0];
        assert_eq!(results.top1(first, off).unwrap().mean, 52.5);
        assert_eq!(results.differences(first, off, on), [0.5, 0.5]);
        let all = results.all();
        assert_eq!(all.len(), 8 * 5);
        assert_eq!((all[0].outcome.top1, all[39].outcome.top1), (100, 174));
    }
}
