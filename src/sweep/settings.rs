//! The options that a folder of results was measured with, so that a sweep with other options does not overwrite it.

use super::plan::{Correction, SweepOptions, Variant};
use super::run::SweepError;
use crate::data::write_atomically;
use catc_passes::{Method, Override};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

/// The file in the folder of a sweep that holds its options.
const FILE: &str = "options.json";

/// The setting that lists the methods.
const METHODS: &str = "--method";

/// The setting that lists the options of passes that are replaced.
const OVERRIDES: &str = "--set and --augment";

/// The options that results depend on, by their names on the command line.
type Settings = BTreeMap<String, String>;

/// Refuses a folder that holds the results of a sweep with other options; otherwise writes the options to it.
pub fn claim(options: &SweepOptions) -> Result<(), SweepError> {
    let path = options.out.join(FILE);
    let at = |error| SweepError::File { path: path.display().to_string(), error };
    let own = settings(options);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let earlier = with_present_names(serde_json::from_str(&text).map_err(|e| at(e.into()))?);
            let differences = differences(&earlier, &own);
            if !differences.is_empty() {
                return Err(SweepError::Options { folder: options.out.display().to_string(), differences });
            }
            return Ok(());
        }
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(at(error)),
        Err(_) if options.out.join("results.json").exists() => {
            let differences = vec![format!("its {FILE} is missing, which says what its results were measured with")];
            return Err(SweepError::Options { folder: options.out.display().to_string(), differences });
        }
        Err(_) => {}
    }
    let text = serde_json::to_string_pretty(&own).map_err(|e| at(e.into()))? + "\n";
    Ok(write_atomically(&path, |f| std::io::Write::write_all(f, text.as_bytes()))?)
}

/// Settings that an earlier version wrote, with the present names of options and methods.
fn with_present_names(settings: Settings) -> Settings {
    let method = |name: &str| Method::renamed(name).map_or(name.to_string(), |r| r.name.into());
    let replaced = |text: &str| match text.parse::<Override>() {
        Ok(o) => format!("{}.{}={}", o.pass, o.current_option(), o.value),
        Err(_) => text.to_string(),
    };
    let renamed = |(name, value): (String, String)| match name.as_str() {
        "--cat-held-back" => ("--cat-holdout".into(), value),
        METHODS => (name, list(value.split(',').map(method))),
        OVERRIDES => (name, list(value.split(',').map(replaced))),
        _ => (name, value),
    };
    settings.into_iter().map(renamed).collect()
}

fn settings(options: &SweepOptions) -> Settings {
    let SweepOptions { plan, out: _, max_memory, jobs: _, threads: _, .. } = options;
    let file = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf()).display().to_string();
    let given = |path: &Option<std::path::PathBuf>| path.as_deref().map_or("not given".into(), file);
    let corrections = plan.corrections.iter().map(|&c: &Correction| Variant::Table(c).to_string());
    let recipe = &plan.recipe;
    let pairs = [
        ("MODEL", file(&options.model)),
        ("--calib", file(&options.calib)),
        ("--samples", options.limit.map_or("all".into(), |n| n.to_string())),
        ("--cat-data", given(&options.cat_data)),
        ("--cat-holdout", options.holdout.to_string()),
        ("--preprocess", given(&options.preprocess)),
        ("--data", file(&options.data)),
        ("--labels", file(&options.labels)),
        ("--wbits", list(&plan.wbits)),
        ("--abits", list(&plan.abits)),
        ("--first-last-bits", recipe.first_last_bits.to_string()),
        (METHODS, list(&plan.methods)),
        ("--effort", format!("{:?}", recipe.effort).to_lowercase()),
        ("--iters", recipe.iters.map_or("by --effort".into(), |n| n.to_string())),
        (OVERRIDES, list(recipe.overrides.iter().map(|o| format!("{}.{}={}", o.pass, o.current_option(), o.value)))),
        ("--max-memory", max_memory.to_string()),
        ("--cat", list(corrections)),
        ("--seed and --seeds", list(&plan.seeds)),
        ("--cat-alpha", list(&plan.alphas)),
        ("--cat-clusters", list(&plan.clusters)),
        ("--cat-pca", list(&plan.dims)),
        ("--cat-samples", list(&plan.samples)),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = items.into_iter().map(|x| x.to_string()).collect();
    if all.is_empty() { "not given".into() } else { all.join(",") }
}

fn differences(earlier: &Settings, now: &Settings) -> Vec<String> {
    let value = |settings: &Settings, name: &str| settings.get(name).cloned().unwrap_or_else(|| "not given".into());
    let names = earlier.keys().chain(now.keys().filter(|name| !earlier.contains_key(*name)));
    let different = names.filter(|name| value(earlier, name) != value(now, name));
    different.map(|name| format!("{name} was {}, and is {}", value(earlier, name), value(now, name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::summary::tests::results;

    #[test]
    fn a_folder_belongs_to_its_options() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = results().options;
        options.out = dir.path().to_path_buf();
        claim(&options).unwrap();
        options.jobs += 1;
        claim(&options).unwrap();
        options.limit = Some(7);
        options.plan.wbits = vec![3];
        let text = claim(&options).unwrap_err().to_string();
        assert!(text.contains("--samples was all, and is 7") && text.contains("--wbits was 2"), "{text}");
        std::fs::remove_file(dir.path().join(FILE)).unwrap();
        std::fs::write(dir.path().join("results.json"), "{}").unwrap();
        assert!(claim(&options).unwrap_err().to_string().contains(FILE));
    }

    #[test]
    fn a_folder_of_an_earlier_version_is_read_by_its_former_names() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = results().options;
        options.out = dir.path().to_path_buf();
        options.plan.methods = vec![Method::EndToEnd, Method::Mse];
        options.plan.recipe.overrides = vec!["reconstruct.prediction_weight=3".parse().unwrap()];
        claim(&options).unwrap();
        let path = dir.path().join(FILE);
        let mut text = std::fs::read_to_string(&path).unwrap();
        for (name, former) in
            [("--cat-holdout", "--cat-held-back"), ("end-to-end", "cat"), (".prediction_weight", ".pd")]
        {
            assert_eq!(text.matches(name).count(), 1, "{name}: {text}");
            text = text.replace(name, former);
        }
        std::fs::write(&path, &text).unwrap();
        claim(&options).unwrap();
        std::fs::write(&path, text.replace("cat,mse", "correct,mse")).unwrap();
        let error = claim(&options).unwrap_err().to_string();
        assert!(error.contains("--method was channel-correction,mse, and is end-to-end,mse"), "{error}");
    }
}
