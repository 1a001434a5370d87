//! The loss of a unit with its gradient.

/// `weight Σ importance² (found - wanted)²` over all elements, and its gradient at `found`. Without importance it is 1.
pub(crate) fn squared_error(found: &[f32], wanted: &[f32], importance: Option<&[f32]>, weight: f32) -> (f64, Vec<f32>) {
    let mut loss = 0.0;
    let mut add = |f: &f32, w: &f32, i: f32| {
        let d = f - w;
        loss += f64::from(i * d * d);
        2.0 * weight * i * d
    };
    let pairs = found.iter().zip(wanted);
    let gradient = match importance {
        Some(importance) => pairs.zip(importance).map(|((f, w), i)| add(f, w, i * i)).collect(),
        None => pairs.map(|(f, w)| add(f, w, 1.0)).collect(),
    };
    (f64::from(weight) * loss, gradient)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(at: &[f32], f: impl Fn(&[f32]) -> (f64, Vec<f32>)) {
        let (_, gradient) = f(at);
        for i in 0..at.len() {
            let moved = |by: f32| {
                let mut x = at.to_vec();
                x[i] += by;
                f(&x).0
            };
            let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((slope - f64::from(gradient[i])).abs() < 1e-3, "{i}: {slope} {}", gradient[i]);
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let (reference, found) = ([1.0, -2.0, 0.5, 0.0], [0.2, -1.0, 1.5, 0.7]);
        check(&found, |x| squared_error(x, &reference, None, 0.3));
        check(&found, |x| squared_error(x, &reference, Some(&[1.0, 2.0, 0.0, 0.5]), 0.3));
        assert_eq!(squared_error(&[3.0], &[1.0], Some(&[2.0]), 0.5).0, 8.0);
    }
}
