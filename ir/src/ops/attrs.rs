//! Attributes in the text form: `{strides=[2,2], shape=[N,512], epilogue=[add(4, 0.5), relu, round]}`.

use crate::QuantizerId;
use crate::types::{Dim, Shape};
use std::fmt;

/// The value of an attribute in the text form.
#[derive(Clone, Debug, PartialEq)]
pub enum AttrValue {
    /// An integer.
    Int(i64),
    /// An f32, printed with the fewest digits that parse to the same value, and always with a decimal point or an exponent.
    Float(f32),
    /// `true` or `false`.
    Bool(bool),
    /// A dimension that depends on the batch.
    Dim(Dim),
    /// A quantizer.
    Quantizer(QuantizerId),
    /// A list.
    List(Vec<AttrValue>),
    /// A word with arguments: `clip(0.0, 6.0)`, or `relu` without any.
    Call(String, Vec<AttrValue>),
}

/// Attributes in printing order.
pub type Attrs = Vec<(&'static str, AttrValue)>;

/// Why an operation could not be built from its attributes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttrError {
    /// No operation has this name.
    #[error("there is no operation `{0}`")]
    UnknownOp(String),
    /// The operation has no such attribute.
    #[error("unknown attribute `{0}`")]
    Unknown(String),
    /// The operation requires this attribute.
    #[error("attribute `{0}` is missing")]
    Missing(&'static str),
    /// The attribute has the wrong type or size.
    #[error("attribute `{key}` must be {expected}")]
    Type {
        /// The name of the attribute.
        key: &'static str,
        /// What the attribute must be.
        expected: &'static str,
    },
}

impl From<f32> for AttrValue {
    fn from(x: f32) -> Self {
        AttrValue::Float(x)
    }
}

impl From<bool> for AttrValue {
    fn from(x: bool) -> Self {
        AttrValue::Bool(x)
    }
}

impl From<usize> for AttrValue {
    fn from(n: usize) -> Self {
        AttrValue::Int(n as i64)
    }
}

impl From<&[usize]> for AttrValue {
    fn from(v: &[usize]) -> Self {
        AttrValue::List(v.iter().map(|&n| n.into()).collect())
    }
}

impl From<&Shape> for AttrValue {
    fn from(s: &Shape) -> Self {
        let item = |d: &Dim| match *d {
            Dim::Fixed(n) => n.into(),
            d => AttrValue::Dim(d),
        };
        AttrValue::List(s.dims().iter().map(item).collect())
    }
}

impl fmt::Display for AttrValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, items: &[AttrValue], sep: &str| {
            for (i, x) in items.iter().enumerate() {
                write!(f, "{}{x}", if i > 0 { sep } else { "" })?;
            }
            Ok(())
        };
        match self {
            AttrValue::Int(n) => write!(f, "{n}"),
            AttrValue::Float(x) => write!(f, "{x:?}"),
            AttrValue::Bool(b) => write!(f, "{b}"),
            AttrValue::Dim(d) => write!(f, "{d}"),
            AttrValue::Quantizer(q) => write!(f, "{q}"),
            AttrValue::List(items) => {
                f.write_str("[")?;
                let dense = !items.iter().any(|x| matches!(x, AttrValue::Call(..) | AttrValue::Float(_)));
                list(f, items, if dense { "," } else { ", " })?;
                f.write_str("]")
            }
            AttrValue::Call(word, args) if args.is_empty() => f.write_str(word),
            AttrValue::Call(word, args) => {
                write!(f, "{word}(")?;
                list(f, args, ", ")?;
                f.write_str(")")
            }
        }
    }
}

/// Reads parsed attributes one by one. An attribute that is left unread is an error.
pub struct AttrReader {
    left: Vec<(String, AttrValue)>,
}

impl AttrReader {
    /// A reader of parsed attributes.
    pub fn new(attrs: Vec<(String, AttrValue)>) -> Self {
        AttrReader { left: attrs }
    }

    /// Takes an attribute, if it is present.
    pub fn take(&mut self, key: &str) -> Option<AttrValue> {
        let i = self.left.iter().position(|(k, _)| k == key)?;
        Some(self.left.remove(i).1)
    }

    /// Returns an error if an attribute was not taken.
    pub fn finish(self) -> Result<(), AttrError> {
        match self.left.into_iter().next() {
            Some((k, _)) => Err(AttrError::Unknown(k)),
            None => Ok(()),
        }
    }

    /// Takes an f32. Integers are converted.
    pub fn float(&mut self, key: &'static str) -> Result<Option<f32>, AttrError> {
        self.take(key).map(|v| v.as_float().ok_or(AttrError::Type { key, expected: "a number" })).transpose()
    }

    /// Takes a boolean, which is `false` if absent.
    pub fn flag(&mut self, key: &'static str) -> Result<bool, AttrError> {
        match self.take(key) {
            None => Ok(false),
            Some(AttrValue::Bool(b)) => Ok(b),
            Some(_) => Err(AttrError::Type { key, expected: "true or false" }),
        }
    }

    /// A size.
    pub fn size(&mut self, key: &'static str) -> Result<Option<usize>, AttrError> {
        self.take(key)
            .map(|v| v.as_size().ok_or(AttrError::Type { key, expected: "a whole number from 0" }))
            .transpose()
    }

    /// Takes a list of sizes.
    pub fn sizes(&mut self, key: &'static str) -> Result<Option<Vec<usize>>, AttrError> {
        let expected = "a list of whole numbers from 0";
        self.take(key)
            .map(|v| match v {
                AttrValue::List(items) => items.iter().map(AttrValue::as_size).collect::<Option<Vec<_>>>(),
                _ => None,
            })
            .map(|v| v.ok_or(AttrError::Type { key, expected }))
            .transpose()
    }

    /// Takes a list of exactly `N` sizes.
    pub fn array<const N: usize>(&mut self, key: &'static str) -> Result<Option<[usize; N]>, AttrError> {
        let expected = "a list of whole numbers, as many as it has by default";
        self.sizes(key)?.map(|v| v.try_into().map_err(|_| AttrError::Type { key, expected })).transpose()
    }

    /// A shape.
    pub fn shape(&mut self, key: &'static str) -> Result<Option<Shape>, AttrError> {
        let dim = |v: &AttrValue| match v {
            AttrValue::Dim(d) => Some(*d),
            v => v.as_size().map(Dim::Fixed),
        };
        self.take(key)
            .map(|v| match v {
                AttrValue::List(items) => items.iter().map(dim).collect::<Option<_>>().map(Shape),
                _ => None,
            })
            .map(|v| v.ok_or(AttrError::Type { key, expected: "a list of dimensions" }))
            .transpose()
    }

    /// Takes a required quantizer.
    pub fn quantizer(&mut self, key: &'static str) -> Result<QuantizerId, AttrError> {
        self.optional_quantizer(key)?.ok_or(AttrError::Missing(key))
    }

    /// Takes an optional quantizer.
    pub fn optional_quantizer(&mut self, key: &'static str) -> Result<Option<QuantizerId>, AttrError> {
        match self.take(key) {
            Some(AttrValue::Quantizer(q)) => Ok(Some(q)),
            Some(_) => Err(AttrError::Type { key, expected: "a quantizer" }),
            None => Ok(None),
        }
    }
}

impl AttrValue {
    /// The value as an f32. Integers are converted.
    pub fn as_float(&self) -> Option<f32> {
        match self {
            AttrValue::Float(x) => Some(*x),
            AttrValue::Int(n) => Some(*n as f32),
            _ => None,
        }
    }

    /// The value as a size.
    pub fn as_size(&self) -> Option<usize> {
        match self {
            AttrValue::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        }
    }
}
