//! Recipes: which passes make a quantized network of a float one, in which order, and why in that order.

use crate::pass::Pass;
use crate::registry::{RegistryError, parse_passes};
use std::fmt;
use std::str::FromStr;

/// How scales are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// As `mse`; where weights or activations have 4 bits or fewer, channels are then corrected and scales refined on the
    /// network's output.
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
}

/// At this width and below, what ranges leave of the network is worth repairing on its output.
const REFINED_BITS: u8 = 4;

/// The methods with their names and what to say of them.
pub const METHODS: &[(&str, Method, &str)] = &[
    (
        "auto",
        Method::Auto,
        "mse; at 4 bits and below channels are then corrected and scales refined on the network's output",
    ),
    ("minmax", Method::MinMax, "ranges from the least to the largest value"),
    ("percentile", Method::Percentile, "ranges up to the 99.99th percentile; weights by minmax"),
    ("entropy", Method::Entropy, "ranges of least divergence; weights by minmax"),
    ("mse", Method::Mse, "ranges of least L2.4 error, for activations and weights"),
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
}

impl Default for RecipeOptions {
    fn default() -> Self {
        RecipeOptions {
            method: Method::Auto,
            wbits: 8,
            abits: 8,
            first_last_bits: 8,
            real_inputs: true,
            cat: false,
            cat_alpha: None,
            cat_clusters: None,
            cat_pca: None,
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
    /// An option of a pass cannot have the value that was asked for.
    #[error(transparent)]
    Option(#[from] RegistryError),
}

/// The passes of a recipe, for a float graph, ending in the integer phase.
pub fn recipe(options: &RecipeOptions) -> Result<Vec<Box<dyn Pass>>, RecipeError> {
    Ok(parse_passes(&recipe_text(options))?)
}

/// The same as text, as [`parse_passes`] reads it: what to hand to `catc opt` to repeat a compilation step by step.
pub fn recipe_text(options: &RecipeOptions) -> String {
    let RecipeOptions { method, wbits, abits, first_last_bits, real_inputs, cat, .. } = *options;
    let (ranges, weights) = match method {
        Method::Auto | Method::Mse => ("mse", "mse"),
        Method::MinMax => ("minmax", "minmax"),
        Method::Percentile => ("percentile", "minmax"),
        Method::Entropy => ("entropy", "minmax"),
    };
    // Constants first: the other folds look for weights and scalars that are constants.
    let mut passes = vec!["fold-constants".to_string()];
    // Then one form for what exporters write in many, which makes layers of products.
    passes.push("canonicalize".into());
    // Before ranges are observed: it changes weights and removes tensors.
    passes.push("fold-batch-norm".into());
    // Again: what stood between a layer and its batch normalization may now follow the layer directly.
    passes.push("canonicalize".into());
    passes.push("dead-code".into());
    // Weights and tensors as they will be quantized: a common scale is to suit every channel.
    if abits != 32 {
        passes.push("equalize-channels".into());
    }
    // Observes the float graph as insert-qdq will find it.
    if abits != 32 {
        passes.push(format!("calibrate{{method={ranges}}}"));
    }
    passes.push(format!(
        "insert-qdq{{wbits={wbits}, abits={abits}, first_last={first_last_bits}, weight_method={weights}}}"
    ));
    if method == Method::Auto && real_inputs && wbits.min(abits) <= REFINED_BITS {
        // Before scales are searched: gain and offset of each channel have closed forms, and the search starts nearer.
        passes.push("correct-channels".into());
        // On what is left, by the network's output.
        passes.push("refine-scales".into());
    }
    if cat && real_inputs && (wbits, abits) != (32, 32) {
        // After everything that moves scales: it fits the logits as they are.
        passes.push(append_cat(options));
        // What runs is one linear layer, an argmin, a multiplication and an addition.
        passes.push("fold-cat".into());
    }
    // Nothing searches weights or scales after this.
    passes.push("lower-integer".into());
    // Last: it makes scales part of constants.
    passes.push("fold-scales".into());
    passes.push("dead-code".into());
    passes.join(",")
}

fn append_cat(options: &RecipeOptions) -> String {
    let alpha = options.cat_alpha.map(|a| format!("alpha={a}"));
    let clusters = options.cat_clusters.map(|k| format!("clusters={k}"));
    let pca = options.cat_pca.map(|p| format!("pca={p}"));
    let given: Vec<String> = [alpha, clusters, pca].into_iter().flatten().collect();
    if given.is_empty() { "append-cat".into() } else { format!("append-cat{{{}}}", given.join(", ")) }
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
    fn the_correction_gets_its_options() {
        let given =
            |cat, cat_alpha| RecipeOptions { cat, cat_alpha, cat_clusters: Some(4), ..RecipeOptions::default() };
        assert!(recipe_text(&given(true, Some(0.4))).contains(",append-cat{alpha=0.4, clusters=4},fold-cat,lower"));
        assert!(!recipe_text(&given(false, Some(0.4))).contains("cat"));
        assert!(recipe(&given(true, Some(2.0))).unwrap_err().to_string().starts_with("`append-cat`: alpha=2 "));
    }

    #[test]
    fn what_is_not_possible_says_what_is() {
        let error = "adaptive".parse::<Method>().unwrap_err().to_string();
        assert_eq!(error, "there is no method `adaptive`; there are auto, minmax, percentile, entropy, mse");
        let error = recipe(&RecipeOptions { wbits: 9, ..RecipeOptions::default() }).unwrap_err().to_string();
        assert_eq!(error, "`insert-qdq`: wbits=9 is not possible; it takes 2-8 or 32");
    }
}
