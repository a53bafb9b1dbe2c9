//! What stands against a link without a Unit by the links around it, as the two servers tell: each link
//! keeps a row in `multiactive.applied` of its target, whatever manifests say, and in whichever
//! cluster. Pure.

use model::{
    ConflictDetection, ConflictResolution, Finding, IdcName, LinkConfig, Severity, SnapshotMode,
};
use mysql::link_end::Brings;
use mysql::origin::Origins;

use crate::claim::counted;

fn blocking(config: &LinkConfig, check: &str, message: String, fix: String) -> Finding {
    Finding {
        severity: Severity::Blocking,
        check: check.to_owned(),
        object: format!("link {}", config.link),
        message,
        fix,
    }
}

/// The links that run the other way.
fn opposite<'a>(config: &LinkConfig, brings: &'a [Brings]) -> impl Iterator<Item = &'a Brings> {
    let target = config.target.idc.to_string();
    brings.iter().filter(move |it| it.from == target)
}

/// The IDCs from which links bring changes to the source, but for the target.
fn others<'a>(config: &LinkConfig, brings: &'a [Brings]) -> Vec<&'a str> {
    let target = config.target.idc.as_str();
    let others = brings.iter().map(|it| it.from.as_str());
    others.filter(|from| *from != target).collect()
}

/// A link that runs the other way would be overwritten unseen.
pub(super) fn unseen(config: &LinkConfig, brings: &[Brings]) -> Option<Finding> {
    opposite(config, brings).next()?;
    let conflicts = &config.conflicts;
    let blind = conflicts.detect == ConflictDetection::Key
        || (conflicts.resolve == ConflictResolution::SourceWins && !conflicts.both_write);
    let target = &config.target.idc;
    blind.then(|| {
        let message = format!(
            "a link from {target} to {} keeps a row in multiactive.applied there, so both may be written \
             to, and by conflicts.detect {:?} and resolve {:?} a row that both changed would be overwritten",
            config.source.idc, conflicts.detect, conflicts.resolve
        );
        let fix = "set conflicts.detect: BeforeImage and resolve: Hold or Halt; or, if that link is no \
                   more, delete its row there";
        blocking(config, "OppositeLink", message, fix.to_owned())
    })
}

/// What one end adds up has to be added up at the other: where both came to the same number, only that
/// tells that it is not the sum.
pub(super) fn counted_apart(config: &LinkConfig, brings: &[Brings]) -> Option<Finding> {
    let own = counted(config);
    let mut opposite = opposite(config, brings);
    let other = opposite.find(|it| it.counters != own)?;
    let words = |counters: &Option<Vec<String>>| match counters {
        Some(counters) => format!("adds up {}", counters.join(", ")),
        None => "adds up nothing".to_owned(),
    };
    let message = format!(
        "this link {}, and the one from {} to {} {}, by its row in multiactive.applied there",
        words(&own),
        config.target.idc,
        config.source.idc,
        words(&other.counters)
    );
    let fix = "give both resolve: Delta with the same conflicts.counters, or neither; or, if that link is \
               no more, delete its row there";
    Some(blocking(config, "CountedApart", message, fix.to_owned()))
}

/// Rows that are copied are put whatever is there, so that nothing may be written at the target of a copy.
pub(super) fn copied_still(
    config: &LinkConfig,
    brings: &[Brings],
    begun: bool,
    copied: bool,
) -> Option<Finding> {
    let (source, target) = (&config.source.idc, &config.target.idc);
    if !begun && opposite(config, brings).any(|it| it.copies) {
        let message = format!(
            "the link from {target} to {source} copies tables still, and puts its rows over what is \
             written at {source} meanwhile"
        );
        let fix = format!(
            "nothing, if {source} is not written yet: this link begins when the copy has ended; if that \
             link is no more, delete its row in multiactive.applied at {source}"
        );
        return Some(blocking(config, "CopiedStill", message, fix));
    }
    let overwrites = !copied && config.snapshot.mode != SnapshotMode::Never;
    (overwrites && opposite(config, brings).any(|it| it.begun)).then(|| {
        let message = format!(
            "this link copies tables, and puts its rows over what is written at {target} meanwhile; the \
             one from {target} to {source} has a row in multiactive.applied there and has begun, so {target} may \
             be written to"
        );
        let fix = format!(
            "set snapshot.mode: Never, if both ends have the same rows; else delete that link and its row \
             at {source}, and let it begin anew when this one has copied"
        );
        blocking(config, "CopyOverWrites", message, fix)
    })
}

/// What other links bring to the source is not born there: a link that does not relay stops at it.
pub(super) fn left_out(config: &LinkConfig, brings: &[Brings]) -> Option<Finding> {
    let others = others(config, brings);
    if others.is_empty() || config.relay {
        return None;
    }
    let (source, target, others) = (&config.source.idc, &config.target.idc, others.join(", "));
    let message = format!(
        "links from {others} keep a row in multiactive.applied at {source}, and what they bring there this \
         link does not carry"
    );
    let fix = format!(
        "set relay: true, which hands it on; or, if those links are no more and all that they brought is at \
         {target} too, delete their rows at {source}"
    );
    Some(blocking(config, "LeftOut", message, fix))
}

/// What comes to both ends from a third server would come to the target twice.
pub(super) fn twice(
    config: &LinkConfig,
    brings: &[Brings],
    at_target: &[Brings],
) -> Option<Finding> {
    let others = others(config, brings);
    let mut both = others.iter().filter(|_| config.relay);
    let from = both.find(|from| at_target.iter().any(|it| it.from == **from))?;
    let (source, target) = (&config.source.idc, &config.target.idc);
    let message = format!(
        "links from {from} keep a row in multiactive.applied both at {source} and at {target}, so what \
         they bring to {source} would come to {target} a second time"
    );
    let fix = format!(
        "delete this link or one of those two; what came by a link that is deleted has to have come to its \
         end before another way begins, and its row at {target} is deleted then"
    );
    Some(blocking(config, "ComesTwice", message, fix))
}

/// Marks hold a part of a name only.
pub(super) fn alike(config: &LinkConfig, brings: &[Brings]) -> Option<Finding> {
    let names = brings.iter().filter_map(|it| IdcName::new(&it.from).ok());
    let names: Vec<IdcName> = names.chain([config.target.idc.clone()]).collect();
    let error = Origins::new(&config.source.idc, &names).err()?;
    let fix = "names that differ in their first 29 characters have different marks";
    Some(blocking(
        config,
        "AmbiguousIdc",
        error.to_string(),
        fix.to_owned(),
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "it is how a test fails")]
mod tests {
    use super::*;

    fn link(target: &str, relay: bool) -> LinkConfig {
        let end = |idc: &str| serde_json::json!({"idc": idc, "endpoint": {"host": idc, "port": 1}});
        let config = serde_json::json!({
            "link": "shop/a", "source": end("sh"), "target": end(target), "relay": relay,
            "origins": [], "databases": ["orders"], "compression": "Zstd", "ddl": "Apply",
            "tables": {"include": [], "exclude": [], "routes": []},
            "snapshot": {"mode": "IfEmpty", "chunkBytes": 1},
            "apply": {"consistency": "Transactional", "maxRows": 1, "lingerMillis": 5},
        });
        serde_json::from_value(config).unwrap()
    }

    fn from(names: &[&str]) -> Vec<Brings> {
        let brings = names.iter().map(|name| Brings {
            from: (*name).to_owned(),
            begun: true,
            copies: false,
            counters: None,
        });
        brings.collect()
    }

    #[test]
    fn a_link_hands_on_what_others_bring_or_says_that_it_does_not() {
        let checks = |relay: bool, names: &[&str]| {
            left_out(&link("bj", relay), &from(names)).map(|finding| finding.message)
        };
        for relay in [false, true] {
            assert_eq!(checks(relay, &[]), None);
            assert_eq!(checks(relay, &["bj"]), None);
        }
        assert_eq!(checks(true, &["bj", "gz"]), None);
        let told = checks(false, &["bj", "gz"]).unwrap();
        assert!(told.contains("links from gz keep"), "{told}");
    }

    #[test]
    fn what_comes_to_both_ends_is_not_handed_on() {
        let checks = |relay: bool, names: &[&str], at_target: &[&str]| {
            let finding = twice(&link("bj", relay), &from(names), &from(at_target));
            finding.map(|finding| finding.message)
        };
        assert_eq!(checks(true, &["bj", "gz"], &["sh"]), None);
        assert_eq!(checks(true, &["bj"], &["sh", "gz"]), None);
        assert_eq!(checks(false, &["gz"], &["sh", "gz"]), None);
        let told = checks(true, &["bj", "gz"], &["sh", "gz"]).unwrap();
        assert!(told.contains("links from gz keep"), "{told}");
    }

    #[test]
    fn names_with_one_mark_are_told() {
        let near = |last: &str| format!("abcdefghijklmnopqrstuvwxyz-123{last}");
        let config = link(&near("4"), true);
        assert_eq!(alike(&config, &from(&["gz", &near("4")])), None);
        let found = alike(&config, &from(&["gz", &near("5")]));
        assert_eq!(found.unwrap().check, "AmbiguousIdc");
    }

    #[test]
    fn both_ends_add_up_the_same() {
        let adds = |counters: &[&str]| {
            let mut config = link("bj", false);
            let counters = counters.iter().map(ToString::to_string).collect();
            config.conflicts.resolve = ConflictResolution::Delta { counters };
            config
        };
        let opposite = |counters: Option<&[&str]>| {
            let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
            let mut brings = from(&["gz", "bj"]);
            brings[1].counters = counters.map(owned);
            brings
        };
        let both: &[&str] = &["a.t.c", "a.t.d"];
        let checks = |config: &LinkConfig, brings: &[Brings]| {
            counted_apart(config, brings).map(|finding| finding.message)
        };
        assert_eq!(checks(&link("bj", false), &opposite(None)), None);
        assert_eq!(
            checks(&adds(&["a.t.d", "a.t.c"]), &opposite(Some(both))),
            None
        );
        assert_eq!(
            checks(&adds(&["a.t.c"]), &from(&["gz"])),
            None,
            "nobody comes back"
        );
        let told = checks(&adds(&["a.t.c"]), &opposite(Some(both))).unwrap();
        assert!(
            told.contains("adds up a.t.c, and") && told.contains("adds up a.t.c, a.t.d"),
            "{told}"
        );
        let told = checks(&link("bj", false), &opposite(Some(both))).unwrap();
        assert!(told.contains("this link adds up nothing"), "{told}");
        assert!(checks(&adds(&["a.t.c"]), &opposite(None)).is_some());
    }

    #[test]
    fn a_copy_is_over_before_its_target_is_written() {
        let opposite = |begun: bool, copies: bool| {
            let mut brings = from(&["bj"]);
            (brings[0].begun, brings[0].copies) = (begun, copies);
            brings
        };
        let check = |mode: SnapshotMode, brings: &[Brings], begun: bool, copied: bool| {
            let mut config = link("bj", false);
            config.snapshot.mode = mode;
            copied_still(&config, brings, begun, copied).map(|finding| finding.check)
        };
        let (never, empty) = (SnapshotMode::Never, SnapshotMode::IfEmpty);
        assert_eq!(check(empty, &from(&["gz"]), false, false), None);
        assert_eq!(check(never, &opposite(true, false), false, false), None);
        let still = Some("CopiedStill".to_owned());
        assert_eq!(check(never, &opposite(true, true), false, false), still);
        // Of two that are applied together the one that copies begins.
        assert_eq!(check(never, &opposite(false, true), false, false), still);
        assert_eq!(check(empty, &opposite(false, false), false, false), None);
        // Its own beginning was before: a new copy the other way is not this link's to refuse.
        assert_eq!(check(never, &opposite(false, true), true, true), None);
        let over = Some("CopyOverWrites".to_owned());
        assert_eq!(check(empty, &opposite(true, false), false, false), over);
        assert_eq!(check(empty, &opposite(true, false), true, false), over);
        assert_eq!(check(empty, &opposite(true, false), true, true), None);
    }
}
