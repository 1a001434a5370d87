//! `catc sweep MODEL.onnx --wbits 2,4 --abits 2,4 --method mse,.. --calib X --data X --labels Y --out DIR`

use super::args::SweepArgs;
use super::files::Files;
use super::progress::SweepBars;
use super::{ADVICE, Failure, note_renamed, overrides, print, print_json, thread_count};
use crate::sweep::plan::{CORRECTIONS, SweepOptions, SweepPlan};
use crate::sweep::{Correction, SweepError, file_names, run as sweep, tables};
use catc_passes::{Method, Progress, RecipeOptions, UnknownName};
use std::collections::BTreeSet;

/// Measures every combination and writes tables and curves.
pub fn run(args: &SweepArgs) -> Result<(), Failure> {
    let usage = |text: String| Failure::Usage(text);
    let parse_method = |name: &String| name.parse().map_err(|e: UnknownName| usage(e.to_string()));
    let parse_correction = |name: &String| -> Result<Correction, Failure> {
        let known = || CORRECTIONS.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", ");
        let found = CORRECTIONS.iter().find(|(n, _)| n == name).map(|(_, c)| *c);
        found.ok_or_else(|| usage(format!("--cat: there is no `{name}`; there are {}", known())))
    };
    let methods: Vec<Method> = args.method.iter().map(parse_method).collect::<Result<_, _>>()?;
    let corrections = args.cat.iter().map(parse_correction).collect::<Result<_, _>>()?;
    let whole = |list: &[f64], option: &str| -> Result<Vec<usize>, Failure> {
        let one = |&x: &f64| {
            let fits = x.fract() == 0.0 && (1.0..=65536.0).contains(&x);
            if fits { Ok(x as usize) } else { Err(usage(format!("{option}: {x} is no whole number from 1 to 65536"))) }
        };
        list.iter().map(one).collect()
    };
    let alphas: Vec<f64> = args.cat_alpha.iter().flat_map(|l| l.0.clone()).collect();
    if let Some(a) = alphas.iter().find(|a| !(0.0..=1.0).contains(*a)) {
        return Err(usage(format!("--cat-alpha: {a} is not from 0 to 1")));
    }
    let flat = |lists: &[super::args::Numbers]| lists.iter().flat_map(|l| l.0.clone()).collect::<Vec<f64>>();
    let plan = SweepPlan {
        wbits: distinct(&args.wbits),
        abits: distinct(&args.abits),
        methods: distinct(&methods),
        recipe: RecipeOptions {
            first_last_bits: args.first_last_bits,
            effort: args.learning.effort.parse().map_err(|e: UnknownName| usage(e.to_string()))?,
            iters: args.learning.iters.map(|n| n as usize),
            overrides: overrides(&args.learning.set, args.learning.augment.as_deref())?,
            ..RecipeOptions::default()
        },
        seeds: (args.seed..).take(args.seeds as usize).collect(),
        corrections,
        alphas: distinct(&alphas),
        clusters: distinct(&whole(&flat(&args.cat_clusters), "--cat-clusters")?),
        dims: distinct(&whole(&flat(&args.cat_pca), "--cat-pca")?),
        samples: distinct(&whole(&flat(&args.cat_samples), "--cat-samples")?),
    };
    let set = plan.recipe.overrides.iter().filter_map(|o| o.renamed());
    let methods = args.method.iter().filter_map(|name| Method::renamed(name));
    note_renamed(methods.chain(set).chain(args.correction.renamed()));
    let networks = plan.networks();
    for o in &plan.recipe.overrides {
        if !networks.iter().any(|n| n.recipe.overrides.contains(o)) {
            let passes: BTreeSet<&str> = networks.iter().flat_map(|n| catc_passes::recipe_passes(&n.recipe)).collect();
            let known = passes.into_iter().collect::<Vec<_>>().join(", ");
            return Err(usage(format!("no recipe of the sweep has a pass `{}`; there are {known}", o.pass)));
        }
    }
    // Built before data is read, so that options which do not fit are a usage error.
    networks.iter().try_for_each(|n| catc_passes::recipe(&n.recipe).map(drop)).map_err(|e| usage(e.to_string()))?;
    let options = SweepOptions {
        model: args.model.clone(),
        calib: args.calib.clone(),
        limit: args.samples.map(|n| n as usize),
        cat_data: args.correction.cat_data.clone(),
        holdout: args.correction.holdout(),
        preprocess: args.preprocess.clone(),
        data: args.data.clone(),
        labels: args.labels.clone(),
        out: args.out.clone(),
        plan,
        max_memory: args.learning.max_memory,
        jobs: usize::from(args.jobs),
        threads: thread_count(args.threads),
    };
    files(args, &options.plan).check()?;
    let journal = args.out.display();
    let _ =
        ADVICE.set(format!("interrupted: what was measured is kept in {journal}; the same command goes on from there"));
    let bars = SweepBars::new(options.jobs.max(1));
    let places: Vec<&dyn Progress> = bars.jobs.iter().map(|b| b as &dyn Progress).collect();
    let results = sweep(&options, &places, &|status| bars.advance(status));
    bars.clear();
    let results = results.map_err(|e| match e {
        SweepError::Options { .. } => usage(e.to_string()),
        other => other.into(),
    })?;
    for m in results.all() {
        if let Some(note) = &m.outcome.note {
            eprintln!("note: {}, {}: {note}", m.network, m.variant);
        }
    }
    if args.json {
        return print_json(&tables::json(&results));
    }
    print(&tables::markdown(&results))
}

/// The files that are read and written.
fn files(args: &SweepArgs, plan: &SweepPlan) -> Files {
    let files = Files::new()
        .read("the model", args.model.as_path())
        .read("--calib", args.calib.as_path())
        .read("--cat-data", args.correction.cat_data.as_deref())
        .read("--preprocess", args.preprocess.as_deref())
        .read("--data", args.data.as_path())
        .read("--labels", args.labels.as_path());
    // The folder of the results is created if it is missing, so only files that are already in it can be in the way.
    let results = file_names(plan).map(|name| args.out.join(name)).filter(|path| path.exists());
    results.fold(files, |files, path| files.write("--out", path.as_path()))
}

/// Without repetitions, in the order given.
fn distinct<T: PartialEq + Clone>(list: &[T]) -> Vec<T> {
    let mut seen: Vec<T> = vec![];
    for x in list {
        if !seen.contains(x) {
            seen.push(x.clone());
        }
    }
    seen
}
