//! Recipes: the passes that quantize a float network, their order, and the reasons for it.

use crate::layer_bits::LayerBits;
use crate::method::{Effort, Method};
use crate::pass::Pass;
use crate::registry::{self, RegistryError, build};
use crate::renamed::Renamed;
use std::fmt;
use std::str::FromStr;

/// Rate of codes where the whole network is learned.
const CODE_RATE: f64 = 0.008;

/// What a recipe depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct RecipeOptions {
    /// How scales are found.
    pub method: Method,
    /// Bits of weights, 2 to 8, or 32 for float.
    pub wbits: u8,
    /// Bits of activations, 2 to 8, or 32 for float.
    pub abits: u8,
    /// Bits of the first and the last layer, 2 to 8, or 32 for float.
    pub first_last_bits: u8,
    /// Bits of single layers; they take precedence over the fields above.
    pub layers: Vec<LayerBits>,
    /// Whether there are real inputs to fit the network's output on. Without them only ranges are calibrated: nothing is learned, searched
    /// or corrected.
    pub real_inputs: bool,
    /// Whether the outputs are corrected cluster by cluster.
    pub cat: bool,
    /// Weight of the corrected outputs, from 0 to 1; chosen if absent.
    pub cat_alpha: Option<f32>,
    /// Number of clusters; chosen if absent.
    pub cat_clusters: Option<usize>,
    /// Number of principal components; chosen if absent.
    pub cat_pca: Option<usize>,
    /// How much work methods that learn may do.
    pub effort: Effort,
    /// Iterations for each block or layer, for methods that learn; from `effort` if absent.
    pub iters: Option<usize>,
    /// Options of passes that replace the recipe's.
    pub overrides: Vec<Override>,
}

/// An option of a pass of the recipe: `reconstruct.rate=0.01`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The pass.
    pub pass: String,
    /// Its option.
    pub option: String,
    /// The value.
    pub value: String,
}

impl Override {
    /// What the option is called now, whatever it was called when it was written.
    pub fn current_option(&self) -> &str {
        self.renamed().map_or(&self.option, |r| r.name)
    }

    /// If the option is named as in an earlier version: what it is called now.
    pub fn renamed(&self) -> Option<Renamed> {
        registry::entry(&self.pass).ok()?.renamed(&self.option)
    }
}

impl FromStr for Override {
    type Err = RecipeError;

    fn from_str(text: &str) -> Result<Self, RecipeError> {
        let parts = text.split_once('=').and_then(|(name, value)| Some((name.split_once('.')?, value)));
        match parts {
            Some(((pass, option), value)) if !pass.is_empty() && !option.is_empty() && !value.is_empty() => {
                Ok(Override { pass: pass.into(), option: option.into(), value: value.into() })
            }
            _ => Err(RecipeError::NoOverride(text.into())),
        }
    }
}

impl Default for RecipeOptions {
    fn default() -> Self {
        RecipeOptions {
            method: Method::Auto,
            wbits: 8,
            abits: 8,
            first_last_bits: 8,
            layers: vec![],
            real_inputs: true,
            cat: false,
            cat_alpha: None,
            cat_clusters: None,
            cat_pca: None,
            effort: Effort::Default,
            iters: None,
            overrides: vec![],
        }
    }
}

/// Why there is no such recipe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// A text that sets no option of a pass.
    #[error("`{0}` sets no option of a pass; write PASS.OPTION=VALUE, as in reconstruct.rate=0.01")]
    NoOverride(String),
    /// An option is set of a pass that the recipe does not have.
    #[error("the recipe of method `{method}` has no pass `{pass}`; it has {known}")]
    NoSuchPass {
        /// The method.
        method: Method,
        /// The pass.
        pass: String,
        /// The passes it has.
        known: String,
    },
    /// An option of a pass cannot have the value that was asked for.
    #[error(transparent)]
    Option(#[from] RegistryError),
}

/// A recipe in its stages, which run in this order. `P` is a pass.
#[derive(Debug)]
#[non_exhaustive]
pub struct Recipe<P = Box<dyn Pass>> {
    /// Folds the float graph, and changes it so that it is easier to quantize.
    pub fold: Vec<P>,
    /// Observes the ranges of the folded graph's tensors. Empty if no activation is quantized.
    pub calibrate: Vec<P>,
    /// Inserts quantizers and fits them: the graph is in the qdq phase afterwards.
    pub quantize: Vec<P>,
    /// Fits a correction of the outputs. Empty unless one is asked for and there are real inputs.
    pub correct: Vec<P>,
    /// Brings the graph to the integer phase.
    pub lower: Vec<P>,
}

impl<P> Recipe<P> {
    /// The passes of all stages in order.
    pub fn into_passes(self) -> Vec<P> {
        [self.fold, self.calibrate, self.quantize, self.correct, self.lower].into_iter().flatten().collect()
    }

    fn passes(&self) -> impl Iterator<Item = &P> {
        [&self.fold, &self.calibrate, &self.quantize, &self.correct, &self.lower].into_iter().flatten()
    }

    fn passes_mut(&mut self) -> impl Iterator<Item = &mut P> {
        let Recipe { fold, calibrate, quantize, correct, lower } = self;
        [fold, calibrate, quantize, correct, lower].into_iter().flatten()
    }
}

/// The recipe for a float graph, stage by stage.
///
/// # Errors
/// If an option is replaced of a pass that the recipe does not have, or cannot have the value it is given.
pub fn staged_recipe(options: &RecipeOptions) -> Result<Recipe, RecipeError> {
    let Recipe { fold, calibrate, quantize, correct, lower } = overridden(options);
    let passes = || [&fold, &calibrate, &quantize, &correct, &lower].into_iter().flatten().map(|i| i.pass);
    if let Some(o) = options.overrides.iter().find(|o| !passes().any(|pass| pass == o.pass)) {
        return Err(RecipeError::NoSuchPass {
            method: options.method,
            pass: o.pass.clone(),
            known: passes().collect::<Vec<_>>().join(", "),
        });
    }
    let built = |items: Vec<Item>| -> Result<Vec<Box<dyn Pass>>, RegistryError> {
        items.into_iter().map(|i| build(i.pass, i.options)).collect()
    };
    Ok(Recipe {
        fold: built(fold)?,
        calibrate: built(calibrate)?,
        quantize: built(quantize)?,
        correct: built(correct)?,
        lower: built(lower)?,
    })
}

/// The passes of [`staged_recipe`] in order.
///
/// # Errors
/// As [`staged_recipe`].
pub fn recipe(options: &RecipeOptions) -> Result<Vec<Box<dyn Pass>>, RecipeError> {
    Ok(staged_recipe(options)?.into_passes())
}

/// The recipe with the options that are replaced, where it has the pass.
fn overridden(options: &RecipeOptions) -> Recipe<Item> {
    let mut recipe = items(options);
    for o in &options.overrides {
        let named = recipe.passes_mut().filter(|i| i.pass == o.pass);
        named.for_each(|i| i.set(o.current_option(), o.value.clone()));
    }
    recipe
}

/// The passes that bring a network that was quantized elsewhere to the integer phase: its scales stay. Constants are folded again
/// behind those of codes that became reals.
pub const QUANTIZED_RECIPE: &str = "fold-constants,canonicalize,fold-constants,whole-as-real,batch-first,canonicalize,dead-code,lower-integer,fold-scales,dead-code";

/// A pass and its options.
struct Item {
    pass: &'static str,
    options: Vec<(String, String)>,
}

/// A pass with these options.
fn item(pass: &'static str, options: &[(&str, &dyn fmt::Display)]) -> Item {
    Item { pass, options: options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect() }
}

impl Item {
    fn set(&mut self, option: &str, value: String) {
        match self.options.iter_mut().find(|(k, _)| k == option) {
            Some((_, old)) => *old = value,
            None => self.options.push((option.into(), value)),
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&registry::pass_text(self.pass, &self.options))
    }
}

/// The names of the passes of a recipe, in order.
pub fn recipe_passes(options: &RecipeOptions) -> Vec<&'static str> {
    items(options).passes().map(|i| i.pass).collect()
}

/// The same as text, as [`registry::parse_passes`] reads it: what to hand to `catc opt` to repeat a compilation step by step.
/// Options that are replaced of a pass that the recipe does not have are left out; [`staged_recipe`] refuses them.
pub fn recipe_text(options: &RecipeOptions) -> String {
    overridden(options).passes().map(Item::to_string).collect::<Vec<_>>().join(",")
}

fn items(options: &RecipeOptions) -> Recipe<Item> {
    let RecipeOptions { wbits, abits, real_inputs, cat, .. } = *options;
    let layers = &options.layers;
    let quantizes_inputs = abits != 32 || layers.iter().any(|l| l.abits != 32);
    let quantizes = quantizes_inputs || wbits != 32 || layers.iter().any(|l| l.wbits != 32);
    let least = layers.iter().map(|l| l.wbits.min(l.abits)).fold(wbits.min(abits), u8::min);
    let method = options.method.at_bits(least);
    let (ranges, weights) = range_methods(method);
    let mut fold = vec![
        // Constants first: the other folds look for weights and scalars that are constants.
        item("fold-constants", &[]),
        // Exporters write one operation in several ways; this brings them into one form, and turns products by constants into layers.
        item("canonicalize", &[]),
        // Models may pool or move inputs of whole numbers before they cast them to f32.
        item("whole-as-real", &[]),
        // Attention moves the batch to another axis, but programs run image by image. `canonicalize` below joins the transposes that remain.
        item("batch-first", &[]),
        // Before ranges are observed: it changes weights and removes tensors.
        item("fold-batch-norm", &[]),
        // Again: what stood between a layer and its batch normalization may now follow the layer directly.
        item("canonicalize", &[]),
        item("dead-code", &[]),
    ];
    let mut calibrate = vec![];
    if quantizes_inputs {
        // Before ranges are observed: the one scale of a tensor must suit every channel.
        fold.push(item("equalize-channels", &[]));
        // Observes the float graph as insert-qdq will find it.
        calibrate.push(item("calibrate", &[("method", &ranges)]));
    }
    let mut quantize = vec![insert_qdq(options, weights)];
    let mut correct = vec![];
    if real_inputs && quantizes {
        quantize.extend(fitting(method, options));
        if cat {
            // After everything that moves scales: it fits the logits as they are.
            correct.push(append_cat(options));
            // What runs is one linear layer, an argmin, a multiplication and an addition.
            correct.push(item("fold-cat", &[]));
        }
    }
    let lower = vec![
        // Nothing searches weights or scales after this.
        item("lower-integer", &[]),
        // Last: it makes scales part of constants.
        item("fold-scales", &[]),
        item("dead-code", &[]),
    ];
    Recipe { fold, calibrate, quantize, correct, lower }
}

/// How the ranges of activations and of weights are found.
fn range_methods(method: Method) -> (&'static str, &'static str) {
    match method {
        Method::MinMax => ("minmax", "minmax"),
        Method::Percentile => ("percentile", "minmax"),
        Method::Entropy => ("entropy", "minmax"),
        Method::Aciq => ("aciq", "mse"),
        Method::Auto
        | Method::Mse
        | Method::Lapq
        | Method::ChannelCorrection
        | Method::AdaRound
        | Method::Brecq
        | Method::QDrop
        | Method::PdQuant
        | Method::EndToEnd => ("mse", "mse"),
    }
}

/// The pass that inserts quantizers; `weights` is how the ranges of weights are found.
fn insert_qdq(options: &RecipeOptions, weights: &str) -> Item {
    let RecipeOptions { wbits, abits, first_last_bits, layers, .. } = options;
    let bits: &[(&str, &dyn fmt::Display)] =
        &[("wbits", wbits), ("abits", abits), ("first_last", first_last_bits), ("weight_method", &weights)];
    let mut insert = item("insert-qdq", bits);
    if !layers.is_empty() {
        insert.set("layers", layers.iter().map(LayerBits::to_string).collect::<Vec<_>>().join("\n"));
    }
    insert
}

/// The passes that fit quantizers to real inputs.
fn fitting(method: Method, options: &RecipeOptions) -> Vec<Item> {
    let mut passes = vec![];
    if method == Method::Lapq {
        // Right after the quantizers: its starting points need the observed ranges.
        passes.push(item("search-scales", &[]));
    }
    // Block by block first: the refinement on the output then starts near its optimum.
    passes.extend(reconstruct(method, options));
    if method == Method::ChannelCorrection {
        // Before scales are searched: gain and offset of each channel have closed forms, and the search starts nearer.
        passes.push(item("correct-channels", &[]));
    }
    if matches!(method, Method::EndToEnd | Method::ChannelCorrection) {
        // On the error that is left, measured on the network's output.
        passes.push(refine_scales(method, options));
    }
    passes
}

/// The pass that learns rounding, as the method wants it.
fn reconstruct(method: Method, options: &RecipeOptions) -> Option<Item> {
    // The reference divides by lambda_r = 0.1, a weight of 10, for 20,000 steps. In 1,000 steps that weight overfits the logits.
    let weight = if method == Method::PdQuant && options.effort != Effort::Paper { 1 } else { 10 };
    let prediction: [(&str, &dyn fmt::Display); 3] =
        [("quant_drop_prob", &0.5), ("input_mix_prob", &0.5), ("prediction_weight", &weight)];
    let mut item = match method {
        Method::AdaRound => item("reconstruct", &[("granularity", &"layer"), ("activation_rate", &0)]),
        Method::Brecq => item("reconstruct", &[("loss", &"fisher")]),
        Method::QDrop => item("reconstruct", &[("quant_drop_prob", &0.5), ("input_mix_prob", &0.5)]),
        Method::PdQuant | Method::EndToEnd => item("reconstruct", &prediction),
        _ => return None,
    };
    match (options.effort, method) {
        // The whole network is learned afterwards; the blocks only give that a good start.
        (Effort::Fast, Method::EndToEnd) => item.set("budget", "250".into()),
        (Effort::Default, Method::EndToEnd) => item.set("budget", "1500".into()),
        (Effort::Fast, _) => item.set("budget", "2500".into()),
        (Effort::Default, _) => {}
        (Effort::Paper, _) => {
            item.set("iters", "20000".into());
            item.set("prediction_images", "32".into());
            item.set("rate", "0.003".into());
            if method != Method::AdaRound {
                item.set("activation_rate", "0.00004".into());
            }
        }
    }
    if method == Method::EndToEnd && options.effort != Effort::Paper {
        // Few steps are not enough for the rounding alone; weight scales and biases make up for it.
        item.set("scale_rate", "auto".into());
        item.set("bias_rate", "auto".into());
    }
    if let Some(n) = options.iters {
        item.set("iters", n.to_string());
    }
    Some(item)
}

/// The pass that learns the whole network on its output.
fn refine_scales(method: Method, options: &RecipeOptions) -> Item {
    let mut item = item("refine-scales", &[]);
    match (options.effort, method) {
        // So that it takes seconds.
        (Effort::Fast, Method::ChannelCorrection) => item.set("budget", "100".into()),
        (_, Method::ChannelCorrection) => item.set("budget", "400".into()),
        (Effort::Fast, _) => item.set("budget", "1400".into()),
        (Effort::Default, _) => {}
        (Effort::Paper, _) => item.set("steps", "4000".into()),
    }
    if method == Method::EndToEnd {
        item.set("code_rate", CODE_RATE.to_string());
    }
    item
}

fn append_cat(options: &RecipeOptions) -> Item {
    let mut item = item("append-cat", &[]);
    let given = [
        ("alpha", options.cat_alpha.map(|a| a.to_string())),
        ("clusters", options.cat_clusters.map(|k| k.to_string())),
        ("pca", options.cat_pca.map(|p| p.to_string())),
    ];
    given.into_iter().filter_map(|(k, v)| Some((k, v?))).for_each(|(k, v)| item.set(k, v));
    item
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::{METHODS, MethodEntry};
    use crate::registry::parse_passes;
    use catc_ir::Phase;

    #[test]
    fn every_method_is_a_list_of_passes() {
        for &MethodEntry { method, .. } in METHODS {
            for (wbits, abits) in [(2, 2), (8, 8), (4, 32), (32, 4), (32, 32)] {
                recipe(&RecipeOptions { method, wbits, abits, ..RecipeOptions::default() }).unwrap();
            }
        }
    }

    #[test]
    fn stages_follow_the_phases_and_make_up_the_recipe() {
        for &MethodEntry { method, .. } in METHODS {
            for (wbits, abits, cat) in [(2, 2, true), (8, 8, false), (4, 32, true), (32, 32, true)] {
                let options = RecipeOptions { method, wbits, abits, cat, ..RecipeOptions::default() };
                let staged = staged_recipe(&options).unwrap();
                let takes = |passes: &[Box<dyn Pass>], phase| passes.iter().all(|p| p.phases().contains(&phase));
                assert!(takes(&staged.fold, Phase::Float) && takes(&staged.calibrate, Phase::Float), "{method}");
                assert_eq!(staged.quantize[0].produces(), Some(Phase::Qdq));
                assert!(takes(&staged.quantize[1..], Phase::Qdq) && takes(&staged.correct, Phase::Qdq), "{method}");
                assert_eq!(staged.lower[0].produces(), Some(Phase::Integer));
                assert_eq!(staged.calibrate.is_empty(), abits == 32);
                assert_eq!(staged.correct.is_empty(), !cat || wbits.min(abits) == 32);
                let names: Vec<&str> = staged.into_passes().iter().map(|p| p.name()).collect();
                assert_eq!(names, recipe_passes(&options));
                let parsed = parse_passes(&recipe_text(&options)).unwrap();
                assert_eq!(format!("{parsed:?}"), format!("{:?}", recipe(&options).unwrap()));
            }
        }
    }

    #[test]
    fn networks_that_are_quantized_have_passes_too() {
        assert!(parse_passes(QUANTIZED_RECIPE).unwrap().iter().all(|p| p.phases() != [catc_ir::Phase::Float]));
    }

    #[test]
    fn single_layers_have_bits_of_their_own() {
        let layers = vec!["/a, b/Conv=4/32".parse().unwrap(), LayerBits::keep_float("fc").unwrap()];
        let options = RecipeOptions { wbits: 32, abits: 32, layers, ..RecipeOptions::default() };
        let text = recipe_text(&options);
        assert!(text.contains(r#", layers="/a, b/Conv=4/32\nfc=32/32"}"#), "{text}");
        assert!(!text.contains("calibrate") && text.contains(",refine-scales{"), "{text}");
        recipe(&options).unwrap();
    }

    #[test]
    fn the_correction_gets_its_options() {
        let given =
            |cat, cat_alpha| RecipeOptions { cat, cat_alpha, cat_clusters: Some(4), ..RecipeOptions::default() };
        assert!(recipe_text(&given(true, Some(0.4))).contains(",append-cat{alpha=0.4, clusters=4},fold-cat,lower"));
        assert!(!recipe_text(&given(false, Some(0.4))).contains("cat"));
        assert!(recipe(&given(true, Some(2.0))).unwrap_err().to_string().starts_with("`append-cat`: alpha=2 "));
    }

    #[test]
    fn options_of_passes_can_be_replaced_where_there_is_the_pass() {
        let given = |method, text: &str| RecipeOptions {
            method,
            iters: Some(70),
            overrides: vec![text.parse().unwrap()],
            ..RecipeOptions::default()
        };
        let text = recipe_text(&given(Method::PdQuant, "reconstruct.quant_drop_prob=0.25"));
        let options = "quant_drop_prob=0.25, input_mix_prob=0.5, prediction_weight=1, iters=70";
        assert!(text.contains(&format!(",reconstruct{{{options}}},")), "{text}");
        let error = recipe(&given(Method::Mse, "reconstruct.batch=8")).unwrap_err().to_string();
        let start = "the recipe of method `mse` has no pass `reconstruct`; it has fold-constants,";
        assert!(error.starts_with(start), "{error}");
        let error = recipe(&given(Method::QDrop, "reconstruct.drops=1")).unwrap_err().to_string();
        assert!(error.starts_with("`reconstruct` has no option `drops`"), "{error}");
        assert!("reconstruct.batch".parse::<Override>().is_err() && "batch=1".parse::<Override>().is_err());
        let paper = RecipeOptions { effort: Effort::Paper, ..given(Method::EndToEnd, "calibrate.method=minmax") };
        let text = recipe_text(&paper);
        let end = "prediction_weight=10, iters=70, prediction_images=32, rate=0.003, activation_rate=0.00004}";
        assert!(text.contains(end), "{text}");
    }

    #[test]
    fn options_can_be_replaced_by_their_former_names() {
        let given = |text: &str| RecipeOptions {
            method: Method::PdQuant,
            overrides: vec![text.parse().unwrap()],
            ..RecipeOptions::default()
        };
        for (former, current) in [
            ("drop=0.25", "quant_drop_prob=0.25"),
            ("mix=0.25", "input_mix_prob=0.25"),
            ("pd=3", "prediction_weight=3"),
            ("pd_images=8", "prediction_images=8"),
            ("pd_temperature=2", "prediction_temperature=2"),
        ] {
            let (former, current) = (given(&format!("reconstruct.{former}")), given(&format!("reconstruct.{current}")));
            assert_eq!(recipe_text(&former), recipe_text(&current));
            assert_eq!(format!("{:?}", recipe(&former).unwrap()), format!("{:?}", recipe(&current).unwrap()));
            assert!(former.overrides[0].renamed().is_some() && current.overrides[0].renamed().is_none());
        }
    }

    #[test]
    fn what_is_not_possible_says_what_is() {
        let error = recipe(&RecipeOptions { wbits: 9, ..RecipeOptions::default() }).unwrap_err().to_string();
        assert_eq!(error, "`insert-qdq`: wbits=9 is not possible; it takes 2-8 or 32");
    }
}
