//! From what was said on the command line to the `DataRepair` that is made. Pure.

use crds::{DataRepair, DataRepairSpec, RepairMode, RepairThrottle};
use kube::api::ObjectMeta;
use model::UnitKey;

use crate::args::RepairBeginArgs;
use crate::failure::Failure;

/// What a rebuild does, in a sentence or two.
pub(super) fn rebuilds(key: &UnitKey, args: &RepairBeginArgs) -> String {
    let tables = if args.tables.is_empty() {
        "Every table".to_owned()
    } else {
        format!("Each of the tables {}", args.tables.join(", "))
    };
    let copy = match &args.idc {
        Some(idc) => format!("the copy in {idc} of Unit {key}"),
        None => format!("the target of SyncLink {key}"),
    };
    format!(
        "{tables} of {copy} is emptied and copied anew, one after the other; the link goes on \
         meanwhile, and the copy is not promoted before it has ended."
    )
}

pub(super) fn into_primary(key: &UnitKey, args: &RepairBeginArgs) -> Failure {
    let idc = args.idc.as_ref().map(ToString::to_string);
    Failure::refused(
        "nothing was begun",
        format!(
            "--idc is {}, which is the primary of Unit {key}: what it holds is what the others are \
             copies of",
            idc.unwrap_or_default()
        ),
    )
    .next("name the IDC of a copy, or move the primary first: mactl switchover")
}

/// The command that was given, for the failure that asks for `--yes`.
pub(super) fn command(key: &UnitKey, args: &RepairBeginArgs) -> String {
    let mut words = format!("repair {key}");
    if args.link {
        words.push_str(" --link");
    }
    if let Some(idc) = &args.idc {
        words.push_str(&format!(" --idc {idc}"));
    }
    words.push_str(if args.mode.rebuild {
        " --rebuild"
    } else {
        " --repair"
    });
    if !args.tables.is_empty() {
        words.push_str(&format!(" --tables '{}'", args.tables.join(",")));
    }
    words.push_str(&format!(" --quota {}", args.quota));
    words
}

pub(super) fn wanted(key: &UnitKey, args: &RepairBeginArgs) -> DataRepair {
    let mends = args.mode.mends();
    let spec = DataRepairSpec {
        unit: (!args.link).then(|| key.name().to_owned()),
        link: args.link.then(|| key.name().to_owned()),
        idc: args.idc.clone(),
        tables: args.tables.clone(),
        mode: match (args.mode.rebuild, mends) {
            (true, _) => RepairMode::Rebuild,
            (false, true) => RepairMode::Repair,
            (false, false) => RepairMode::Verify,
        },
        strategy: args.strategy.map(Into::into),
        row_quota: args.quota,
        schedule: args.schedule.clone(),
        dry_run: args.mode.dry_run,
        throttle: RepairThrottle {
            percent: args.percent,
            ..RepairThrottle::default()
        },
        ..plain()
    };
    let word = match (mends, args.mode.dry_run) {
        (true, true) => "dry-run",
        (true, false) => "repair",
        (false, _) if args.mode.rebuild => "rebuild",
        (false, _) => "verify",
    };
    object(key.namespace(), &format!("{}-{word}-", key.name()), spec)
}

/// What nobody asked for otherwise.
pub(super) fn plain() -> DataRepairSpec {
    DataRepairSpec {
        unit: None,
        link: None,
        idc: None,
        tables: Vec::new(),
        mode: RepairMode::Verify,
        strategy: None,
        max_batch_size: crds::ByteSize::from_mebibytes(1),
        consistency_timeout: crds::Duration::from_secs(30),
        row_quota: 10_000,
        run: None,
        throttle: RepairThrottle::default(),
        schedule: None,
        dry_run: false,
        ttl_after_finished: crds::Duration::from_secs(7 * 24 * 3600),
    }
}

pub(super) fn object(namespace: &str, prefix: &str, spec: DataRepairSpec) -> DataRepair {
    let mut repair = DataRepair::new("", spec);
    repair.metadata = ObjectMeta {
        generate_name: Some(prefix.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    };
    repair
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::RepairArgs;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: RepairArgs,
    }

    fn begin(line: &str) -> RepairBeginArgs {
        let words = std::iter::once("repair").chain(line.split(' '));
        Line::try_parse_from(words).unwrap().args.begin
    }

    #[test]
    fn a_rebuild_is_asked_for_as_it_was_said() {
        let key: UnitKey = "shop/orders".parse().unwrap();
        let args = begin("orders --rebuild --idc bj --tables orders.a,orders.b");
        let made = wanted(&key, &args);
        assert_eq!(
            made.metadata.generate_name.as_deref(),
            Some("orders-rebuild-")
        );
        let spec = made.spec;
        assert_eq!(spec.mode, RepairMode::Rebuild);
        assert_eq!(spec.unit.as_deref(), Some("orders"));
        assert_eq!(spec.idc.unwrap().as_str(), "bj");
        assert_eq!(spec.tables, ["orders.a", "orders.b"]);
        assert_eq!(
            command(&key, &args),
            "repair shop/orders --idc bj --rebuild --tables 'orders.a,orders.b' --quota 10000"
        );
        assert!(args.mode.writes() && !args.mode.mends());
        let all = rebuilds(&key, &begin("orders-sh-bj --link --rebuild"));
        assert!(
            all.starts_with("Every table of the target of SyncLink shop/orders is"),
            "{all}"
        );
    }

    #[test]
    fn what_goes_against_each_other_is_refused() {
        for line in [
            "orders --rebuild --repair",
            "orders --rebuild --dry-run",
            "orders --rebuild --verify",
            "orders-sh-bj --link --idc bj",
        ] {
            let words = std::iter::once("repair").chain(line.split(' '));
            assert!(Line::try_parse_from(words).is_err(), "{line}");
        }
    }
}
