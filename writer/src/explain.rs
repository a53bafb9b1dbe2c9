//! What the target's answer to a statement means, in words. Pure.

use std::fmt::Display;
use std::str::FromStr;

use change::{Row, Value};

use crate::error::{Conflict, ConflictKind, WriterError};
use crate::sql::json;
use crate::sql::literal::Form;
use crate::sql::plan::{Statement, Subject, Verb, describe_row};
use crate::target::session::Cause;
use crate::target::table::Mapping;

/// What an error of the driver means for a statement.
pub(crate) fn driver(error: mysql_async::Error, statement: &Statement, gtid: &str) -> WriterError {
    let (kind, detail) = match (&error, &statement.subject) {
        (mysql_async::Error::Server(server), Subject::Rows { verb, .. }) => {
            match kind_of(server.code, &server.message, *verb) {
                Some(kind) => (kind, format!("{} (error {})", server.message, server.code)),
                None => {
                    return WriterError::RowRefused {
                        doing: doing(statement),
                        gtid: gtid.to_owned(),
                        source: error,
                    };
                }
            }
        }
        _ => return crate::target::session::failed(&doing(statement), error),
    };
    conflict(kind, statement, gtid, detail)
}

fn doing(statement: &Statement) -> String {
    match &statement.subject {
        Subject::Rows { table, key, .. } => {
            let key = key
                .as_ref()
                .map(|key| format!(" at {key}"))
                .unwrap_or_default();
            format!("applying a change of {}{key}", table.told)
        }
        Subject::Checkpoint => "writing to multiactive.applied".to_owned(),
        Subject::Epoch => "reading multiactive.epoch".to_owned(),
        Subject::Wish => "writing to multiactive.skips".to_owned(),
        Subject::Housekeeping => "preparing a transaction".to_owned(),
    }
}

/// The kind of conflict that a server error is; codes as in both engines' error lists.
fn kind_of(code: u16, message: &str, verb: Verb) -> Option<ConflictKind> {
    match code {
        // Duplicate entry. MySQL names the key `table.PRIMARY`, MariaDB `PRIMARY`.
        1062 | 1586 => {
            let primary = message.ends_with("'PRIMARY'") || message.ends_with(".PRIMARY'");
            Some(match verb {
                Verb::Insert if primary => ConflictKind::InsertExists,
                _ => ConflictKind::UniqueClash,
            })
        }
        // Foreign key constraints.
        1216 | 1217 | 1451 | 1452 | 1761 | 1762 => Some(ConflictKind::ForeignKey),
        // Out of range, incorrect or truncated value, too long, NULL where it is not allowed,
        // check constraint, invalid JSON, invalid geometry, generated column.
        1048
        | 1264..=1267
        | 1292
        | 1300
        | 1364
        | 1366
        | 1367
        | 1406
        | 1416
        | 1411
        | 3140
        | 3141
        | 3819
        | 4025
        | 4026 => Some(ConflictKind::ValueRefused),
        _ => None,
    }
}

/// What a wrong number of rows means.
pub(crate) fn mismatch(cause: &Cause, statement: &Statement, gtid: &str) -> WriterError {
    let Subject::Rows { verb, .. } = &statement.subject else {
        return epoch_of_two(&format!("transaction {gtid}"));
    };
    let kind = match verb {
        Verb::Update => ConflictKind::UpdateMissing,
        Verb::Delete => ConflictKind::DeleteMissing,
        Verb::Insert | Verb::Put => ConflictKind::InsertExists,
    };
    let detail = match cause {
        Cause::Rows { expected, found } => {
            format!("{found} row(s) were found where {expected} must be")
        }
        Cause::Warnings => "the server warned that it stored another value".to_owned(),
        Cause::Answer | Cause::Driver(_) => "the server answered otherwise than it must".to_owned(),
    };
    let kind = if matches!(cause, Cause::Warnings) {
        ConflictKind::ValueRefused
    } else {
        kind
    };
    conflict(kind, statement, gtid, detail)
}

/// One epoch, and the two sides do not agree whose.
pub(crate) fn epoch_of_two(what: &str) -> WriterError {
    WriterError::Unexpected {
        what: format!("{what}, with an epoch that another IDC holds at the target"),
        fix:
            "one epoch is never two IDCs'; compare multiactive.epoch on both sides and with mactl \
              history, and remove the row that is wrong"
                .to_owned(),
    }
}

/// What a warning means.
pub(crate) fn warning(statement: &Statement, gtid: &str, text: &str) -> WriterError {
    conflict(ConflictKind::ValueRefused, statement, gtid, text.to_owned())
}

/// Refuses values that the target would keep as others without a word: documents, and numbers with more
/// digits than the column keeps.
pub(crate) fn losses<'a>(
    rows: impl Iterator<Item = &'a Row>,
    mapping: &Mapping,
    gtid: &str,
) -> Result<(), WriterError> {
    let may_lose = |form: Form| matches!(form, Form::Json | Form::Rounded(_));
    if !mapping.columns.iter().any(|column| may_lose(column.form)) {
        return Ok(());
    }
    for row in rows {
        for column in &mapping.columns {
            let Some(loss) = loss(&row[column.index], column.form) else {
                continue;
            };
            return Err(Conflict {
                kind: ConflictKind::ValueRefused,
                table: mapping.told.clone(),
                key: describe_row(row, mapping, true),
                gtid: gtid.to_owned(),
                detail: format!("column {}: {loss}", column.name),
            }
            .into());
        }
    }
    Ok(())
}

fn loss(value: &Value, form: Form) -> Option<String> {
    match (value, form) {
        (Value::Text(text) | Value::Json(text), Form::Json) => {
            let loss = json::loss(text)?;
            Some(format!(
                "{loss}; a column of the type LONGTEXT keeps the document as it is"
            ))
        }
        (Value::Float(number), Form::Rounded(digits)) => rounded(&number.get(), digits),
        (Value::Double(number), Form::Rounded(digits)) => rounded(&number.get(), digits),
        _ => None,
    }
}

/// What is lost of a number by so many digits behind the point.
fn rounded<N: Display + FromStr + PartialEq>(number: &N, digits: u8) -> Option<String> {
    let places = usize::from(digits);
    let kept = format!("{number:.places$}")
        .parse()
        .is_ok_and(|kept: N| kept == *number);
    (!kept).then(|| {
        format!(
            "{number} would be rounded to the {digits} digits behind the point that the column keeps"
        )
    })
}

fn conflict(kind: ConflictKind, statement: &Statement, gtid: &str, detail: String) -> WriterError {
    let (table, key) = match &statement.subject {
        Subject::Rows { table, key, .. } => (table.told.clone(), key.clone()),
        _ => ("multiactive.epoch".to_owned(), None),
    };
    let key = key.unwrap_or_else(|| "one of several rows".to_owned());
    Conflict {
        kind,
        table,
        key,
        gtid: gtid.to_owned(),
        detail,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_lose_digits_are_told() {
        let double = |number: f64| loss(&Value::Double(number.into()), Form::Rounded(2));
        let float = |number: f32| loss(&Value::Float(number.into()), Form::Rounded(2));
        for kept in [0.0, -0.0, 1.25, -0.07, 1e15, 123_456_789.01] {
            assert_eq!(double(kept), None, "{kept}");
        }
        for kept in [0.0, 1.25, -0.07, 12_345.67] {
            assert_eq!(float(kept), None, "{kept}");
        }
        for lost in [0.001, 1.255, -123.456] {
            assert!(
                double(lost).is_some_and(|it| it.contains("2 digits")),
                "{lost}"
            );
        }
        assert!(float(0.001).is_some());
        assert_eq!(loss(&Value::Double(0.001.into()), Form::Plain), None);
    }

    #[test]
    fn duplicates_are_told_apart_on_both_engines() {
        for primary in [
            "Duplicate entry '1' for key 'PRIMARY'",
            "Duplicate entry '1' for key 't.PRIMARY'",
        ] {
            assert_eq!(
                kind_of(1062, primary, Verb::Insert),
                Some(ConflictKind::InsertExists)
            );
            assert_eq!(
                kind_of(1062, primary, Verb::Update),
                Some(ConflictKind::UniqueClash)
            );
        }
        let unique = "Duplicate entry 'a' for key 't.by_name'";
        assert_eq!(
            kind_of(1062, unique, Verb::Insert),
            Some(ConflictKind::UniqueClash)
        );
        assert_eq!(
            kind_of(1452, "", Verb::Insert),
            Some(ConflictKind::ForeignKey)
        );
        assert_eq!(kind_of(1213, "", Verb::Insert), None);
    }
}
