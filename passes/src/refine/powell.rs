//! Powell's method: a minimum of a function of several numbers without derivatives (M. J. D. Powell, 1964).
//!
//! A sweep minimises along each direction in turn, at first the axes. Then the direction in which the sweep fell most is
//! given up for that of the whole displacement, along which the function is minimised too, so that directions become
//! conjugate where the function is near to quadratic. Line searches go by the parabola through three points.

/// A point and the function there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub point: Vec<f64>,
    pub value: f64,
}

/// Evaluations that a line search takes.
pub(crate) const PER_LINE: usize = 3;

/// Minimises `f` from `start`, with first steps of `step`, in this many sweeps. Never ends above where it starts; values that
/// are not finite are never taken. `done` is called after every line.
pub(crate) fn minimize<E>(
    start: Found,
    step: f64,
    sweeps: usize,
    mut f: impl FnMut(&[f64]) -> Result<f64, E>,
    mut done: impl FnMut(),
) -> Result<Found, E> {
    let n = start.point.len();
    let mut directions: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    let mut at = start;
    let mut step = step;
    for _ in 0..sweeps {
        let before = at.clone();
        let mut steepest = (0.0, 0);
        for (i, direction) in directions.iter().enumerate() {
            let next = line(&at, direction, step, &mut f)?;
            if at.value - next.value > steepest.0 {
                steepest = (at.value - next.value, i);
            }
            at = next;
            done();
        }
        let moved: Vec<f64> = at.point.iter().zip(&before.point).map(|(a, b)| a - b).collect();
        let length = moved.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length == 0.0 {
            // Nothing along any direction at this step: a finer one may.
            step *= 0.5;
            continue;
        }
        let direction: Vec<f64> = moved.iter().map(|x| x / length).collect();
        at = line(&at, &direction, step, &mut f)?;
        directions[steepest.1] = direction;
        step *= 0.5;
    }
    Ok(at)
}

/// The lowest of where it is, a step either way, and the minimum of the parabola through them (at most two steps away).
fn line<E>(at: &Found, direction: &[f64], step: f64, f: &mut impl FnMut(&[f64]) -> Result<f64, E>) -> Result<Found, E> {
    let mut best = at.clone();
    let mut probe = |t: f64| -> Result<f64, E> {
        let point: Vec<f64> = at.point.iter().zip(direction).map(|(x, d)| x + t * d).collect();
        let value = f(&point)?;
        // Written so that NaN is never taken.
        if value < best.value {
            best = Found { point, value };
        }
        Ok(value)
    };
    let (up, down) = (probe(step)?, probe(-step)?);
    let bend = up + down - 2.0 * at.value;
    let t = if bend > 0.0 {
        (0.5 * step * (down - up) / bend).clamp(-2.0 * step, 2.0 * step)
    } else if up < down {
        2.0 * step
    } else {
        -2.0 * step
    };
    if t.is_finite() {
        probe(t)?;
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilted_valley_is_followed() {
        // Its axes are not those of the coordinates: coordinate search alone creeps.
        let f = |x: &[f64]| (x[0] + x[1] - 3.0).powi(2) + 50.0 * (x[0] - x[1]).powi(2) + 1.0;
        let start = Found { point: vec![0.0, 0.0], value: f(&[0.0, 0.0]) };
        let found = minimize(start, 1.0, 6, |x| Ok::<_, ()>(f(x)), || {}).unwrap();
        assert!(found.value < 1.001, "{found:?}");
        assert!((found.point[0] - 1.5).abs() < 0.05 && (found.point[1] - 1.5).abs() < 0.05);
    }

    #[test]
    fn it_never_ends_higher_and_errors_end_it() {
        let start = Found { point: vec![1.0], value: 2.0 };
        let stays = minimize(start.clone(), 0.5, 3, |_| Ok::<_, ()>(f64::NAN), || {}).unwrap();
        assert_eq!(stays, start);
        assert_eq!(minimize(start, 0.5, 3, |_| Err("no"), || {}), Err("no"));
    }
}
