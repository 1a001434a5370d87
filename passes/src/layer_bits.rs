//! Bits of single layers, asked for by name: `--layer-bits NAME=W/A`, `--keep-float NAME`.
//!
//! A rule names one layer by the name of its node in the model file, or several by a regular expression that matches whole names. The
//! text is tried as a name first. If several rules name the same layer, the last one counts.

use crate::placement::Placement;
use catc_ir::{Graph, Op};
use regex_lite::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// Names longer than this are not compared when an error looks for similar ones.
const COMPARED_LETTERS: usize = 200;
/// How many similar names an error lists.
const NEAREST: usize = 3;

/// The bits of the layers that a name or an expression stands for. Its text is `NAME=W/A`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerBits {
    /// A name, or a regular expression for whole names.
    pub layers: String,
    /// Bits of weights, 2 to 8, or 32 for float.
    pub wbits: u8,
    /// Bits of the inputs, 2 to 8, or 32 for float.
    pub abits: u8,
}

impl LayerBits {
    /// The rule that leaves layers in float.
    pub fn keep_float(layers: impl Into<String>) -> Result<Self, LayerBitsError> {
        let rule = LayerBits { layers: layers.into(), wbits: 32, abits: 32 };
        rule.expression()?;
        Ok(rule)
    }

    fn expression(&self) -> Result<Regex, LayerBitsError> {
        let fail = |e: regex_lite::Error| LayerBitsError::Expression(self.layers.clone(), e.to_string());
        Regex::new(&format!("^(?:{})$", self.layers)).or_else(|e| {
            // A node's name need not be a regular expression; one that does not parse stands for itself.
            if self.layers.contains(['*', '+', '?', '[', '(', '|', '\\']) {
                Err(fail(e))
            } else {
                Regex::new(&regex_lite::escape(&self.layers)).map_err(fail)
            }
        })
    }
}

impl fmt::Display for LayerBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}/{}", self.layers, self.wbits, self.abits)
    }
}

impl FromStr for LayerBits {
    type Err = LayerBitsError;

    fn from_str(text: &str) -> Result<Self, LayerBitsError> {
        let bits = |word: &str| word.parse().ok().filter(|b| matches!(b, 2..=8 | 32));
        let parts = text.rsplit_once('=').filter(|(name, _)| !name.is_empty());
        let rule = parts.and_then(|(name, widths)| {
            let (w, a) = widths.split_once('/')?;
            Some(LayerBits { layers: name.into(), wbits: bits(w)?, abits: bits(a)? })
        });
        let rule = rule.ok_or_else(|| LayerBitsError::Form(text.into()))?;
        rule.expression().map(|_| rule)
    }
}

/// Why bits of a layer cannot be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayerBitsError {
    /// The text is no rule.
    #[error("`{0}` gives no layer its bits; write NAME=W/A with 2 to 8 bits, or 32 for float, as in conv1=8/4")]
    Form(String),
    /// The name is no regular expression.
    #[error("`{0}` is no regular expression: {1}")]
    Expression(String, String),
    /// The name stands for no layer.
    #[error("no layer is called `{name}`, and none matches it as a whole; {nearest}")]
    Unknown {
        /// What was given.
        name: String,
        /// The layers with the nearest names.
        nearest: String,
    },
}

/// The bits of weights and inputs of each layer that a rule names, by the layer's name.
pub fn resolve<'n>(
    rules: &[LayerBits],
    names: impl IntoIterator<Item = &'n str>,
) -> Result<BTreeMap<&'n str, (u8, u8)>, LayerBitsError> {
    let names: BTreeSet<&str> = names.into_iter().filter(|n| !n.is_empty()).collect();
    let mut bits = BTreeMap::new();
    for rule in rules {
        let expression = rule.expression()?;
        let found: Vec<&str> = match names.get(rule.layers.as_str()) {
            Some(exact) => vec![exact],
            None => names.iter().copied().filter(|n| expression.is_match(n)).collect(),
        };
        if found.is_empty() {
            return Err(LayerBitsError::Unknown { name: rule.layers.clone(), nearest: nearest(&rule.layers, &names) });
        }
        bits.extend(found.into_iter().map(|name| (name, (rule.wbits, rule.abits))));
    }
    Ok(bits)
}

/// The names of the layers that can have bits of their own, in any phase before the integer one.
pub fn layer_names(graph: &Graph) -> impl Iterator<Item = &str> {
    let layers = graph.nodes().iter().filter(|n| matches!(n.op, Op::Conv2d(_) | Op::Linear(_) | Op::MatMul(_)));
    layers.map(|n| n.name.as_str())
}

/// Whether every rule names a layer of an imported graph: an error before anything long begins.
pub fn check_layer_bits(rules: &[LayerBits], graph: &Graph) -> Result<(), LayerBitsError> {
    resolve(rules, layer_names(graph)).map(|_| ())
}

/// The names of the layers of a placement, products included.
pub(crate) fn placed_names<'g>(graph: &'g Graph, placement: &Placement) -> Vec<&'g str> {
    let layers = placement.layers.iter().map(|l| l.node);
    let products = placement.products.iter().map(|(node, _)| *node);
    layers.chain(products).map(|node| graph.nodes()[node].name.as_str()).collect()
}

fn nearest(name: &str, names: &BTreeSet<&str>) -> String {
    let start = |n: &str| n.chars().take(COMPARED_LETTERS).collect::<String>();
    let likeness = |n: &str| strsim::normalized_damerau_levenshtein(&start(name), &start(n));
    let mut all: Vec<(f64, &str)> = names.iter().map(|n| (likeness(n), *n)).collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    match all.as_slice() {
        [] => "no layer of this network has a name".into(),
        all => {
            let near: Vec<String> = all.iter().take(NEAREST).map(|(_, n)| format!("`{n}`")).collect();
            format!("the nearest of the {} layers: {}", all.len(), near.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["/layer1.0/conv1", "/layer1.0/conv2", "fc", "a+b=c"];

    fn bits(rules: &[&str]) -> Result<BTreeMap<&'static str, (u8, u8)>, LayerBitsError> {
        let rules = rules.iter().map(|r| r.parse()).collect::<Result<Vec<LayerBits>, _>>()?;
        resolve(&rules, NAMES)
    }

    #[test]
    fn rules_name_layers_by_name_or_expression_and_the_last_counts() {
        let found = bits(&["/layer1.*=4/4", "/layer1.0/conv2=32/8", "a+b=c=2/2"]).unwrap();
        let expected = [("/layer1.0/conv1", (4, 4)), ("/layer1.0/conv2", (32, 8)), ("a+b=c", (2, 2))];
        assert_eq!(found, BTreeMap::from(expected));
        let float = [LayerBits::keep_float("fc|f").unwrap()];
        assert_eq!(resolve(&float, NAMES).unwrap(), BTreeMap::from([("fc", (32, 32))]));
        assert_eq!("fc=32/32".parse(), LayerBits::keep_float("fc"));
    }

    #[test]
    fn a_name_that_stands_for_nothing_is_an_error_with_the_nearest() {
        let error = bits(&["/layer1.0/conv3=4/4"]).unwrap_err().to_string();
        assert!(error.starts_with("no layer is called `/layer1.0/conv3`"), "{error}");
        assert!(error.ends_with("of the 4 layers: `/layer1.0/conv1`, `/layer1.0/conv2`, `a+b=c`"), "{error}");
        // A part of a name matches nothing.
        assert!(bits(&["conv1=4/4"]).is_err());
    }

    #[test]
    fn what_is_no_rule_says_what_one_is() {
        for text in ["fc", "fc=4", "=4/4", "fc=1/4", "fc=4/16", "fc=4/4/4"] {
            assert_eq!(text.parse::<LayerBits>(), Err(LayerBitsError::Form(text.into())), "{text}");
        }
        assert!(matches!("(fc=4/4".parse::<LayerBits>(), Err(LayerBitsError::Expression(..))));
    }
}
