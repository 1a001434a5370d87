//! Einsum (12). Operands are multiplied one after another. Letters that occur in only one operand are summed first, and a matrix
//! product sums over shared letters.

use super::build::{Built, combine, matmul, permute, reshape};
use crate::error::NodeProblem;
use crate::node::{NodeContext, RuleResult};
use crate::value::Value;
use catc_ir::ops::{Binary, Reduce, Reduction};
use catc_ir::{Dim, Op, Shape};

/// A letter of the equation, or a position in its ellipsis counted from the end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Letter {
    Named(char),
    Rest(usize),
}

/// The letters of an operand. An ellipsis covers the axes of `rank` that have no letters.
fn letters(term: &str, rank: usize) -> Option<Vec<Letter>> {
    let (before, after) = match term.split_once("...") {
        None => (term, None),
        Some((b, a)) => (b, Some(a)),
    };
    let named = |s: &str| s.chars().map(Letter::Named).collect::<Vec<_>>();
    if !term.replace("...", "").chars().all(|c| c.is_ascii_alphabetic()) {
        return None;
    }
    let mut found = named(before);
    if let Some(after) = after {
        let count = rank.checked_sub(before.len() + after.len())?;
        found.extend((0..count).rev().map(Letter::Rest));
        found.extend(named(after));
    }
    (found.len() == rank).then_some(found)
}

/// An operand and the letters of its axes.
#[derive(Clone)]
struct Term {
    value: Value,
    letters: Vec<Letter>,
}

pub(super) fn einsum(cx: &mut NodeContext) -> RuleResult {
    let equation: String = cx.word("equation")?.unwrap_or_default().chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match equation.split_once("->") {
        Some((l, r)) => (l.to_string(), Some(r.to_string())),
        None => (equation.clone(), None),
    };
    let parts: Vec<&str> = left.split(',').collect();
    cx.arity(parts.len(), parts.len())?;
    let bad = || NodeProblem::attribute("equation", format!("{equation:?} does not fit the operands"));
    let mut terms = vec![];
    for (i, part) in parts.iter().enumerate() {
        let value = cx.input(i)?;
        let letters = letters(part, cx.shape(&value).rank()).ok_or_else(bad)?;
        terms.push(Term { value, letters });
    }
    let all: Vec<Letter> = terms.iter().flat_map(|t| t.letters.iter().copied()).collect();
    let mut rest: Vec<Letter> = all.iter().copied().filter(|l| matches!(l, Letter::Rest(_))).collect();
    rest.sort_unstable_by(|a, b| b.cmp(a));
    rest.dedup();
    let output = match right {
        Some(text) => {
            let count = rest.len() + text.replace("...", "").len();
            let count = if text.contains("...") { count } else { text.len() };
            letters(&text, count).ok_or_else(bad)?
        }
        None => {
            // The implicit output has the letters that occur once, in alphabetical order.
            let mut once: Vec<Letter> =
                all.iter().copied().filter(|l| all.iter().filter(|m| *m == l).count() == 1).collect();
            once.retain(|l| matches!(l, Letter::Named(_)));
            once.sort_unstable();
            [rest, once].concat()
        }
    };
    let mut terms = terms.into_iter();
    let mut sum = diagonal(cx, terms.next().ok_or_else(bad)?)?;
    let others: Vec<Term> = terms.collect();
    for (i, term) in others.iter().enumerate() {
        let term = diagonal(cx, term.clone())?;
        // Letters that are needed later are kept.
        let later = |l: &Letter| output.contains(l) || others[i + 1..].iter().any(|t| t.letters.contains(l));
        sum = product(cx, sum, term, later)?;
    }
    let value = arranged(cx, sum, &output)?;
    super::layout::same(cx, value)
}

/// Takes the diagonal of an operand for letters that occur twice in it.
fn diagonal(cx: &mut NodeContext, mut term: Term) -> Result<Term, NodeProblem> {
    while let Some((i, j)) = (0..term.letters.len())
        .find_map(|i| (i + 1..term.letters.len()).find(|&j| term.letters[j] == term.letters[i]).map(|j| (i, j)))
    {
        let shape = cx.shape(&term.value);
        let (Dim::Fixed(n), Dim::Fixed(m)) = (shape.dims()[i], shape.dims()[j]) else {
            return Err(NodeProblem::unsupported("it takes a diagonal over the batch"));
        };
        if n != m {
            return Err(NodeProblem::invalid(format!("takes a diagonal of {n} by {m}")));
        }
        // The two axes are moved to the end and merged. The diagonal is every (n+1)-th element.
        let mut perm: Vec<usize> = (0..shape.rank()).filter(|&a| a != i && a != j).collect();
        let lead: Vec<Dim> = perm.iter().map(|&a| shape.dims()[a]).collect();
        let letters: Vec<Letter> = perm.iter().map(|&a| term.letters[a]).chain([term.letters[i]]).collect();
        perm.extend([i, j]);
        let y = permute(cx, &term.value, perm)?;
        let flat = Shape::new(lead.iter().copied().chain([Dim::Fixed(n * n)]));
        let y = reshape(cx, &y, flat)?;
        let value = super::build::slice(cx, &y, lead.len(), 0, n * n, n + 1)?;
        term = Term { value, letters };
    }
    Ok(term)
}

/// Sums over the axes whose letters are not kept.
fn summed(cx: &mut NodeContext, term: Term, keep: impl Fn(&Letter) -> bool) -> Result<Term, NodeProblem> {
    let axes: Vec<usize> = (0..term.letters.len()).filter(|&i| !keep(&term.letters[i])).collect();
    if axes.is_empty() {
        return Ok(term);
    }
    let value = cx.emit_on(Op::Reduce(Reduce { kind: Reduction::Sum, axes, keep_dims: false }), &term.value)?;
    Ok(Term { value, letters: term.letters.into_iter().filter(|l| keep(l)).collect() })
}

/// Permutes the axes to the order of the letters. Missing axes get size 1.
fn arranged(cx: &mut NodeContext, term: Term, order: &[Letter]) -> Built {
    let term = summed(cx, term, |l| order.contains(l))?;
    let perm: Vec<usize> = order.iter().filter_map(|l| term.letters.iter().position(|m| m == l)).collect();
    let y = permute(cx, &term.value, perm)?;
    let shape = cx.shape(&y);
    let mut own = shape.dims().iter();
    let dims = order.iter().map(|l| match term.letters.contains(l) {
        true => own.next().copied().unwrap_or(Dim::Fixed(1)),
        false => Dim::Fixed(1),
    });
    let shape = Shape::new(dims);
    reshape(cx, &y, shape)
}

/// Builds the product of two operands, summed over the letters that are not needed later.
fn product(cx: &mut NodeContext, a: Term, b: Term, later: impl Fn(&Letter) -> bool) -> Result<Term, NodeProblem> {
    let a = summed(cx, a, |l| later(l) || b.letters.contains(l))?;
    let b = summed(cx, b, |l| later(l) || a.letters.contains(l))?;
    let both = |l: &&Letter| b.letters.contains(l);
    let shared: Vec<Letter> = a.letters.iter().filter(both).copied().collect();
    let (batch, inner): (Vec<Letter>, Vec<Letter>) = shared.into_iter().partition(|l| later(l));
    let rows: Vec<Letter> = a.letters.iter().filter(|l| !b.letters.contains(l)).copied().collect();
    let columns: Vec<Letter> = b.letters.iter().filter(|l| !a.letters.contains(l)).copied().collect();
    let letters = [&batch[..], &rows, &columns].concat();
    if inner.is_empty() {
        let (x, y) = (arranged(cx, a, &letters)?, arranged(cx, b, &letters)?);
        return Ok(Term { value: combine(cx, Binary::Mul, &x, &y)?, letters });
    }
    let x = arranged(cx, a, &[&batch[..], &rows, &inner].concat())?;
    let y = arranged(cx, b, &[&batch[..], &inner, &columns].concat())?;
    let (sx, sy) = (cx.shape(&x), cx.shape(&y));
    let k = batch.len();
    let joined = |dims: &[Dim]| match Shape::new(dims.iter().copied()).volume() {
        Some((n, 0)) => Ok(Dim::Fixed(n)),
        Some((n, 1)) => Ok(Dim::Batch(n)),
        _ => Err(NodeProblem::unsupported("it multiplies over the batch")),
    };
    let (m, p) = (joined(&sx.dims()[k..k + rows.len()])?, joined(&sy.dims()[k + inner.len()..])?);
    let (ka, kb) = (joined(&sx.dims()[k + rows.len()..])?, joined(&sy.dims()[k..k + inner.len()])?);
    let x2 = reshape(cx, &x, Shape::new(sx.dims()[..k].iter().copied().chain([m, ka])))?;
    let y2 = reshape(cx, &y, Shape::new(sy.dims()[..k].iter().copied().chain([kb, p])))?;
    let product = matmul(cx, &x2, &y2)?;
    let lead: Vec<Dim> = cx.shape(&product).dims()[..k].to_vec();
    let dims = lead.iter().chain(&sx.dims()[k..k + rows.len()]).chain(&sy.dims()[k + inner.len()..]).copied();
    Ok(Term { value: reshape(cx, &product, Shape::new(dims))?, letters })
}
