//! Tests of the expansion of control flow.

use super::{ModelBuilder, info, int, ints, model, raw_tensor, tensor};
use crate::message::attribute;
use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_proto::DataType;
use crate::proto::{AttributeProto, GraphProto};

/// A graph as an attribute.
fn inner(name: &str, graph: ModelBuilder) -> AttributeProto {
    let graph: GraphProto = graph.model.graph.unwrap_or_default();
    AttributeProto { g: Some(Box::new(graph)), ..attribute(name, AttributeType::Graph) }
}

/// The boolean true as the value of a constant.
fn yes() -> AttributeProto {
    tensor("value", raw_tensor("", DataType::Bool, &[], vec![1]))
}

/// The then branch is a Relu of a captured value. The else branch is an unknown operator.
fn branches() -> [AttributeProto; 2] {
    let then = model(13).output("t").node("Relu", "h", "t", &[]);
    let other = model(13).output("e").node("Fourier", "h", "e", &[]);
    [inner("then_branch", then), inner("else_branch", other)]
}

/// A condition on the number of channels, as TorchScript writes it for a squeeze.
fn conditional(channels: i64) -> ModelBuilder {
    model(13)
        .input("x", &["N", "3"])
        .output("y")
        .i64("one", &[1])
        .i64("count", &[channels])
        .node("Sigmoid", "x", "h", &[])
        .node("Shape", "h", "shape", &[])
        .node("Gather", "shape one", "size", &[int("axis", 0)])
        .node("Equal", "size count", "same", &[])
        .node("If", "same", "c", &branches())
        .node("Neg", "c", "y", &[])
}

#[test]
fn the_branch_that_is_taken_stands_in_place_of_if() {
    let text = conditional(3).text();
    insta::assert_snapshot!(text);
    // Only the branch that is taken must have known operators.
    let error = conditional(4).error();
    assert!(error.contains("operator that catc does not know: \"/e\" (Fourier"), "{error}");
}

#[test]
fn conditions_on_data_are_refused() {
    let m = model(13).input("h", &["N", "3"]).output("y").typed_input("b", DataType::Bool, &["1"]);
    let error = m.node("If", "b", "y", &branches()).error();
    assert!(error.contains("(If, ai.onnx opset 13): input 0 (the condition) is computed from the data"), "{error}");
}

/// A loop that computes `sum = sum + sum` `rounds` times and outputs the sums of all iterations.
fn doubling(rounds: i64, condition_of: &str) -> ModelBuilder {
    let mut body = model(13);
    for (name, ty) in [("i", DataType::Int64), ("go", DataType::Bool), ("sum", DataType::Float)] {
        body.graph().input.push(info(name, ty, &[]));
    }
    let body = body.output("go_on").output("next").output("scan");
    let body = body
        .i64("limit", &[2])
        .node("Less", "i limit", "below", &[])
        .node("Identity", condition_of, "go_on", &[])
        .node("Add", "sum sum", "next", &[])
        .node("Identity", "next", "scan", &[]);
    model(13)
        .input("x", &["N", "3"])
        .output("y")
        .output("all")
        .i64("rounds", &[rounds])
        .node("Constant", "", "yes", &[yes()])
        .node("Loop", "rounds yes x", "y scans", &[inner("body", body)])
        .node("Transpose", "scans", "all", &[ints("perm", &[1, 0, 2])])
}

#[test]
fn a_loop_is_as_many_bodies_as_it_has_rounds() {
    insta::assert_snapshot!(doubling(2, "go").text());
    // The condition of the third iteration is false.
    let adds = |m: ModelBuilder| m.text().matches("= add").count();
    assert_eq!([adds(doubling(5, "go")), adds(doubling(5, "below"))], [5, 3]);
}

#[test]
fn loops_are_refused_where_they_are_too_long_or_never_run() {
    let error = doubling(1 << 40, "go").error();
    assert!(error.contains("comes to more than 65536 nodes"), "{error}");
    let error = doubling(0, "go").error();
    assert!(error.contains("runs no round"), "{error}");
}

#[test]
fn names_inside_are_not_those_around() {
    let then = model(13).output("h").node("Relu", "x", "h", &[]);
    let m = model(13).input("x", &["N", "3"]).output("y").output("z").node("Sigmoid", "x", "h", &[]);
    let m = m.node("Constant", "", "yes", &[yes()]);
    let m = m.node("If", "yes", "y", &[inner("then_branch", then)]).node("Relu", "h", "z", &[]);
    let error = m.error();
    assert!(error.contains("defines `h`, which is defined around it"), "{error}");
}
