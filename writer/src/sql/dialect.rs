//! Definitions of one engine in words that the other one knows. Pure.

use std::borrow::Cow;

use mysql::session::Engine;

/// Collations of MySQL 8 and what MariaDB (10.10 and later) has for them, by MariaDB's own choice:
/// 11.4.5 and later take the first name for the second (MDEV-20912). Both are of Unicode's
/// algorithm without padding, MySQL's in its version 9.0 and MariaDB's in 14.0. Should two values
/// be equal in one and not in the other, the unique key that minds halts the link.
const COLLATIONS: [(&str, &str); 4] = [
    ("utf8mb4_0900_ai_ci", "utf8mb4_uca1400_nopad_ai_ci"),
    ("utf8mb4_0900_as_ci", "utf8mb4_uca1400_nopad_as_ci"),
    ("utf8mb4_0900_as_cs", "utf8mb4_uca1400_nopad_as_cs"),
    ("utf8mb4_0900_bin", "utf8mb4_nopad_bin"),
];

/// How MySQL prints that a column is invisible. MariaDB knows the word, and takes comments for
/// versions of MySQL from 5.7 on for comments: the column would be visible there without a word.
const INVISIBLE: &[u8] = b"/*!80023 INVISIBLE */";

/// What the target calls a collation of the source.
pub(crate) fn collation(name: &str, target: Engine) -> Option<&'static str> {
    COLLATIONS.iter().find_map(|(mysql, mariadb)| {
        let (theirs, ours) = match target {
            Engine::MySql => (*mariadb, *mysql),
            Engine::MariaDb => (*mysql, *mariadb),
        };
        theirs.eq_ignore_ascii_case(name).then_some(ours)
    })
}

/// A statement with the names of collations that the target calls otherwise replaced. Only bare
/// words are looked at, not what stands in quotes or in comments of people; what stands in comments
/// for the server (`/*!40100 ... */`) is.
///
/// `statement` must be in a character set in which bytes below 128 are ASCII and nothing else.
pub(crate) fn translate(statement: &[u8], target: Engine) -> Cow<'_, [u8]> {
    rewrite(statement, target, |name| collation(name, target))
}

/// The same for a statement that a server has printed: its names are in quotes, so that a bare word
/// is never the name of a table or column.
pub(crate) fn translate_printed(statement: &[u8], target: Engine) -> Cow<'_, [u8]> {
    let renamed = rewrite(statement, target, |name| {
        // Both know the longer name, and MySQL prints the shorter one.
        let is_collection = name.eq_ignore_ascii_case("geomcollection");
        if is_collection {
            Some("geometrycollection")
        } else {
            collation(name, target)
        }
    });
    match target {
        Engine::MySql => Cow::Owned(with_called_defaults(&renamed)),
        Engine::MariaDb => renamed,
    }
}

/// MariaDB prints the call of a function as a default as it is, MySQL takes it in brackets only. Of the
/// current time both print the same, and MySQL takes that without.
fn with_called_defaults(statement: &[u8]) -> Vec<u8> {
    const KEYWORD: &[u8] = b"DEFAULT ";
    let mut out = Vec::with_capacity(statement.len());
    let mut at = 0;
    while at < statement.len() {
        let rest = &statement[at..];
        let length = match rest.iter().position(|byte| !is_word(*byte)) {
            Some(0) => skip(rest),
            Some(length) => length,
            None => rest.len(),
        };
        let behind = rest.strip_prefix(KEYWORD).unwrap_or_default();
        if let Some(call) = call(behind) {
            out.extend_from_slice(KEYWORD);
            out.push(b'(');
            out.extend_from_slice(&behind[..call]);
            out.push(b')');
            at += KEYWORD.len() + call;
        } else {
            out.extend_from_slice(&rest[..length]);
            at += length;
        }
    }
    out
}

/// The length of a call with which a text begins, if it does; of the current time it is none.
fn call(text: &[u8]) -> Option<usize> {
    let name = text.iter().position(|byte| !is_word(*byte))?;
    let is_now = text[..name].eq_ignore_ascii_case(b"current_timestamp");
    if name == 0 || text[name] != b'(' || is_now {
        return None;
    }
    let (mut at, mut depth) = (name, 0);
    while at < text.len() {
        match text[at] {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        at += skip(&text[at..]);
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

fn rewrite(
    statement: &[u8],
    target: Engine,
    ours: impl Fn(&str) -> Option<&'static str>,
) -> Cow<'_, [u8]> {
    let mut out: Vec<u8> = Vec::new();
    let (mut copied, mut at) = (0, 0);
    while at < statement.len() {
        let rest = &statement[at..];
        if target == Engine::MariaDb && rest.starts_with(INVISIBLE) {
            out.extend_from_slice(&statement[copied..at]);
            out.extend_from_slice(b"INVISIBLE");
            at += INVISIBLE.len();
            copied = at;
        } else if is_word(rest[0]) {
            let length = rest
                .iter()
                .position(|byte| !is_word(*byte))
                .unwrap_or(rest.len());
            let name = std::str::from_utf8(&rest[..length]).ok();
            if let Some(ours) = name.and_then(&ours) {
                out.extend_from_slice(&statement[copied..at]);
                out.extend_from_slice(ours.as_bytes());
                copied = at + length;
            }
            at += length;
        } else {
            at += skip(rest);
        }
    }
    if copied == 0 {
        return Cow::Borrowed(statement);
    }
    out.extend_from_slice(&statement[copied..]);
    Cow::Owned(out)
}

/// The bare words of a statement, those in comments for the server included, each with what
/// follows it.
pub(crate) fn words(statement: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(first) = statement.get(at) {
        let rest = &statement[at..];
        at += if is_word(*first) {
            let length = rest.iter().position(|byte| !is_word(*byte));
            let length = length.unwrap_or(rest.len());
            words.push(rest.split_at(length));
            length
        } else {
            skip(rest)
        };
    }
    words
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 128
}

/// The length of what is not to be looked into: a quoted text, a comment, or one byte.
fn skip(rest: &[u8]) -> usize {
    let until = |end: &[u8], from: usize| {
        rest[from..]
            .windows(end.len())
            .position(|window| window == end)
            .map_or(rest.len(), |at| from + at + end.len())
    };
    match rest {
        [quote @ (b'\'' | b'"' | b'`'), ..] => quoted(rest, *quote),
        [b'#', ..] | [b'-', b'-', b' ' | b'\t' | b'\n', ..] => until(b"\n", 1),
        [b'/', b'*', b'!', ..] | [b'/', b'*', b'M', b'!', ..] => 2,
        [b'/', b'*', ..] => until(b"*/", 2),
        _ => 1,
    }
}

/// A doubled quote ends one text and begins the next, which comes to the same.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' if quote != b'`' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn to_mariadb(statement: &str) -> String {
        String::from_utf8(translate(statement.as_bytes(), Engine::MariaDb).into_owned()).unwrap()
    }

    #[test]
    fn bare_names_are_replaced() {
        assert_eq!(
            to_mariadb(
                "CREATE DATABASE `a` /*!40100 DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci */"
            ),
            "CREATE DATABASE `a` /*!40100 DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_uca1400_nopad_ai_ci */"
        );
        assert_eq!(
            to_mariadb("... COLLATE=UTF8MB4_0900_BIN COMMENT='x'"),
            "... COLLATE=utf8mb4_nopad_bin COMMENT='x'"
        );
        assert_eq!(
            translate(b"COLLATE utf8mb4_uca1400_nopad_as_cs", Engine::MySql).as_ref(),
            b"COLLATE utf8mb4_0900_as_cs"
        );
    }

    #[test]
    fn printed_types_are_known_on_both() {
        let printed = "`geomcollection` geomcollection DEFAULT NULL";
        assert_eq!(
            translate_printed(printed.as_bytes(), Engine::MariaDb).as_ref(),
            b"`geomcollection` geometrycollection DEFAULT NULL"
        );
        assert_eq!(to_mariadb(printed), printed, "it may be a name");
    }

    #[test]
    fn calls_as_defaults_are_in_brackets_for_mysql() {
        let to_mysql = |printed: &str| {
            let translated = translate_printed(printed.as_bytes(), Engine::MySql);
            String::from_utf8(translated.into_owned()).unwrap()
        };
        assert_eq!(
            to_mysql("`DEFAULT f()` text DEFAULT ucase(concat(')',`a`)) COMMENT 'DEFAULT f()',"),
            "`DEFAULT f()` text DEFAULT (ucase(concat(')',`a`))) COMMENT 'DEFAULT f()',"
        );
        for printed in [
            "`a` int(11) DEFAULT (1 + 1)",
            "`a` datetime(6) DEFAULT current_timestamp(6) ON UPDATE current_timestamp(6)",
            "`a` text DEFAULT _utf8mb4'x(' DEFAULT NULL) DEFAULT CHARSET=utf8mb4",
            "`a` int DEFAULT ucase(",
        ] {
            assert_eq!(to_mysql(printed), printed);
            assert_eq!(to_mariadb(printed), printed);
        }
    }

    #[test]
    fn invisible_columns_stay_invisible() {
        let printed = "`a` int /*!80023 INVISIBLE */ COMMENT '/*!80023 INVISIBLE */'";
        assert_eq!(
            to_mariadb(printed),
            "`a` int INVISIBLE COMMENT '/*!80023 INVISIBLE */'"
        );
        assert_eq!(
            translate(printed.as_bytes(), Engine::MySql).as_ref(),
            printed.as_bytes()
        );
    }

    #[test]
    fn quotes_and_comments_stay() {
        for text in [
            "COMMENT 'utf8mb4_0900_ai_ci'",
            "COMMENT 'it''s utf8mb4_0900_ai_ci'",
            r"COMMENT 'a\' utf8mb4_0900_ai_ci'",
            "`utf8mb4_0900_ai_ci` INT",
            "/* utf8mb4_0900_ai_ci */ SELECT 1",
            "SELECT 1 -- utf8mb4_0900_ai_ci",
            "utf8mb4_0900_ai_ci_x",
        ] {
            assert_eq!(to_mariadb(text), text);
        }
    }

    proptest! {
        #[test]
        fn anything_is_survived(statement: Vec<u8>) {
            let _ = translate(&statement, Engine::MariaDb);
            let _ = translate_printed(&statement, Engine::MySql);
        }

        #[test]
        fn what_names_no_collation_stays(statement in "[a-z'\"`#/*! \\\\-]{0,60}") {
            prop_assert_eq!(to_mariadb(&statement), statement);
        }
    }
}
