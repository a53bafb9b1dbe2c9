//! The real core, explored exhaustively by stateright within bounds.
//!
//! Three IDCs, two with data and a witness or all three with data, start from the moment at which
//! the first primary is open. Time goes by in steps of a second, in which every arbiter that is
//! well keeps its session alive, looks at its member, hears its signals and the news of etcd. In
//! between, transactions that are on their way arrive in any order. On top of that, up to so
//! many *deviations* happen, each anywhere and at any time: an arbiter pauses or crashes, loses
//! etcd, etcd's answers, or its database; a database dies or freezes; the links stop; a transaction
//! is late or its answer is lost. People may ask for a switchover or a failover at any time.
//!
//! After every step the properties of `properties` hold, and from every state at the horizon in
//! which everything is mended, a member becomes writable. `docs/verification.md` says what that
//! leaves out.
//!
//! `MODEL_DEVIATIONS=2 MODEL_HORIZON=8 MODEL_BEGIN_BY=1 cargo test --release -p arbitration --test model
//! explored_two -- --nocapture` goes further.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it is how a test fails"
)]

#[path = "../simulation/database.rs"]
#[allow(dead_code, reason = "the simulator needs more of it")]
mod database;
#[path = "../simulation/etcd.rs"]
#[allow(dead_code, reason = "the simulator needs more of it")]
mod etcd;
mod explore;
mod flight;
mod setting;
mod world;

use arbitration::Rules;
use stateright::{Checker, Model};

use crate::explore::Bounded;
use crate::setting::Setting;

fn number(name: &str, default: u8) -> u8 {
    let given = std::env::var(name).ok();
    given
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

/// One, unless it is asked for: stateright's threads hand each other half of what they have found
/// after every few states, so that with more than one the search is no longer depth first, and what
/// waits grows with the number of states instead of the depth: gigabytes. The explorations run
/// beside each other instead, as tests do.
fn threads() -> usize {
    usize::from(number("MODEL_THREADS", 1))
}

/// Explores all of it; nothing may be found.
fn explored(name: &str, setting: Setting) {
    let setting = Setting {
        begin_by: number("MODEL_BEGIN_BY", setting.begin_by),
        ..setting
    };
    let model = Bounded {
        setting,
        rules: Rules::ALL,
        horizon: number("MODEL_HORIZON", setting.horizon),
        deviations: number("MODEL_DEVIATIONS", setting.deviations),
    };
    let (horizon, deviations) = (model.horizon, model.deviations);
    let checker = model.checker().threads(threads()).spawn_dfs().join();
    println!(
        "{name}: {} states, {} of them different, up to {} steps deep, {horizon} s with up to \
         {deviations} deviations",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
    );
    checker.assert_properties();
    assert!(
        checker.unique_state_count() > 1_000,
        "next to nothing was explored"
    );
}

/// With a rule taken out, something must be found.
fn found(name: &str, rules: Rules, settings: &[Setting]) {
    for setting in settings {
        let model = Bounded {
            setting: *setting,
            rules,
            horizon: setting.horizon,
            deviations: setting.deviations,
        };
        let checker = model
            .checker()
            .threads(threads())
            .finish_when(stateright::HasDiscoveries::AnyFailures)
            .spawn_dfs()
            .join();
        if let Some((property, path)) = checker
            .discoveries()
            .into_iter()
            .find(|(name, _)| *name != explore::RECOVERS)
        {
            println!(
                "without {name}: {property} is broken after {} states:",
                checker.unique_state_count()
            );
            for action in path.into_actions() {
                println!("  {action:?}");
            }
            return;
        }
    }
    panic!("the model does not notice that the rule {name} is missing");
}

#[test]
fn explored_two_copies_and_a_witness() {
    explored("two copies and a witness", Setting::TWO);
}

#[test]
fn explored_pairs_of_troubles() {
    explored(
        "two copies and a witness, pairs of troubles",
        Setting::PAIRS,
    );
}

#[test]
fn explored_three_copies() {
    explored("three copies", Setting::THREE);
}

#[test]
fn explored_failsafe() {
    explored("two copies and a witness, failsafe", Setting::FAILSAFE);
}

#[test]
fn explored_switchover() {
    explored("planned switchover", Setting::SWITCHOVER);
}

#[test]
fn explored_failover_by_request() {
    explored("failover by request", Setting::FAILOVER);
}

macro_rules! each_rule_is_needed {
    ($($rule:ident in $settings:expr,)*) => {
        mod without {
            use arbitration::Rules;
            use crate::setting::Setting;
            $(
                #[test]
                fn $rule() {
                    let rules = Rules { $rule: false, ..Rules::ALL };
                    super::found(stringify!($rule), rules, &$settings);
                }
            )*
        }
    };
}

// Those that take more than one deviation to be missed, the simulator finds: `simulation`.
each_rule_is_needed! {
    fence_before_lease_ends in [Setting::TWO],
    majority in [Setting::TWO],
    await_former_right in [Setting::TWO],
    compare_primary in [Setting::FAILOVER],
    await_catch_up in [Setting::SWITCHOVER],
    release_with_proof in [Setting::FAILOVER],
    keep_promises in [Setting::FAILSAFE],
}
