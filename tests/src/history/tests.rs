//! Made-up histories, each with one thing wrong, and one with nothing wrong. Times are in
//! milliseconds.

use super::*;

const MS: Nanos = 1_000_000;

fn write(client: u32, number: u64, member: &str, sent: u64, ended: u64) -> Attempt {
    Attempt {
        id: WriteId { client, number },
        member: member.to_owned(),
        counted: false,
        sent: sent * MS,
        ended: ended * MS,
        outcome: Outcome::Acknowledged,
        total: None,
    }
}

fn counted(client: u32, number: u64, member: &str, sent: u64) -> Attempt {
    Attempt {
        counted: true,
        total: Some(number),
        ..write(client, number, member, sent, sent + 2)
    }
}

fn sighting(from: u64, until: u64, epoch: u64, holder: &str, primary: bool) -> Sighting {
    Sighting {
        first_sent: from * MS,
        first_received: (from + 1) * MS,
        last_sent: (until - 1) * MS,
        last_received: until * MS,
        revision: i64::try_from(from).unwrap(),
        epoch: (epoch, holder.to_owned()),
        primary: primary.then(|| (holder.to_owned(), epoch)),
        renewed: 1,
        vacated: false,
    }
}

/// sh takes writes until 1000 and is then isolated: what it takes until 5000 is stranded. Its lease
/// ends at 6000, bj takes writes from 6500.
fn good() -> History {
    let mut attempts = vec![
        write(1, 1, "sh", 100, 103),
        counted(2, 1, "sh", 500),
        write(1, 2, "sh", 2000, 2002),
        counted(2, 2, "sh", 4900),
        write(3, 1, "bj", 6600, 6610),
        counted(4, 1, "bj", 6700),
    ];
    attempts.push(Attempt {
        outcome: Outcome::Refused,
        ..write(3, 2, "bj", 110, 112)
    });
    attempts.push(Attempt {
        outcome: Outcome::Unknown,
        ..write(1, 3, "sh", 5500, 7500)
    });
    let rows = MemberRows {
        writes: [(1, 1), (2, 1), (3, 1), (4, 1)]
            .map(|(client, number)| WriteId { client, number })
            .into(),
        totals: [(2, 1), (4, 1)].into(),
        digests: [("writes".to_owned(), (4, 77))].into(),
    };
    History {
        attempts,
        sightings: vec![
            sighting(1, 5990, 1, "sh", true),
            sighting(6000, 6400, 1, "sh", false),
            sighting(6420, 9000, 2, "bj", true),
        ],
        receipts: vec![(1, "sh".to_owned(), false), (2, "bj".to_owned(), false)],
        primary: "bj".to_owned(),
        members: [("sh".to_owned(), rows.clone()), ("bj".to_owned(), rows)].into(),
        promises: false,
        at_takeover: Some((
            2,
            [(1, 1), (2, 1), (3, 1)]
                .map(|(client, number)| WriteId { client, number })
                .into(),
        )),
        stranding: Stranding {
            found: [(1, 2), (2, 2)]
                .map(|(client, number)| WriteId { client, number })
                .into(),
            reported: 2,
        },
    }
}

fn only(history: &History) -> Violation {
    let mut violations = check(history);
    assert_eq!(violations.len(), 1, "{violations:#?}");
    violations.remove(0)
}

#[test]
fn a_history_with_nothing_wrong_passes() {
    assert_eq!(check(&good()), []);
    let pause = Pause::of(&good().attempts, Measure::FromFault, 1000 * MS).unwrap();
    assert_eq!(pause.nanos, 5610 * MS);
    assert_eq!(pause.moved_to.as_deref(), Some("bj"));
    let gap = Pause::of(&good().attempts, Measure::LongestGap, 1000 * MS).unwrap();
    assert_eq!(gap.nanos, (4902 - 2002) * MS);
}

/// Adds an acknowledged write that both members hold in the end, so that only its time is wrong.
fn add(history: &mut History, attempt: Attempt) {
    for rows in history.members.values_mut() {
        rows.writes.insert(attempt.id);
    }
    if let Some((_, held)) = &mut history.at_takeover {
        held.insert(attempt.id);
    }
    history.attempts.push(attempt);
}

#[test]
fn a_write_at_the_old_primary_after_one_at_the_new_is_an_overlap() {
    // Nobody looked into etcd meanwhile: the order of the writes alone is enough.
    let mut history = good();
    history.sightings.clear();
    add(&mut history, write(1, 9, "sh", 6650, 6655));
    let found = only(&history);
    assert!(found.is_overlap(), "{found}");
    let text = found.to_string();
    assert!(text.contains("1/9") && text.contains("3/1"), "{text}");
}

#[test]
fn writes_that_overlap_in_time_only_are_none() {
    // Sent before the new primary's was acknowledged: the two may have happened in this order.
    let mut history = good();
    history.sightings.clear();
    add(&mut history, write(1, 9, "sh", 6600, 6655));
    assert_eq!(check(&history), []);
}

#[test]
fn a_write_after_the_next_epoch_was_seen_is_an_overlap() {
    // Before any write at the new primary, so that the order of writes shows nothing.
    let mut history = good();
    add(&mut history, write(1, 9, "sh", 6450, 6455));
    let found = only(&history);
    assert!(found.is_overlap(), "{found}");
    assert!(found.to_string().contains("epoch 1 had ended"), "{found}");
}

#[test]
fn a_write_before_its_epoch_is_an_overlap() {
    let mut history = good();
    add(&mut history, write(3, 9, "bj", 3000, 3004));
    let found = only(&history);
    assert!(
        found.to_string().contains("epoch 2 had not begun"),
        "{found}"
    );
}

#[test]
fn a_write_while_nobody_held_primary_is_an_overlap() {
    let mut history = good();
    add(&mut history, write(1, 9, "sh", 6100, 6105));
    let found = only(&history);
    assert!(found.to_string().contains("nobody held primary"), "{found}");
}

#[test]
fn a_lease_that_etcd_ended_early_leaves_the_holder_its_time() {
    let renewed = |renewed, sighting| Sighting {
        renewed,
        ..sighting
    };
    let sightings = [
        renewed(1, sighting(0, 900, 1, "sh", true)),
        renewed(2, sighting(925, 1000, 1, "sh", true)),
        renewed(2, sighting(1025, 9000, 1, "sh", false)),
    ];
    let (epochs, violations) = Epochs::of(&sightings, &[]);
    assert_eq!(violations, []);
    let overlaps = |sent| epochs.place(&[write(1, 1, "sh", sent, sent + 5)]).1.len();
    assert_eq!((overlaps(6_920), overlaps(6_930)), (0, 1));
    let released = Sighting {
        vacated: true,
        ..sightings[2].clone()
    };
    let sightings = [sightings[0].clone(), sightings[1].clone(), released];
    let (epochs, _) = Epochs::of(&sightings, &[]);
    assert_eq!(epochs.place(&[write(1, 1, "sh", 1_100, 1_105)]).1.len(), 1);
}

#[test]
fn a_member_that_never_held_an_epoch_takes_no_writes() {
    let mut history = good();
    history.sightings.truncate(1);
    history.receipts.truncate(1);
    history.at_takeover = None;
    history.attempts.retain(|it| it.member == "sh");
    for rows in history.members.values_mut() {
        rows.writes.retain(|it| it.client < 3);
        rows.totals.remove(&4);
    }
    history.stranding = Stranding::default();
    for rows in history.members.values_mut() {
        rows.writes
            .extend([(1, 2), (2, 2)].map(|(client, number)| WriteId { client, number }));
        rows.totals.insert(2, 2);
    }
    assert_eq!(check(&history), []);
    add(&mut history, write(3, 9, "bj", 700, 703));
    let found = only(&history);
    assert!(
        found.to_string().contains("no epoch was ever held by bj"),
        "{found}"
    );
}

#[test]
fn an_epoch_with_two_holders_is_an_overlap() {
    let mut history = good();
    history.receipts.push((2, "sh".to_owned(), false));
    let found = check(&history);
    assert!(
        found
            .iter()
            .any(|it| matches!(it, Violation::TwoHolders { epoch: 2, .. })),
        "{found:?}"
    );
}

#[test]
fn by_promises_the_last_holder_may_be_open_while_nobody_holds_it() {
    let late = |member: &str| {
        let mut history = good();
        history.attempts.push(write(9, 1, member, 6100, 6200));
        history
    };
    let mut history = late("sh");
    assert!(!check_order(&history).is_empty());
    history.promises = true;
    assert_eq!(check_order(&history), []);
    // Nobody else may.
    let mut history = late("bj");
    history.promises = true;
    assert!(!check_order(&history).is_empty());
}

#[test]
fn an_etcd_that_went_back_in_time_proves_nothing_by_what_it_lacks() {
    let mut history = good();
    let mut back = sighting(9100, 9500, 1, "sh", false);
    back.revision = 5;
    history.sightings.push(back);
    add(&mut history, write(3, 9, "bj", 9200, 9204));
    assert_eq!(check(&history), []);
}

#[test]
fn an_acknowledged_write_that_is_nowhere_is_lost() {
    let mut history = good();
    history.attempts.push(write(1, 9, "sh", 700, 704));
    let found = only(&history);
    assert!(
        found.is_loss() && found.to_string().contains("1/9"),
        "{found}"
    );
}

#[test]
fn a_write_that_only_the_replica_has_is_lost() {
    let mut history = good();
    history.attempts.push(write(1, 9, "sh", 700, 704));
    let id = WriteId {
        client: 1,
        number: 9,
    };
    history.members.get_mut("sh").unwrap().writes.insert(id);
    let found = check(&history);
    assert!(found.iter().any(Violation::is_loss), "{found:?}");
    assert!(
        found
            .iter()
            .any(|it| matches!(it, Violation::Diverged { .. })),
        "{found:?}"
    );
}

#[test]
fn a_counter_ahead_of_its_writes_is_a_doubled_one() {
    let mut history = good();
    for rows in history.members.values_mut() {
        rows.totals.insert(4, 2);
    }
    let found = check(&history);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found.iter().all(|it| it.to_string().starts_with("DOUBLED")),
        "{found:?}"
    );
    assert!(!found.iter().any(Violation::is_loss));
}

#[test]
fn a_counter_behind_its_writes_is_a_lost_one() {
    let mut history = good();
    for rows in history.members.values_mut() {
        rows.totals.insert(4, 0);
    }
    assert!(check(&history).iter().all(Violation::is_loss));
}

#[test]
fn a_counter_that_was_read_too_high_is_a_wrong_answer() {
    let mut history = good();
    history.attempts[5].total = Some(2);
    assert!(only(&history).to_string().contains("after 1 tries"));
}

#[test]
fn what_is_stranded_and_on_the_primary_is_wrongly_stranded() {
    let mut history = good();
    history.stranding.found.insert(WriteId {
        client: 1,
        number: 1,
    });
    history.stranding.reported = 3;
    let found = only(&history);
    assert!(
        matches!(&found, Violation::WronglyStranded { reason, .. } if reason.contains("as well"))
    );
}

#[test]
fn what_is_written_under_the_current_epoch_is_never_stranded() {
    let mut history = good();
    history.attempts.push(write(3, 9, "bj", 8000, 8004));
    history.stranding.found.insert(WriteId {
        client: 3,
        number: 9,
    });
    history.stranding.reported = 3;
    assert!(matches!(only(&history), Violation::WronglyStranded { .. }));
}

#[test]
fn a_planned_switchover_strands_nothing() {
    let mut history = good();
    history.receipts[1].2 = true;
    let found = check(&history);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found
            .iter()
            .all(|it| matches!(it, Violation::WronglyStranded { .. }))
    );
}

#[test]
fn what_turns_up_after_its_epoch_is_applied_late() {
    let mut history = good();
    let late = WriteId {
        client: 1,
        number: 2,
    };
    history.stranding.found.remove(&late);
    history.stranding.reported = 1;
    for rows in history.members.values_mut() {
        rows.writes.insert(late);
    }
    assert_eq!(
        only(&history),
        Violation::AppliedLate {
            write: late,
            epoch: 2
        }
    );
}

#[test]
fn stranded_writes_are_counted_exactly() {
    let mut history = good();
    history.stranding.reported = 3;
    assert!(!only(&history).is_loss());
    history.stranding.reported = 1;
    // The product does not know of one that is gone.
    assert!(only(&history).is_loss());
    assert!(matches!(
        only(&history),
        Violation::StrandedMiscounted {
            reported: 1,
            found: 2
        }
    ));
}

#[test]
fn a_refused_write_that_is_there_is_a_wrong_answer() {
    let mut history = good();
    for rows in history.members.values_mut() {
        rows.writes.insert(WriteId {
            client: 3,
            number: 2,
        });
    }
    assert!(
        only(&history)
            .to_string()
            .contains("it was refused, and it is there")
    );
}

#[test]
fn an_unknown_write_may_be_there_or_not() {
    let mut history = good();
    for rows in history.members.values_mut() {
        rows.writes.insert(WriteId {
            client: 1,
            number: 3,
        });
    }
    assert_eq!(check(&history), []);
}

#[test]
fn a_row_that_nobody_wrote_is_a_wrong_answer() {
    let mut history = good();
    for rows in history.members.values_mut() {
        rows.writes.insert(WriteId {
            client: 8,
            number: 8,
        });
    }
    assert!(only(&history).to_string().contains("nobody wrote it"));
}

#[test]
fn an_error_that_is_no_refusal_is_a_wrong_answer() {
    let mut history = good();
    history.attempts[7].outcome = Outcome::Wrong("1032 Can't find record".to_owned());
    assert!(only(&history).to_string().contains("1032"));
}

#[test]
fn members_that_differ_are_diverged() {
    let mut history = good();
    let sh = history.members.get_mut("sh").unwrap();
    sh.digests.insert("writes".to_owned(), (4, 78));
    assert!(matches!(only(&history), Violation::Diverged { .. }));
    let mut history = good();
    history
        .members
        .get_mut("sh")
        .unwrap()
        .writes
        .remove(&WriteId {
            client: 3,
            number: 1,
        });
    assert!(only(&history).to_string().contains("1 writes only at bj"));
}

#[test]
fn a_line_is_read_as_it_was_written() {
    let mut all = good().attempts;
    all.push(Attempt {
        outcome: Outcome::Wrong("1032 of\nthis kind".to_owned()),
        ..write(1, 4, "sh", 1, 2)
    });
    for attempt in all {
        let read = log::parse(&log::line(&attempt)).unwrap();
        let same = Attempt {
            outcome: match attempt.outcome {
                Outcome::Wrong(_) => Outcome::Wrong("1032 of this kind".to_owned()),
                other => other,
            },
            ..attempt
        };
        assert_eq!(read, same);
    }
    assert_eq!(log::parse("1 2 sh 1 77"), None);
}

#[test]
fn percentiles_are_values_that_were_measured() {
    let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
    let of = |values: &[f64], percent| pause::percentile(values, percent);
    assert_eq!(of(&hundred, 50), Some(50.0));
    assert_eq!(of(&hundred, 99), Some(99.0));
    assert_eq!(of(&[7.0], 99), Some(7.0));
    assert_eq!(of(&[3.0, 7.0], 50), Some(3.0));
    assert_eq!(of(&[], 50), None);
}
