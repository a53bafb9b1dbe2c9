//! What to do about a DDL statement. Pure.

use change::{Ddl, Gtid, ServerUuid};
use model::IdcName;
use sha2::{Digest as _, Sha256};

use crate::sql::dialect;

/// Whether a statement must be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It has not run.
    Run,
    /// It has run.
    HasRun,
    /// It cannot be told; what was seen.
    Ambiguous(&'static str),
}

/// What was recorded before a statement ran, in `multiactive.ddl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Intent {
    /// Hash of the definitions before.
    pub before: String,
}

/// Decides on MySQL, where the statement runs under a GTID of its own: the server records the GTID
/// together with the statement's work, in one atomic step, so the GTID tells all. A GTID that is
/// taken though nothing was ever recorded is somebody else's (a source that was built anew and
/// counts from 1 again); then the server would skip the statement without a word.
pub(crate) fn on_mysql(intent: Option<&Intent>, gtid_executed: bool) -> Decision {
    match intent {
        Some(_) if gtid_executed => Decision::HasRun,
        None if gtid_executed => {
            Decision::Ambiguous("its GTID was used at the target for something else before")
        }
        Some(_) | None => Decision::Run,
    }
}

/// Decides on MariaDB. Two witnesses: the binlog state names the number under which the statement
/// was to be logged, and the definitions are as before or not.
///
/// Since MariaDB 10.6 a single DDL statement is atomic, and recovery makes data dictionary and
/// binlog agree. So: logged means done. Not logged and nothing changed means not done; a statement
/// that leaves the definitions as they are (ANALYZE, a TRUNCATE of what is empty, a statement with
/// IF NOT EXISTS) may be run twice. Not logged and yet changed is a statement on several objects
/// that a crash of the server has cut, or somebody else's work: a person has to look.
pub(crate) fn on_mariadb(intent: Option<&Intent>, logged: bool, now: &str) -> Decision {
    match intent {
        None => Decision::Run,
        Some(_) if logged => Decision::HasRun,
        Some(intent) if intent.before == now => Decision::Run,
        Some(_) => {
            Decision::Ambiguous("the definitions differ from before, yet its binlog lacks it")
        }
    }
}

/// Why a statement must not be replayed, if so.
pub(crate) fn refusal(ddl: &Ddl) -> Option<String> {
    let verb = ddl.verb.to_ascii_uppercase();
    let has = |word: &str| verb.split_whitespace().any(|of_verb| of_verb == word);
    let by_hand = "Do at the target by hand what it needs, then skip it";
    if has("TRIGGER") && !has("DROP") {
        return Some(format!(
            "a trigger's effects arrive from the source as rows of their own and would happen twice. \
             {by_hand}; tables with triggers must be excluded from the link"
        ));
    }
    if has("EVENT") && !has("DROP") {
        return Some(format!(
            "a server's event would run on both sides, and its effects would happen twice. Create it \
             at the target as DISABLED. {by_hand}"
        ));
    }
    if verb == "ALTER TABLE" {
        return chance(&ddl.statement).map(|function| {
            format!(
                "it adds a column and calls {function}(), whose values would be others at the \
                 target than those that the source's rows were given. {by_hand}: add the column \
                 with the source's values. From now on add such a column without the function, set \
                 it with UPDATE, and then ALTER COLUMN ... SET DEFAULT"
            )
        });
    }
    None
}

/// Functions whose value is another one each time or on each server, in both engines; `NOW()` and its
/// kin are not among them, since a statement is run at the source's time.
const CHANCE: [&str; 9] = [
    "CONNECTION_ID",
    "CURRENT_USER",
    "RAND",
    "RANDOM_BYTES",
    "SYSDATE",
    "SYS_GUID",
    "USER",
    "UUID",
    "UUID_SHORT",
];

/// The first such function that is called in a statement that adds something: it would be called for
/// the rows that are there.
fn chance(statement: &[u8]) -> Option<&'static str> {
    let words = dialect::words(statement);
    let is = |word: &[u8], name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    if !words.iter().any(|(word, _)| is(word, "ADD")) {
        return None;
    }
    // An index may be called `uuid`, but its columns are no numbers.
    let is_called = |behind: &[u8]| {
        let behind = behind.trim_ascii_start().strip_prefix(b"(");
        let argument = |byte: &&u8| byte.is_ascii_digit() || byte.is_ascii_whitespace();
        behind.is_some_and(|inside| inside.iter().find(|byte| !argument(byte)) == Some(&b')'))
    };
    CHANCE.into_iter().find(|name| {
        let mut calls = words.iter().filter(|(word, _)| is(word, name));
        calls.any(|(_, behind)| is_called(behind))
    })
}

/// The GTID under which a source's statement runs on a MySQL target.
///
/// Its tag says where the statement was born, so that it is not sent back. It is unique, since the
/// source's GTID is. It never meets one that the target gives out itself: those bear the target's
/// own UUID. What is not `uuid:number` at the source (a tag of an application, MariaDB's numbers)
/// gets a UUID made of everything but the number.
pub(crate) fn derived_gtid(gtid: &Gtid, origin: &IdcName) -> String {
    let tag = mysql::origin::origin_tag(origin);
    let (uuid, number) = match gtid {
        Gtid::MySql(gtid) if gtid.tag.is_empty() => (gtid.uuid, gtid.number),
        Gtid::MySql(gtid) => (
            made_uuid(&format!("{}:{}", gtid.uuid, gtid.tag)),
            gtid.number,
        ),
        Gtid::MariaDb(gtid) => (
            made_uuid(&format!("{origin}:{}-{}", gtid.domain, gtid.server)),
            gtid.sequence,
        ),
    };
    format!("{uuid}:{tag}:{number}")
}

/// A UUID of version 8 (RFC 9562: the maker's own scheme) from a text.
fn made_uuid(text: &str) -> ServerUuid {
    let digest = Sha256::digest(format!("multiactive ddl {text}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[6] = 0x80 | bytes[6] & 0x0f;
    bytes[8] = 0x80 | bytes[8] & 0x3f;
    ServerUuid(bytes)
}

/// The last number of a domain and server in MariaDB's `gtid_binlog_state`, and of the domain.
pub(crate) fn last_numbers(state: &str, domain: u32, server: u32) -> (u64, u64) {
    let (mut of_server, mut of_domain) = (0, 0);
    for gtid in state.split(',') {
        let mut parts = gtid.trim().split('-').map(str::parse::<u64>);
        let mut next = || parts.next()?.ok();
        let (Some(d), Some(s), Some(number)) = (next(), next(), next()) else {
            continue;
        };
        if d == u64::from(domain) {
            of_domain = number.max(of_domain);
            if s == u64::from(server) {
                of_server = number.max(of_server);
            }
        }
    }
    (of_server, of_domain)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use change::DdlSession;

    use super::*;

    fn intent(before: &str) -> Intent {
        Intent {
            before: before.to_owned(),
        }
    }

    #[test]
    fn chance_is_told_from_names() {
        for (statement, function) in [
            (
                "ALTER TABLE t ADD COLUMN u CHAR(36) DEFAULT (UUID())",
                Some("UUID"),
            ),
            (
                "alter table t add r double default (rand ( ) * 2)",
                Some("RAND"),
            ),
            (
                "ALTER TABLE t ADD c DATETIME(6) DEFAULT (SYSDATE( 6 ))",
                Some("SYSDATE"),
            ),
            (
                "ALTER TABLE t ADD COLUMN uuid CHAR(36), ADD INDEX uuid (uuid)",
                None,
            ),
            ("ALTER TABLE t ADD COLUMN user INT COMMENT 'uuid()'", None),
            ("ALTER TABLE t ALTER COLUMN u SET DEFAULT (UUID())", None),
            ("ALTER TABLE t ADD c DATETIME DEFAULT NOW()", None),
        ] {
            assert_eq!(chance(statement.as_bytes()), function, "{statement}");
        }
    }

    #[test]
    fn on_mysql_the_gtid_tells_all() {
        assert_eq!(on_mysql(None, false), Decision::Run);
        assert_eq!(on_mysql(Some(&intent("a")), false), Decision::Run);
        assert_eq!(on_mysql(Some(&intent("a")), true), Decision::HasRun);
        assert!(matches!(on_mysql(None, true), Decision::Ambiguous(_)));
    }

    #[test]
    fn on_mariadb_the_binlog_and_the_definitions_tell() {
        assert_eq!(on_mariadb(None, false, "a"), Decision::Run);
        assert_eq!(on_mariadb(Some(&intent("a")), false, "a"), Decision::Run);
        assert_eq!(on_mariadb(Some(&intent("a")), true, "b"), Decision::HasRun);
        assert_eq!(on_mariadb(Some(&intent("a")), true, "a"), Decision::HasRun);
        assert!(matches!(
            on_mariadb(Some(&intent("a")), false, "b"),
            Decision::Ambiguous(_)
        ));
    }

    #[test]
    fn derived_gtids_are_marked_and_distinct() {
        let sh = IdcName::new("sh").unwrap();
        let derive = |gtid: &str| derived_gtid(&gtid.parse().unwrap(), &sh);
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        assert_eq!(derive(&format!("{uuid}:7")), format!("{uuid}:ma_sh:7"));
        let mut all = vec![
            derive(&format!("{uuid}:7")),
            derive(&format!("{uuid}:payroll:7")),
            derive("0-1-7"),
            derive("0-2-7"),
            derive("1-1-7"),
            derive("0-1-8"),
        ];
        assert!(
            all.iter()
                .all(|gtid| gtid.contains(":ma_sh:") && gtid.parse::<Gtid>().is_ok())
        );
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 6);
    }

    #[test]
    fn the_binlog_state_is_read() {
        let state = "1-1-100,7-1-20,7-1835099236-19,71142001-2-5";
        assert_eq!(last_numbers(state, 7, 1_835_099_236), (19, 20));
        assert_eq!(last_numbers(state, 9, 1), (0, 0));
        assert_eq!(last_numbers("", 9, 1), (0, 0));
    }

    #[test]
    fn what_would_act_twice_is_refused() {
        let ddl = |verb: &str| Ddl {
            database: String::new(),
            statement: Bytes::new(),
            verb: verb.to_owned(),
            objects: Vec::new(),
            session: DdlSession::default(),
            refused: None,
        };
        assert!(refusal(&ddl("CREATE TRIGGER")).is_some());
        assert!(refusal(&ddl("CREATE EVENT")).is_some());
        assert!(refusal(&ddl("ALTER EVENT")).is_some());
        assert!(refusal(&ddl("DROP TRIGGER")).is_none());
        assert!(refusal(&ddl("ALTER TABLE")).is_none());
    }
}
