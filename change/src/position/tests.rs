//! Positions against the forms the servers print and against a plain set of transactions.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const B: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429563";

fn mysql(text: &str) -> Position {
    Position::parse(Flavor::MySql, text).unwrap()
}

fn mariadb(text: &str) -> Position {
    Position::parse(Flavor::MariaDb, text).unwrap()
}

#[test]
fn mysql_text_is_canonical() {
    let cases = [
        (String::new(), String::new()),
        (
            format!("{A}:1-5:ma_bj:1-3,\n{B}:7"),
            format!("{A}:1-5:ma_bj:1-3,{B}:7"),
        ),
        (format!("{B}:7,{A}:4-5:1-3"), format!("{A}:1-5,{B}:7")),
        (format!("{A}:Tag:2:1,{A}:9"), format!("{A}:9:tag:1-2")),
        (A.to_uppercase() + ":1", format!("{A}:1")),
    ];
    for (given, expected) in cases {
        assert_eq!(mysql(&given).to_string(), expected, "for {given:?}");
    }
}

#[test]
fn the_last_of_one_origin_are_left_out() {
    let marked = |mark: OriginMark<'_>| match mark {
        OriginMark::MySql { tag, .. } => tag == "ma_sh",
        OriginMark::MariaDb { domain } => domain == 7,
    };
    let set = mysql(&format!("{A}:1-9:ma_sh:1-4:6-9,{B}:1-3"));
    let cases = [
        (2, format!("{A}:1-9:ma_sh:1-4:6-7,{B}:1-3")),
        (4, format!("{A}:1-9:ma_sh:1-4,{B}:1-3")),
        (5, format!("{A}:1-9:ma_sh:1-4,{B}:1-3")),
        (6, format!("{A}:1-9:ma_sh:1-3,{B}:1-3")),
        (u64::MAX, format!("{A}:1-9,{B}:1-3")),
    ];
    for (count, left) in cases {
        assert_eq!(set.without_last(count, marked).to_string(), left, "{count}");
    }
    let list = mariadb("0-1-9,7-1-9");
    assert_eq!(list.without_last(4, marked).to_string(), "0-1-9,7-1-5");
    assert_eq!(list.without_last(9, marked).to_string(), "0-1-9");
}

#[test]
fn wrong_texts_are_refused() {
    for text in [
        A,
        "x:1",
        &format!("{A}:0"),
        &format!("{A}:5-4"),
        &format!("{A}:tag"),
        "0-1-1:",
    ] {
        assert!(
            Position::parse(Flavor::MySql, text).is_err(),
            "{text:?} was accepted"
        );
    }
    for text in ["0-1", "a-1-1", "0-1-x", "4294967296-1-1"] {
        assert!(
            Position::parse(Flavor::MariaDb, text).is_err(),
            "{text:?} was accepted"
        );
    }
    assert_eq!("".parse::<Position>(), Err(InvalidPosition::Empty));
}

#[test]
fn engines_do_not_mix() {
    let mut position = mysql(&format!("{A}:1"));
    assert!(position.union(&mariadb("0-1-1")).is_err());
    assert!(position.add(&"0-1-1".parse().unwrap()).is_err());
    assert!(!position.contains(&mariadb("0-1-1")));
}

#[test]
fn tags_are_sets_of_their_own() {
    let position = mysql(&format!("{A}:1-5:ma_bj:1-3"));
    assert!(position.contains(&mysql(&format!("{A}:ma_bj:2"))));
    assert!(!position.contains(&mysql(&format!("{A}:ma_bj:4"))));
    let local = position.retain(|mark| matches!(mark, OriginMark::MySql { tag: "", .. }));
    assert_eq!(local, mysql(&format!("{A}:1-5")));
}

#[test]
fn a_mariadb_domain_keeps_its_furthest() {
    let mut position = mariadb("1-7-9, 0-1-5,0-2-3");
    assert_eq!(position.to_string(), "0-1-5,1-7-9");
    position.add(&"0-2-6".parse().unwrap()).unwrap();
    assert_eq!(position.to_string(), "0-2-6,1-7-9");
    assert!(position.contains(&mariadb("0-1-6")));
    assert!(!position.contains(&mariadb("2-1-1")));
}

fn gtids() -> impl Strategy<Value = Vec<MySqlGtid>> {
    let gtid = (
        0u8..2,
        prop_oneof![Just(""), Just("ma_a"), Just("ma_b")],
        1u64..30,
    )
        .prop_map(|(server, tag, number)| MySqlGtid {
            uuid: ServerUuid([server; 16]),
            tag: tag.to_owned(),
            number,
        });
    proptest::collection::vec(gtid, 0..60)
}

fn set_of(gtids: &[MySqlGtid]) -> GtidSet {
    let mut set = GtidSet::default();
    for gtid in gtids {
        set.add(gtid);
    }
    set
}

proptest! {
    #[test]
    fn a_set_holds_what_was_added(left in gtids(), right in gtids()) {
        let (a, b) = (set_of(&left), set_of(&right));
        let plain: BTreeSet<_> = left.iter().collect();
        for gtid in left.iter().chain(&right) {
            prop_assert_eq!(a.contains(gtid), plain.contains(gtid));
        }
        let mut union = a.clone();
        union.union(&b);
        let both: Vec<_> = left.iter().chain(&right).cloned().collect();
        prop_assert_eq!(&union, &set_of(&both));
        prop_assert!(union.contains_set(&a) && union.contains_set(&b));
        prop_assert_eq!(a.contains_set(&b), right.iter().all(|gtid| plain.contains(gtid)));
    }

    #[test]
    fn texts_read_back(gtids in gtids()) {
        let set = set_of(&gtids);
        prop_assert_eq!(set.to_string().parse::<GtidSet>().unwrap(), set);
        for gtid in gtids {
            prop_assert_eq!(gtid.to_string().parse::<MySqlGtid>().unwrap(), gtid);
        }
    }

    #[test]
    fn mariadb_lists_read_back(gtids in proptest::collection::vec((0u32..4, 1u32..9, any::<u64>()), 0..20)) {
        let mut list = GtidList::default();
        for (domain, server, sequence) in &gtids {
            list.add(MariaDbGtid { domain: *domain, server: *server, sequence: *sequence });
        }
        prop_assert_eq!(&list.to_string().parse::<GtidList>().unwrap(), &list);
        for (domain, server, sequence) in gtids {
            let gtid = MariaDbGtid { domain, server, sequence };
            prop_assert!(list.contains(&gtid));
        }
    }
}

#[test]
fn before_its_last_transaction() {
    let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    let before = |position: &str, last: &str| {
        let position: Position = position.parse().unwrap();
        let before = position.before(&last.parse().unwrap())?;
        let mut again = before.clone();
        again.add(&last.parse().unwrap()).unwrap();
        assert_eq!(again, position);
        Some(before.to_string())
    };
    let set = format!("{uuid}:1-7:x:3");
    assert_eq!(
        before(&set, &format!("{uuid}:7")),
        Some(format!("{uuid}:1-6:x:3"))
    );
    assert_eq!(
        before(&set, &format!("{uuid}:4")),
        Some(format!("{uuid}:1-3:5-7:x:3"))
    );
    assert_eq!(
        before(&set, &format!("{uuid}:x:3")),
        Some(format!("{uuid}:1-7"))
    );
    assert_eq!(before(&set, &format!("{uuid}:8")), None);
    assert_eq!(
        before("0-1-7,1-1-3", "0-1-7").as_deref(),
        Some("0-1-6,1-1-3")
    );
    assert_eq!(before("0-1-7,1-1-1", "1-1-1").as_deref(), Some("0-1-7"));
    // Of another server, or not the last of its domain.
    for other in ["0-2-7", "0-1-6", "2-1-1"] {
        assert_eq!(before("0-1-7,1-1-3", other), None);
    }
}
