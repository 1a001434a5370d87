//! Splits the text into tokens with their positions.

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A word of letters, digits and `_` that does not start with a digit.
    Word(String),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Float(f32),
    /// A name in quotes.
    Text(String),
    /// `#` followed by 16 hexadecimal digits.
    Hash(u64),
    /// A punctuation character.
    Mark(char),
    /// The end of the text.
    End,
}

/// A token and the line and column (from 1) where it starts.
#[derive(Clone, Debug)]
pub(super) struct Spanned {
    pub token: Token,
    pub line: u32,
    pub column: u32,
}

/// Splits a text into tokens. The error is `(line, column, message)`.
pub(super) fn lex(text: &str) -> Result<Vec<Spanned>, (u32, u32, String)> {
    let mut tokens = vec![];
    for (index, full) in text.lines().enumerate() {
        let line = index as u32 + 1;
        let chars: Vec<char> = full.chars().collect();
        let mut i = 0;
        while i < chars.len() {
            let c = chars[i];
            if c.is_whitespace() {
                i += 1;
                continue;
            }
            if c == '/' && chars.get(i + 1) == Some(&'/') {
                break;
            }
            let start = i;
            let fail = |message: String| (line, start as u32 + 1, message);
            let token = if c == '"' {
                i += 1;
                let mut s = String::new();
                loop {
                    match chars.get(i) {
                        None => return Err(fail("a name without its closing quote".into())),
                        Some('"') => break,
                        Some('\\') => {
                            let (c, used) =
                                escape(&chars[i + 1..]).ok_or_else(|| fail("unknown escape in a name".into()))?;
                            s.push(c);
                            i += 1 + used;
                        }
                        Some(c) => {
                            s.push(*c);
                            i += 1;
                        }
                    }
                }
                i += 1;
                Token::Text(s)
            } else if c == '#' {
                i += 1;
                while chars.get(i).is_some_and(|c| c.is_ascii_hexdigit()) {
                    i += 1;
                }
                let digits: String = chars[start + 1..i].iter().collect();
                Token::Hash(
                    u64::from_str_radix(&digits, 16).map_err(|_| fail("a hash needs 1 to 16 hex digits".into()))?,
                )
            } else if c.is_ascii_alphabetic() || c == '_' {
                while chars.get(i).is_some_and(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    i += 1;
                }
                match chars[start..i].iter().collect::<String>() {
                    w if w == "inf" => Token::Float(f32::INFINITY),
                    w if w == "NaN" => Token::Float(f32::NAN),
                    w => Token::Word(w),
                }
            } else if c.is_ascii_digit()
                || (c == '-' && chars.get(i + 1).is_some_and(|c| c.is_ascii_digit() || *c == 'i'))
            {
                i = number_end(&chars, i);
                let digits: String = chars[start..i].iter().collect();
                match digits.parse::<i64>() {
                    Ok(n) if !digits.contains(['.', 'e', 'i']) => Token::Int(n),
                    _ => Token::Float(digits.parse().map_err(|_| fail(format!("`{digits}` is no number")))?),
                }
            } else {
                i += 1;
                Token::Mark(c)
            };
            tokens.push(Spanned { token, line, column: start as u32 + 1 });
        }
    }
    let line = text.lines().count() as u32 + 1;
    tokens.push(Spanned { token: Token::End, line, column: 1 });
    Ok(tokens)
}

/// The end of the number that starts at `i`.
fn number_end(chars: &[char], mut i: usize) -> usize {
    if chars[i] == '-' {
        i += 1;
    }
    if chars[i..].starts_with(&['i', 'n', 'f']) {
        return i + 3;
    }
    while let Some(&c) = chars.get(i) {
        let exponent = c == 'e' && chars.get(i + 1).is_some_and(|c| c.is_ascii_digit() || matches!(c, '-' | '+'));
        if exponent {
            i += 2;
        } else if c.is_ascii_digit() || c == '.' {
            i += 1;
        } else {
            break;
        }
    }
    i
}

/// The character of an escape sequence in the form of Rust's `{:?}`, and the number of characters after the backslash.
fn escape(rest: &[char]) -> Option<(char, usize)> {
    match rest.first()? {
        'n' => Some(('\n', 1)),
        't' => Some(('\t', 1)),
        'r' => Some(('\r', 1)),
        '0' => Some(('\0', 1)),
        c @ ('"' | '\\' | '\'') => Some((*c, 1)),
        'u' => {
            let end = rest.iter().position(|c| *c == '}')?;
            let digits: String = rest.get(2..end)?.iter().collect();
            Some((char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?, end + 1))
        }
        _ => None,
    }
}
