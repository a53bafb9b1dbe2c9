//! Damaged binlogs are errors and nothing worse: no panic, no endless loop, and no more memory than
//! the bytes can be worth.
//!
//! Binlogs of real servers (`corpus`, made by the engines suite's ignored test `corpus`) are changed
//! at random and read by what the syncer reads with. A failure prints the seed that replays it.
//! `cargo xtask fuzz --seconds 600` runs longer.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "what is wrong here fails the test"
)]

use std::io::Read as _;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use binlog::{Birth, Filter, Output, Pipeline, QueryEvent, Refusal, StatementUse, TableUse};
use cap::Cap;
use change::{DdlObject, Flavor, Gtid, Position};
use mysql_common::binlog::EventStreamReader;
use mysql_common::binlog::consts::BinlogVersion;
use mysql_common::binlog::events::{Event, EventData};

#[global_allocator]
static MEMORY: Cap<std::alloc::System> = Cap::new(std::alloc::System, usize::MAX);

/// What reading may take beside what it is given.
const SLACK: usize = 4 << 20;
/// So much of a compressed transaction is looked at.
const MOST_INSIDE: u64 = 1 << 20;
/// How many bytes one byte that is read may become: a NULL is a bit and becomes a value of some
/// forty bytes; zlib makes a thousand of one.
const GROWTH: usize = 1100;

const CORPUS: [(&str, Flavor, &[u8]); 4] = [
    (
        "mysql",
        Flavor::MySql,
        include_bytes!("../corpus/mysql.binlog"),
    ),
    (
        "mysql compressed",
        Flavor::MySql,
        include_bytes!("../corpus/mysql-compressed.binlog"),
    ),
    (
        "mariadb",
        Flavor::MariaDb,
        include_bytes!("../corpus/mariadb.binlog"),
    ),
    (
        "mariadb compressed",
        Flavor::MariaDb,
        include_bytes!("../corpus/mariadb-compressed.binlog"),
    ),
];

/// Sends everything.
struct All;

impl Filter for All {
    fn birth(&self, _gtid: &Gtid) -> Result<Birth, Refusal> {
        Ok(Birth {
            idc: "sh".to_owned(),
            local: true,
            relayed: false,
        })
    }

    fn table(&self, database: &str, table: &str) -> TableUse {
        match (database, table) {
            ("multiactive", "epoch") => TableUse::Epoch,
            ("multiactive", "watermark") => TableUse::Watermark,
            _ => TableUse::Send,
        }
    }

    fn statement(&self, query: &QueryEvent) -> StatementUse {
        StatementUse::Send {
            statement: query.statement.clone(),
            verb: "ANY".to_owned(),
            objects: vec![DdlObject {
                database: query.database.clone(),
                name: None,
            }],
        }
    }
}

/// Sebastiano Vigna's `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % (limit.max(1) as u64)).unwrap_or(0)
    }
}

const HEADER: usize = 19;
const TYPE: usize = 4;
const SIZE: std::ops::Range<usize> = 9..13;
const FORMAT_DESCRIPTION: u8 = 15;
const CHECKSUM: usize = 4;

/// The events of a file, without their checksums: else no damage would be met but by those.
fn events(file: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &file[4..];
    let mut events = Vec::new();
    while rest.len() >= HEADER {
        let size = u32::from_le_bytes(rest[SIZE].try_into().expect("four bytes"));
        let (event, behind) = rest.split_at(size as usize);
        rest = behind;
        let mut event = event.to_vec();
        if event[TYPE] == FORMAT_DESCRIPTION {
            let algorithm = event.len() - CHECKSUM - 1;
            assert_eq!(event[algorithm], 1, "the corpus has checksums");
            event[algorithm] = 0;
        } else {
            event.truncate(event.len() - CHECKSUM);
            resize(&mut event);
        }
        events.push(event);
    }
    events
}

/// Writes the event's length into its header.
fn resize(event: &mut [u8]) {
    let length = u32::try_from(event.len()).expect("a small event");
    if let Some(size) = event.get_mut(SIZE) {
        size.copy_from_slice(&length.to_le_bytes());
    }
}

/// What came out of a binlog.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    transactions: usize,
    changes: u64,
    failed: bool,
}

fn read(flavor: Flavor, events: &[Vec<u8>]) -> Read {
    let mut reader = EventStreamReader::new(BinlogVersion::Version4);
    let mut pipeline = Pipeline::new(Box::new(All), Position::empty(flavor), 0, 64 << 10);
    let mut seen = Read::default();
    for bytes in events {
        // The driver panics on events that are shorter than their header says, and takes so much
        // memory; the reader makes an error of that, and it is the driver's. Whatever the driver has
        // read must not make anything of ours panic.
        let honest = size_of_event(bytes) == Some(bytes.len());
        if !honest {
            seen.failed = true;
            break;
        }
        let event = std::panic::catch_unwind(AssertUnwindSafe(|| reader.read(&bytes[..])));
        match event {
            Ok(Ok(Some(event))) => take(&mut reader, &mut pipeline, &event, &mut seen),
            Ok(Ok(None)) => {}
            Ok(Err(_)) | Err(_) => seen.failed = true,
        }
        if seen.failed {
            break;
        }
    }
    seen
}

/// As the driver's stream does: the events of a compressed transaction follow it.
fn take(reader: &mut EventStreamReader, pipeline: &mut Pipeline, event: &Event, seen: &mut Read) {
    pass(pipeline, event, seen);
    // The driver panics on some of these too (`payload_size` against what is there).
    let data = std::panic::catch_unwind(AssertUnwindSafe(|| event.read_data()));
    let payload = match data {
        Ok(Ok(Some(EventData::TransactionPayloadEvent(payload)))) => payload,
        Err(_) => {
            seen.failed = true;
            return;
        }
        Ok(_) => return,
    };
    let Ok(inside) = payload.decompressed() else {
        return;
    };
    let mut bytes = Vec::new();
    if inside.take(MOST_INSIDE).read_to_end(&mut bytes).is_err() {
        seen.failed = true;
    }
    let mut rest = &bytes[..];
    while !seen.failed && rest.len() >= HEADER {
        let size = size_of_event(rest);
        // As above: the driver would take so much memory, and panic.
        let Some((event, behind)) = size.and_then(|size| rest.split_at_checked(size)) else {
            seen.failed = true;
            return;
        };
        rest = behind;
        let next = AssertUnwindSafe(|| reader.read_decompressed(event));
        match std::panic::catch_unwind(next) {
            Ok(Ok(Some(event))) => pass(pipeline, &event, seen),
            _ => seen.failed = true,
        }
    }
}

/// The length that an event's header tells.
fn size_of_event(event: &[u8]) -> Option<usize> {
    let size = event.get(SIZE)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(size))
        .ok()
        .filter(|size| *size >= HEADER)
}

fn pass(pipeline: &mut Pipeline, event: &Event, seen: &mut Read) {
    seen.failed |= pipeline.take(event).is_err();
    while let Some(output) = pipeline.pop() {
        if let Output::Transaction(transaction) = output {
            seen.transactions += 1;
            seen.changes += transaction.change_count();
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "random bytes")]
fn damage(random: &mut Random, event: &mut Vec<u8>) {
    const NUMBERS: [u64; 8] = [0, 1, 0x7f, 0x80, 0xff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];
    // Mostly behind the header, where the formats are.
    let from = if random.below(8) == 0 { 0 } else { HEADER };
    let at = (from + random.below(event.len().saturating_sub(from))).min(event.len() - 1);
    match random.below(8) {
        0 => event[at] ^= 1 << random.below(8),
        1 => event[at] = random.next() as u8,
        2 => {
            let number = NUMBERS[random.below(NUMBERS.len())].to_le_bytes();
            let width = [1, 2, 3, 4, 6, 8][random.below(6)];
            for (byte, new) in event[at..].iter_mut().zip(&number[..width]) {
                *byte = *new;
            }
        }
        3 => event.truncate(at.max(HEADER)),
        4 => {
            let end = (at + 1 + random.below(16)).min(event.len());
            event.drain(at..end);
        }
        5 => {
            let bytes: Vec<u8> = (0..random.below(16)).map(|_| random.next() as u8).collect();
            event.splice(at..at, bytes);
        }
        6 => {
            let end = (at + random.below(64)).min(event.len());
            let piece = event[at..end].to_vec();
            event.splice(at..at, piece);
        }
        _ => {
            // A length byte of the client protocol, and what follows it.
            event[at] = [0xfb, 0xfc, 0xfd, 0xfe][random.below(4)];
        }
    }
    if random.below(10) > 0 {
        resize(event);
    }
}

/// One damaged binlog: the format description, and some events of the rest.
fn attempt(seed: u64, corpus: &[(Flavor, Vec<Vec<u8>>)]) {
    let mut random = Random(seed);
    let (flavor, whole) = &corpus[random.below(corpus.len())];
    let from = 1 + random.below(whole.len() - 1);
    let length = 1 + random.below(60);
    let mut events = vec![whole[0].clone()];
    events.extend(whole[from..].iter().take(length).cloned());
    for _ in 0..=random.below(3) {
        let number = random.below(events.len());
        match random.below(12) {
            0 => {
                events.remove(number);
            }
            1 => {
                let again = events[number].clone();
                events.insert(number, again);
            }
            2 => {
                let other = random.below(events.len());
                events.swap(number, other);
            }
            _ => damage(&mut random, &mut events[number]),
        }
        if events.is_empty() {
            return;
        }
    }
    let bytes: usize = events.iter().map(Vec::len).sum();
    let before = MEMORY
        .max_allocated()
        .max(MEMORY.allocated() + SLACK + GROWTH * bytes);
    read(*flavor, &events);
    assert!(
        MEMORY.max_allocated() <= before,
        "{bytes} bytes took more than {before} bytes of memory: {}",
        MEMORY.max_allocated()
    );
}

fn corpus() -> Vec<(Flavor, Vec<Vec<u8>>)> {
    CORPUS
        .iter()
        .map(|(_, flavor, file)| (*flavor, events(file)))
        .collect()
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
    )
}

/// One test, since what others allocate at the same time would count.
#[test]
fn damaged_binlogs_are_errors_and_nothing_worse() {
    let corpus = corpus();
    for ((name, ..), (flavor, events)) in CORPUS.iter().zip(&corpus) {
        let whole = read(*flavor, events);
        assert!(
            !whole.failed && whole.transactions > 20 && whole.changes > 100,
            "{name} is read whole: {whole:?}"
        );
    }
    // Only what fails the test is worth a word, and it is said below.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let first = variable("MULTIACTIVE_FUZZ_SEED").unwrap_or(1);
    let seconds = variable("MULTIACTIVE_FUZZ_SECONDS");
    let started = Instant::now();
    let mut seed = first;
    let goes_on = |seed: u64| match seconds {
        Some(seconds) => started.elapsed() < Duration::from_secs(seconds),
        None => seed < first + 2_000,
    };
    let mut failed = false;
    while !failed && goes_on(seed) {
        let run = std::panic::catch_unwind(|| attempt(seed, &corpus));
        failed = run.is_err();
        seed += u64::from(!failed);
    }
    std::panic::set_hook(hook);
    if failed {
        println!(
            "replay with MULTIACTIVE_FUZZ_SEED={seed} cargo test --package binlog --test fuzz"
        );
        attempt(seed, &corpus);
    }
    println!("{} damaged binlogs", seed - first);
}
