//! Tests of the table of unary functions: the export of a function must be imported as the same function.

use crate::{ImportOptions, export, import_bytes};
use catc_ir::ops::{Binary, Unary, UncompiledUnary};
use catc_ir::{Dim, Graph, Op, Phase, Shape, TensorType};

#[test]
fn every_function_comes_back() {
    let value = |name: &'static str, _| match name {
        "alpha" => Ok(0.3),
        "beta" => Ok(0.45),
        "min" => Ok(-1.5),
        "max" => Ok(6.5),
        "gamma" => Ok(1.05),
        other => Err(format!("give the parameter {other} a value here")),
    };
    let compiled = Unary::NAMES.iter().map(|name| Op::Unary(Unary::build(name, value).unwrap().unwrap()));
    let evaluated = UncompiledUnary::ALL.iter().map(|f| Op::UncompiledUnary(*f));
    for op in compiled.chain(evaluated) {
        let mut g = Graph::new("one");
        g.phase = Phase::Float;
        let x = g.add_input("x", TensorType::f32(Shape::new([Dim::N, Dim::Fixed(3)])));
        let y = g.append(op.clone(), [x.into()], "f").unwrap();
        g.add_output("y", y);
        let read = import_bytes(&export(&g, &[]).unwrap(), None, &ImportOptions::default()).unwrap();
        let read: Vec<Op> = read.graph.nodes().iter().map(|n| n.op.clone()).collect();
        match op {
            // Written as two nodes. `canonicalize` makes them one again.
            Op::Unary(Unary::Silu) => assert_eq!(read, [Op::Unary(Unary::Sigmoid), Op::Binary(Binary::Mul)]),
            op => assert_eq!(read, [op]),
        }
    }
}
