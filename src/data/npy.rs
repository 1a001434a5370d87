//! The npy header: element type, shape and order of an array.
//!
//! The format is that of NumPy's `numpy.lib.format` (versions 1.0, 2.0 and 3.0): the magic bytes `\x93NUMPY`, two version
//! bytes, the length of the header (u16 or u32, little-endian), then a Python dict literal with the keys `descr`,
//! `fortran_order` and `shape`, then the elements. The header is read here by a parser of its own, because a file must be
//! refused before memory is taken for what it claims, and because arrays are read sample by sample.

use std::io::Read;

use super::error::DataError;

/// The first bytes of every npy file.
pub const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Longest header that is read; NumPy itself refuses more than 10,000 bytes.
const MAX_HEADER: usize = 64 * 1024;

/// NumPy's own limit on the number of axes.
const MAX_RANK: usize = 64;

/// Element types of arrays that can be read, all little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE half precision.
    F16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
    /// Signed, 8 bits.
    I8,
    /// Signed, 16 bits.
    I16,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// One byte, 0 or 1.
    Bool,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Dtype::I8 | Dtype::U8 | Dtype::Bool => 1,
            Dtype::F16 | Dtype::I16 | Dtype::U16 => 2,
            Dtype::F32 | Dtype::I32 | Dtype::U32 => 4,
            Dtype::F64 | Dtype::I64 | Dtype::U64 => 8,
        }
    }

    /// NumPy's name of the type.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F16 => "float16",
            Dtype::F32 => "float32",
            Dtype::F64 => "float64",
            Dtype::I8 => "int8",
            Dtype::I16 => "int16",
            Dtype::I32 => "int32",
            Dtype::I64 => "int64",
            Dtype::U8 => "uint8",
            Dtype::U16 => "uint16",
            Dtype::U32 => "uint32",
            Dtype::U64 => "uint64",
            Dtype::Bool => "bool",
        }
    }

    /// True of the types whose values are taken as the network takes them.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F16 | Dtype::F32 | Dtype::F64)
    }

    /// True of signed and unsigned integers, not of booleans.
    pub fn is_integer(self) -> bool {
        !self.is_float() && self != Dtype::Bool
    }

    /// The type of a `descr` string, or in words what it is instead.
    fn of_descr(descr: &str) -> Result<Dtype, String> {
        let mut rest = descr.chars();
        let order = rest.next().unwrap_or(' ');
        let code = rest.as_str();
        let dtype = match code {
            "f2" => Dtype::F16,
            "f4" => Dtype::F32,
            "f8" => Dtype::F64,
            "i1" => Dtype::I8,
            "i2" => Dtype::I16,
            "i4" => Dtype::I32,
            "i8" => Dtype::I64,
            "u1" => Dtype::U8,
            "u2" => Dtype::U16,
            "u4" => Dtype::U32,
            "u8" => Dtype::U64,
            "b1" => Dtype::Bool,
            _ => {
                let kind = match code.chars().next().unwrap_or(order) {
                    'O' => "Python objects, stored as a pickle, which is never read",
                    'U' | 'S' | 'a' => "text",
                    'c' => "complex numbers",
                    'M' | 'm' => "dates or time spans",
                    'V' => "raw records",
                    _ => "elements of an unknown type",
                };
                return Err(format!("{kind} (descr '{}')", shortened(descr)));
            }
        };
        match order {
            '<' => Ok(dtype),
            '|' | '>' if dtype.size() == 1 => Ok(dtype),
            '>' => Err(format!("big-endian {} (descr '{descr}')", dtype.name())),
            _ => Err(format!("elements of an unknown byte order (descr '{}')", shortened(descr))),
        }
    }
}

/// What an npy header says, checked for sense but not yet against the bytes that follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Element type.
    pub dtype: Dtype,
    /// True if the first axis varies fastest in the file.
    pub fortran_order: bool,
    /// Size of each axis.
    pub shape: Vec<usize>,
    /// Where the elements start, in bytes from the first magic byte.
    pub data_start: u64,
    /// Bytes of all elements.
    pub data_bytes: u64,
}

impl Header {
    /// Reads a header and leaves `reader` at the first element.
    ///
    /// `place` names the file in errors, `accepts` says in words which element types are of use here.
    pub fn read(reader: &mut impl Read, place: &str, accepts: &str) -> Result<Header, DataError> {
        let damaged = |reason: String| DataError::NpyHeader { place: place.to_owned(), reason };
        let mut fixed = [0u8; 8];
        fill(reader, &mut fixed, place, "its first 8 bytes")?;
        if &fixed[..6] != MAGIC {
            return Err(damaged("it does not start with the npy magic bytes".to_owned()));
        }
        let width = match (fixed[6], fixed[7]) {
            (1, 0) => 2,
            (2, 0) | (3, 0) => 4,
            (major, minor) => {
                return Err(damaged(format!("format version {major}.{minor} is not 1.0, 2.0 or 3.0")));
            }
        };
        let mut length = [0u8; 4];
        fill(reader, &mut length[..width], place, "the length of the header")?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_HEADER {
            return Err(damaged(format!("a header of {length} bytes is declared, more than {MAX_HEADER}")));
        }
        let mut text = vec![0u8; length];
        fill(reader, &mut text, place, "the header")?;
        let text = String::from_utf8(text).map_err(|_| damaged("the header is not text".to_owned()))?;
        let dict = Dict::parse(&text).map_err(damaged)?;
        let dtype = Dtype::of_descr(&dict.descr).map_err(|found| DataError::Dtype {
            place: place.to_owned(),
            found,
            expected: accepts.to_owned(),
        })?;
        let elements = element_count(&dict.shape)
            .ok_or_else(|| damaged(format!("the number of elements of shape {:?} overflows", dict.shape)))?;
        let data_bytes = (elements as u64)
            .checked_mul(dtype.size() as u64)
            .filter(|&bytes| usize::try_from(bytes).is_ok())
            .ok_or_else(|| damaged(format!("the size in bytes of shape {:?} overflows", dict.shape)))?;
        Ok(Header {
            dtype,
            fortran_order: dict.fortran_order,
            shape: dict.shape,
            data_start: (8 + width + length) as u64,
            data_bytes,
        })
    }

    /// The header of a C-ordered array as NumPy writes it, padded so that the elements start at a multiple of 64 bytes.
    pub fn to_bytes(dtype: Dtype, shape: &[usize]) -> Vec<u8> {
        let order = if dtype.size() == 1 { '|' } else { '<' };
        let kind = match dtype {
            Dtype::F16 | Dtype::F32 | Dtype::F64 => 'f',
            Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64 => 'i',
            Dtype::U8 | Dtype::U16 | Dtype::U32 | Dtype::U64 => 'u',
            Dtype::Bool => 'b',
        };
        let axes: Vec<String> = shape.iter().map(|n| n.to_string()).collect();
        let tuple = if axes.len() == 1 { format!("({},)", axes[0]) } else { format!("({})", axes.join(", ")) };
        let mut text =
            format!("{{'descr': '{order}{kind}{}', 'fortran_order': False, 'shape': {tuple}, }}", dtype.size());
        let unpadded = MAGIC.len() + 4 + text.len() + 1;
        text.push_str(&" ".repeat(unpadded.next_multiple_of(64) - unpadded));
        text.push('\n');
        let mut bytes = MAGIC.to_vec();
        // At most 64 axes of 20 digits: the length always fits the u16 of version 1.0.
        bytes.extend([1, 0]);
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes
    }
}

/// The product of the axes, or `None` where it overflows (an axis of 0 does not hide an overflow of the others).
pub fn element_count(shape: &[usize]) -> Option<usize> {
    let product = shape.iter().filter(|&&n| n != 0).try_fold(1usize, |product, &n| product.checked_mul(n))?;
    Some(if shape.contains(&0) { 0 } else { product })
}

fn fill(reader: &mut impl Read, bytes: &mut [u8], place: &str, what: &str) -> Result<(), DataError> {
    reader.read_exact(bytes).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            DataError::NpyHeader { place: place.to_owned(), reason: format!("the file ends within {what}") }
        }
        _ => DataError::Read { place: place.to_owned(), error },
    })
}

/// Text of a file for a message: not too long, and nothing in it that a terminal would obey.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    let text = text.escape_debug().to_string();
    if text.chars().count() <= SHOWN {
        text.to_owned()
    } else {
        text.chars().take(SHOWN).chain("...".chars()).collect()
    }
}

/// The three entries of the header's dict.
struct Dict {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Dict {
    /// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`, the keys in any order.
    fn parse(text: &str) -> Result<Dict, String> {
        let mut scan = Scan { rest: text };
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        scan.expect('{')?;
        while !scan.take('}') {
            let key = scan.string()?;
            scan.expect(':')?;
            let repeated = match key {
                "descr" => descr.replace(scan.descr()?).is_some(),
                "fortran_order" => fortran_order.replace(scan.boolean()?).is_some(),
                "shape" => shape.replace(scan.tuple()?).is_some(),
                _ => return Err(format!("unknown key '{}'", shortened(key))),
            };
            if repeated {
                return Err(format!("key '{key}' is there twice"));
            }
            if !scan.take(',') {
                scan.expect('}')?;
                break;
            }
        }
        if !scan.rest.trim_matches(|c: char| c.is_whitespace() || c == '\0').is_empty() {
            return Err(format!("text after the header's dict: '{}'", shortened(scan.rest.trim())));
        }
        Ok(Dict {
            descr: descr.ok_or("key 'descr' is missing")?,
            fortran_order: fortran_order.ok_or("key 'fortran_order' is missing")?,
            shape: shape.ok_or("key 'shape' is missing")?,
        })
    }
}

/// A scanner over the few forms of Python literals that occur in headers.
struct Scan<'a> {
    rest: &'a str,
}

impl<'a> Scan<'a> {
    fn take(&mut self, wanted: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.take(wanted) {
            return Ok(());
        }
        match self.rest.chars().next() {
            Some(found) => Err(format!("'{wanted}' expected where '{}' is", found.escape_default())),
            None => Err(format!("'{wanted}' expected where the header ends")),
        }
    }

    fn string(&mut self) -> Result<&'a str, String> {
        let quote = if self.take('"') {
            '"'
        } else {
            self.expect('\'')?;
            '\''
        };
        let (inside, rest) = self.rest.split_once(quote).ok_or("a text without its closing quote")?;
        self.rest = rest;
        Ok(inside)
    }

    /// A type string; the list form of structured types is reported as one that no reader here knows.
    fn descr(&mut self) -> Result<String, String> {
        self.rest = self.rest.trim_start();
        if self.rest.starts_with(['[', '(']) {
            let mut depth = 0usize;
            for (at, c) in self.rest.char_indices() {
                match c {
                    '[' | '(' => depth += 1,
                    ']' | ')' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                if depth == 0 {
                    self.rest = &self.rest[at + c.len_utf8()..];
                    return Ok("|V (structured records)".to_owned());
                }
            }
            return Err("a list without its closing bracket".to_owned());
        }
        self.string().map(str::to_owned)
    }

    fn boolean(&mut self) -> Result<bool, String> {
        self.rest = self.rest.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err("True or False expected after 'fortran_order'".to_owned())
    }

    fn tuple(&mut self) -> Result<Vec<usize>, String> {
        let mut axes = Vec::new();
        self.expect('(')?;
        while !self.take(')') {
            self.rest = self.rest.trim_start();
            let digits = self.rest.len() - self.rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, rest) = self.rest.split_at(digits);
            if number.is_empty() {
                return Err("the shape holds something that is not a size".to_owned());
            }
            let size = number.parse().map_err(|_| format!("an axis of {} is too long", shortened(number)))?;
            // Python 2 wrote long integers with a suffix.
            self.rest = rest.strip_prefix('L').unwrap_or(rest);
            if axes.len() == MAX_RANK {
                return Err(format!("the shape has more than {MAX_RANK} axes"));
            }
            axes.push(size);
            if !self.take(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(axes)
    }
}
