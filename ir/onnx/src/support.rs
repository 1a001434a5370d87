//! Finds all nodes without a rule before the translation starts.

use crate::control;
use crate::error::{ImportErrorKind, UnsupportedNode};
use crate::node::node_name;
use crate::ops;
use crate::opset::STANDARD;
use crate::order::inside;
use crate::proto::NodeProto;
use std::collections::BTreeMap;

/// Returns an error that lists every node whose operator has no rule.
pub(crate) fn check_supported(nodes: &[&NodeProto], versions: &BTreeMap<String, i64>) -> Result<(), ImportErrorKind> {
    let reason = |n: &NodeProto| -> Option<Option<String>> {
        if control::written_out(n) {
            // The nodes of its subgraphs are checked later, when it is known which subgraph is used.
            return None;
        }
        if inside(n).next().is_some() {
            return Some(Some("control flow with a graph inside".into()));
        }
        match ops::rule(n) {
            None => Some(None),
            Some(rule) if versions[STANDARD] < rule.since => {
                Some(Some(format!("the operator exists from opset {} on", rule.since)))
            }
            Some(_) => None,
        }
    };
    let unsupported: Vec<UnsupportedNode> = nodes
        .iter()
        .filter_map(|n| Some(UnsupportedNode { node: node_name(n, versions), reason: reason(n)? }))
        .collect();
    if unsupported.is_empty() { Ok(()) } else { Err(ImportErrorKind::Unsupported(unsupported)) }
}
