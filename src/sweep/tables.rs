//! Results as CSV, JSON and Markdown.

use super::plan::{Correction, Variant};
use super::summary::{Measured, Results, Setting, Statistic, percent};
use serde_json::{Value, json};
use std::fmt::Write;

const OFF: Variant = Variant::Table(Correction::Off);
const ON: Variant = Variant::Table(Correction::On);
const PLAIN: Variant = Variant::Table(Correction::Plain);

/// A line for each measurement, and one for the float network.
pub fn csv(results: &Results) -> String {
    let mut text = "wbits,abits,method,seed,variant,top1,top5,n,alpha,clusters,pca,samples,seconds,note\n".to_string();
    let n = results.float.n;
    let (top1, top5) = (rate(results.float.top1, n), rate(results.float.top5, n));
    let _ = writeln!(text, "32,32,float,,off,{top1},{top5},{n},,,,,{:.1},", results.float.seconds);
    for m in results.all() {
        let (r, o) = (&m.network.recipe, &m.outcome);
        let fitted = o.correction.map_or(",,,".into(), |c| {
            let dims = if c.clusters == 1 { String::new() } else { c.dims.to_string() };
            format!("{},{},{dims},{}", c.alpha, c.clusters, c.samples)
        });
        let note = o.note.as_deref().unwrap_or("").replace('"', "\"\"");
        let note = if note.contains([',', '"', '\n']) { format!("\"{note}\"") } else { note };
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{},{},{fitted},{:.1},{note}",
            r.wbits,
            r.abits,
            r.method,
            m.network.seed,
            m.variant,
            rate(o.top1, o.n),
            rate(o.top5, o.n),
            o.n,
            o.seconds
        );
    }
    text
}

fn rate(hits: usize, n: usize) -> f64 {
    hits as f64 / n.max(1) as f64
}

/// Everything, and the means over the seeds.
pub fn json(results: &Results) -> Value {
    let one = |m: &&Measured| {
        let (r, o) = (&m.network.recipe, &m.outcome);
        json!({
            "wbits": r.wbits, "abits": r.abits, "method": r.method.to_string(), "seed": m.network.seed,
            "variant": m.variant.to_string(), "top1": rate(o.top1, o.n), "top5": rate(o.top5, o.n), "n": o.n,
            "correction": o.correction, "note": o.note, "seconds": o.seconds,
        })
    };
    let mean = |s: Setting, v: Variant| {
        let top1 = results.top1(s, v)?;
        let difference = Statistic::of(&results.differences(s, OFF, v));
        Some(json!({
            "wbits": s.wbits, "abits": s.abits, "method": s.method.to_string(), "variant": v.to_string(),
            "top1_percent": top1.mean, "deviation": top1.deviation, "seeds": top1.count,
            "difference": difference.map(|d| d.mean), "difference_deviation": difference.and_then(|d| d.deviation),
        }))
    };
    let settings = results.settings();
    let variants = results.plan().variants();
    let means = settings.iter().flat_map(|&s| variants.iter().filter_map(move |&v| mean(s, v)));
    let o = &results.options;
    json!({
        "model": o.model, "calib": o.calib, "samples": o.limit, "cat_data": o.cat_data, "holdout": o.holdout, "data": o.data,
        "float": {"top1": rate(results.float.top1, results.float.n), "top5": rate(results.float.top5, results.float.n),
            "n": results.float.n},
        "means": means.collect::<Vec<_>>(),
        "measurements": results.all().iter().map(one).collect::<Vec<_>>(),
    })
}

/// A table as tables 3 and 5 of the paper: for bits and method the network as it is, corrected, and the difference.
pub fn markdown(results: &Results) -> String {
    let o = &results.options;
    let name = o.model.file_stem().map_or(String::new(), |s| s.to_string_lossy().into_owned());
    let mut text = format!(
        "{name}: top-1 in percent on {} test inputs, fp32 {:.2}; {}\n\n",
        results.float.n,
        percent(&results.float),
        match results.plan().seeds.len() {
            1 => "one seed".into(),
            n => format!("mean and deviation of {n} seeds"),
        }
    );
    let shown: Vec<(Variant, &str)> = [(ON, "+ CAT"), (PLAIN, "+ plain affine (K = 1)")]
        .into_iter()
        .filter(|(v, _)| results.plan().variants().contains(v))
        .collect();
    text += "| W/A | method | base |";
    shown.iter().for_each(|(_, title)| text += &format!(" {title} | difference |"));
    text += "\n|---|---|---|";
    text += &"---|---|".repeat(shown.len());
    text += "\n";
    let settings = results.settings();
    for (i, &s) in settings.iter().enumerate() {
        let cell = |v| results.top1(s, v).map_or("".into(), value);
        if results.top1(s, OFF).is_some() {
            let _ = write!(text, "| {}/{} | {} | {} |", s.wbits, s.abits, s.method, cell(OFF));
            for &(v, _) in &shown {
                let difference = Statistic::of(&results.differences(s, OFF, v));
                let _ = write!(text, " {} | {} |", cell(v), difference.map_or("".into(), signed));
            }
            text += "\n";
        }
        let bits = |s: &Setting| (s.wbits, s.abits);
        if results.plan().methods.len() > 1 && settings.get(i + 1).is_none_or(|next| bits(next) != bits(&s)) {
            let _ = write!(text, "| {}/{} | mean difference | |", s.wbits, s.abits);
            for &(v, _) in &shown {
                let same = settings.iter().filter(|other| bits(other) == bits(&s));
                let means = same.filter_map(|&o| Some(Statistic::of(&results.differences(o, OFF, v))?.mean));
                let mean = Statistic::of(&means.collect::<Vec<_>>());
                let _ = write!(text, " | {} |", mean.map_or("".into(), |m| format!("{:+.2}", m.mean)));
            }
            text += "\n";
        }
    }
    text
}

fn value(s: Statistic) -> String {
    s.deviation.map_or(format!("{:.2}", s.mean), |d| format!("{:.2} ± {d:.2}", s.mean))
}

fn signed(s: Statistic) -> String {
    s.deviation.map_or(format!("{:+.2}", s.mean), |d| format!("{:+.2} ± {d:.2}", s.mean))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::summary::tests::results;

    #[test]
    fn the_table_shows_means_deviations_and_differences() {
        let text = markdown(&results());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "net: top-1 in percent on 200 test inputs, fp32 90.00; mean and deviation of 2 seeds");
        assert_eq!(lines[2], "| W/A | method | base | + CAT | difference |");
        assert_eq!(lines[4], "| 2/2 | minmax | 52.50 ± 3.54 | 53.00 ± 3.54 | +0.50 ± 0.00 |");
        assert_eq!(lines[6], "| 2/2 | mean difference | | | +0.50 |");
        assert_eq!(lines.len(), 10);
    }

    #[test]
    fn csv_has_a_line_for_each_measurement_and_quotes_notes() {
        let mut results = results();
        let mut odd = results.all()[0].clone();
        odd.outcome.note = Some("a, \"b\"".into());
        results = Results::new(&results.options, results.float.clone());
        results.add(odd);
        let text = csv(&results);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "32,32,float,,off,0.9,0.95,200,,,,,1.0,");
        assert_eq!(lines[2], "2,2,minmax,0,off,0.5,0.95,200,,,,,1.0,\"a, \"\"b\"\"\"");
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn json_holds_the_means_too() {
        let value = json(&results());
        assert_eq!(value["measurements"].as_array().unwrap().len(), 40);
        assert_eq!(value["means"][1]["difference"], 0.5);
        assert_eq!(value["float"]["top1"], 0.9);
    }
}
