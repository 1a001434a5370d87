//! Passes by name: `fold-constants,insert-qdq{wbits=2, abits=2}`.
//!
//! Every pass has one [`PassEntry`], which holds its documentation, the list of its options and the function that makes
//! it of them. [`PASSES`] lists them all.

use crate::append_cat::AppendCat;
use crate::batch_first::BatchFirst;
use crate::calibrate::Calibrate;
use crate::canonicalize::Canonicalize;
use crate::correct_channels::CorrectChannels;
use crate::dead_code::DeadCode;
use crate::equalize_channels::EqualizeChannels;
use crate::fold_batch_norm::FoldBatchNorm;
use crate::fold_cat::FoldCat;
use crate::fold_constants::FoldConstants;
use crate::fold_scales::FoldScales;
use crate::insert_qdq::InsertQdq;
use crate::lower_integer::LowerInteger;
use crate::pass::Pass;
use crate::reconstruct::Reconstruct;
use crate::refine_scales::RefineScales;
use crate::renamed::Renamed;
use crate::search_scales::SearchScales;
use crate::whole_as_real::WholeAsReal;
use std::fmt::Write;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A pass as the command line knows it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PassEntry {
    /// Its kebab-case name.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Its options.
    pub options: &'static [PassOption],
    /// Makes the pass; takes every option it knows.
    pub build: fn(&mut PassOptions) -> Result<Box<dyn Pass>, RegistryError>,
}

/// An option of a pass.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PassOption {
    /// Its name.
    pub name: &'static str,
    /// What it takes: `2-8`, `minmax|mse`, ...
    pub values: &'static str,
    /// Its default, as one would write it; empty if the option is needed.
    pub default: &'static str,
    /// What it means.
    pub help: &'static str,
    /// Its name in earlier versions, which is still read.
    pub former: Option<&'static str>,
}

impl PassOption {
    /// An option, its fields in order.
    pub const fn new(name: &'static str, values: &'static str, default: &'static str, help: &'static str) -> Self {
        PassOption { name, values, default, help, former: None }
    }

    /// The same option, which earlier versions called `former`.
    pub const fn formerly(self, former: &'static str) -> Self {
        PassOption { former: Some(former), ..self }
    }
}

impl PassEntry {
    /// If `option` is what an option of the pass was called in an earlier version: what it is called now.
    pub fn renamed(&self, option: &str) -> Option<Renamed> {
        let found = self.options.iter().find(|o| o.former == Some(option))?;
        Some(Renamed { what: format!("option of `{}`", self.name), former: found.former?, name: found.name })
    }
}

/// All passes, in the order in which a compilation runs them.
pub const PASSES: &[PassEntry] = &[
    FoldConstants::ENTRY,
    Canonicalize::ENTRY,
    WholeAsReal::ENTRY,
    BatchFirst::ENTRY,
    FoldBatchNorm::ENTRY,
    DeadCode::ENTRY,
    EqualizeChannels::ENTRY,
    Calibrate::ENTRY,
    InsertQdq::ENTRY,
    Reconstruct::ENTRY,
    CorrectChannels::ENTRY,
    RefineScales::ENTRY,
    SearchScales::ENTRY,
    AppendCat::ENTRY,
    FoldCat::ENTRY,
    LowerInteger::ENTRY,
    FoldScales::ENTRY,
];

/// A list of passes that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The text does not read as a list of passes.
    #[error("in the list of passes, at column {column}: {message}")]
    Syntax {
        /// Where, in characters from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// There is no such pass.
    #[error("there is no pass `{name}`; there are {known}")]
    UnknownPass {
        /// The name.
        name: String,
        /// The passes there are.
        known: String,
    },
    /// The pass has no such option.
    #[error("`{pass}` has no option `{option}`; {known}")]
    UnknownOption {
        /// The pass.
        pass: String,
        /// The option.
        option: String,
        /// The options it has.
        known: String,
    },
    /// An option that is needed was not given, or given twice.
    #[error("`{pass}`: option `{option}` {problem}")]
    Count {
        /// The pass.
        pass: String,
        /// The option.
        option: String,
        /// "is needed" or "stands twice".
        problem: &'static str,
    },
    /// An option with a value it cannot take.
    #[error("`{pass}`: {option}={value} is not possible; it takes {expected}")]
    Value {
        /// The pass.
        pass: String,
        /// The option.
        option: String,
        /// What was given.
        value: String,
        /// What can be given.
        expected: String,
    },
}

/// The options given to a pass, taken one by one.
#[derive(Debug)]
pub struct PassOptions {
    entry: &'static PassEntry,
    left: Vec<(String, String)>,
}

impl PassOptions {
    /// The value of an option, made by `read`; `None` if the option was not given.
    pub fn take<T>(
        &mut self,
        option: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, RegistryError> {
        let help = self.entry.options.iter().find(|o| o.name == option);
        debug_assert!(help.is_some(), "option {option} of {} is not in its entry", self.entry.name);
        let Some(i) = self.left.iter().position(|(k, _)| k == option) else { return Ok(None) };
        let (_, value) = self.left.remove(i);
        match read(&value) {
            Some(x) => Ok(Some(x)),
            None => Err(RegistryError::Value {
                pass: self.entry.name.into(),
                option: option.into(),
                value,
                expected: help.map_or("", |h| h.values).into(),
            }),
        }
    }

    /// A number in a range.
    pub fn number<T: FromStr + PartialOrd>(
        &mut self,
        option: &'static str,
        default: T,
        range: RangeInclusive<T>,
    ) -> Result<T, RegistryError> {
        let read = |text: &str| text.parse().ok().filter(|x| range.contains(x));
        Ok(self.take(option, read)?.unwrap_or(default))
    }

    /// `auto` (`None`), or what `read` makes of the text.
    pub fn auto<T>(
        &mut self,
        option: &'static str,
        default: Option<T>,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, RegistryError> {
        let read = |text: &str| if text == "auto" { Some(None) } else { read(text).map(Some) };
        Ok(self.take(option, read)?.unwrap_or(default))
    }

    /// `auto` (`None`), or a number in a range.
    pub fn auto_number<T: FromStr + PartialOrd>(
        &mut self,
        option: &'static str,
        default: Option<T>,
        range: RangeInclusive<T>,
    ) -> Result<Option<T>, RegistryError> {
        self.auto(option, default, |text| text.parse().ok().filter(|x| range.contains(x)))
    }

    /// Bits of a format: 2 to 8, or 32 for float.
    pub fn bits(&mut self, option: &'static str, default: u8) -> Result<u8, RegistryError> {
        let read = |text: &str| text.parse().ok().filter(|b| matches!(b, 2..=8 | 32));
        Ok(self.take(option, read)?.unwrap_or(default))
    }

    /// `true` or `false`.
    pub fn flag(&mut self, option: &'static str, default: bool) -> Result<bool, RegistryError> {
        Ok(self.take(option, |text| text.parse().ok())?.unwrap_or(default))
    }

    /// An error that says that an option is needed.
    pub fn needed(&self, option: &'static str) -> RegistryError {
        RegistryError::Count { pass: self.entry.name.into(), option: option.into(), problem: "is needed" }
    }

    fn finish(self) -> Result<(), RegistryError> {
        let Some((option, _)) = self.left.into_iter().next() else { return Ok(()) };
        let pass = self.entry.name.to_string();
        if self.entry.options.iter().any(|o| o.name == option) {
            return Err(RegistryError::Count { pass, option, problem: "stands twice" });
        }
        let names: Vec<_> = self.entry.options.iter().map(|o| o.name).collect();
        let known = if names.is_empty() { "it has none".into() } else { format!("it has {}", names.join(", ")) };
        Err(RegistryError::UnknownOption { pass, option, known })
    }
}

/// The entry of this name.
pub fn entry(name: &str) -> Result<&'static PassEntry, RegistryError> {
    PASSES
        .iter()
        .find(|e| e.name == name)
        .ok_or_else(|| RegistryError::UnknownPass { name: name.to_string(), known: pass_names().join(", ") })
}

/// The passes of a list such as `canonicalize,insert-qdq{wbits=2, abits=2}`.
pub fn parse_passes(text: &str) -> Result<Vec<Box<dyn Pass>>, RegistryError> {
    parse_items(text)?.into_iter().map(|(name, options)| build(&name, options)).collect()
}

/// The options of such a list that are named as in earlier versions.
///
/// # Errors
/// If the text is no list of passes, or names a pass that there is not.
pub fn renamed_options(text: &str) -> Result<Vec<Renamed>, RegistryError> {
    let mut found = vec![];
    for (name, options) in parse_items(text)? {
        let entry = entry(&name)?;
        found.extend(options.iter().filter_map(|(option, _)| entry.renamed(option)));
    }
    Ok(found)
}

/// The pass of this name with these options, which may have the names of earlier versions.
///
/// # Errors
/// If there is no such pass, or it cannot have these options.
pub fn build(name: &str, options: Vec<(String, String)>) -> Result<Box<dyn Pass>, RegistryError> {
    let entry = entry(name)?;
    let current = |(option, value): (String, String)| match entry.renamed(&option) {
        Some(renamed) => (renamed.name.into(), value),
        None => (option, value),
    };
    let mut reader = PassOptions { entry, left: options.into_iter().map(current).collect() };
    let pass = (entry.build)(&mut reader)?;
    reader.finish()?;
    Ok(pass)
}

/// A pass with its options as [`parse_passes`] reads it.
pub(crate) fn pass_text(pass: &str, options: &[(String, String)]) -> String {
    if options.is_empty() {
        return pass.into();
    }
    let options: Vec<String> = options.iter().map(|(option, value)| format!("{option}={}", quoted(value))).collect();
    format!("{pass}{{{}}}", options.join(", "))
}

/// A value in quotes where it holds more than a word.
fn quoted(value: &str) -> String {
    if value.is_empty() || value.contains(|c: char| c.is_whitespace() || ",{}=\"\\".contains(c)) {
        format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
    } else {
        value.into()
    }
}

/// The names of all passes, in the order of [`PASSES`].
pub fn pass_names() -> Vec<&'static str> {
    PASSES.iter().map(|e| e.name).collect()
}

/// What there is to say of every pass and its options, for `--help`.
pub fn pass_help() -> String {
    let mut text = String::new();
    for e in PASSES {
        let _ = writeln!(text, "{}: {}", e.name, e.summary);
        for o in e.options {
            let default = if o.default.is_empty() { "needed".into() } else { format!("default {}", o.default) };
            let _ = writeln!(text, "    {}={}  {} ({default})", o.name, o.values, o.help);
        }
    }
    text
}

type Item = (String, Vec<(String, String)>);

/// Splits the text into names and options; spaces count nowhere.
fn parse_items(text: &str) -> Result<Vec<Item>, RegistryError> {
    let mut reader = Reader { chars: text.chars().collect(), at: 0 };
    let mut items = vec![];
    loop {
        let name = reader.word("the name of a pass")?;
        let mut options = vec![];
        if reader.eat('{') && !reader.eat('}') {
            loop {
                let key = reader.word("the name of an option")?;
                reader.expect('=')?;
                options.push((key, reader.word("a value")?));
                if !reader.eat(',') {
                    reader.expect('}')?;
                    break;
                }
            }
        }
        items.push((name, options));
        if reader.at == reader.chars.len() {
            return Ok(items);
        }
        reader.expect(',')?;
    }
}

struct Reader {
    chars: Vec<char>,
    at: usize,
}

impl Reader {
    /// Steps over spaces and gives the character after them.
    fn peek(&mut self) -> Option<char> {
        while self.chars.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
        self.chars.get(self.at).copied()
    }

    fn eat(&mut self, mark: char) -> bool {
        let found = self.peek() == Some(mark);
        self.at += usize::from(found);
        self.peek();
        found
    }

    fn expect(&mut self, mark: char) -> Result<(), RegistryError> {
        if self.eat(mark) { Ok(()) } else { self.fail(&format!("`{mark}`")) }
    }

    /// A word, or any text in quotes (`\"`, `\\` and `\n` stand for what they stand for in Rust).
    fn word(&mut self, what: &str) -> Result<String, RegistryError> {
        let mut word = String::new();
        if self.peek() == Some('"') {
            return self.quoted();
        }
        while let Some(c) = self.peek().filter(|c| !",{}=".contains(*c)) {
            word.push(c);
            self.at += 1;
        }
        if word.is_empty() { self.fail(what) } else { Ok(word) }
    }

    fn quoted(&mut self) -> Result<String, RegistryError> {
        let mut text = String::new();
        loop {
            self.at += 1;
            match self.chars.get(self.at) {
                None => return self.fail("`\"` at the end of the text"),
                Some('"') => break,
                Some('\\') => {
                    self.at += 1;
                    match self.chars.get(self.at) {
                        Some('n') => text.push('\n'),
                        Some(c @ ('"' | '\\')) => text.push(*c),
                        _ => return self.fail("`n`, `\"` or `\\` after `\\`"),
                    }
                }
                Some(c) => text.push(*c),
            }
        }
        self.at += 1;
        Ok(text)
    }

    fn fail<T>(&self, expected: &str) -> Result<T, RegistryError> {
        let found = self.chars.get(self.at).map_or("the end".into(), |c| format!("`{c}`"));
        Err(RegistryError::Syntax { column: self.at + 1, message: format!("expected {expected}, found {found}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(k: &str, v: &str) -> (String, String) {
        (k.into(), v.into())
    }

    #[test]
    fn lists_of_passes_are_split() {
        let items = parse_items("a, b{x=1, y = z-2},c{}").unwrap();
        let expected =
            [("a".into(), vec![]), ("b".into(), vec![pair("x", "1"), pair("y", "z-2")]), ("c".into(), vec![])];
        assert_eq!(items, expected);
        let text = "a=b, {\"c\"}\n\\d";
        let items = parse_items(&pass_text("p", &[pair("x", text), pair("y", "1")])).unwrap();
        assert_eq!(items, [("p".into(), vec![pair("x", text), pair("y", "1")])]);
    }

    #[test]
    fn broken_lists_say_where() {
        for (text, column) in [
            ("", 1),
            ("a,", 3),
            ("a,,b", 3),
            ("a{x}", 4),
            ("a{x=1", 6),
            ("a{x=1,}", 7),
            ("a{x=1}b", 7),
            ("a}", 2),
            ("a{x=\"b}", 8),
            ("a{x=\"\\b\"}", 7),
        ] {
            match parse_items(text) {
                Err(RegistryError::Syntax { column: found, .. }) => assert_eq!(found, column, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn former_names_of_options_are_read_and_known_as_such() {
        let names: Vec<String> = PASSES
            .iter()
            .flat_map(|e| e.options.iter().filter_map(|o| e.renamed(o.former?)))
            .map(|renamed| renamed.to_string())
            .collect();
        assert_eq!(names[0], "option of `reconstruct` `drop` is now called `quant_drop_prob`");
        assert_eq!(names.len(), 5, "{names:?}");
        let text = "reconstruct{pd=2, mix=0.5}, reconstruct{prediction_weight=2, input_mix_prob=0.5}";
        let passes = parse_passes(text).unwrap();
        assert_eq!(format!("{:?}", passes[0]), format!("{:?}", passes[1]));
        let renamed: Vec<&str> = renamed_options(text).unwrap().iter().map(|r| r.name).collect();
        assert_eq!(renamed, ["prediction_weight", "input_mix_prob"]);
        let twice = parse_passes("reconstruct{pd=2, prediction_weight=2}").unwrap_err().to_string();
        assert_eq!(twice, "`reconstruct`: option `prediction_weight` stands twice");
    }

    #[test]
    fn unknown_passes_list_the_known() {
        let error = parse_passes("no-such-pass").unwrap_err().to_string();
        assert!(error.starts_with("there is no pass `no-such-pass`; there are "), "{error}");
        assert!(PASSES.iter().all(|e| error.contains(e.name)));
    }
}
