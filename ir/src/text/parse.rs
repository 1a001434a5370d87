//! Parsing. The result keeps the numbers of the text. The parser does not check whether the graph is valid; the verifier does.

use super::lexer::{Spanned, Token, lex};
use super::random::random;
use crate::graph::{Constant, Graph, Node, Operand, Phase};
use crate::ops::Op;
use crate::ops::attrs::{AttrReader, AttrValue};
use crate::types::{Dim, Element, Shape, TensorType};
use crate::{ConstId, QFormat, Quantizer, QuantizerId, Tensor, TensorData, ValueId};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Larger ids are rejected, because the parser allocates tables up to the largest id.
const MAX_ID: u32 = 1 << 20;
/// `random` constants with more elements are rejected.
const MAX_RANDOM: usize = 1 << 28;
/// The largest nesting depth of lists and arguments.
const MAX_DEPTH: usize = 16;

/// Why a text could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
}

/// A source of `blob N` constants.
pub trait Blobs {
    /// The tensor with this number, if there is one.
    fn blob(&self, index: u32) -> Option<Tensor>;
}

/// No blobs, for texts whose large constants are all `random`.
pub struct NoBlobs;

impl Blobs for NoBlobs {
    fn blob(&self, _: u32) -> Option<Tensor> {
        None
    }
}

/// Parses a graph from its text form.
pub fn parse(text: &str, blobs: &dyn Blobs) -> Result<Graph, ParseError> {
    let tokens = lex(text).map_err(|(line, column, message)| ParseError { line, column, message })?;
    Parser { tokens, at: 0, quantizers: BTreeMap::new(), blobs }.graph()
}

struct Parser<'b> {
    tokens: Vec<Spanned>,
    at: usize,
    quantizers: BTreeMap<u32, Quantizer>,
    blobs: &'b dyn Blobs,
}

type Parsed<T> = Result<T, ParseError>;

impl Parser<'_> {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].token
    }

    fn next(&mut self) -> Token {
        let token = self.tokens[self.at].token.clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn fail<T>(&self, at: usize, message: impl Into<String>) -> Parsed<T> {
        let Spanned { line, column, .. } = self.tokens[at];
        Err(ParseError { line, column, message: message.into() })
    }

    fn expected<T>(&self, what: &str) -> Parsed<T> {
        let found = match self.peek() {
            Token::Word(w) => format!("`{w}`"),
            Token::Int(n) => n.to_string(),
            Token::Float(x) => format!("{x:?}"),
            Token::Text(t) => format!("{t:?}"),
            Token::Hash(h) => format!("#{h:016x}"),
            Token::Mark(c) => format!("`{c}`"),
            Token::End => "the end".into(),
        };
        self.fail(self.at, format!("expected {what}, found {found}"))
    }

    fn mark(&mut self, c: char) -> Parsed<()> {
        if self.eat(c) { Ok(()) } else { self.expected(&format!("`{c}`")) }
    }

    fn eat(&mut self, c: char) -> bool {
        let found = *self.peek() == Token::Mark(c);
        if found {
            self.next();
        }
        found
    }

    fn word(&mut self, what: &str) -> Parsed<String> {
        match self.peek().clone() {
            Token::Word(w) => {
                self.next();
                Ok(w)
            }
            _ => self.expected(what),
        }
    }

    fn keyword(&mut self, word: &str) -> Parsed<()> {
        if self.eat_word(word) { Ok(()) } else { self.expected(&format!("`{word}`")) }
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Word(w) if w == word);
        if found {
            self.next();
        }
        found
    }

    fn name(&mut self) -> String {
        match self.peek().clone() {
            Token::Text(t) => {
                self.next();
                t
            }
            _ => String::new(),
        }
    }

    /// Parses an id that starts with `letter` and returns its number. Returns `None` if the next token is not such an id.
    fn try_id(&mut self, letter: char) -> Parsed<Option<u32>> {
        let Token::Word(w) = self.peek() else {
            return Ok(None);
        };
        let Some(digits) = w.strip_prefix(letter).filter(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()))
        else {
            return Ok(None);
        };
        match digits.parse() {
            Ok(n) if n <= MAX_ID => {
                self.next();
                Ok(Some(n))
            }
            _ => self.fail(self.at, format!("ids go up to {letter}{MAX_ID}")),
        }
    }

    fn id(&mut self, letter: char, what: &str) -> Parsed<u32> {
        match self.try_id(letter)? {
            Some(n) => Ok(n),
            None => self.expected(what),
        }
    }

    fn int(&mut self, what: &str) -> Parsed<i64> {
        match *self.peek() {
            Token::Int(n) => {
                self.next();
                Ok(n)
            }
            _ => self.expected(what),
        }
    }

    fn size(&mut self, what: &str) -> Parsed<usize> {
        let at = self.at;
        let n = self.int(what)?;
        usize::try_from(n).or_else(|_| self.fail(at, format!("{what} cannot be {n}")))
    }

    fn float(&mut self) -> Parsed<f32> {
        match *self.peek() {
            Token::Float(x) => {
                self.next();
                Ok(x)
            }
            Token::Int(n) => {
                self.next();
                Ok(n as f32)
            }
            _ => self.expected("a number"),
        }
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        self.mark('[')?;
        let mut items = vec![];
        while !self.eat(']') {
            if !items.is_empty() {
                self.mark(',')?;
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn graph(mut self) -> Parsed<Graph> {
        self.keyword("graph")?;
        self.mark('@')?;
        let mut graph = Graph::new(self.word("the graph's name")?);
        let word_at = self.at;
        let word = self.word("a phase")?;
        graph.phase = match Phase::parse(&word) {
            Some(p) => p,
            None => {
                return self.fail(word_at, format!("`{word}` is no phase: float, qdq or integer"));
            }
        };
        self.mark('{')?;
        let mut constants = BTreeMap::new();
        loop {
            let at = self.at;
            if let Some(q) = self.try_id('q')? {
                let quantizer = self.quantizer()?;
                if self.quantizers.insert(q, quantizer).is_some() {
                    return self.fail(at, format!("q{q} stands twice"));
                }
            } else if let Some(c) = self.try_id('c')? {
                let constant = self.constant()?;
                if constants.insert(c, constant).is_some() {
                    return self.fail(at, format!("c{c} stands twice"));
                }
            } else {
                break;
            }
        }
        self.fill_tables(&mut graph, constants);
        self.inputs(&mut graph)?;
        while !self.eat('}') {
            self.statement(&mut graph)?;
        }
        match self.peek() {
            Token::End => Ok(graph),
            _ => self.expected("the end"),
        }
    }

    fn fill_tables(&self, graph: &mut Graph, constants: BTreeMap<u32, Constant>) {
        let unused = Quantizer::per_tensor(QFormat::new(false, 8).expect("8 bits"), 1.0, 0);
        for i in 0..self.quantizers.last_key_value().map_or(0, |(n, _)| n + 1) {
            graph.add_quantizer(self.quantizers.get(&i).unwrap_or(&unused).clone());
        }
        for i in 0..constants.last_key_value().map_or(0, |(n, _)| n + 1) {
            graph.push_constant(constants.get(&i).cloned().unwrap_or_default());
        }
    }

    fn format(&mut self) -> Parsed<QFormat> {
        let at = self.at;
        let word = self.word("a format such as u2 or i8")?;
        QFormat::parse(&word).map_or_else(|| self.fail(at, format!("`{word}` is no format: u2..u8 or i2..i8")), Ok)
    }

    fn quantizer(&mut self) -> Parsed<Quantizer> {
        self.mark('=')?;
        self.keyword("quantizer")?;
        let format = self.format()?;
        let axis = if self.eat_word("per_tensor") {
            None
        } else {
            self.keyword("per_axis")?;
            Some(self.size("an axis")?)
        };
        self.keyword("scale")?;
        let scale = self.list(Self::float)?;
        self.keyword("zero_point")?;
        let zero_point = self.list(|p| {
            let at = p.at;
            let z = p.int("a zero-point")?;
            i32::try_from(z).or_else(|_| p.fail(at, format!("zero-point {z} is out of range")))
        })?;
        Ok(Quantizer { format, axis, scale, zero_point })
    }

    fn shape(&mut self) -> Parsed<Shape> {
        Ok(Shape::new(self.list(|p| {
            if p.eat_word("N") {
                return Ok(Dim::N);
            }
            let n = p.size("a dimension")?;
            Ok(if p.eat_word("N") { Dim::Batch(n) } else { Dim::Fixed(n) })
        })?))
    }

    fn ty(&mut self) -> Parsed<TensorType> {
        let at = self.at;
        let element = if self.eat_word("f32") {
            Element::F32
        } else if self.eat_word("i64") {
            Element::I64
        } else if self.eat_word("bool") {
            Element::Bool
        } else {
            let format = self.format()?;
            self.mark('<')?;
            let q = self.id('q', "a quantizer")?;
            self.mark('>')?;
            match self.quantizers.get(&q) {
                None => return self.fail(at, format!("there is no q{q}")),
                Some(known) if known.format != format => {
                    return self.fail(at, format!("q{q} is {}, not {format}", known.format));
                }
                Some(_) => Element::Code(QuantizerId::from_u32(q)),
            }
        };
        Ok(TensorType::new(element, self.shape()?))
    }

    fn constant(&mut self) -> Parsed<Constant> {
        self.mark('=')?;
        self.keyword("const")?;
        let at = self.at;
        let ty = self.ty()?;
        let Some(shape) = ty.shape.as_fixed() else {
            return self.fail(at, "a constant has a fixed shape");
        };
        let Some((count, 0)) = ty.shape.volume() else {
            return self.fail(at, "the shape is too large");
        };
        let at = self.at;
        let data = if self.eat_word("random") {
            self.random(at, ty.element, count)?
        } else if self.eat_word("blob") {
            self.blob(at, ty.element, &shape)?
        } else {
            match ty.element {
                Element::F32 => TensorData::F32(self.list(Self::float)?),
                Element::I64 => TensorData::I64(self.list(|p| p.int("a whole number"))?),
                Element::Bool => TensorData::Bool(self.list(|p| match p.word("true or false")?.as_str() {
                    "true" => Ok(true),
                    "false" => Ok(false),
                    w => p.fail(p.at - 1, format!("`{w}` is neither true nor false")),
                })?),
                Element::Code(_) => TensorData::Code(self.list(|p| {
                    let n = p.int("a code")?;
                    i16::try_from(n).or_else(|_| p.fail(p.at - 1, format!("{n} is no code")))
                })?),
            }
        };
        if data.len() != count {
            return self.fail(at, format!("{} elements for {}", data.len(), ty.shape));
        }
        Ok(Constant { element: ty.element, tensor: Arc::new(Tensor::new(shape, data)) })
    }

    fn random(&mut self, at: usize, element: Element, count: usize) -> Parsed<TensorData> {
        self.mark('(')?;
        let seed = self.size("a seed")? as u64;
        self.mark(',')?;
        let kind = self.word("normal or uniform")?;
        self.mark(',')?;
        let parameter = self.float()?;
        self.mark(')')?;
        if element != Element::F32 {
            return self.fail(at, "random constants are f32");
        }
        if count > MAX_RANDOM {
            return self.fail(at, format!("random constants have at most {MAX_RANDOM} elements"));
        }
        match random(seed, &kind, parameter, count) {
            Some(v) => Ok(TensorData::F32(v)),
            None => self.fail(at, format!("`{kind}` is neither normal nor uniform")),
        }
    }

    fn blob(&mut self, at: usize, element: Element, shape: &[usize]) -> Parsed<TensorData> {
        let index = self.size("a blob's number")?;
        let hash = match *self.peek() {
            Token::Hash(h) => {
                self.next();
                Some(h)
            }
            _ => None,
        };
        let Some(tensor) = u32::try_from(index).ok().and_then(|i| self.blobs.blob(i)) else {
            return self
                .fail(at, format!("blob {index} is not there: give the file that holds the blobs of this text"));
        };
        if tensor.shape() != shape {
            return self.fail(at, format!("blob {index} has shape {:?}", tensor.shape()));
        }
        // Blobs have no element type for codes, so codes are stored as i64.
        let tensor = match (element, tensor.data()) {
            (Element::Code(_), TensorData::I64(v)) => {
                match v.iter().map(|&x| i16::try_from(x).ok()).collect::<Option<Vec<_>>>() {
                    Some(codes) => Tensor::codes(shape, codes),
                    None => return self.fail(at, format!("blob {index} holds more than codes")),
                }
            }
            _ => tensor,
        };
        let same = matches!(
            (element, tensor.data()),
            (Element::F32, TensorData::F32(_))
                | (Element::I64, TensorData::I64(_))
                | (Element::Bool, TensorData::Bool(_))
                | (Element::Code(_), TensorData::Code(_))
        );
        if !same {
            return self.fail(at, format!("blob {index} holds elements of another type"));
        }
        match hash {
            Some(h) if h != tensor.content_hash() => {
                self.fail(at, format!("blob {index} has another content, #{:016x}", tensor.content_hash()))
            }
            _ => Ok(tensor.into_data()),
        }
    }

    fn inputs(&mut self, graph: &mut Graph) -> Parsed<()> {
        self.keyword("input")?;
        self.mark('(')?;
        while !self.eat(')') {
            if !graph.inputs.is_empty() {
                self.mark(',')?;
            }
            let index = self.id('v', "an input such as v0")?;
            self.mark(':')?;
            let ty = self.ty()?;
            let v = graph.declare_value(index, ty);
            let name = self.name();
            graph.inputs.push((v, name));
        }
        self.mark(':')
    }

    fn statement(&mut self, graph: &mut Graph) -> Parsed<()> {
        if self.eat_word("output") {
            let at = self.at;
            let v = ValueId::from_u32(self.id('v', "a value such as v3")?);
            if !graph.has_value(v) {
                return self.fail(at, format!("{v} is not defined before it"));
            }
            let name = self.name();
            graph.add_output(name, v);
            return Ok(());
        }
        let index = self.id('v', "a node, an output or `}`")?;
        self.mark(':')?;
        let ty = self.ty()?;
        self.mark('=')?;
        let op_at = self.at;
        let word = self.word("an operation")?;
        let mut inputs: SmallVec<[Operand; 4]> = SmallVec::new();
        let mut attrs = vec![];
        loop {
            let at = self.at;
            if let Some(v) = self.try_id('v')? {
                let v = ValueId::from_u32(v);
                if !graph.has_value(v) {
                    return self.fail(at, format!("{v} is not defined before it"));
                }
                inputs.push(v.into());
            } else if let Some(c) = self.try_id('c')? {
                let c = ConstId::from_u32(c);
                if !graph.has_constant(c) {
                    return self.fail(at, format!("there is no {c}"));
                }
                inputs.push(c.into());
            } else if let Some(q) = self.try_id('q')? {
                let q = QuantizerId::from_u32(q);
                if !graph.has_quantizer(q) {
                    return self.fail(at, format!("there is no {q}"));
                }
                attrs.push(("quantizer".to_string(), AttrValue::Quantizer(q)));
            } else if inputs.is_empty() && attrs.is_empty() {
                break;
            } else {
                return self.expected("an operand");
            }
            if !self.eat(',') {
                break;
            }
        }
        if self.eat('{') {
            while !self.eat('}') {
                let key = self.word("an attribute")?;
                self.mark('=')?;
                attrs.push((key, self.value(0)?));
                if *self.peek() != Token::Mark('}') {
                    self.mark(',')?;
                }
            }
        }
        let mut reader = AttrReader::new(attrs);
        let op = Op::read(&word, &mut reader).and_then(|op| reader.finish().map(|()| op));
        let op = op.or_else(|e| self.fail(op_at, format!("{word}: {e}")))?;
        let output = graph.declare_value(index, ty);
        let name = self.name();
        graph.push_node(Node { op, inputs, output, name });
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Parsed<AttrValue> {
        if depth > MAX_DEPTH {
            return self.fail(self.at, "lists nest too deep");
        }
        match self.peek().clone() {
            Token::Int(n) => {
                self.next();
                match usize::try_from(n) {
                    Ok(k) if self.eat_word("N") => Ok(AttrValue::Dim(Dim::Batch(k))),
                    _ => Ok(AttrValue::Int(n)),
                }
            }
            Token::Float(x) => {
                self.next();
                Ok(AttrValue::Float(x))
            }
            Token::Mark('[') => Ok(AttrValue::List(self.list(|p| p.value(depth + 1))?)),
            Token::Word(w) => {
                self.next();
                match w.as_str() {
                    "true" => return Ok(AttrValue::Bool(true)),
                    "false" => return Ok(AttrValue::Bool(false)),
                    "N" => return Ok(AttrValue::Dim(Dim::N)),
                    _ => {}
                }
                let mut args = vec![];
                if self.eat('(') {
                    while !self.eat(')') {
                        if !args.is_empty() {
                            self.mark(',')?;
                        }
                        args.push(self.value(depth + 1)?);
                    }
                }
                Ok(AttrValue::Call(w, args))
            }
            _ => self.expected("a value"),
        }
    }
}
