//! The settings of the session that ran a statement, for the session that runs it again. Pure.

use change::DdlSession;
use mysql::session::Engine;

/// Names of the bits of `sql_mode`, which both engines share up to bit 31 but for the gaps
/// (`sql/system_variables.h` of MySQL, `sql/sql_class.h` of MariaDB).
const MODES: [(u32, &str); 22] = [
    (0, "REAL_AS_FLOAT"),
    (1, "PIPES_AS_CONCAT"),
    (2, "ANSI_QUOTES"),
    (3, "IGNORE_SPACE"),
    (4, "IGNORE_BAD_TABLE_OPTIONS"),
    (5, "ONLY_FULL_GROUP_BY"),
    (6, "NO_UNSIGNED_SUBTRACTION"),
    (7, "NO_DIR_IN_CREATE"),
    (18, "ANSI"),
    (19, "NO_AUTO_VALUE_ON_ZERO"),
    (20, "NO_BACKSLASH_ESCAPES"),
    (21, "STRICT_TRANS_TABLES"),
    (22, "STRICT_ALL_TABLES"),
    (23, "NO_ZERO_IN_DATE"),
    (24, "NO_ZERO_DATE"),
    (25, "ALLOW_INVALID_DATES"),
    (26, "ERROR_FOR_DIVISION_BY_ZERO"),
    (27, "TRADITIONAL"),
    (28, "NO_AUTO_CREATE_USER"),
    (29, "HIGH_NOT_PRECEDENCE"),
    (30, "NO_ENGINE_SUBSTITUTION"),
    (31, "PAD_CHAR_TO_FULL_LENGTH"),
];

/// Modes that the other engine does not know and that change nothing in what a DDL statement does.
fn is_harmless(bit: u32) -> bool {
    // IGNORE_BAD_TABLE_OPTIONS; NO_AUTO_CREATE_USER; and of the bits above 31 those for rounding of
    // times and for assignments: MySQL's TIME_TRUNCATE_FRACTIONAL, MariaDB's
    // SIMULTANEOUS_ASSIGNMENT and TIME_ROUND_FRACTIONAL.
    matches!(bit, 4 | 28 | 32 | 33 | 34)
}

/// The `sql_mode` for the target, or the number of the first bit that it does not have.
pub(crate) fn sql_mode(bits: u64, from: Engine, to: Engine) -> Result<String, u32> {
    let mut names = Vec::new();
    for bit in (0..64).filter(|bit| bits >> bit & 1 == 1) {
        let known = MODES.iter().find(|(of_mode, _)| *of_mode == bit);
        let target_has = match bit {
            4 | 28 => to == Engine::MariaDb,
            _ => true,
        };
        match known {
            Some((_, name)) if target_has => names.push(*name),
            // Above bit 31 the engines differ: MariaDB's bit 32 is EMPTY_STRING_IS_NULL.
            _ if is_harmless(bit) && !(bit == 32 && from == Engine::MariaDb) => {}
            _ => return Err(bit),
        }
    }
    names.extend(fractions(bits, from, to));
    Ok(names.join(","))
}

/// What the target must be told to treat digits of seconds as the source did, where an ALTER leaves
/// some out: MySQL rounds unless bit 32 is set, MariaDB only if bit 34 is.
fn fractions(bits: u64, from: Engine, to: Engine) -> Option<&'static str> {
    let rounds = match from {
        Engine::MySql => bits & 1 << 32 == 0,
        Engine::MariaDb => bits & 1 << 34 != 0,
    };
    match (to, rounds) {
        (Engine::MySql, false) => Some("TIME_TRUNCATE_FRACTIONAL"),
        (Engine::MariaDb, true) => Some("TIME_ROUND_FRACTIONAL"),
        _ => None,
    }
}

/// The settings but for character sets, whose names have to be looked up.
pub(crate) fn settings(session: &DdlSession, mode: &str, to: Engine) -> String {
    let on = |flag: bool| u8::from(flag);
    let mut sql = format!(
        "SET SESSION sql_mode='{mode}', foreign_key_checks={}, unique_checks={}",
        on(session.foreign_key_checks),
        on(session.unique_checks)
    );
    if session.started_micros > 0 {
        let (seconds, micros) = (
            session.started_micros / 1_000_000,
            session.started_micros % 1_000_000,
        );
        sql.push_str(&format!(", timestamp={seconds}.{micros:06}"));
    }
    // The target's own would number other rows.
    let (increment, offset) = session.auto_increment.unwrap_or((1, 1));
    sql.push_str(&format!(
        ", auto_increment_increment={increment}, auto_increment_offset={offset}"
    ));
    if let Some(explicit) = session.explicit_defaults_for_timestamp {
        sql.push_str(&format!(
            ", explicit_defaults_for_timestamp={}",
            on(explicit)
        ));
    }
    if !session.time_zone.is_empty() {
        let zone = crate::target::lookup::quote(&session.time_zone);
        sql.push_str(&format!(", time_zone={zone}"));
    }
    // Only MySQL has the setting, with these two values (45 and 255).
    if to == Engine::MySql {
        match session.default_collation_for_utf8mb4 {
            45 => sql.push_str(", default_collation_for_utf8mb4=utf8mb4_general_ci"),
            255 => sql.push_str(", default_collation_for_utf8mb4=utf8mb4_0900_ai_ci"),
            _ => {}
        }
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_named() {
        let to = |bits, from, to| sql_mode(bits, from, to);
        let strict = 1 << 21 | 1 << 30 | 1 << 2;
        assert_eq!(
            to(strict, Engine::MySql, Engine::MariaDb).unwrap(),
            "ANSI_QUOTES,STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION,TIME_ROUND_FRACTIONAL"
        );
        assert_eq!(
            to(1 << 34, Engine::MariaDb, Engine::MySql).unwrap(),
            "",
            "both round"
        );
        assert_eq!(
            to(0, Engine::MariaDb, Engine::MySql).unwrap(),
            "TIME_TRUNCATE_FRACTIONAL"
        );
        // MariaDB's default has NO_AUTO_CREATE_USER, which MySQL 8 removed.
        let default = 1 << 21 | 1 << 26 | 1 << 28 | 1 << 30;
        assert!(
            !to(default, Engine::MariaDb, Engine::MySql)
                .unwrap()
                .contains("NO_AUTO")
        );
        assert!(
            to(default, Engine::MariaDb, Engine::MariaDb)
                .unwrap()
                .contains("NO_AUTO")
        );
        assert_eq!(to(0, Engine::MySql, Engine::MySql).unwrap(), "");
        // ORACLE changes how statements are read.
        assert_eq!(to(1 << 9, Engine::MariaDb, Engine::MySql), Err(9));
        assert_eq!(to(1 << 32, Engine::MariaDb, Engine::MySql), Err(32));
    }

    #[test]
    fn settings_are_those_of_the_statement() {
        let session = DdlSession {
            foreign_key_checks: true,
            started_micros: 1_700_000_000_000_042,
            explicit_defaults_for_timestamp: Some(false),
            time_zone: "Europe/Berlin".into(),
            auto_increment: Some((2, 9)),
            ..DdlSession::default()
        };
        assert_eq!(
            settings(&session, "ANSI_QUOTES", Engine::MariaDb),
            "SET SESSION sql_mode='ANSI_QUOTES', foreign_key_checks=1, unique_checks=0, \
             timestamp=1700000000.000042, auto_increment_increment=2, auto_increment_offset=9, \
             explicit_defaults_for_timestamp=0, \
             time_zone='Europe/Berlin'"
        );
    }
}
