//! Finding every node that has no rule, before anything is translated.

use crate::error::{ImportErrorKind, UnsupportedNode};
use crate::node::node_name;
use crate::ops;
use crate::opset::{self, STANDARD};
use crate::proto::NodeProto;
use crate::proto::attribute_proto::AttributeType;
use std::collections::BTreeMap;

/// An error that lists every node whose operator has no rule.
pub(crate) fn check_supported(nodes: &[&NodeProto], versions: &BTreeMap<String, i64>) -> Result<(), ImportErrorKind> {
    let has_subgraph = |n: &NodeProto| {
        n.attribute.iter().any(|a| matches!(a.r#type(), AttributeType::Graph | AttributeType::Graphs) || a.g.is_some())
    };
    let reason = |n: &NodeProto| -> Option<Option<String>> {
        if has_subgraph(n) {
            return Some(Some("control flow with a graph inside".into()));
        }
        if opset::domain(n.domain()) != STANDARD {
            return Some(None);
        }
        match ops::rule(n.op_type()) {
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
