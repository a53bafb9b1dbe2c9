//! What goes on a link, by tables, statements and origins.

use change::DdlSession;
use model::TableSelection;

use super::*;

fn filter(ddl: DdlPolicy) -> LinkFilter {
    let idc = |name: &str| IdcName::new(name).unwrap();
    let tables = TableSelection {
        exclude: vec!["orders.tmp_*".into()],
        ..Default::default()
    };
    LinkFilter {
        origins: Arc::new(Origins::new(&idc("sh"), &[idc("sh"), idc("bj")]).unwrap()),
        selection: Arc::new(Selection::new(vec!["orders".into()], tables)),
        ddl,
        relay_to: None,
    }
}

#[test]
fn a_link_that_relays_sends_all_but_its_target_s() {
    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    let relays = LinkFilter {
        relay_to: Some(IdcName::new("bj").unwrap()),
        ..filter(DdlPolicy::Apply)
    };
    let domain = |idc: &str| mysql::origin::origin_domain(&IdcName::new(idc).unwrap());
    let birth = |filter: &LinkFilter, gtid: &str| {
        let birth = filter.birth(&gtid.parse().unwrap()).ok()?;
        Some((birth.idc, birth.local, birth.relayed))
    };
    let told = |idc: &str, local, relayed| Some((idc.to_owned(), local, relayed));
    for (gtid, expected) in [
        (format!("{UUID}:7"), told("sh", true, false)),
        (format!("{UUID}:ma_gz:7"), told("sh", true, true)),
        (format!("{UUID}:ma_bj:7"), told("bj", false, false)),
        // It has come back to where it was born.
        (format!("{UUID}:ma_sh:7"), None),
        // Which of MariaDB's domains are marks is not known.
        ("0-1-7".to_owned(), told("sh", true, true)),
        (format!("{}-1-7", domain("gz")), told("sh", true, true)),
        (format!("{}-1-7", domain("bj")), told("bj", false, false)),
        (format!("{}-1-7", domain("sh")), None),
    ] {
        assert_eq!(birth(&relays, &gtid), expected, "{gtid}");
    }
    let own = filter(DdlPolicy::Apply);
    assert_eq!(birth(&own, &format!("{UUID}:ma_gz:7")), None);
    assert_eq!(
        birth(&own, &format!("{UUID}:ma_bj:7")),
        told("bj", false, false)
    );
}

fn query(statement: &str) -> QueryEvent {
    query_in("orders", statement)
}

fn query_in(database: &str, statement: &str) -> QueryEvent {
    QueryEvent {
        database: database.into(),
        statement: Bytes::copy_from_slice(statement.as_bytes()),
        error: 0,
        session: DdlSession::default(),
        unknown_setting: None,
    }
}

fn decide(statement: &str, ddl: DdlPolicy) -> String {
    match filter(ddl).statement(&query(statement)) {
        StatementUse::Skip => "skip".into(),
        StatementUse::Leave { verb, .. } => format!("leave {verb}"),
        StatementUse::Send { verb, .. } => format!("send {verb}"),
        StatementUse::Refuse { refusal, .. } => format!("refuse {}", refusal.reason),
    }
}

#[test]
fn statements_are_sent_by_what_they_touch() {
    let cases = [
        ("ALTER TABLE items ADD c INT", "send ALTER TABLE"),
        ("ALTER TABLE tmp_x ADD c INT", "skip"),
        ("ALTER TABLE other.t ADD c INT", "skip"),
        ("DROP TABLE items, other.t", "refuse DdlAcrossSelection"),
        ("RENAME TABLE tmp_x TO items", "refuse DdlAcrossSelection"),
        ("DROP DATABASE orders", "refuse DropsMore"),
        ("DROP DATABASE other", "skip"),
        ("CREATE USER u", "skip"),
        ("DROP TABLE multiactive.applied", "skip"),
        ("INSERT INTO other.t VALUES (1)", "refuse StatementFormat"),
        (
            "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1",
            "refuse ServerEvent",
        ),
        ("CREATE SEQUENCE s", "refuse Sequence"),
        ("DROP SEQUENCE tmp_s", "skip"),
        ("SHAKE TABLE items", "refuse UnknownStatement"),
    ];
    for (statement, expected) in cases {
        assert_eq!(decide(statement, DdlPolicy::Apply), expected, "{statement}");
    }
    assert_eq!(
        decide("ALTER TABLE items ADD c INT", DdlPolicy::Ignore),
        "leave ALTER TABLE"
    );
    assert_eq!(
        decide("ALTER TABLE items ADD c INT", DdlPolicy::Halt),
        "refuse Ddl"
    );
    // What is left out need not be something that could be carried; rows always have to be.
    for statement in [
        "DROP TABLE items, other.t",
        "CREATE SEQUENCE s",
        "DROP DATABASE orders",
        "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1",
    ] {
        let decided = decide(statement, DdlPolicy::Ignore);
        assert!(decided.starts_with("leave "), "{statement}: {decided}");
    }
    for statement in ["UPDATE items SET a = 1", "SHAKE TABLE items"] {
        let decided = decide(statement, DdlPolicy::Ignore);
        assert!(decided.starts_with("refuse "), "{statement}: {decided}");
    }
}

#[test]
fn settings_around_a_statement_are_passed_over() {
    let cases = [
        ("TRUNCATE TABLE items", "send TRUNCATE TABLE"),
        ("DROP TABLE other.t", "skip"),
        ("INSERT INTO items VALUES (1)", "refuse StatementFormat"),
        ("SET PASSWORD FOR u = 'x'", "skip"),
    ];
    for (statement, expected) in cases {
        for settings in [
            "max_statement_time=5",
            "lock_wait_timeout=(SELECT 1), timestamp=0",
        ] {
            let text = format!("SET STATEMENT {settings} FOR {statement}");
            assert_eq!(decide(&text, DdlPolicy::Apply), expected, "{text}");
        }
    }
    let text = "SET STATEMENT server_id=7 FOR TRUNCATE TABLE items";
    assert_eq!(decide(text, DdlPolicy::Apply), "refuse StatementSetting");
    assert_eq!(decide(text, DdlPolicy::Ignore), "leave TRUNCATE TABLE");
    let text = "SET STATEMENT server_id=7 FOR TRUNCATE TABLE other.t";
    assert_eq!(decide(text, DdlPolicy::Apply), "skip");
    let query = query("SET STATEMENT max_statement_time=5 FOR TRUNCATE TABLE items");
    let sent = filter(DdlPolicy::Apply).statement(&query);
    let StatementUse::Send { statement, .. } = sent else {
        panic!("{sent:?}");
    };
    assert_eq!(&*statement, b" TRUNCATE TABLE items");
}

#[test]
fn what_cannot_be_read_halts_only_where_it_may_be_about_the_link() {
    let decide = |database: &str, statement: &str| {
        let decided = filter(DdlPolicy::Apply).statement(&query_in(database, statement));
        match decided {
            StatementUse::Skip => "skip",
            StatementUse::Refuse { refusal, .. } => refusal.reason,
            _ => "send",
        }
    };
    assert_eq!(decide("other", "SHAKE TABLE items"), "skip");
    assert_eq!(
        decide("other", "SHAKE TABLE `Orders`.items"),
        "UnknownStatement"
    );
    assert_eq!(decide("orders", "SHAKE TABLE items"), "UnknownStatement");
    // Of which databases it is, it may say in words that are not known.
    assert_eq!(decide("", "SHAKE SERVER"), "UnknownStatement");
    let load = "LOAD DATA INFILE '/tmp/x' INTO TABLE";
    assert_eq!(decide("other", &format!("{load} t")), "skip");
    assert_eq!(
        decide("other", &format!("{load} orders.t")),
        "StatementFormat"
    );
    assert_eq!(decide("orders", &format!("{load} t")), "StatementFormat");
}

#[test]
fn a_database_is_dropped_only_where_all_of_it_is_the_link_s() {
    let drop = |include: &[&str], exclude: &[&str], ddl| {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let tables = TableSelection {
            include: owned(include),
            exclude: owned(exclude),
            routes: vec![],
        };
        let filter = LinkFilter {
            selection: Arc::new(Selection::new(vec!["orders".into()], tables)),
            ..filter(ddl)
        };
        match filter.statement(&query("DROP DATABASE orders")) {
            StatementUse::Send { .. } => "send",
            StatementUse::Refuse { refusal, .. } => refusal.reason,
            _ => "leave",
        }
    };
    let apply = DdlPolicy::Apply;
    assert_eq!(drop(&[], &[], apply), "send");
    assert_eq!(drop(&["orders.*"], &["other.*"], apply), "send");
    assert_eq!(drop(&["*"], &[], apply), "send");
    assert_eq!(drop(&["orders.items"], &[], apply), "DropsMore");
    assert_eq!(drop(&[], &["orders.tmp_*"], apply), "DropsMore");
    assert_eq!(drop(&[], &["*_old"], apply), "DropsMore");
    assert_eq!(drop(&["orders.items"], &[], DdlPolicy::Ignore), "leave");
}

#[test]
fn tables_of_our_own_cross_as_agreed() {
    let filter = filter(DdlPolicy::Apply);
    let expected = [
        ("multiactive", "heartbeat", TableUse::Heartbeat),
        ("multiactive", "epoch", TableUse::Epoch),
        ("multiactive", "watermark", TableUse::Watermark),
        ("multiactive", "applied", TableUse::Checkpoint),
        ("multiactive", "fence", TableUse::Skip),
        ("multiactive", "repairs", TableUse::Bookkeeping),
        ("multiactive", "ddl", TableUse::Bookkeeping),
        ("multiactive", "identity", TableUse::Bookkeeping),
        ("orders", "items", TableUse::Send),
        ("orders", "tmp_items", TableUse::Skip),
        ("mysql", "user", TableUse::Skip),
    ];
    for (database, table, purpose) in expected {
        assert_eq!(filter.table(database, table), purpose, "{database}.{table}");
    }
}
