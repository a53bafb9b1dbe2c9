//! A statement as a row of tokens, comments left out.

use super::{ANSI_QUOTES, NO_BACKSLASH_ESCAPES};

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A word without quotes: a keyword or a name.
    Word(String),
    /// A name in quotes.
    Name(String),
    /// A string.
    Text(String),
    /// Anything else, one character.
    Symbol(char),
}

impl Token {
    /// Whether it is this keyword.
    pub fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }
}

/// A statement that cannot be cut into tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Something in quotes or a comment has no end.
    #[error("a quote or comment in it has no end")]
    Open,
    /// Not UTF-8, so a quote may be a part of a character.
    #[error("it is not in UTF-8")]
    Encoding,
}

struct Lexer<'a> {
    rest: &'a str,
    ansi_quotes: bool,
    backslash_escapes: bool,
}

/// Cuts a statement into tokens.
pub fn tokens(statement: &[u8], sql_mode: u64) -> Result<Vec<Token>, TokenError> {
    let tokens = tokens_with_ends(statement, sql_mode)?;
    Ok(tokens.into_iter().map(|(token, _)| token).collect())
}

/// Cuts a statement into tokens, each with the place behind it, in bytes.
pub fn tokens_with_ends(
    statement: &[u8],
    sql_mode: u64,
) -> Result<Vec<(Token, usize)>, TokenError> {
    let text = std::str::from_utf8(statement).map_err(|_| TokenError::Encoding)?;
    let mut lexer = Lexer {
        rest: text,
        ansi_quotes: sql_mode & ANSI_QUOTES != 0,
        backslash_escapes: sql_mode & NO_BACKSLASH_ESCAPES == 0,
    };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next()? {
        tokens.push((token, text.len() - lexer.rest.len()));
    }
    Ok(tokens)
}

impl Lexer<'_> {
    fn next(&mut self) -> Result<Option<Token>, TokenError> {
        self.skip_blank()?;
        let Some(first) = self.rest.chars().next() else {
            return Ok(None);
        };
        let token = match first {
            '`' => Token::Name(self.quoted('`', false)?),
            '"' if self.ansi_quotes => Token::Name(self.quoted('"', false)?),
            '"' | '\'' => Token::Text(self.quoted(first, self.backslash_escapes)?),
            _ if is_word(first) => {
                let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
                Token::Word(self.take(end).to_owned())
            }
            other => {
                self.take(other.len_utf8());
                Token::Symbol(other)
            }
        };
        Ok(Some(token))
    }

    fn take(&mut self, length: usize) -> &str {
        let (head, rest) = self.rest.split_at(length);
        self.rest = rest;
        head
    }

    /// Passes over white space and comments. What stands in a comment that the server executes
    /// (`/*! ... */`, `/*M! ... */`) is part of the statement: only its marks are passed over.
    fn skip_blank(&mut self) -> Result<(), TokenError> {
        loop {
            self.rest = self.rest.trim_start();
            let rest = self.rest;
            let executed = rest
                .strip_prefix("/*!")
                .or_else(|| rest.strip_prefix("/*M!"));
            if let Some(inside) = executed {
                self.rest = inside.trim_start_matches(|c: char| c.is_ascii_digit());
            } else if let Some(inside) = rest.strip_prefix("/*") {
                let end = inside.find("*/").ok_or(TokenError::Open)?;
                self.rest = &inside[end + 2..];
            } else if let Some(after) = rest.strip_prefix("*/") {
                self.rest = after;
            } else if rest.starts_with('#') || is_line_comment(rest) {
                let end = rest.find('\n').map_or(rest.len(), |end| end + 1);
                self.rest = &rest[end..];
            } else {
                return Ok(());
            }
        }
    }

    /// Something in quotes, which are doubled inside.
    fn quoted(&mut self, quote: char, escapes: bool) -> Result<String, TokenError> {
        let mut content = String::new();
        let mut characters = self.rest.char_indices().skip(1).peekable();
        while let Some((at, character)) = characters.next() {
            if character == quote {
                if characters.peek().is_some_and(|(_, next)| *next == quote) {
                    characters.next();
                } else {
                    self.take(at + quote.len_utf8());
                    return Ok(content);
                }
            } else if character == '\\' && escapes {
                // Which character is meant does not matter here: no name is ever a string.
                characters.next();
            }
            content.push(character);
        }
        Err(TokenError::Open)
    }
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '$') || !character.is_ascii()
}

/// `--` begins a comment only before white space or at the end.
fn is_line_comment(rest: &str) -> bool {
    rest.strip_prefix("--").is_some_and(|after| {
        after
            .chars()
            .next()
            .is_none_or(|c| c.is_whitespace() || c.is_control())
    })
}
