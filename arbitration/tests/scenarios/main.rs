//! Scripts in `testdata/`: what happens, line by line, and what the core asks for in answer.
//!
//! A line that begins with `=> ` is a command that the core gave in answer to the event above it;
//! everything else is an event or sets the scene (see `script.rs` for the words). A script whose
//! answers differ fails with the difference; `UPDATE=1` writes the answers anew, to be read in the
//! diff.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it is how a test fails"
)]

mod election;
mod render;
mod script;

use std::fmt::Write as _;
use std::path::PathBuf;

use arbitration::Rules;

fn scripts() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

/// Runs a script under these rules and returns it with the answers that the core really gives.
fn replay(text: &str, rules: Rules) -> String {
    let mut stage = script::Stage::new(rules);
    let mut out = String::new();
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("=> ") {
            continue;
        }
        // Seen when the test fails.
        println!("{line}");
        writeln!(out, "{line}").unwrap();
        for answer in stage.play(line, number + 1) {
            println!("=> {answer}");
            writeln!(out, "=> {answer}").unwrap();
        }
    }
    out
}

#[test]
fn the_core_answers_as_the_scripts_say() {
    let update = std::env::var("UPDATE").is_ok();
    let files = scripts();
    assert!(files.len() >= 10, "only {} scripts were found", files.len());
    let mut wrong = String::new();
    for file in files {
        println!("{}", file.display());
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(
            text.contains("=> ") || update,
            "{} expects nothing",
            file.display()
        );
        let played = replay(&text, Rules::ALL);
        if played == text {
            continue;
        }
        if update {
            std::fs::write(&file, played).unwrap();
            continue;
        }
        writeln!(wrong, "{}:", file.display()).unwrap();
        for (expected, found) in text.lines().zip(played.lines()) {
            if expected != found {
                writeln!(wrong, "  expected {expected}\n  found    {found}").unwrap();
                break;
            }
        }
        if text.lines().count() != played.lines().count() {
            writeln!(wrong, "  the numbers of lines differ; played:\n{played}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Rules that stand behind others, so that hardly any run of the simulator shows their absence alone.
#[test]
fn scripts_show_the_absence_of_rules_that_others_stand_before() {
    let all = Rules::ALL;
    let without = [
        (
            "unknown_is_unknown",
            Rules {
                unknown_is_unknown: false,
                ..all
            },
        ),
        (
            "remember_commits",
            Rules {
                remember_commits: false,
                ..all
            },
        ),
        (
            "note_loss",
            Rules {
                note_loss: false,
                ..all
            },
        ),
        (
            "claim_in_doubt",
            Rules {
                claim_in_doubt: false,
                ..all
            },
        ),
    ];
    let scripts: Vec<String> = scripts()
        .into_iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    for (name, rules) in without {
        // A script that expects an answer to what is not asked any more ends early.
        let differs = |text: &&String| {
            std::panic::catch_unwind(|| replay(text, rules)).map_or(true, |played| played != **text)
        };
        assert!(
            scripts.iter().any(|text| differs(&text)),
            "no script notices that the rule {name} is missing"
        );
    }
}
