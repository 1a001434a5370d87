//! Resize (10, 11, 13, 18, 19) and Upsample (7, 9) with known sizes. Nearest interpolation selects positions of each axis. Linear
//! and cubic interpolation, with or without antialiasing, sums a few positions with constant weights along one axis after the other.

use super::build::{Built, combine, indices, pick, real, reals};
use crate::error::NodeProblem;
use crate::node::{NodeContext, RuleResult, axis};
use crate::value::Value;
use catc_ir::ops::{Binary, Interpolate};
use catc_ir::{Dim, Element, Op};

/// The largest size of an axis.
const LARGEST: usize = 1 << 15;

/// The most taps that an interpolation stores for all positions of an axis.
const MAX_TAPS: usize = 1 << 20;

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

struct Settings<'m> {
    mode: Mode,
    coordinates: &'m str,
    rounding: &'m str,
    cubic: f64,
    exclude_outside: bool,
    antialias: bool,
    extrapolation: f32,
}

/// How one axis is resized.
struct Axis {
    from: usize,
    to: usize,
    scale: f64,
    /// The start and end of the region for `tf_crop_and_resize`, as fractions of the axis.
    roi: [f64; 2],
}

impl Axis {
    /// The input coordinate of output position `i`.
    fn source(&self, settings: &Settings, i: usize) -> f64 {
        let (from, to, x) = (self.from as f64, self.to as f64, i as f64);
        match settings.coordinates {
            "asymmetric" => x / self.scale,
            "align_corners" | "pytorch_half_pixel" if self.to == 1 => 0.0,
            "align_corners" => x * (from - 1.0) / (to - 1.0),
            "tf_half_pixel_for_nn" => (x + 0.5) / self.scale,
            "half_pixel_symmetric" => {
                let adjustment = to / (self.scale * from);
                let center = from / 2.0;
                center * (1.0 - adjustment) + (x + 0.5) / self.scale - 0.5
            }
            "tf_crop_and_resize" if self.to == 1 => 0.5 * (self.roi[0] + self.roi[1]) * (from - 1.0),
            "tf_crop_and_resize" => {
                let [start, end] = self.roi;
                start * (from - 1.0) + x * (end - start) * (from - 1.0) / (to - 1.0)
            }
            _ => (x + 0.5) / self.scale - 0.5,
        }
    }

    /// Whether a coordinate is outside the input, where `tf_crop_and_resize` extrapolates.
    fn outside(&self, settings: &Settings, source: f64) -> bool {
        settings.coordinates == "tf_crop_and_resize" && !(0.0..=(self.from - 1) as f64).contains(&source)
    }

    /// The position that nearest interpolation selects.
    fn nearest(&self, settings: &Settings, source: f64) -> usize {
        let at = match settings.rounding {
            "round_prefer_ceil" => (source + 0.5).floor(),
            "floor" => source.floor(),
            "ceil" => source.ceil(),
            // Ties are rounded down.
            _ => (source - 0.5).ceil(),
        };
        at.clamp(0.0, (self.from - 1) as f64) as usize
    }

    /// The input positions and their weights for a source coordinate.
    fn weights(&self, settings: &Settings, source: f64) -> Vec<(i64, f64)> {
        let stretch = if settings.antialias && self.scale < 1.0 { self.scale } else { 1.0 };
        let reach = if settings.mode == Mode::Cubic { 2.0 } else { 1.0 } / stretch;
        let kernel = |d: f64| {
            let d = (d * stretch).abs();
            match settings.mode {
                Mode::Cubic => cubic(d, settings.cubic),
                _ => (1.0 - d).max(0.0),
            }
        };
        let (low, high) = ((source - reach).floor() as i64, (source + reach).ceil() as i64);
        let mut items: Vec<(i64, f64)> =
            (low..=high).map(|p| (p, kernel(p as f64 - source))).filter(|(_, w)| *w != 0.0).collect();
        let inside = |p: i64| (0..self.from as i64).contains(&p);
        if settings.exclude_outside {
            items.retain(|(p, _)| inside(*p));
        }
        let sum: f64 = items.iter().map(|(_, w)| w).sum();
        if sum != 0.0 {
            items.iter_mut().for_each(|(_, w)| *w /= sum);
        }
        items.iter().map(|&(p, w)| (p.clamp(0, self.from as i64 - 1), w)).collect()
    }
}

/// The cubic convolution kernel at a distance (Keys 1981, with coefficient `a`).
fn cubic(d: f64, a: f64) -> f64 {
    if d <= 1.0 {
        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
    } else {
        0.0
    }
}

fn settings<'m>(cx: &mut NodeContext<'_, '_, 'm>) -> Result<Settings<'m>, NodeProblem> {
    let mode = match cx.word("mode")?.unwrap_or("nearest") {
        "nearest" => Mode::Nearest,
        "linear" | "bilinear" => Mode::Linear,
        "cubic" => Mode::Cubic,
        other => return Err(NodeProblem::attribute("mode", format!("is {other:?}, which is not defined"))),
    };
    let old = cx.opset < 11;
    let coordinates = cx.word("coordinate_transformation_mode")?;
    let rounding = cx.word("nearest_mode")?;
    Ok(Settings {
        mode,
        coordinates: coordinates.unwrap_or(if old { "asymmetric" } else { "half_pixel" }),
        rounding: rounding.unwrap_or(if old { "floor" } else { "round_prefer_floor" }),
        cubic: f64::from(cx.float("cubic_coeff_a")?.unwrap_or(-0.75)),
        exclude_outside: cx.flag("exclude_outside", false)?,
        antialias: cx.flag("antialias", false)?,
        extrapolation: cx.float("extrapolation_value")?.unwrap_or(0.0),
    })
}

pub(super) fn upsample(cx: &mut NodeContext) -> RuleResult {
    let settings = settings(cx)?;
    let x = cx.input(0)?;
    let scales = match cx.floats("scales")? {
        Some(list) => list.to_vec(),
        None => reals_of(cx, 1)?.unwrap_or_default(),
    };
    let rank = cx.shape(&x).rank();
    let y = resized(cx, x, &settings, &(0..rank).collect::<Vec<_>>(), Some(&scales), None, None)?;
    super::layout::same(cx, y)
}

/// An optional f32 input, which may also be empty.
fn reals_of(cx: &mut NodeContext, index: usize) -> Result<Option<Vec<f32>>, NodeProblem> {
    if !cx.has_input(index) {
        return Ok(None);
    }
    let known = cx.known(index, "the scales")?;
    match known.as_f32() {
        Some([]) => Ok(None),
        Some(items) => Ok(Some(items.to_vec())),
        None => Err(NodeProblem::input(index, "must hold reals")),
    }
}

pub(super) fn resize(cx: &mut NodeContext) -> RuleResult {
    let settings = settings(cx)?;
    let policy = cx.word("keep_aspect_ratio_policy")?.unwrap_or("stretch");
    let moves = settings.mode == Mode::Nearest && settings.coordinates != "tf_crop_and_resize";
    let x = if moves { cx.moved_input(0)? } else { cx.input(0)? };
    let rank = cx.shape(&x).rank();
    let axes: Vec<usize> = match cx.ints("axes")? {
        Some(list) => list.iter().map(|&a| axis(a, rank)).collect::<Result<_, _>>()?,
        None => (0..rank).collect(),
    };
    let (roi, scales, sizes) = if cx.opset < 11 {
        cx.arity(2, 2)?;
        (None, reals_of(cx, 1)?, None)
    } else {
        cx.arity(1, 4)?;
        let sizes = if cx.has_input(3) { Some(cx.sizes(3, "the sizes")?) } else { None };
        (reals_of(cx, 1)?, reals_of(cx, 2)?, sizes)
    };
    let shape = cx.shape(&x);
    let sizes = match sizes {
        None => None,
        Some(list) if list.is_empty() => None,
        Some(list) if list.len() == axes.len() => {
            let mut to = vec![];
            for (s, &a) in list.iter().zip(&axes) {
                let batch =
                    crate::size::Size::from(shape.dims()[a]) == *s || cx.file_batch().map(|b| b as i64) == s.fixed();
                to.push(match (shape.dims()[a], s.fixed()) {
                    (Dim::Batch(_), _) if batch => None,
                    (Dim::Fixed(_), Some(n)) => usize::try_from(n).ok(),
                    _ => return Err(NodeProblem::unsupported("it resizes the batch")),
                });
            }
            let ratio = |(i, n): (usize, &Option<usize>)| match (shape.dims()[axes[i]], n) {
                (Dim::Fixed(from), Some(n)) => Some(*n as f64 / from.max(1) as f64),
                _ => None,
            };
            let ratios = to.iter().enumerate().filter_map(ratio);
            let common = match policy {
                "not_larger" => ratios.reduce(f64::min),
                "not_smaller" => ratios.reduce(f64::max),
                _ => None,
            };
            Some((to, common))
        }
        Some(_) => return Err(NodeProblem::input(3, "must hold a size for each axis")),
    };
    let y = resized(cx, x, &settings, &axes, scales.as_deref(), sizes, roi)?;
    super::layout::same(cx, y)
}

/// The requested sizes, with `None` for the batch, and the common scale if the aspect ratio is kept.
type Sizes = (Vec<Option<usize>>, Option<f64>);

fn resized(
    cx: &mut NodeContext,
    x: Value,
    settings: &Settings,
    axes: &[usize],
    scales: Option<&[f32]>,
    sizes: Option<Sizes>,
    roi: Option<Vec<f32>>,
) -> Built {
    let shape = cx.shape(&x);
    if scales.is_some_and(|s| s.len() != axes.len()) || (scales.is_none() && sizes.is_none()) {
        return Err(NodeProblem::invalid("has no scale or size for each axis"));
    }
    let roi_of = |i: usize| match &roi {
        Some(r) if r.len() == 2 * axes.len() => [f64::from(r[i]), f64::from(r[i + axes.len()])],
        _ => [0.0, 1.0],
    };
    let mut plans = vec![];
    for (i, &a) in axes.iter().enumerate() {
        let from = match shape.dims()[a] {
            Dim::Fixed(n) => n,
            Dim::Batch(_) if scales.is_none_or(|s| s[i] == 1.0) => continue,
            Dim::Batch(_) => return Err(NodeProblem::unsupported("it resizes the batch")),
        };
        let (to, scale) = match (&sizes, scales) {
            (Some((_, Some(common))), _) => ((common * from as f64).round() as usize, *common),
            (Some((to, None)), _) => {
                let to = to[i].unwrap_or(from);
                (to, to as f64 / from.max(1) as f64)
            }
            (None, Some(scales)) => {
                let scale = f64::from(scales[i]);
                let [start, end] = roi_of(i);
                let part = if settings.coordinates == "tf_crop_and_resize" { end - start } else { 1.0 };
                ((from as f64 * part * scale).floor() as usize, scale)
            }
            (None, None) => (from, 1.0),
        };
        // The smallest scale bounds the reach of a kernel that is stretched against aliasing.
        let fits = scale.is_finite() && scale >= 1.0 / (2 * LARGEST) as f64;
        if from == 0 || to == 0 || to.max(from) > LARGEST || !fits {
            return Err(NodeProblem::unsupported(format!("axis {a} goes from {from} to {to}")));
        }
        let plan = Axis { from, to, scale, roi: roi_of(i) };
        let crops = settings.coordinates == "tf_crop_and_resize" && plan.roi != [0.0, 1.0];
        if from != to || scale != 1.0 || crops {
            plans.push((a, plan));
        }
    }
    let mut y = x;
    if settings.mode != Mode::Nearest && cx.element(&y) != Element::F32 {
        return Err(NodeProblem::input(0, "must hold reals"));
    }
    // The axis that grows least comes first, and the later one of equal axes, so that the tensor between them is small and the last
    // sums run along whole rows.
    let growth = |plan: &Axis| plan.to as f64 / plan.from as f64;
    plans.sort_by(|(a, p), (b, q)| growth(p).total_cmp(&growth(q)).then(b.cmp(a)));
    for (a, plan) in plans {
        let sources: Vec<f64> = (0..plan.to).map(|i| plan.source(settings, i)).collect();
        let outside: Vec<bool> = sources.iter().map(|&s| plan.outside(settings, s)).collect();
        y = match settings.mode {
            Mode::Nearest => {
                let places: Vec<usize> = sources.iter().map(|&s| plan.nearest(settings, s)).collect();
                pick(cx, &y, a, &places)?
            }
            _ => interpolated(cx, &y, a, &plan, settings, &sources, &outside)?,
        };
        if outside.contains(&true) {
            let rank = cx.shape(&y).rank();
            y = extrapolated(cx, &y, a, rank, settings.extrapolation, &outside)?;
        }
    }
    Ok(y)
}

/// Replaces `y` by `value` at the positions of an axis that are outside the input.
fn extrapolated(cx: &mut NodeContext, y: &Value, a: usize, rank: usize, value: f32, outside: &[bool]) -> Built {
    let mut dims = vec![1; rank];
    dims[a] = outside.len();
    let inside = reals(&dims, outside.iter().map(|&o| f32::from(u8::from(!o))).collect());
    let y = combine(cx, Binary::Mul, y, &inside)?;
    if value == 0.0 {
        return Ok(y);
    }
    let rest = combine(cx, Binary::Sub, &real(1.0), &inside)?;
    let rest = combine(cx, Binary::Mul, &rest, &real(value))?;
    combine(cx, Binary::Add, &y, &rest)
}

/// The taps of every output position of an axis: positions of the input and weights, as many for each.
struct Taps {
    /// Taps for each output position, at least one.
    count: usize,
    places: Vec<i64>,
    weights: Vec<f32>,
}

impl Taps {
    /// Rows of different lengths are filled up with weights of 0. Rows outside the input have such weights only.
    fn of(plan: &Axis, settings: &Settings, sources: &[f64], outside: &[bool]) -> Result<Self, NodeProblem> {
        let mut rows: Vec<Vec<(i64, f64)>> = Vec::with_capacity(sources.len());
        for (&source, &outside) in sources.iter().zip(outside) {
            let mut row: Vec<(i64, f64)> = vec![];
            for (p, w) in if outside { vec![] } else { plan.weights(settings, source) } {
                // Positions beyond an end of the axis are all that end.
                match row.last_mut() {
                    Some(last) if last.0 == p => last.1 += w,
                    _ => row.push((p, w)),
                }
            }
            rows.push(row);
        }
        let count = rows.iter().map(Vec::len).max().unwrap_or(0).max(1);
        if rows.len().saturating_mul(count) > MAX_TAPS {
            return Err(NodeProblem::unsupported(format!("{} positions with {count} taps each", rows.len())));
        }
        let mut taps = Taps { count, places: vec![], weights: vec![] };
        for row in rows {
            let last = row.last().map_or(0, |(p, _)| *p);
            let all = row.into_iter().chain(std::iter::repeat((last, 0.0))).take(count);
            all.for_each(|(p, w)| {
                taps.places.push(p);
                taps.weights.push(w as f32);
            });
        }
        match taps.weights.iter().all(|w| w.is_finite()) {
            true => Ok(taps),
            false => Err(NodeProblem::invalid("its region or scale gives weights that are not finite")),
        }
    }
}

/// Builds the weighted sums along one axis. Where each position has one tap of weight 1, they are a choice of positions.
fn interpolated(
    cx: &mut NodeContext,
    x: &Value,
    a: usize,
    plan: &Axis,
    settings: &Settings,
    sources: &[f64],
    outside: &[bool],
) -> Built {
    let taps = Taps::of(plan, settings, sources, outside)?;
    if taps.count == 1 && taps.weights.iter().all(|w| *w == 1.0) {
        let places: Vec<usize> = taps.places.iter().map(|&p| p as usize).collect();
        return pick(cx, x, a, &places);
    }
    let shape = [plan.to, taps.count];
    let (places, weights) = (indices(&shape, taps.places), reals(&shape, taps.weights));
    let operands = [cx.operand(0, x)?, cx.operand(0, &places)?, cx.operand(0, &weights)?];
    cx.emit(Op::Interpolate(Interpolate { axis: a }), &operands)
}
