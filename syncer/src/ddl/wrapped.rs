//! `SET STATEMENT … FOR <statement>` of MariaDB: settings for the time of one statement.
//!
//! The binlog holds the whole text. What it does is what the statement behind FOR does, so that one
//! is looked at and sent. Of the settings, some are in the event like those of any session, and some
//! say nothing about the outcome; a statement with any other is not replayed.

use super::classify::Unclear;
use super::tokens::{Token, tokens_with_ends};

/// Settings that the event carries itself, so the target's session is given them anyway.
const CARRIED: [&str; 7] = [
    "FOREIGN_KEY_CHECKS",
    "UNIQUE_CHECKS",
    "TIMESTAMP",
    "TIME_ZONE",
    "AUTO_INCREMENT_INCREMENT",
    "AUTO_INCREMENT_OFFSET",
    "EXPLICIT_DEFAULTS_FOR_TIMESTAMP",
];

/// Settings of time, memory, reading and logging, none of which changes what a statement does.
const WITHOUT_TRACE: [&str; 11] = [
    "MAX_STATEMENT_TIME",
    "ALTER_ALGORITHM",
    "OPTIMIZER_SWITCH",
    "OPTIMIZER_USE_CONDITION_SELECTIVITY",
    "USE_STAT_TABLES",
    "JOIN_CACHE_LEVEL",
    "LOG_QUERIES_NOT_USING_INDEXES",
    "LONG_QUERY_TIME",
    "LOG_SLOW_QUERY",
    "LOG_SLOW_QUERY_TIME",
    "SQL_SAFE_UPDATES",
];

/// A statement without the settings around it.
#[derive(Debug, PartialEq, Eq)]
pub struct Unwrapped {
    /// Where it begins, in bytes; 0: nothing stood around it.
    pub begins: usize,
    /// A setting that the target would lack.
    pub lacking: Option<String>,
}

/// Finds the statement behind the settings, if there are any.
pub fn unwrap(statement: &[u8], sql_mode: u64) -> Result<Unwrapped, Unclear> {
    let tokens =
        tokens_with_ends(statement, sql_mode).map_err(|error| Unclear(error.to_string()))?;
    let mut rest = &tokens[..];
    let mut found = Unwrapped {
        begins: 0,
        lacking: None,
    };
    while let [(set, _), (word, _), after @ ..] = rest
        && set.is("SET")
        && word.is("STATEMENT")
    {
        let end = settings(after, &mut found.lacking)
            .ok_or_else(|| Unclear("SET STATEMENT without its FOR".to_owned()))?;
        found.begins = after[end].1;
        rest = &after[end + 1..];
    }
    Ok(found)
}

/// Where FOR is; on the way there, the settings are looked at.
fn settings(tokens: &[(Token, usize)], lacking: &mut Option<String>) -> Option<usize> {
    let mut depth = 0i32;
    let mut name_comes = true;
    for (at, (token, _)) in tokens.iter().enumerate() {
        match token {
            Token::Symbol('(') => depth += 1,
            Token::Symbol(')') => depth -= 1,
            Token::Symbol(',') if depth == 0 => name_comes = true,
            token if depth == 0 && token.is("FOR") => return Some(at),
            Token::Word(name) | Token::Name(name) if name_comes => {
                name_comes = false;
                if !is_known(name) {
                    lacking.get_or_insert_with(|| name.clone());
                }
            }
            _ => {}
        }
    }
    None
}

fn is_known(setting: &str) -> bool {
    let setting = setting.to_ascii_uppercase();
    CARRIED.contains(&setting.as_str())
        || WITHOUT_TRACE.contains(&setting.as_str())
        || ["_TIMEOUT", "_BUFFER_SIZE", "_CACHE_SIZE", "_BLOCK_SIZE"]
            .iter()
            .any(|end| setting.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(statement: &str) -> (String, Option<String>) {
        let found = unwrap(statement.as_bytes(), 0).unwrap();
        (statement[found.begins..].trim().to_owned(), found.lacking)
    }

    #[test]
    fn what_stands_behind_the_settings_is_found() {
        for (statement, inside, lacking) in [
            ("TRUNCATE t", "TRUNCATE t", None),
            ("SET PASSWORD FOR u = 'x'", "SET PASSWORD FOR u = 'x'", None),
            (
                "SET STATEMENT max_statement_time=10 FOR TRUNCATE t",
                "TRUNCATE t",
                None,
            ),
            (
                "set statement lock_wait_timeout = (SELECT 1 /* FOR */), `foreign_key_checks`=0 \
                 for DROP TABLE `for`",
                "DROP TABLE `for`",
                None,
            ),
            (
                "SET STATEMENT max_statement_time=1 FOR SET STATEMENT sql_mode='FOR' FOR DROP TABLE a",
                "DROP TABLE a",
                Some("sql_mode"),
            ),
            (
                "SET STATEMENT server_id = 7 FOR DROP TABLE 表",
                "DROP TABLE 表",
                Some("server_id"),
            ),
        ] {
            let expected = (inside.to_owned(), lacking.map(str::to_owned));
            assert_eq!(read(statement), expected, "{statement}");
        }
        assert!(unwrap(b"SET STATEMENT max_statement_time=1", 0).is_err());
    }
}
