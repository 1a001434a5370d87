//! `append-cat`: appends the cluster-wise affine correction of the logits (CAT).
//!
//! - Before: qdq phase, outputs that hold or are made of rows `[N,C]`: class scores or values ([`crate::objective`]); data
//!   ([`PassContext::cat_data`]); the float reference. After: whatever took the rows takes the corrected ones. Nothing else
//!   changes.
//! - The correction is fitted to the rows of the quantized and the float graph on that data ([`crate::cat::fit()`]):
//!   each image runs once through both graphs, and only the rows are kept, `16 N C` bytes.
//! - It does nothing, and says why, if there is no such data, if an output has another shape, or if the fit finds no correction that
//!   lowers the divergence from the float logits (for values the squared error) on images that it was not fitted to.
//! - Other passes: after everything that refines scales, since the correction fits the logits as they are; before
//!   `fold-cat`, which makes it cheap, and before lowering.
//! - Example, with K = 4, p = 5, alpha = 0.4 (a single cluster needs only the last three nodes):
//!   ```text
//!   v9: f32[N,5] = ...                                  the logits of 10 classes would be f32[N,10]
//!   v20: f32[N,10] = sub v9, c5 "cat_centre"            the logits less their mean
//!   v21: f32[N,5] = matmul v20, c6 "cat_project"        in the principal space
//!   v22: f32[N,4] = squared_distance v21, c7 "cat_distance"
//!   v23: i64[N] = argmin v22 {axis=1} "cat_assign"      the cluster k
//!   v24: f32[N,10] = gather c8, v23 {axis=0} "cat_gamma"
//!   v25: f32[N,10] = gather c9, v23 {axis=0} "cat_beta"
//!   v26: f32[N,10] = mul v9, v24 "cat_scale"
//!   v27: f32[N,10] = add v26, v25 "cat_shift"           gamma_k z + beta_k
//!   v28: f32[N,10] = blend v9, v27 {alpha=0.4} "cat_blend"
//!   ```
//! - Reference: arXiv 2509.26277, section 3.1, algorithms 1 and 2.
//! - Deviations: parameters that are not given are chosen by cross-validation, with "no correction" among the candidates, not on test
//!   images (`select=regime` takes the paper's values). The maps of small clusters are shrunk towards the plain map (`shrinkage=0` does
//!   not). Each candidate is judged after its logits are multiplied by the common factor that suits it best (`rescale=true` keeps that
//!   factor). Outputs that are not class scores are corrected too, judged by their squared error.
//! - Which data: the images that everything else was fitted to. On them the quantized network is nearer to the float one than on other
//!   images, so the correction tends to be too small. Other images give a slightly better correction, but images that are held out from
//!   the rest cost the network more than the correction gains.
//! - Rejected: fitting gamma and beta to the divergence itself, with a ridge penalty towards 1 and 0. It lowers the divergence further, but
//!   fewer top-1 classes agree with the float network's (CIFAR-10 at 2 bits).

use crate::cat::{CatFit, CatModel, CatOptions, FitReport, HeldOut, Judge, Selection, fit};
use crate::context::PassContext;
use crate::objective::{Measure, Target, evaluate_rows};
use crate::pass::{Changed, Pass, PassError};
use crate::registry::{PassEntry, PassOption, PassOptions, RegistryError};
use catc_ir::ops::{ArgMin, Binary, Blend, Gather, MatMul, SquaredDistance};
use catc_ir::{ConstId, Dim, Element, Graph, Node, Op, Operand, Phase, Shape, Tensor, TensorType, ValueId};

/// Appends the correction of the logits. Its options are those of the fit; seed and bits come from context and graph.
#[derive(Clone, Debug, Default)]
pub struct AppendCat {
    /// How the correction is fitted. `seed` and `activation_bits` are not used.
    pub options: CatOptions,
}

impl AppendCat {
    /// Its entry in the registry.
    pub const ENTRY: PassEntry = PassEntry {
        name: "append-cat",
        summary: "appends a correction of the outputs, fitted to those of the float network (CAT)",
        options: &[
            PassOption::new("clusters", "auto or 1-4096", "auto", "number of clusters K; 1 is one map for all images"),
            PassOption::new("pca", "auto or 1-4096", "auto", "dimensions p of the space that clusters are formed in"),
            PassOption::new(
                "alpha",
                "auto or 0-1",
                "auto",
                "weight of the correction; given, it is appended whether it helps or not",
            ),
            PassOption::new(
                "shrinkage",
                "auto or 0-1000000",
                "auto",
                "pseudo-counts that pull small clusters to the map of all images; auto is 50, and 0 for one cluster",
            ),
            PassOption::new(
                "select",
                "cv|regime",
                "cv",
                "what auto means: cross-validation, or the values of the paper for these activation bits",
            ),
            PassOption::new(
                "rescale",
                "true|false",
                "false",
                "with select=cv and alpha=auto: multiply the logits by the common factor of least divergence; it changes no \
                       top-1 class, but every threshold on a probability",
            ),
            PassOption::new("folds", "2-100", "5", "folds of the cross-validation"),
            PassOption::new("restarts", "1-1000", "8", "restarts of k-means"),
        ],
        build: |o: &mut PassOptions| -> Result<Box<dyn Pass>, RegistryError> {
            let count = |text: &str| automatic(text, |n: &usize| (1..=4096).contains(n));
            let select = |text: &str| match text {
                "cv" => Some(Selection::CrossValidated),
                "regime" => Some(Selection::Regime),
                _ => None,
            };
            let defaults = CatOptions::default();
            Ok(Box::new(AppendCat {
                options: CatOptions {
                    clusters: o.take("clusters", count)?.flatten(),
                    dims: o.take("pca", count)?.flatten(),
                    alpha: o.take("alpha", |t| automatic(t, |a: &f64| (0.0..=1.0).contains(a)))?.flatten(),
                    pseudo_counts: o.take("shrinkage", |t| automatic(t, |s: &f64| (0.0..=1e6).contains(s)))?.flatten(),
                    selection: o.take("select", select)?.unwrap_or(defaults.selection),
                    rescale: o.flag("rescale", defaults.rescale)?,
                    folds: o.number("folds", defaults.folds, 2..=100)?,
                    restarts: o.number("restarts", defaults.restarts, 1..=1000)?,
                    ..defaults
                },
            }))
        },
    };
}

/// Why a correction that was fitted cannot be appended.
const OVERFLOW: &str = "its parameters overflow f32";

/// Reads `auto` or a number that fits; `None` for anything else.
fn automatic<T: std::str::FromStr>(text: &str, fits: impl Fn(&T) -> bool) -> Option<Option<T>> {
    if text == "auto" { Some(None) } else { text.parse().ok().filter(fits).map(Some) }
}

/// The start of the note that says why nothing was done.
const SKIPPED: &str = "no correction of the outputs";

impl Pass for AppendCat {
    fn name(&self) -> &'static str {
        Self::ENTRY.name
    }

    fn phases(&self) -> &'static [Phase] {
        &[Phase::Qdq]
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassContext) -> Result<Changed, PassError> {
        if graph.nodes().iter().any(|n| matches!(n.op, Op::Blend(_))) {
            return cx.skip(SKIPPED, "the outputs are corrected already");
        }
        if cx.cat_data.is_none_or(|data| data.is_empty()) {
            return cx.skip(SKIPPED, "there are no images to fit one to (--calib, --cat-data)");
        }
        let objective = match cx.objective_of(graph)? {
            Ok(objective) => objective,
            Err(reason) => return cx.skip(SKIPPED, reason),
        };
        let several = objective.targets().len() > 1;
        let (mut changed, mut reasons) = (false, vec![]);
        for target in objective.targets() {
            let of = |text: String| if several { format!("output \"{}\": {text}", target.output) } else { text };
            match self.correct(graph, target, cx)? {
                Ok(note) => {
                    changed = true;
                    cx.note(of(note));
                }
                Err(reason) => reasons.push(of(reason)),
            }
        }
        if !changed {
            return cx.skip(SKIPPED, reasons.join("; "));
        }
        reasons.into_iter().for_each(|reason| cx.note(format!("{SKIPPED}: {reason}")));
        Ok(Changed::Yes)
    }
}

impl AppendCat {
    /// Fits the correction of one output and appends it. Returns the note for the user, or the reason why there is no correction.
    fn correct(
        &self,
        graph: &mut Graph,
        target: &Target,
        cx: &PassContext,
    ) -> Result<Result<String, String>, PassError> {
        if !target.is_row() {
            let shape = &graph.value_type(target.value).shape;
            return Ok(Err(format!("the output has shape {shape}, a correction takes [N,C]")));
        }
        let Some(data) = cx.cat_data else { return Ok(Err("there are no images".into())) };
        let lq = evaluate_rows(graph, target.value, data, self.name(), cx.progress)?;
        let fp = evaluate_rows(cx.require_reference()?, target.value, data, self.name(), cx.progress)?;
        let judge = match &target.measure {
            Measure::Divergence => Judge::Divergence,
            Measure::SquaredError { weights } => Judge::SquaredError { weights: weights.clone() },
        };
        let activation_bits = activation_bits(graph);
        let options = CatOptions { judge, seed: cx.seed, activation_bits, ..self.options.clone() };
        match fit(&lq, &fp, &options) {
            CatFit::Skipped(reason) => Ok(Err(reason)),
            CatFit::Model(model, report) => match Tables::new(&model) {
                None => Ok(Err(OVERFLOW.into())),
                Some(tables) => {
                    append(graph, target.value, tables)?;
                    Ok(Ok(describe(&model, &report)))
                }
            },
        }
    }
}

/// The least bits of a quantized activation; 8 if there is none.
pub fn activation_bits(graph: &Graph) -> u8 {
    let bits = graph.nodes().iter().filter_map(|n| match (&n.op, n.inputs.first()) {
        (Op::Quantize(q), Some(Operand::Value(_))) => Some(graph.quantizer(q.quantizer).format.bits()),
        _ => None,
    });
    bits.min().unwrap_or(8)
}

/// The correction alone, as a network from logits `[N,C]` to corrected logits: the nodes that [`AppendCat`] appends, in the qdq phase,
/// ready for `fold-cat` and lowering. For the outputs of the network without correction it gives, bit for bit, those of the corrected
/// network.
///
/// # Errors
/// [`PassError::Graph`] if a parameter of the model overflows f32.
pub fn correction_network(model: &CatModel) -> Result<Graph, PassError> {
    let overflow = || PassError::graph(AppendCat::ENTRY.name, "the correction", OVERFLOW);
    let mut graph = Graph::new("correction");
    graph.phase = Phase::Qdq;
    let shape = Shape::new([Dim::Batch(1), Dim::Fixed(model.mean.len())]);
    let logits = graph.add_input("logits", TensorType { element: Element::F32, shape });
    graph.add_output("corrected", logits);
    append(&mut graph, logits, Tables::new(model).ok_or_else(overflow)?)?;
    Ok(graph)
}

/// What the graph holds of a model, in f32.
struct Tables {
    mean: Tensor,
    basis: Tensor,
    centroids: Tensor,
    gamma: Tensor,
    beta: Tensor,
    alpha: f32,
}

impl Tables {
    /// `None` if an element overflows f32.
    fn new(model: &CatModel) -> Option<Tables> {
        // A column-major matrix is the row-major memory of its transpose.
        let tensor = |shape: &[usize], data: &[f64]| {
            let data: Vec<f32> = data.iter().map(|&x| x as f32).collect();
            data.iter().all(|x| x.is_finite()).then(|| Tensor::f32(shape, data))
        };
        let (classes, clusters, dims) = (model.mean.len(), model.clusters(), model.dims());
        // One cluster: the maps are rows that broadcast over the batch.
        let table = if clusters == 1 { vec![classes] } else { vec![clusters, classes] };
        Some(Tables {
            mean: tensor(&[classes], model.mean.as_slice())?,
            basis: tensor(&[classes, dims], model.basis.transpose().as_slice())?,
            centroids: tensor(&[clusters, dims], model.centroids.as_slice())?,
            gamma: tensor(&table, model.affine.gamma.as_slice())?,
            beta: tensor(&table, model.affine.beta.as_slice())?,
            alpha: model.alpha as f32,
        })
    }
}

/// Appends the nodes right after the logits; everything that took the logits takes the corrected ones.
fn append(graph: &mut Graph, logits: ValueId, tables: Tables) -> Result<(), PassError> {
    let mut rest = graph.take_nodes();
    let made = rest.iter().position(|n| n.output == logits).map_or(0, |i| i + 1);
    let later = rest.split_off(made);
    for node in rest {
        append_again(graph, node)?;
    }
    let corrected = append_correction(graph, logits, tables)?;
    for mut node in later {
        node.inputs.iter_mut().filter(|o| o.value() == Some(logits)).for_each(|o| *o = corrected.into());
        append_again(graph, node)?;
    }
    graph.outputs.iter_mut().filter(|o| o.value == logits).for_each(|o| o.value = corrected);
    Ok(())
}

/// Appends the nodes of a correction; the corrected logits.
fn append_correction(graph: &mut Graph, logits: ValueId, tables: Tables) -> Result<ValueId, PassError> {
    let single = tables.gamma.shape().len() == 1;
    let [mean, basis, centroids] =
        [tables.mean, tables.basis, tables.centroids].map(|t| (!single).then(|| graph.add_constant(t)));
    let (gamma, beta) = (graph.add_constant(tables.gamma), graph.add_constant(tables.beta));
    let mut node = |op: Op, inputs: &[Operand], name: &str| {
        graph.append(op, inputs.iter().copied(), name).map_err(PassError::infer(AppendCat::ENTRY.name, name))
    };
    let z = Operand::Value(logits);
    let (gamma, beta) = match (mean, basis, centroids) {
        (Some(mean), Some(basis), Some(centroids)) => {
            let centred = node(Op::Binary(Binary::Sub), &[z, mean.into()], "cat_centre")?;
            let projected = node(Op::MatMul(MatMul), &[centred.into(), basis.into()], "cat_project")?;
            let inputs = [projected.into(), centroids.into()];
            let distance = node(Op::SquaredDistance(SquaredDistance), &inputs, "cat_distance")?;
            let cluster = node(Op::ArgMin(ArgMin { axis: 1 }), &[distance.into()], "cat_assign")?;
            let mut row = |table: ConstId, name| {
                node(Op::Gather(Gather { axis: 0 }), &[table.into(), cluster.into()], name).map(Operand::Value)
            };
            (row(gamma, "cat_gamma")?, row(beta, "cat_beta")?)
        }
        _ => (gamma.into(), beta.into()),
    };
    let scaled = node(Op::Binary(Binary::Mul), &[z, gamma], "cat_scale")?;
    let shifted = node(Op::Binary(Binary::Add), &[scaled.into(), beta], "cat_shift")?;
    node(Op::Blend(Blend { alpha: tables.alpha }), &[z, shifted.into()], "cat_blend")
}

fn append_again(graph: &mut Graph, node: Node) -> Result<(), PassError> {
    let place = graph.label(&node);
    graph.append_node(node).map_err(PassError::infer(AppendCat::ENTRY.name, place))
}

/// What the user is told of a correction.
fn describe(model: &CatModel, report: &FitReport) -> String {
    let (least, most) = report.cluster_sizes;
    let mut text = match model.clusters() {
        1 => format!("corrected with one affine map (alpha = {}), fitted to {} images", model.alpha, report.samples),
        k => format!(
            "corrected with {k} clusters of {least} to {most} images in {} dimensions (alpha = {}), fitted to {} images",
            model.dims(),
            model.alpha,
            report.samples
        ),
    };
    if let Some(HeldOut { loss, agreement }) = report.held_out {
        text += "; on images it was not fitted to, ";
        text += &match agreement {
            Some(agreement) => format!(
                "the divergence from the float logits falls from {:.4} to {:.4} nats and the top-1 class is that of the float network for \
                 {:.1} % instead of {:.1} %",
                loss.0,
                loss.1,
                100.0 * agreement.1,
                100.0 * agreement.0
            ),
            None => format!("the squared error relative to the variance falls from {:.4} to {:.4}", loss.0, loss.1),
        };
    }
    text
}
