//! A small writer of line figures in SVG: axes with round ticks, lines with bands, a legend. Text is left to the viewer's
//! own sans-serif font, so that none is needed here.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
/// Left, right, top and bottom margins; the legend stands in the right one.
const MARGIN: [f64; 4] = [64.0, 190.0, 36.0, 52.0];
/// Colours that colour-blind readers can tell apart (Okabe and Ito).
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999"];
/// Places that span more than this factor stand on a logarithmic axis.
const LOG_SPAN: f64 = 30.0;

/// A figure.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Above it.
    pub title: String,
    /// Name of the horizontal axis.
    pub x: String,
    /// Name of the vertical axis.
    pub y: String,
    /// What is drawn.
    pub lines: Vec<Line>,
}

/// A line.
#[derive(Clone, Debug)]
pub struct Line {
    /// For the legend.
    pub name: String,
    /// From left to right.
    pub points: Vec<Point>,
    /// A level to compare with, drawn dashed.
    pub base: Option<f64>,
}

/// A point with a band around it.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Horizontal place.
    pub x: f64,
    /// Vertical place.
    pub y: f64,
    /// Half the height of the band.
    pub deviation: f64,
}

/// One axis: what range of values lies on which range of the page.
struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
    from: f64,
    to: f64,
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        let f = |v: f64| if self.logarithmic { v.ln() } else { v };
        let span = f(self.high) - f(self.low);
        let part = if span > 0.0 { (f(value) - f(self.low)) / span } else { 0.5 };
        self.from + part * (self.to - self.from)
    }

    /// About five round values inside.
    fn ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            let decades = (self.low.log10().floor() as i32)..=(self.high.log10().ceil() as i32);
            let steps: &[f64] = if self.high / self.low > 300.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
            let all = decades.flat_map(|d| steps.iter().map(move |s| s * 10f64.powi(d)));
            return all.filter(|v| (self.low..=self.high).contains(v)).collect();
        }
        let rough = (self.high - self.low) / 5.0;
        if rough.is_nan() || rough <= 0.0 {
            return vec![self.low];
        }
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|s| s * power).into_iter().find(|s| *s >= rough).unwrap_or(rough);
        let first = (self.low / step).ceil() as i64;
        (first..).map(|i| i as f64 * step).take_while(|v| *v <= self.high + 1e-9 * step).collect()
    }
}

impl Figure {
    /// The figure as an SVG document.
    pub fn svg(&self) -> String {
        let [left, right, top, bottom] = MARGIN;
        let points = || self.lines.iter().flat_map(|l| &l.points);
        let (low, high) = range(points().map(|p| p.x));
        let logarithmic = low > 0.0 && high / low > LOG_SPAN;
        let x = Scale { low, high, logarithmic, from: left, to: WIDTH - right };
        let ends = points().flat_map(|p| [p.y - p.deviation, p.y + p.deviation]);
        let (low, high) = range(ends.chain(self.lines.iter().filter_map(|l| l.base)));
        let room = ((high - low) * 0.05).max(0.05);
        let y = Scale { low: low - room, high: high + room, logarithmic: false, from: HEIGHT - bottom, to: top };
        let mut s = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
        );
        let text = |s: &mut String, x: f64, y: f64, more: &str, text: &str| {
            let _ = writeln!(s, "<text x=\"{x:.1}\" y=\"{y:.1}\"{more}>{}</text>", escaped(text));
        };
        let middle = (x.from + x.to) / 2.0;
        text(&mut s, middle, 20.0, " text-anchor=\"middle\" font-size=\"14\"", &self.title);
        text(&mut s, middle, HEIGHT - 12.0, " text-anchor=\"middle\"", &self.x);
        let turned = format!(" text-anchor=\"middle\" transform=\"rotate(-90 16 {:.1})\"", (y.from + y.to) / 2.0);
        text(&mut s, 16.0, (y.from + y.to) / 2.0, &turned, &self.y);
        for v in x.ticks() {
            let at = x.at(v);
            rule(&mut s, (at, y.from), (at, y.to), "#e5e5e5", "");
            text(&mut s, at, y.from + 18.0, " text-anchor=\"middle\"", &number(v));
        }
        for v in y.ticks() {
            let at = y.at(v);
            rule(&mut s, (x.from, at), (x.to, at), "#e5e5e5", "");
            text(&mut s, x.from - 6.0, at + 4.0, " text-anchor=\"end\"", &number(v));
        }
        rule(&mut s, (x.from, y.from), (x.to, y.from), "black", "");
        rule(&mut s, (x.from, y.from), (x.from, y.to), "black", "");
        for (i, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            line.draw(&mut s, colour, &x, &y);
            let at = top + 8.0 + 18.0 * i as f64;
            rule(&mut s, (WIDTH - right + 14.0, at), (WIDTH - right + 38.0, at), colour, " stroke-width=\"2\"");
            text(&mut s, WIDTH - right + 44.0, at + 4.0, "", &line.name);
        }
        s + "</svg>\n"
    }
}

impl Line {
    fn draw(&self, s: &mut String, colour: &str, x: &Scale, y: &Scale) {
        let place = |p: &Point, shift: f64| format!("{:.1},{:.1}", x.at(p.x), y.at(p.y + shift * p.deviation));
        if self.points.iter().any(|p| p.deviation > 0.0) {
            let above = self.points.iter().map(|p| place(p, 1.0));
            let band: Vec<String> = above.chain(self.points.iter().rev().map(|p| place(p, -1.0))).collect();
            let _ = writeln!(s, "<polygon points=\"{}\" fill=\"{colour}\" fill-opacity=\"0.15\"/>", band.join(" "));
        }
        if let Some(base) = self.base {
            rule(s, (x.from, y.at(base)), (x.to, y.at(base)), colour, " stroke-dasharray=\"5 4\"");
        }
        let all: Vec<String> = self.points.iter().map(|p| place(p, 0.0)).collect();
        let _ = writeln!(
            s,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            all.join(" ")
        );
        for p in &self.points {
            let _ =
                writeln!(s, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\" fill=\"{colour}\"/>", x.at(p.x), y.at(p.y));
        }
    }
}

fn rule(s: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, more: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ =
        writeln!(s, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"{more}/>");
}

/// Least and largest of some values; 0 to 1 of none.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.map(|v| (v, v)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((0.0, 1.0))
}

/// A tick's value, without trailing zeros.
fn number(v: f64) -> String {
    let text = format!("{v:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(low: f64, high: f64, logarithmic: bool) -> Scale {
        Scale { low, high, logarithmic, from: 0.0, to: 100.0 }
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(scale(0.0, 1.0, false).ticks().len(), 6);
        assert_eq!(scale(61.3, 68.9, false).ticks(), [62.0, 64.0, 66.0, 68.0]);
        assert_eq!(scale(1.0, 64.0, true).ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
        assert_eq!(scale(3.0, 3.0, false).ticks(), [3.0]);
    }

    #[test]
    fn places_are_between_the_ends() {
        let s = scale(1.0, 100.0, true);
        assert!((s.at(10.0) - 50.0).abs() < 1e-9 && s.at(1.0) == 0.0);
        assert_eq!(scale(2.0, 2.0, false).at(2.0), 50.0);
    }

    #[test]
    fn a_figure_is_a_whole_document_and_escapes_names() {
        let point = |x, y| Point { x, y, deviation: 0.5 };
        let line = Line { name: "a < b".into(), points: vec![point(1.0, 60.0), point(64.0, 61.0)], base: Some(60.5) };
        let figure = Figure { title: "t & u".into(), x: "x".into(), y: "y".into(), lines: vec![line] };
        let svg = figure.svg();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && svg.contains("a &lt; b"));
        assert!(svg.contains("t &amp; u") && svg.contains("<polygon") && !svg.contains("NaN"));
        let empty = Figure { lines: vec![], ..figure }.svg();
        assert!(!empty.contains("NaN") && !empty.contains("inf"));
    }
}
