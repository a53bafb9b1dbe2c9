//! Reading along a row of tokens.

use super::classify::{Object, Scope, Unclear};
use super::tokens::Token;

/// The tokens that were not read yet.
pub struct Words<'a> {
    tokens: &'a [Token],
    /// The session's default database; empty: none.
    default_database: &'a str,
}

impl<'a> Words<'a> {
    pub fn new(tokens: &'a [Token], default_database: &'a str) -> Self {
        Self {
            tokens,
            default_database,
        }
    }

    pub fn peek(&self) -> Option<&'a Token> {
        self.tokens.first()
    }

    pub fn is(&self, keyword: &str) -> bool {
        self.peek().is_some_and(|token| token.is(keyword))
    }

    pub fn next(&mut self) -> Option<&'a Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first)
    }

    /// Passes over a keyword, if it is next.
    pub fn skip(&mut self, keyword: &str) -> bool {
        let found = self.is(keyword);
        if found {
            self.next();
        }
        found
    }

    /// Passes over a row of keywords, if all are next.
    pub fn skip_all(&mut self, keywords: &[&str]) -> bool {
        let found = self.tokens.len() >= keywords.len()
            && self
                .tokens
                .iter()
                .zip(keywords)
                .all(|(token, keyword)| token.is(keyword));
        if found {
            self.tokens = &self.tokens[keywords.len()..];
        }
        found
    }

    pub fn symbol(&mut self, symbol: char) -> bool {
        let found = self.peek() == Some(&Token::Symbol(symbol));
        if found {
            self.next();
        }
        found
    }

    /// Moves on until this keyword was read, outside of parentheses.
    pub fn find(&mut self, keyword: &str) -> bool {
        let mut depth = 0i32;
        while let Some(token) = self.next() {
            match token {
                Token::Symbol('(') => depth += 1,
                Token::Symbol(')') => depth -= 1,
                token if depth == 0 && token.is(keyword) => return true,
                _ => {}
            }
        }
        false
    }

    fn part(&mut self) -> Result<&'a str, Unclear> {
        match self.next() {
            Some(Token::Word(name) | Token::Name(name)) => Ok(name),
            other => Err(Unclear::name(other)),
        }
    }

    /// `name` or `database.name`.
    pub fn object(&mut self, scope: Scope) -> Result<Object, Unclear> {
        let first = self.part()?;
        let (database, name) = if self.symbol('.') {
            (first, self.part()?)
        } else if self.default_database.is_empty() {
            return Err(Unclear(format!("{first} has no database")));
        } else {
            (self.default_database, first)
        };
        Ok(Object {
            database: database.to_owned(),
            name: Some(name.to_owned()),
            scope,
        })
    }

    /// A database's name.
    pub fn database(&mut self) -> Result<Object, Unclear> {
        let name = self.part()?;
        Ok(Object {
            database: name.to_owned(),
            name: None,
            scope: Scope::Other,
        })
    }

    /// The default database.
    pub fn default_database(&self) -> Result<Object, Unclear> {
        if self.default_database.is_empty() {
            return Err(Unclear(
                "it names no database and the session has none".to_owned(),
            ));
        }
        let database = self.default_database.to_owned();
        Ok(Object {
            database,
            name: None,
            scope: Scope::Other,
        })
    }

    /// `IF EXISTS` or `IF NOT EXISTS`.
    pub fn skip_if(&mut self) {
        if !self.skip_all(&["IF", "NOT", "EXISTS"]) {
            self.skip_all(&["IF", "EXISTS"]);
        }
    }

    /// Names between commas.
    pub fn list(&mut self, scope: Scope) -> Result<Vec<Object>, Unclear> {
        let mut objects = vec![self.object(scope)?];
        while self.symbol(',') {
            objects.push(self.object(scope)?);
        }
        Ok(objects)
    }
}
