//! Tests of models with their own functions.

use super::{float, int, model};
use crate::message::attribute;
use crate::proto::attribute_proto::AttributeType;
use crate::proto::{AttributeProto, FunctionProto, NodeProto, OperatorSetIdProto};

fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<AttributeProto>) -> NodeProto {
    let names = |list: &[&str]| list.iter().map(|n| n.to_string()).collect();
    NodeProto {
        op_type: Some(op.into()),
        input: names(inputs),
        output: names(outputs),
        attribute: attributes,
        ..Default::default()
    }
}

/// `y = leaky_relu(x + x)`. The slope is an attribute with the default 0.25.
fn twice(nodes: Vec<NodeProto>) -> FunctionProto {
    FunctionProto {
        name: Some("Twice".into()),
        domain: Some("own".into()),
        input: vec!["a".into()],
        output: vec!["b".into()],
        attribute_proto: vec![float("slope", 0.25)],
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(13) }],
        node: nodes,
        ..Default::default()
    }
}

fn body() -> Vec<NodeProto> {
    let slope = AttributeProto { ref_attr_name: Some("slope".into()), ..attribute("alpha", AttributeType::Float) };
    vec![node("Add", &["a", "a"], &["sum"], vec![]), node("LeakyRelu", &["sum"], &["b"], vec![slope])]
}

#[test]
fn calls_are_replaced_by_what_functions_are_made_of() {
    let mut m = model(13).input("x", &["N", "2"]).output("y");
    for (from, to, attributes) in [("x", "t", vec![]), ("t", "y", vec![float("slope", 0.5)])] {
        let call = NodeProto { domain: Some("own".into()), ..node("Twice", &[from], &[to], attributes) };
        m.graph().node.push(call);
    }
    m.model.functions.push(twice(body()));
    insta::assert_snapshot!(m.text());
}

#[test]
fn calls_that_make_no_sense_are_refused() {
    let with = |function: FunctionProto| {
        let mut m = model(13).input("x", &["N", "2"]).output("y");
        let call = NodeProto { domain: Some("own".into()), ..node("Twice", &["x"], &["y"], vec![int("k", 1)]) };
        m.graph().node.push(call);
        m.model.functions.push(function);
        m.error()
    };
    let own = NodeProto { domain: Some("own".into()), ..node("Twice", &["a"], &["b"], vec![]) };
    let newer = vec![OperatorSetIdProto { domain: None, version: Some(14) }];
    let holds = AttributeProto { g: Some(Box::default()), ..attribute("then_branch", AttributeType::Graph) };
    let branching = node("If", &["a"], &["b"], vec![holds]);
    let errors = [
        with(twice(vec![branching])),
        with(twice(vec![own])),
        with(FunctionProto { opset_import: newer, ..twice(body()) }),
        with(FunctionProto { output: vec![], ..twice(body()) }),
    ];
    insta::assert_snapshot!(errors.join("\n"));
}
