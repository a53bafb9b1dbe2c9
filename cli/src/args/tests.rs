use std::ffi::OsStr;

use super::*;

fn parse(words: &[&str]) -> Result<Cli, clap::Error> {
    use clap::FromArgMatches;
    let words = std::iter::once("mactl").chain(words.iter().copied());
    command("mactl")
        .try_get_matches_from(words)
        .and_then(|m| Cli::from_arg_matches(&m))
}

#[test]
fn the_tree_is_consistent() {
    command("mactl").debug_assert();
}

#[test]
fn the_name_it_is_called_by_decides_what_it_calls_itself() {
    assert_eq!(
        program_name(Some(OsStr::new("/usr/bin/kubectl-ma"))),
        "kubectl ma"
    );
    assert_eq!(program_name(Some(OsStr::new("./mactl"))), "mactl");
    assert_eq!(program_name(None), "mactl");
}

#[test]
fn waiting_is_the_default_and_can_be_switched_off() {
    let wait = |words: &[&str]| match parse(words).unwrap().command {
        Command::Switchover(args) => args.follow.wait,
        other => panic!("{other:?}"),
    };
    assert!(wait(&["switchover", "orders", "--to", "bj"]));
    assert!(wait(&["switchover", "orders", "--to", "bj", "--wait"]));
    assert!(!wait(&[
        "switchover",
        "orders",
        "--to",
        "bj",
        "--wait=false"
    ]));
}

#[test]
fn typing_mistakes_are_answered_with_suggestions() {
    let message = |words: &[&str]| parse(words).unwrap_err().to_string();
    assert!(message(&["swichover", "orders"]).contains("switchover"));
    assert!(message(&["failover", "orders", "--alow-data-loss"]).contains("--allow-data-loss"));
    assert!(message(&["switchover", "orders", "--to", "B_J"]).contains("lower-case"));
    assert!(message(&["switchover", "orders"]).contains("--to <IDC>"));
    assert!(message(&["status", "--request-timeout", "0s"]).contains("longer than zero"));
    assert!(message(&["status", "--etcd-cert", "x"]).contains("--etcd-key"));
}
