//! What holds for every function of the table.

use catc_scalar::{Binary, Unary, UnaryFunction, UncompiledUnary, Visitor};
use std::collections::BTreeSet;

/// One function of each row, with parameters whose kinks the points of these tests avoid.
fn functions() -> Vec<Unary> {
    let value = |name: &'static str, _| match name {
        "alpha" => Ok(0.25),
        "beta" => Ok(0.5),
        "min" => Ok(-1.0),
        "max" => Ok(6.0),
        "gamma" => Ok(1.05),
        other => Err(format!("give the parameter {other} a value here")),
    };
    Unary::NAMES.iter().map(|name| Unary::build(name, value).unwrap().unwrap()).collect()
}

/// The derivative, by the value.
struct Slope(f32);

impl Visitor for Slope {
    type Output = f32;

    fn visit<F: UnaryFunction>(self, f: F) -> f32 {
        f.slope(self.0, f.at(self.0))
    }
}

/// From -inf to inf, with zeros, subnormals, and numbers of all magnitudes, in ascending order.
fn sweep() -> Vec<f32> {
    let positive = (0..=0x7f80_0000u32).step_by(0x1_fff1).chain([1, 0x7f_ffff, 0x80_0000, 0x7f7f_ffff, 0x7f80_0000]);
    let mut all: Vec<f32> = positive.flat_map(|b| [f32::from_bits(b), -f32::from_bits(b)]).collect();
    all.sort_by(f32::total_cmp);
    all
}

#[test]
fn names_are_distinct_and_read_back() {
    let functions = functions();
    let mut names: BTreeSet<&str> = Unary::NAMES.iter().copied().collect();
    names.extend(UncompiledUnary::ALL.iter().map(|f| f.name()));
    names.extend(Binary::ALL.iter().map(|f| f.name()));
    assert_eq!(names.len(), Unary::NAMES.len() + UncompiledUnary::ALL.len() + Binary::ALL.len());
    for (f, name) in functions.into_iter().zip(Unary::NAMES) {
        assert_eq!(f.name(), *name);
        let params = f.params();
        let again = Unary::build(name, |key, at| {
            assert_eq!(params[at].0, key);
            Ok::<_, ()>(params[at].1)
        });
        assert_eq!(again, Ok(Some(f)));
        assert_eq!(f.check(), Ok(()));
    }
    assert_eq!(Unary::build("sin", |_, _| Ok::<_, ()>(0.0)), Ok(None));
}

#[test]
fn derivatives_agree_with_finite_differences() {
    // Within the domain of every function, and no nearer than the step to a kink or a jump.
    let points = [0.2, 0.3, 0.7, 1.2, 1.7, 2.3, 2.9, 3.3, 6.4];
    for f in functions() {
        // The straight-through estimator is no derivative.
        if f == Unary::Round {
            assert_eq!(f.visit(Slope(0.3)), 1.0);
            continue;
        }
        for x in points.into_iter().flat_map(|x| [x, -x]) {
            if x < 0.0 && f.apply(x).is_nan() {
                continue;
            }
            let (low, high) = (x - 1e-2, x + 1e-2);
            let found = (f.apply(high) - f.apply(low)) / (high - low);
            let slope = f.visit(Slope(x));
            assert!((found - slope).abs() <= 2e-3 * (1.0 + slope.abs()), "{}({x}): {slope} for {found}", f.name());
        }
    }
}

#[test]
fn bounds_hold() {
    for f in functions() {
        for largest in [0.0, 0.3, 1.0, 5.0, 1e3, 1e30] {
            let Some(bound) = f.bound(largest) else { continue };
            for x in sweep().into_iter().filter(|x| x.abs() <= largest) {
                let y = f.apply(x).abs();
                // Rounding may exceed a bound that exact arithmetic gives; the bound of NaN is false.
                assert!(y <= bound * 1.001, "{}({x}) = {y} is beyond {bound}", f.name());
            }
        }
    }
}

#[test]
fn non_decreasing_functions_never_fall() {
    let known: Vec<Unary> = functions().into_iter().filter(|f| f.is_non_decreasing()).collect();
    assert!(known.len() >= 4);
    for f in known {
        let values: Vec<f32> = sweep().into_iter().map(|x| f.apply(x)).collect();
        assert!(values.windows(2).all(|w| w[0] <= w[1]), "{}", f.name());
    }
    assert!(!Unary::LeakyRelu { alpha: -0.1 }.is_non_decreasing());
}

#[test]
fn factors_move_across_rescaled_functions() {
    for f in functions() {
        // Powers of two, whose products are exact.
        for s in [0.25, 8.0] {
            let Some(g) = f.rescaled(s) else { continue };
            for x in sweep().into_iter().filter(|x| (1e-30..1e30).contains(&x.abs())) {
                assert_eq!((s * f.apply(x)).to_bits(), g.apply(s * x).to_bits(), "{}({x})", f.name());
            }
        }
    }
    assert_eq!(Unary::Relu.rescaled(2.0), Some(Unary::Relu));
    assert_eq!(Unary::Gelu.rescaled(2.0), None);
}

#[test]
fn parameters_that_no_function_takes_are_named() {
    let problem = |f: Unary| f.check().unwrap_err();
    assert_eq!(problem(Unary::LeakyRelu { alpha: f32::INFINITY }), "slope inf is not finite");
    assert_eq!(problem(Unary::Clip { min: f32::NAN, max: 6.0 }), "clip bounds NaN and 6.0 are out of order");
    assert_eq!(problem(Unary::HardSigmoid { alpha: 0.2, beta: f32::NAN }), "slope 0.2 or offset NaN is not finite");
}
