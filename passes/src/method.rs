//! Methods: how scales and rounding are found; and how much work those that learn may do.

use crate::renamed::Renamed;
use std::fmt;
use std::str::FromStr;

/// How scales and rounding are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Method {
    /// `end-to-end` where weights or activations have 4 bits or fewer, else `mse`.
    #[default]
    Auto,
    /// Ranges from the least to the largest value.
    MinMax,
    /// Ranges up to the 99.99th percentile.
    Percentile,
    /// Ranges with the least divergence between the distribution of the values and that of the quantized values.
    Entropy,
    /// Ranges with the least L2.4 error.
    Mse,
    /// Ranges clipped analytically.
    Aciq,
    /// Scales searched on the network's output.
    Lapq,
    /// As `mse`; channels are then corrected and scales refined on the network's output, without gradients.
    ChannelCorrection,
    /// As `mse`; the rounding of weights is learned layer by layer.
    AdaRound,
    /// As `mse`; rounding and scales of activations are learned block by block, errors weighted by what they do to the output.
    Brecq,
    /// As `mse`; rounding and scales are learned block by block with randomly dropped quantization.
    QDrop,
    /// As `qdrop`, with the divergence at the network's output in the loss.
    PdQuant,
    /// As `pdquant`, with weight scales and biases learned too; then the codes, scales and biases of the whole network are learned
    /// together on its output.
    EndToEnd,
}

/// A method with its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MethodEntry {
    /// The method.
    pub method: Method,
    /// Its name.
    pub name: &'static str,
    /// Its name in earlier versions, which is still read.
    pub former: Option<&'static str>,
    /// What it does, in one line.
    pub summary: &'static str,
}

const fn method(method: Method, name: &'static str, summary: &'static str) -> MethodEntry {
    MethodEntry { method, name, former: None, summary }
}

const fn renamed(entry: MethodEntry, former: &'static str) -> MethodEntry {
    MethodEntry { former: Some(former), ..entry }
}

/// All methods, those that need no gradients first.
pub const METHODS: &[MethodEntry] = &[
    method(Method::Auto, "auto", "end-to-end at 4 bits and below, else mse"),
    method(Method::MinMax, "minmax", "ranges from the least to the largest value"),
    method(Method::Percentile, "percentile", "ranges up to the 99.99th percentile; weights by minmax"),
    method(Method::Entropy, "entropy", "ranges of least divergence; weights by minmax"),
    method(Method::Mse, "mse", "ranges of least L2.4 error, for activations and weights"),
    method(Method::Aciq, "aciq", "ranges clipped as suits a Laplace or normal distribution; weights by mse"),
    method(Method::Lapq, "lapq", "scales from L_p starts and Powell's search on the network's output"),
    renamed(
        method(
            Method::ChannelCorrection,
            "channel-correction",
            "mse, then channels corrected and scales refined on the network's output, in seconds",
        ),
        "correct",
    ),
    method(Method::AdaRound, "adaround", "mse, then learned rounding, layer by layer"),
    method(Method::Brecq, "brecq", "mse, then learned rounding and scales, block by block"),
    method(Method::QDrop, "qdrop", "as brecq, with randomly dropped quantization"),
    method(Method::PdQuant, "pdquant", "as qdrop, with the divergence at the network's output"),
    renamed(
        method(
            Method::EndToEnd,
            "end-to-end",
            "as pdquant, then codes, scales and biases of the whole network learned on its output",
        ),
        "cat",
    ),
];

/// At this width and below, the network's output shows an error that ranges alone cannot remove.
const LEARNED_BITS: u8 = 4;

impl Method {
    /// What `auto` is where no layer has fewer bits than these; other methods are what they are.
    pub fn at_bits(self, least: u8) -> Method {
        match self {
            Method::Auto if least <= LEARNED_BITS => Method::EndToEnd,
            Method::Auto => Method::Mse,
            method => method,
        }
    }

    /// Whether it learns in iterations, so that effort and number of iterations matter.
    pub fn learns(self) -> bool {
        matches!(self, Method::AdaRound | Method::Brecq | Method::QDrop | Method::PdQuant | Method::EndToEnd)
    }

    /// If `name` is what a method was called in an earlier version: what it is called now.
    pub fn renamed(name: &str) -> Option<Renamed> {
        let entry = METHODS.iter().find(|e| e.former == Some(name))?;
        Some(Renamed { what: "method".into(), former: entry.former?, name: entry.name })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = METHODS.iter().find(|e| e.method == *self).unwrap_or(&METHODS[0]);
        f.write_str(entry.name)
    }
}

impl FromStr for Method {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let entry = METHODS.iter().find(|e| e.name == name || e.former == Some(name));
        entry.map(|e| e.method).ok_or_else(|| UnknownName::new("method", name, METHODS.iter().map(|e| e.name)))
    }
}

/// How much work a method that learns may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
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
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let found = EFFORTS.iter().find(|(n, _)| *n == name).map(|(_, e)| *e);
        found.ok_or_else(|| UnknownName::new("effort", name, EFFORTS.iter().map(|(n, _)| *n)))
    }
}

/// A name that no method or effort has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} `{name}`; there are {known}")]
pub struct UnknownName {
    /// "method" or "effort".
    pub what: &'static str,
    /// The name.
    pub name: String,
    /// The names there are.
    pub known: String,
}

impl UnknownName {
    fn new(what: &'static str, name: &str, known: impl Iterator<Item = &'static str>) -> Self {
        UnknownName { what, name: name.into(), known: known.collect::<Vec<_>>().join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_a_name_of_its_own() {
        for entry in METHODS {
            assert_eq!(entry.name.parse(), Ok(entry.method));
            assert_eq!(entry.method.to_string(), entry.name);
            assert_eq!(METHODS.iter().filter(|e| e.name == entry.name || e.former == Some(entry.name)).count(), 1);
        }
    }

    #[test]
    fn former_names_are_read_and_known_as_such() {
        for (former, method, name) in
            [("cat", Method::EndToEnd, "end-to-end"), ("correct", Method::ChannelCorrection, "channel-correction")]
        {
            assert_eq!(former.parse(), Ok(method));
            let renamed = Method::renamed(former).unwrap();
            assert_eq!(renamed.to_string(), format!("method `{former}` is now called `{name}`"));
            assert_eq!(Method::renamed(name), None);
        }
    }

    #[test]
    fn unknown_names_list_the_known() {
        let error = "slow".parse::<Effort>().unwrap_err().to_string();
        assert_eq!(error, "there is no effort `slow`; there are fast, default, paper");
        let error = "adaptive".parse::<Method>().unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no method `adaptive`; there are auto, minmax, percentile, entropy, mse, aciq, lapq, channel-correction, \
             adaround, brecq, qdrop, pdquant, end-to-end"
        );
    }
}
