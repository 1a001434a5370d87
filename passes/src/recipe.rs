//! Recipes: which passes make a quantized network of a float one, in which order, and why in that order.

use crate::layer_bits::LayerBits;
use crate::pass::Pass;
use crate::registry::{RegistryError, parse_passes, written};
use std::fmt;
use std::str::FromStr;

/// How scales are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// `cat` where weights or activations have 4 bits or fewer, else `mse`.
    #[default]
    Auto,
    /// From the least to the largest value.
    MinMax,
    /// From percentile to percentile, 99.99.
    Percentile,
    /// Least divergence between what was seen and what is left of it.
    Entropy,
    /// Least L2.4 error.
    Mse,
    /// Clipping by a formula.
    Aciq,
    /// Scales searched on the network's output.
    Lapq,
    /// As `mse`; channels are then corrected and scales refined on the network's output.
    Correct,
    /// As `mse`; the rounding of weights is learned layer by layer.
    AdaRound,
    /// As `mse`; rounding and scales of activations are learned block by block, errors weighted by what they do to the output.
    Brecq,
    /// As `mse`; rounding and scales are learned block by block with randomly dropped quantization.
    QDrop,
    /// As `qdrop`, with the divergence at the network's output in the loss.
    PdQuant,
    /// As `pdquant`, weight scales and biases learned besides; then codes, scales and biases together on the network's output.
    Cat,
}

impl Method {
    /// What `auto` is where no layer has fewer bits than these; other methods are what they are.
    pub fn at_bits(self, least: u8) -> Method {
        match self {
            Method::Auto if least <= REPAIRED_BITS => Method::Cat,
            Method::Auto => Method::Mse,
            method => method,
        }
    }

    /// Whether it learns in iterations, so that effort and number of iterations matter.
    pub fn learns(self) -> bool {
        matches!(self, Method::AdaRound | Method::Brecq | Method::QDrop | Method::PdQuant | Method::Cat)
    }
}

/// How much work a method that learns may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// A few iterations for each block.
    Fast,
    /// As many as bring most of what iterations can.
    #[default]
    Default,
    /// The schedules of the references: 20,000 iterations for each block.
    Paper,
}

/// The efforts with their names.
pub const EFFORTS: &[(&str, Effort)] =
    &[("fast", Effort::Fast), ("default", Effort::Default), ("paper", Effort::Paper)];

impl FromStr for Effort {
    type Err = RecipeError;

    fn from_str(name: &str) -> Result<Self, RecipeError> {
        EFFORTS.iter().find(|(n, _)| *n == name).map(|(_, e)| *e).ok_or_else(|| RecipeError::UnknownEffort {
            name: name.to_string(),
            known: EFFORTS.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", "),
        })
    }
}

/// At this width and below, what ranges leave of the network is worth repairing on its output.
const REPAIRED_BITS: u8 = 4;

/// Rate of codes where the whole network is learned.
const CODE_RATE: f64 = 0.008;

/// The methods with their names and what to say of them.
pub const METHODS: &[(&str, Method, &str)] = &[
    ("auto", Method::Auto, "cat at 4 bits and below, else mse"),
    ("minmax", Method::MinMax, "ranges from the least to the largest value"),
    ("percentile", Method::Percentile, "ranges up to the 99.99th percentile; weights by minmax"),
    ("entropy", Method::Entropy, "ranges of least divergence; weights by minmax"),
    ("mse", Method::Mse, "ranges of least L2.4 error, for activations and weights"),
    ("aciq", Method::Aciq, "ranges clipped as suits a Laplace or normal distribution; weights by mse"),
    ("lapq", Method::Lapq, "scales from L_p starts and Powell's search on the network's output"),
    ("correct", Method::Correct, "mse, then channels corrected and scales refined on the network's output, in seconds"),
    ("adaround", Method::AdaRound, "mse, then learned rounding, layer by layer"),
    ("brecq", Method::Brecq, "mse, then learned rounding and scales, block by block"),
    ("qdrop", Method::QDrop, "as brecq, with randomly dropped quantization"),
    ("pdquant", Method::PdQuant, "as qdrop, with the divergence at the network's output"),
    ("cat", Method::Cat, "as pdquant, then codes, scales and biases learned on the network's output"),
];

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, ..) = METHODS.iter().find(|(_, m, _)| m == self).unwrap_or(&METHODS[0]);
        f.write_str(name)
    }
}

impl FromStr for Method {
    type Err = RecipeError;

    fn from_str(name: &str) -> Result<Self, RecipeError> {
        METHODS.iter().find(|(n, ..)| *n == name).map(|(_, m, _)| *m).ok_or_else(|| RecipeError::UnknownMethod {
            name: name.to_string(),
            known: METHODS.iter().map(|(n, ..)| *n).collect::<Vec<_>>().join(", "),
        })
    }
}

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
    /// Bits of single layers, whatever the fields above say.
    pub layers: Vec<LayerBits>,
    /// Whether there are real inputs to fit the network's output on; without them no method does, and none corrects outputs.
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
pub enum RecipeError {
    /// No method has this name.
    #[error("there is no method `{name}`; there are {known}")]
    UnknownMethod {
        /// The name.
        name: String,
        /// The methods there are.
        known: String,
    },
    /// No effort has this name.
    #[error("there is no effort `{name}`; there are {known}")]
    UnknownEffort {
        /// The name.
        name: String,
        /// The efforts there are.
        known: String,
    },
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

/// The passes of a recipe, for a float graph, ending in the integer phase.
///
/// # Errors
/// If an option is replaced of a pass that the recipe does not have, or cannot have the value it is given.
pub fn recipe(options: &RecipeOptions) -> Result<Vec<Box<dyn Pass>>, RecipeError> {
    let passes = items(options);
    if let Some(o) = options.overrides.iter().find(|o| !passes.iter().any(|i| i.pass == o.pass)) {
        return Err(RecipeError::NoSuchPass {
            method: options.method,
            pass: o.pass.clone(),
            known: passes.iter().map(|i| i.pass).collect::<Vec<_>>().join(", "),
        });
    }
    Ok(parse_passes(&recipe_text(options))?)
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
        f.write_str(self.pass)?;
        let options: Vec<String> = self.options.iter().map(|(k, v)| format!("{k}={}", written(v))).collect();
        if options.is_empty() { Ok(()) } else { write!(f, "{{{}}}", options.join(", ")) }
    }
}

/// The names of the passes of a recipe, in order.
pub fn recipe_passes(options: &RecipeOptions) -> Vec<&'static str> {
    items(options).iter().map(|i| i.pass).collect()
}

/// The same as text, as [`parse_passes`] reads it: what to hand to `catc opt` to repeat a compilation step by step.
pub fn recipe_text(options: &RecipeOptions) -> String {
    let mut passes = items(options);
    for o in &options.overrides {
        passes.iter_mut().filter(|i| i.pass == o.pass).for_each(|i| i.set(&o.option, o.value.clone()));
    }
    passes.iter().map(Item::to_string).collect::<Vec<_>>().join(",")
}

fn items(options: &RecipeOptions) -> Vec<Item> {
    let RecipeOptions { wbits, abits, first_last_bits, real_inputs, cat, .. } = *options;
    let layers = &options.layers;
    let quantizes_inputs = abits != 32 || layers.iter().any(|l| l.abits != 32);
    let quantizes = quantizes_inputs || wbits != 32 || layers.iter().any(|l| l.wbits != 32);
    let least = layers.iter().map(|l| l.wbits.min(l.abits)).fold(wbits.min(abits), u8::min);
    let method = options.method.at_bits(least);
    let (ranges, weights) = match method {
        Method::MinMax => ("minmax", "minmax"),
        Method::Percentile => ("percentile", "minmax"),
        Method::Entropy => ("entropy", "minmax"),
        Method::Aciq => ("aciq", "mse"),
        _ => ("mse", "mse"),
    };
    let mut passes = vec![
        // Constants first: the other folds look for weights and scalars that are constants.
        item("fold-constants", &[]),
        // Then one form for what exporters write in many, which makes layers of products.
        item("canonicalize", &[]),
        // Inputs of whole numbers that are pooled or moved before they become reals.
        item("whole-as-real", &[]),
        // Attention puts the batch elsewhere; what is compiled works image by image. Transposes left are joined below.
        item("batch-first", &[]),
        // Before ranges are observed: it changes weights and removes tensors.
        item("fold-batch-norm", &[]),
        // Again: what stood between a layer and its batch normalization may now follow the layer directly.
        item("canonicalize", &[]),
        item("dead-code", &[]),
    ];
    // Weights and tensors as they will be quantized: a common scale is to suit every channel.
    if quantizes_inputs {
        passes.push(item("equalize-channels", &[]));
    }
    // Observes the float graph as insert-qdq will find it.
    if quantizes_inputs {
        passes.push(item("calibrate", &[("method", &ranges)]));
    }
    let bits: &[(&str, &dyn fmt::Display)] =
        &[("wbits", &wbits), ("abits", &abits), ("first_last", &first_last_bits), ("weight_method", &weights)];
    let mut insert = item("insert-qdq", bits);
    if !layers.is_empty() {
        insert.set("layers", layers.iter().map(LayerBits::to_string).collect::<Vec<_>>().join("\n"));
    }
    passes.push(insert);
    if real_inputs && quantizes {
        if method == Method::Lapq {
            // Right after the quantizers: its starts need what calibration saw.
            passes.push(item("search-scales", &[]));
        }
        // Block by block first: what is refined on the output starts near.
        passes.extend(reconstruct(method, options));
        if method == Method::Correct {
            // Before scales are searched: gain and offset of each channel have closed forms, and the search starts nearer.
            passes.push(item("correct-channels", &[]));
        }
        if matches!(method, Method::Cat | Method::Correct) {
            // On what is left, by the network's output.
            passes.push(refine_scales(method, options));
        }
        if cat {
            // After everything that moves scales: it fits the logits as they are.
            passes.push(append_cat(options));
            // What runs is one linear layer, an argmin, a multiplication and an addition.
            passes.push(item("fold-cat", &[]));
        }
    }
    // Nothing searches weights or scales after this.
    passes.push(item("lower-integer", &[]));
    // Last: it makes scales part of constants.
    passes.push(item("fold-scales", &[]));
    passes.push(item("dead-code", &[]));
    passes
}

/// The pass that learns rounding, as the method wants it.
fn reconstruct(method: Method, options: &RecipeOptions) -> Option<Item> {
    // The references divide by lambda_r = 0.1, for 20,000 steps; in a thousand, the logits are learned by heart at that weight.
    let weight = if method == Method::PdQuant && options.effort != Effort::Paper { 1 } else { 10 };
    let prediction: [(&str, &dyn fmt::Display); 3] = [("drop", &0.5), ("mix", &0.5), ("pd", &weight)];
    let mut item = match method {
        Method::AdaRound => item("reconstruct", &[("granularity", &"layer"), ("activation_rate", &0)]),
        Method::Brecq => item("reconstruct", &[("loss", &"fisher")]),
        Method::QDrop => item("reconstruct", &[("drop", &0.5), ("mix", &0.5)]),
        Method::PdQuant | Method::Cat => item("reconstruct", &prediction),
        _ => return None,
    };
    match (options.effort, method) {
        // The whole network is learned after it: blocks are to give that a start.
        (Effort::Fast, Method::Cat) => item.set("budget", "250".into()),
        (Effort::Default, Method::Cat) => item.set("budget", "1500".into()),
        (Effort::Fast, _) => item.set("budget", "2500".into()),
        (Effort::Default, _) => {}
        (Effort::Paper, _) => {
            item.set("iters", "20000".into());
            item.set("pd_images", "32".into());
            item.set("rate", "0.003".into());
            if method != Method::AdaRound {
                item.set("activation_rate", "0.00004".into());
            }
        }
    }
    if method == Method::Cat && options.effort != Effort::Paper {
        // In few steps, weight scales and biases carry what rounding has no time for.
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
        // Seconds.
        (Effort::Fast, Method::Correct) => item.set("budget", "100".into()),
        (_, Method::Correct) => item.set("budget", "400".into()),
        (Effort::Fast, _) => item.set("budget", "1400".into()),
        (Effort::Default, _) => {}
        (Effort::Paper, _) => item.set("steps", "4000".into()),
    }
    if method == Method::Cat {
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

    #[test]
    fn every_method_is_a_list_of_passes() {
        for &(name, method, _) in METHODS {
            assert_eq!(name.parse(), Ok(method));
            assert_eq!(method.to_string(), name);
            for (wbits, abits) in [(2, 2), (8, 8), (4, 32), (32, 4), (32, 32)] {
                recipe(&RecipeOptions { method, wbits, abits, ..RecipeOptions::default() }).unwrap();
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
        let text = recipe_text(&given(Method::PdQuant, "reconstruct.drop=0.25"));
        assert!(text.contains(",reconstruct{drop=0.25, mix=0.5, pd=1, iters=70},"), "{text}");
        let error = recipe(&given(Method::Mse, "reconstruct.drop=0.25")).unwrap_err().to_string();
        assert!(error.starts_with("the recipe of method `mse` has no pass `reconstruct`; it has fold-constants,"));
        let error = recipe(&given(Method::QDrop, "reconstruct.drops=1")).unwrap_err().to_string();
        assert!(error.starts_with("`reconstruct` has no option `drops`"), "{error}");
        assert!("reconstruct.drop".parse::<Override>().is_err() && "drop=1".parse::<Override>().is_err());
        let paper = RecipeOptions { effort: Effort::Paper, ..given(Method::Cat, "calibrate.method=minmax") };
        assert!(recipe_text(&paper).contains("pd=10, iters=70, pd_images=32, rate=0.003, activation_rate=0.00004}"));
    }

    #[test]
    fn what_is_not_possible_says_what_is() {
        let error = "slow".parse::<Effort>().unwrap_err().to_string();
        assert_eq!(error, "there is no effort `slow`; there are fast, default, paper");
        let error = "adaptive".parse::<Method>().unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no method `adaptive`; there are auto, minmax, percentile, entropy, mse, aciq, lapq, correct, adaround, brecq, qdrop, pdquant, cat"
        );
        let error = recipe(&RecipeOptions { wbits: 9, ..RecipeOptions::default() }).unwrap_err().to_string();
        assert_eq!(error, "`insert-qdq`: wbits=9 is not possible; it takes 2-8 or 32");
    }
}
