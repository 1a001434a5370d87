//! Tests that computations on shapes are folded and do not appear in the graph.

use super::*;

#[test]
fn view_of_size_0_as_torch_writes_it() {
    // `x.view(x.size(0), -1)` as the older exporter writes it: Shape, Gather, Unsqueeze, Concat.
    let m = model(11)
        .input("x", &["N", "512", "1", "1"])
        .output("y")
        .node("Shape", "x", "shape", &[])
        .node("Constant", "", "zero", &[tensor("value", i64_tensor("", &[], &[0]))])
        .node("Gather", "shape zero", "n", &[int("axis", 0)])
        .node("Unsqueeze", "n", "n1", &[ints("axes", &[0])])
        .node("Constant", "", "rest", &[tensor("value", i64_tensor("", &[1], &[-1]))])
        .node("Concat", "n1 rest", "target", &[int("axis", 0)])
        .node("Reshape", "x target", "y", &[]);
    insta::assert_snapshot!(m.text(), @r#"
    graph @test float {
    input(v0: f32[N,512,1,1] "x"):
      v1: f32[N,512] = reshape v0 {shape=[N,512]} "/y"
      output v1 "y"
    }
    "#);
}

#[test]
fn arithmetic_over_shapes() {
    // Channel shuffle and a split into halves, computed from sizes.
    let m = model(15)
        .input("x", &["N", "8", "4", "4"])
        .output("y")
        .output("z")
        .i64("two", &[2])
        .i64("zero", &[0])
        .i64("one", &[1])
        .initializer(i64_tensor("scalar", &[], &[1]))
        .node("Shape", "x", "n", &[int("end", 1)])
        .node("Shape", "x", "c", &[int("start", 1), int("end", 2)])
        .node("Shape", "x", "hw", &[int("start", -2)])
        .node("Div", "c two", "half", &[])
        .node("Concat", "n two half hw", "grouped", &[int("axis", 0)])
        .node("Reshape", "x grouped", "g", &[])
        .node("Transpose", "g", "t", &[ints("perm", &[0, 2, 1, 3, 4])])
        .node("Shape", "x", "whole", &[])
        .node("Cast", "whole", "whole32", &[int("to", 6)])
        .node("Cast", "whole32", "whole64", &[int("to", 7)])
        .node("Reshape", "t whole64", "y", &[])
        .node("Add", "half zero", "from", &[])
        .node("Mul", "from two", "to", &[])
        .node("Slice", "x from to one", "upper", &[])
        .node("Size", "upper", "count", &[])
        .node("Unsqueeze", "count zero", "count1", &[])
        .node("Squeeze", "count1", "count0", &[])
        .node("Mul", "count0 scalar", "countm", &[])
        .node("Unsqueeze", "countm zero", "flat", &[])
        .node("Reshape", "upper flat", "z", &[]);
    insta::assert_snapshot!(m.text());
}

#[test]
fn reals_over_shapes() {
    let m = model(13)
        .input("x", &["N", "2", "6"])
        .output("y")
        .i64("last", &[2])
        .f32("half", &[1], &[0.5])
        .i64("minus", &[-1])
        .node("Shape", "x", "s", &[])
        .node("Gather", "s last", "l", &[])
        .node("Cast", "l", "f", &[int("to", 1)])
        .node("Mul", "f half", "h", &[])
        .node("Cast", "h", "i", &[int("to", 7)])
        .node("Concat", "minus i", "target", &[int("axis", 0)])
        .node("Reshape", "x target", "y", &[]);
    insta::assert_snapshot!(m.text(), @r#"
    graph @test float {
    input(v0: f32[N,2,6] "x"):
      v1: f32[4N,3] = reshape v0 {shape=[4N,3]} "/y"
      output v1 "y"
    }
    "#);
}

#[test]
fn reshapes_and_flattens() {
    let reshape = |opset, target: &[i64], attributes: &[AttributeProto]| {
        let m = one_node(opset, "Reshape", "t", attributes).i64("t", target);
        let text = m.text();
        text.lines().find(|l| l.contains("reshape")).unwrap().trim().to_string()
    };
    let text = [
        reshape(8, &[0, -1], &[]),
        reshape(13, &[0, 0, 64], &[]),
        reshape(13, &[-1, 8, 8], &[]),
        reshape(14, &[-1, 64], &[int("allowzero", 1)]),
    ];
    let flatten =
        |axis| one_node(13, "Flatten", "", &[int("axis", axis)]).text().lines().nth(2).unwrap().trim().to_string();
    let text = [text.join("\n"), [1, 2, -1, 4, 0].map(flatten).join("\n")];
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn constants_of_every_kind() {
    let m = model(13)
        .input("x", &["N", "2"])
        .output("y")
        .output("k")
        .node("Constant", "", "a", &[float("value_float", 2.0)])
        .node(
            "Constant",
            "",
            "b",
            &[AttributeProto { floats: vec![1.0, 2.0], ..attribute("value_floats", AttributeType::Floats) }],
        )
        .node("Constant", "", "c", &[int("value_int", 2)])
        .node("Constant", "", "d", &[ints("value_ints", &[1, 2])])
        .node("ConstantOfShape", "d", "e", &[tensor("value", f32_tensor("", &[1], &[0.5]))])
        .node("Cast", "c", "f", &[int("to", 1)])
        .node("Mul", "x b", "m", &[])
        .node("Add", "m a", "n", &[])
        .node("Add", "n e", "o", &[])
        .node("Add", "o f", "y", &[])
        .node("Identity", "d", "k", &[]);
    insta::assert_snapshot!(m.text());
}

#[test]
fn padding_as_torch_writes_it() {
    // The amounts are in torch's order, with the last axis first. A slice with step -1 reverses them.
    let m = model(13)
        .input("x", &["N", "3", "4", "4"])
        .output("y")
        .i64("amounts", &[1, 2, 3, 4])
        .initializer(i64_tensor("four", &[1], &[4]))
        .i64("pairs", &[-1, 2])
        .i64("from", &[-1])
        .i64("to", &[i64::MIN + 1])
        .i64("axis", &[0])
        .i64("back", &[-1])
        .i64("all", &[-1])
        .node("ConstantOfShape", "four", "zeros", &[tensor("value", i64_tensor("", &[1], &[0]))])
        .node("Concat", "amounts zeros", "long", &[int("axis", 0)])
        .node("Reshape", "long pairs", "table", &[])
        .node("Slice", "table from to axis back", "reversed", &[])
        .node("Transpose", "reversed", "columns", &[])
        .node("Reshape", "columns all", "pads", &[])
        .node("Cast", "pads", "pads64", &[int("to", 7)])
        .node("Pad", "x pads64", "y", &[]);
    insta::assert_snapshot!(m.text(), @r#"
    graph @test float {
    input(v0: f32[N,3,4,4] "x"):
      v1: f32[N,3,11,7] = pad v0 {before=[0,0,3,1], after=[0,0,4,2]} "/y"
      output v1 "y"
    }
    "#);
}

#[test]
fn known_reals_are_rounded_by_casts() {
    let m = |to| {
        let m = model(13).input("x", &["N", "1"]).output("y").f32("c", &[1], &[0.1]);
        m.node("Cast", "c", "h", &[int("to", to)]).node("Mul", "x h", "y", &[]).text()
    };
    assert!(m(10).contains("const f32[1] [0.099975586]"), "{}", m(10));
    assert!(m(16).contains("const f32[1] [0.100097656]"), "{}", m(16));
    assert!(m(11).contains("const f32[1] [0.1]"), "{}", m(11));
}
