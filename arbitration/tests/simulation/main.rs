//! A seeded simulation of three IDCs: two with data, one witness. The real core is stepped in each
//! arbiter process; etcd, the databases, the network and the clocks are simulated, with everything
//! that goes wrong with them. After every event: at most one member is writable, a member that was
//! opened holds `primary`, epochs only grow, a planned switchover loses nothing. After the faults
//! end: a member is writable again.
//!
//! `SEED=123 cargo test -p arbitration --test simulation one_seed -- --ignored --nocapture` replays a seed
//! with its log; `SEEDS=100000` runs more of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it is how a test fails"
)]

mod chaos;
mod checks;
mod database;
mod etcd;
mod members;
mod process;
mod rng;
mod setup;
mod world;

use arbitration::Rules;

use crate::world::{Counts, Happening, World};

/// How long faults are drawn, and how long the world has to recover, in milliseconds.
const ROUGH: u64 = 60_000;
const RECOVERY: u64 = 70_000;
/// What has recovered must stay so.
const SETTLED: u64 = 4_000;

fn run(seed: u64, rules: Rules, verbose: bool) -> World {
    let mut world = World::new(seed, rules, verbose);
    world.publish(false);
    // Some runs are rough from the beginning, so that the first election is too.
    let calm = if world.rng.percent(70) { 4_000 } else { 0 };
    world.run_until(calm);
    world.rough = true;
    let mut at = calm;
    while at < ROUGH {
        // Often right after the one before: in the middle of what that set going.
        at += if world.rng.percent(50) {
            world.rng.range(1, 150)
        } else {
            world.rng.range(200, 5_000)
        };
        let fault = world.draw_fault();
        world.later(at.saturating_sub(world.now), Happening::Fault(fault));
        world.run_until(at);
    }
    world.heal_all();
    recover(&mut world);
    world
}

const STUCK: &str = "nothing stays writable";

fn recover(world: &mut World) {
    let mut since = None;
    while world.violation.is_none() && world.now < ROUGH + RECOVERY {
        world.run_until(world.now + 500);
        let writable = world.databases.values().any(database::Database::writable);
        since = since.filter(|_| writable).or(writable.then_some(world.now));
        if since.is_some_and(|since| world.now - since >= SETTLED) {
            return;
        }
    }
    let intent = world
        .etcd
        .state
        .intent
        .as_ref()
        .map(|intent| format!("{:?}", intent.value));
    world.violate(format!(
        "{STUCK} though all is well since {ROUGH}; {intent:?}"
    ));
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let count = std::env::var("SEEDS")
        .ok()
        .and_then(|count| count.parse().ok());
    0..count.unwrap_or(default)
}

#[test]
fn every_seed_is_safe() {
    let mut total = Counts::default();
    let range = seeds(2_000);
    let wanted = range.end;
    for seed in range {
        let world = run(seed, Rules::ALL, false);
        if let Some(violation) = world.violation {
            panic!(
                "seed {seed}: {violation}\nreplay: SEED={seed} cargo test -p arbitration --test \
                 simulation one_seed -- --ignored --nocapture"
            );
        }
        let counts = world.counts;
        total.first += counts.first;
        total.retakes += counts.retakes;
        total.failovers += counts.failovers;
        total.switchovers += counts.switchovers;
        total.cancels += counts.cancels;
        total.refusals += counts.refusals;
        total.releases += counts.releases;
        total.elections += counts.elections;
        total.promises += counts.promises;
        total.restores += counts.restores;
        total.standbys += counts.standbys;
        total.failbacks += counts.failbacks;
    }
    println!("{wanted} seeds: {total:?}");
    // The runs went where things can go wrong.
    let happened = [
        total.first,
        total.retakes,
        total.failovers,
        total.switchovers,
        total.cancels,
        total.refusals,
        total.releases,
        total.elections,
        total.promises,
        total.restores,
        total.standbys,
        total.failbacks,
    ];
    assert!(
        happened.iter().all(|count| *count > wanted / 20),
        "too little happened: {total:?}"
    );
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 77, 1_234] {
        let (first, second) = (run(seed, Rules::ALL, true), run(seed, Rules::ALL, true));
        assert_eq!(
            first.log, second.log,
            "seed {seed} ran differently the second time"
        );
    }
}

#[test]
#[ignore = "replays the seed in SEED"]
fn one_seed() {
    let seed = std::env::var("SEED").unwrap().parse().unwrap();
    let world = run(seed, Rules::ALL, true);
    for line in &world.log {
        println!("{line}");
    }
    assert_eq!(world.violation, None);
}

/// Takes one rule out and looks, from this seed on, for a run that shows what it was there for.
fn is_found_without(name: &str, rules: Rules, first: u64) {
    let mut seeds = (first..first + 4_000).chain(0..first);
    // What only never recovers is not what these rules are for.
    let unsafe_run = |seed| {
        run(seed, rules, false)
            .violation
            .filter(|it| !it.contains(STUCK))
    };
    match seeds.find_map(|seed| Some((seed, unsafe_run(seed)?))) {
        Some((seed, violation)) => println!("without {name}: seed {seed}: {violation}"),
        None => panic!("the simulator does not notice that the rule {name} is missing"),
    }
}

/// The number is a seed at which, or soon after which, it was found once: only to be quick.
macro_rules! each_rule_is_needed {
    ($($rule:ident from $first:literal,)*) => {
        mod without {
            use arbitration::Rules;
            $(
                #[test]
                fn $rule() {
                    let rules = Rules { $rule: false, ..Rules::ALL };
                    super::is_found_without(stringify!($rule), rules, $first);
                }
            )*
        }
    };
}

each_rule_is_needed! {
    fence_before_lease_ends from 20,
    deadline_from_sending from 130,
    guard from 240,
    release_with_proof from 0,
    compare_primary from 0,
    compare_members from 0,
    compare_intent from 40,
    await_cancel from 20,
    await_catch_up from 0,
}
