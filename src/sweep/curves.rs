//! Curves of the correction's parameters, as figures 3 to 5 of the paper: top-1 over a parameter, the band one deviation wide,
//! the network without correction as a dashed line.

use super::plan::{Axis, Correction, Variant};
use super::summary::Results;
use super::svg::{Figure, Line, Point};

/// A figure for each axis that has a curve.
pub fn figures(results: &Results) -> Vec<(Axis, String)> {
    let drawn = Axis::ALL.into_iter().filter(|a| !results.plan().curve(*a).is_empty());
    drawn.map(|axis| (axis, figure(results, axis).svg())).collect()
}

fn figure(results: &Results, axis: Axis) -> Figure {
    let places = results.plan().curve(axis);
    let lines = results.settings().into_iter().filter_map(|s| {
        let point = |&x: &f64| {
            let y = results.top1(s, Variant::Curve(axis, x))?;
            Some(Point { x, y: y.mean, deviation: y.deviation.unwrap_or(0.0) })
        };
        let points: Vec<Point> = places.iter().filter_map(point).collect();
        let base = results.top1(s, Variant::Table(Correction::Off)).map(|b| b.mean);
        let name = format!("W{}A{} {}", s.wbits, s.abits, s.method);
        (!points.is_empty()).then_some(Line { name, points, base })
    });
    let title = results.options.model.file_stem().map_or(String::new(), |s| s.to_string_lossy().into_owned());
    Figure { title, x: axis.title().into(), y: "top-1 in percent".into(), lines: lines.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::summary::tests::results;

    #[test]
    fn there_is_a_figure_for_each_axis_with_several_places() {
        let figures = figures(&results());
        assert_eq!(figures.iter().map(|(a, _)| *a).collect::<Vec<_>>(), [Axis::Alpha]);
        let svg = &figures[0].1;
        assert_eq!(svg.matches("<polyline").count(), 4, "a line for each setting");
        assert_eq!(svg.matches("stroke-dasharray").count(), 4, "and its base");
        assert!(svg.contains("W2A4 mse") && svg.contains("weight alpha"));
    }
}
