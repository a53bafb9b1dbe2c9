//! The harness itself, tried for real: needs root, and some minutes the first time.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::time::Duration;

use harness::load::LoadSpec;
use harness::{Databases, Engine, World, WorldSpec, coordination, database, shell};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Fences, loads, kills and compares servers of both engines.
#[test]
fn databases_boot_fenced_take_a_load_and_come_back_after_a_crash() {
    let databases = Databases::pair(Engine::MySql, Engine::MariaDb)
        .with_options("bj", &["--max-connections=123"]);
    let mut spec = WorldSpec::empty("harness-databases");
    spec.databases = databases;
    let world = World::up(&spec).unwrap();
    let limit = "SELECT @@max_connections";
    assert_eq!(
        world.database("bj").unwrap().root(limit).unwrap(),
        [["123"]]
    );
    for idc in ["sh", "bj"] {
        opens_only_when_told(&world, idc);
        load_survives_a_crash(&world, idc);
    }
    let sum = |idc: &str| {
        world
            .database(idc)
            .unwrap()
            .checksum("orders", "a")
            .unwrap()
    };
    let equal = "equal data has equal sums on both engines";
    assert_eq!(sum("sh"), sum("bj"), "{equal}");
    let change = "UPDATE orders.a SET d = 0.001 WHERE id = 1";
    world.database("bj").unwrap().root(change).unwrap();
    assert_ne!(sum("sh"), sum("bj"));
}

fn opens_only_when_told(world: &World, idc: &str) {
    let server = world.database(idc).unwrap();
    let create = "CREATE TABLE orders.a (id INT PRIMARY KEY, t TEXT, d DECIMAL(10,3), \
                  b VARBINARY(9))";
    assert!(server.app(create).is_err(), "boots fenced");
    server.open().unwrap();
    server.app(create).unwrap();
    server
        .app("INSERT INTO orders.a VALUES (2, 'tab\\tend', 1.5, x'00ff'), (1, NULL, 0, NULL)")
        .unwrap();
    let rows = server
        .app("SELECT id, t FROM orders.a ORDER BY id")
        .unwrap();
    assert_eq!(rows, [["1", "NULL"], ["2", "tab\tend"]]);
}

fn load_survives_a_crash(world: &World, idc: &str) {
    let server = world.database(idc).unwrap();
    let load = LoadSpec {
        threads: 2,
        rate: 50,
        ..LoadSpec::default()
    };
    world.prepare_load(idc, load).unwrap();
    let running = world.start_load("witness", idc, load).unwrap();
    let more_than = |seen: f64| {
        shell::poll("the load does something", seconds(20), || {
            running.check_running()?;
            anyhow::ensure!(running.report()?.transactions > seen, "nothing new");
            Ok(())
        })
        .unwrap();
    };
    more_than(0.0);
    world.kill(&database::part(idc)).unwrap();
    world.start(&database::part(idc)).unwrap();
    world.wait_for_database(idc).unwrap();
    let fenced = server.root("SELECT @@read_only").unwrap();
    assert_eq!(fenced, [["1"]], "boots fenced again");
    server.open().unwrap();
    more_than(running.report().unwrap().transactions);
    assert!(running.stop().unwrap().restarts >= 1);
    server.app("DROP TABLE orders.sbtest1").unwrap();
}

/// Cuts and heals, and sees etcd lose and regain its quorum.
#[test]
fn partitions_cut_what_they_say_and_nothing_else() {
    let mut spec = WorldSpec::empty("harness-partitions");
    spec.etcd = true;
    let world = World::up(&spec).unwrap();
    let reach = |from: &str, to: &str| {
        world
            .reaches(from, &world.info().address(to).unwrap(), 2379)
            .unwrap()
    };
    assert!(reach("sh", "bj") && reach("bj", "sh"));
    world.partition("sh", "bj").unwrap();
    assert!(!reach("sh", "bj") && !reach("bj", "sh") && reach("sh", "witness"));
    world.heal("bj", "sh").unwrap();
    assert!(reach("sh", "bj") && reach("bj", "sh"));

    world.isolate("witness").unwrap();
    world.kill(&coordination::part("bj")).unwrap();
    let put = |idc: &str| {
        let endpoint = vec![coordination::endpoint(world.info().network, idc).unwrap()];
        let words = ["put", "key", "value", "--command-timeout=2s"];
        shell::run(&mut coordination::etcdctl(&endpoint, &words))
    };
    assert!(put("sh").is_err(), "one member of three is no majority");
    world.heal_all().unwrap();
    shell::poll("two members of three agree", seconds(20), || put("sh")).unwrap();
    world.pause(&coordination::part("sh")).unwrap();
    assert!(put("witness").is_err());
    world.resume(&coordination::part("sh")).unwrap();
    shell::poll("the thawed member agrees", seconds(20), || put("witness")).unwrap();
}

/// Ends a world and looks for what it may have left.
#[test]
fn nothing_stays_behind() {
    let world = World::up(&WorldSpec::empty("harness-behind")).unwrap();
    let init = world.sandbox().init_process().unwrap();
    let link = format!("/sys/class/net/{}", world.info().network.name());
    assert!(Path::new(&link).exists());
    let directory = world.info().directory.clone();
    drop(world);
    assert!(
        !Path::new(&format!("/proc/{init}")).exists(),
        "the first process is gone"
    );
    assert!(!Path::new(&link).exists(), "the link is gone");
    assert!(!directory.join("database").exists() && !directory.join("guardian.json").exists());
}
