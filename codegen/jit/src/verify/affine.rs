//! Sums of symbols with factors, and the least and greatest values that they can take.
//!
//! A symbol stands for a number that is known only when the function runs: the turn of a loop, the work units of the call, the result of
//! `smin`. The bounds of a symbol may name older symbols. The bounds of a sum are found by replacing its newest symbol by a bound, again and
//! again; terms that are equal cancel out exactly.

/// `constant + sum factor * symbol`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Affine {
    /// By ascending symbol, no factor 0.
    terms: Vec<(u32, i128)>,
    constant: i128,
}

impl Affine {
    /// A number.
    pub fn number(constant: i128) -> Affine {
        Affine { terms: vec![], constant }
    }

    /// The number, if there is no symbol.
    pub fn as_number(&self) -> Option<i128> {
        self.terms.is_empty().then_some(self.constant)
    }

    /// `self + factor * other`; `None` if numbers become too large.
    pub fn plus(&self, other: &Affine, factor: i128) -> Option<Affine> {
        let mut terms = Vec::with_capacity(self.terms.len() + other.terms.len());
        let (mut a, mut b) = (self.terms.iter().peekable(), other.terms.iter().peekable());
        loop {
            let (symbol, sum) = match (a.peek(), b.peek()) {
                (Some(&&(s, x)), Some(&&(t, y))) if s == t => {
                    a.next();
                    b.next();
                    (s, x.checked_add(y.checked_mul(factor)?)?)
                }
                (Some(&&(s, x)), Some(&&(t, _))) if s < t => {
                    a.next();
                    (s, x)
                }
                (Some(&&(s, x)), None) => {
                    a.next();
                    (s, x)
                }
                (_, Some(&&(t, y))) => {
                    b.next();
                    (t, y.checked_mul(factor)?)
                }
                (None, None) => break,
            };
            if sum != 0 {
                terms.push((symbol, sum));
            }
        }
        let constant = self.constant.checked_add(other.constant.checked_mul(factor)?)?;
        Some(Affine { terms, constant })
    }

    /// `factor * self`.
    pub fn times(&self, factor: i128) -> Option<Affine> {
        Affine::number(0).plus(self, factor)
    }

    /// `self + number`.
    pub fn offset(&self, number: i128) -> Option<Affine> {
        Some(Affine { terms: self.terms.clone(), constant: self.constant.checked_add(number)? })
    }
}

/// What is known of a symbol.
#[derive(Debug)]
pub(super) enum Symbol {
    /// It lies between these, both included.
    Range(Affine, Affine),
    /// It is the smaller of these.
    Least(Affine, Affine),
    /// It is the greater of these.
    Greatest(Affine, Affine),
    /// It is the first, which is not negative, divided by the positive number and rounded down.
    Quotient(Affine, i128),
}

/// All symbols of a function. What is known of a symbol names older symbols alone.
#[derive(Debug, Default)]
pub(super) struct Symbols(Vec<Symbol>);

impl Symbols {
    /// A new symbol.
    pub fn add(&mut self, symbol: Symbol) -> Affine {
        self.0.push(symbol);
        Affine { terms: vec![(self.0.len() as u32 - 1, 1)], constant: 0 }
    }

    /// A new symbol between two numbers.
    pub fn between(&mut self, low: i128, high: i128) -> Affine {
        self.add(Symbol::Range(Affine::number(low), Affine::number(high)))
    }

    /// The least value; `None` if numbers become too large.
    pub fn least(&self, value: &Affine) -> Option<i128> {
        self.greatest(&value.times(-1)?)?.checked_neg()
    }

    /// The greatest value; `None` if numbers become too large.
    pub fn greatest(&self, value: &Affine) -> Option<i128> {
        let Some((&(symbol, factor), rest)) = value.terms.split_last() else { return Some(value.constant) };
        let rest = Affine { terms: rest.to_vec(), constant: value.constant };
        let with = |replacement: &Affine| self.greatest(&rest.plus(replacement, factor)?);
        match &self.0[symbol as usize] {
            Symbol::Range(low, high) => with(if factor > 0 { high } else { low }),
            // It is not known which of the two it is, but it is no greater than either.
            Symbol::Least(a, b) if factor > 0 => least_known(with(a), with(b)),
            Symbol::Least(a, b) => Some(with(a)?.max(with(b)?)),
            Symbol::Greatest(a, b) if factor > 0 => Some(with(a)?.max(with(b)?)),
            Symbol::Greatest(a, b) => least_known(with(a), with(b)),
            Symbol::Quotient(of, by) => {
                let of = if factor > 0 { of.clone() } else { of.offset(1 - by)? };
                let whole = rest.times(*by)?.plus(&of, factor)?;
                Some(self.greatest(&whole)?.div_euclid(*by))
            }
        }
    }
}

/// The smaller of two bounds that both hold.
fn least_known(a: Option<i128>, b: Option<i128>) -> Option<i128> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cancels_out_does_so_exactly() {
        let mut symbols = Symbols::default();
        let first = symbols.between(0, 9);
        let after = first.offset(1).unwrap();
        let last = symbols.add(Symbol::Range(after, Affine::number(10)));
        // A row of a range: the first row, and a turn below the number of rows.
        let turns = last.plus(&first, -1).unwrap().offset(-1).unwrap();
        let turn = symbols.add(Symbol::Range(Affine::number(0), turns));
        let row = first.plus(&turn, 1).unwrap();
        assert_eq!((symbols.least(&row), symbols.greatest(&row)), (Some(0), Some(9)));
        // Bands of four rows: the start of one is no farther than the last row.
        let count = last.plus(&first, -1).unwrap().offset(3).unwrap();
        let bands = symbols.add(Symbol::Quotient(count, 4));
        let band = symbols.add(Symbol::Range(Affine::number(0), bands.offset(-1).unwrap()));
        let start = first.plus(&band, 4).unwrap();
        assert_eq!((symbols.least(&start), symbols.greatest(&start)), (Some(0), Some(9)));
        let end = symbols.add(Symbol::Least(start.offset(4).unwrap(), last.clone()));
        assert_eq!(symbols.greatest(&end), Some(10));
        assert_eq!(symbols.greatest(&end.plus(&start, -1).unwrap()), Some(4));
    }

    #[test]
    fn the_greater_of_two_is_either() {
        let mut symbols = Symbols::default();
        let x = symbols.between(-3, 5);
        let cut = symbols.add(Symbol::Greatest(x.times(-1).unwrap(), Affine::number(0)));
        // x and what brings it to zero.
        let sum = x.plus(&cut, 1).unwrap();
        assert_eq!((symbols.least(&sum), symbols.greatest(&sum)), (Some(0), Some(5)));
    }

    #[test]
    fn numbers_beyond_all_bounds_are_no_bound() {
        let mut symbols = Symbols::default();
        let x = symbols.between(0, i128::MAX);
        assert_eq!(symbols.greatest(&x.offset(1).unwrap()), None);
        assert!(x.times(i128::MAX).unwrap().times(2).is_none());
    }
}
