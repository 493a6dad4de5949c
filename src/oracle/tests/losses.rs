//! Rules about what is not there, gaps and pauses.

use super::*;

#[test]
fn a_loss_outside_every_gap_is_an_offence() {
    let found = with_death(|world| world.ledger.events[2].made_at = 2100);
    assert_eq!(found, ["lost: event q1/3 of alice was lost at the source and is in no gap"]);
}

#[test]
fn a_loss_in_a_gap_of_another_user_is_an_offence() {
    let found = with_death(|world| {
        world.of("linxo.gaps").iter_mut().for_each(|gap| gap.value["user_id"] = json!("bob"));
    });
    let lost = "lost: event q1/3 of alice was lost at the source and is in no gap";
    assert_eq!(found, [lost, "death: queue q1 of alice died and has no gap"]);
}

#[test]
fn what_was_handed_out_may_be_missing_inside_a_gap_and_nowhere_else() {
    let lost = |at: u64| {
        with_death(|world| world.ledger.events.push(entry("4", "ALL_STARTED", at, Fate::HandedOut)))
    };
    assert_eq!(lost(1500), Vec::<String>::new());
    assert_eq!(lost(2500), ["lost: event q1/4 of alice is in no topic and in no gap"]);
}

#[test]
fn what_died_with_its_queue_is_in_a_gap_that_says_certain() {
    let found = with_death(|world| {
        for gap in world.of("linxo.gaps") {
            gap.value["certainty"] = json!("POSSIBLE");
        }
    });
    assert_eq!(
        found,
        [
            "certainty: event q1/3 is surely lost and in a gap that says POSSIBLE",
            "death: queue q1 of alice died and has no gap",
        ]
    );
}

/// An answer lost on the wire with this fault, in a gap of that certainty.
fn lost_on_the_wire(fault: FaultName, certainty: &str) -> World {
    let mut world = World::agreeing();
    world.ledger.deaths.clear();
    world.ledger.queues = vec![queue(QUEUE, 800, None)];
    let lost = &mut world.ledger.events[2];
    lost.fate = Fate::LostOnTheWire;
    lost.handed_out =
        Some(HandOut { at: 1600, answer: 3, turn: 3, fault: Some(fault), lost: true });
    lost.times_lost = 1;
    for gap in world.of("linxo.gaps") {
        gap.value["certainty"] = json!(certainty);
        gap.value["cause"] = json!("ANSWER_LOST");
        gap.value["next_queue_id"] = Value::Null;
    }
    world
}

#[test]
fn a_body_that_was_promised_and_did_not_come_is_a_certain_loss() {
    assert!(lost_on_the_wire(FaultName::Cut, "CERTAIN").judged().agrees());
    let found = offences(lost_on_the_wire(FaultName::Cut, "POSSIBLE"), |_| {});
    assert_eq!(found, ["certainty: event q1/3 is surely lost and in a gap that says POSSIBLE"]);
    assert!(lost_on_the_wire(FaultName::Html, "POSSIBLE").judged().agrees());
    // whoever was killed meanwhile knows less
    let mut killed = lost_on_the_wire(FaultName::Cut, "POSSIBLE");
    killed.rules.disturbances = vec![kill(1550, 1650)];
    assert!(killed.judged().agrees());
    let bare = offences(lost_on_the_wire(FaultName::Cut, "CERTAIN"), |world| {
        world.puts.retain(|put| put.topic != "linxo.gaps");
        world.remove("linxo.events", "r/g/100");
    });
    assert_eq!(bare, ["lost: event q1/3 of alice is in no topic and in no gap"]);
}

fn kill(from: u64, to: u64) -> Disturbance {
    Disturbance { what: "kill -9".to_owned(), from, to, gaps: 1 }
}

#[test]
fn what_was_made_while_no_queue_lived_is_lost_but_not_before_the_first() {
    let made = |at: u64| {
        with_death(|world| {
            let mut entry = entry("-", "ALL_STARTED", at, Fate::NoQueue);
            (entry.queue, entry.event_id) = (None, None);
            world.ledger.events.push(entry);
        })
    };
    assert_eq!(made(1800), Vec::<String>::new());
    assert_eq!(made(700), Vec::<String>::new());
    let text =
        "lost: event (no queue)/made at 2100 of alice was lost at the source and is in no gap";
    assert_eq!(made(2100), [text]);
}

#[test]
fn an_event_that_died_in_a_queue_nobody_knew_is_not_lost_when_another_queue_had_it() {
    let orphan = |twin: bool| {
        in_quiet(|world| {
            let mut unknown = queue("q0", 700, Some(1600));
            unknown.questions = 0;
            world.ledger.queues.insert(0, unknown);
            let (kind, at) = if twin { ("AUTH_FAILED", 950) } else { ("ALL_STARTED", 951) };
            let mut entry = entry("1", kind, at, Fate::DiedWithQueue);
            entry.queue = Some("q0".into());
            world.ledger.events.push(entry);
        })
    };
    assert_eq!(orphan(true), Vec::<String>::new());
    let text = "lost: event q0/1 of alice was lost at the source and is in no gap";
    assert_eq!(orphan(false), [text]);
}

#[test]
fn what_waits_in_a_queue_nobody_knows_is_told_by_the_gap_it_lies_in() {
    let waits = |at: u64, questions: u32| {
        let mut world = World::agreeing();
        let mut unknown = queue("q0", 1650, None);
        unknown.questions = questions;
        world.ledger.queues.insert(1, unknown);
        let mut entry = entry("1", "ALL_STARTED", at, Fate::Waiting);
        entry.queue = Some("q0".into());
        world.ledger.events.push(entry);
        world.judged().outcome()
    };
    assert_eq!(waits(1700, 0), Outcome::Agrees);
    assert_eq!(waits(2100, 0), Outcome::CannotTell);
    // one that is asked will be asked again
    assert_eq!(waits(1700, 1), Outcome::CannotTell);
}

#[test]
fn a_death_without_a_gap_is_an_offence_although_nothing_was_in_the_queue() {
    let found = with_death(|world| {
        world.ledger.events.truncate(2);
        world.puts.truncate(3);
    });
    assert_eq!(found, ["death: queue q1 of alice died and has no gap"]);
    // a gap of the same queue that was over by then tells nothing of it
    let late = with_death(|world| {
        world.ledger.events.truncate(2);
        world.ledger.deaths[0].at = 2500;
        world.ledger.queues[1].opened_at = 2600;
    });
    let text = "cause: gap g of alice (QUEUE_GONE, CERTAIN) has no cause";
    assert_eq!(late, [text, "death: queue q1 of alice died and has no gap"]);
}

#[test]
fn a_queue_that_dies_while_the_gap_before_it_is_open_widens_that() {
    let second = |is_wider: bool| {
        with_death(|world| {
            world.ledger.queues[1].died_at = Some(2300);
            world.ledger.queues.push(queue("q3", 2350, None));
            let death =
                DeathEntry { queue: NEXT.into(), at: 2300, ..world.ledger.deaths[0].clone() };
            world.ledger.deaths.push(death);
            if is_wider {
                let mut wider = gap(None, false);
                wider.value["to"] = json!(2400);
                world.puts.push(wider);
            }
        })
    };
    assert_eq!(second(true), Vec::<String>::new());
    assert_eq!(second(false), ["death: queue q2 of alice died and has no gap"]);
}

#[test]
fn a_certain_gap_that_was_never_reconciled_is_an_offence_and_a_possible_one_is_not() {
    let open = |certainty: &str| {
        offences(lost_on_the_wire(FaultName::Html, certainty), |world| {
            world.puts.retain(|put| put.value["reconciled"] != true);
            world.remove("linxo.events", "r/g/100");
        })
    };
    let text = "reconciliation: gap g of alice is CERTAIN and was never reconciled";
    assert_eq!(open("CERTAIN"), [text]);
    assert_eq!(open("POSSIBLE"), Vec::<String>::new());
    let never_opened = with_death(|world| {
        world.puts.retain(|put| put.topic != "linxo.gaps" || put.value["reconciled"] == true);
    });
    assert_eq!(never_opened[1], "reconciliation: gap g is reconciled and was never announced");
}

#[test]
fn a_reconciled_gap_without_the_present_state_with_two_or_none_to_belong_to_is_an_offence() {
    let missing = with_death(|world| world.remove("linxo.events", "r/g/100"));
    let text = "reconciliation: event r/g/100 of a reconciled gap is not there";
    assert_eq!(missing, [text]);
    let doubled = with_death(|world| {
        let mut again = world.of("linxo.events")[2].clone();
        again.value["sequence"] = json!(4);
        world.puts.push(again);
    });
    assert_eq!(doubled, ["twice: event r/g/100 of a reconciled gap is there 2 times"]);
    let stray = with_death(|world| {
        let mut stray = world.of("linxo.events")[2].clone();
        stray.value["sequence"] = json!(4);
        stray.value["idempotency_key"] = json!("r/other/100");
        world.puts.push(stray);
    });
    assert_eq!(stray, ["invented: event r/other/100 belongs to no reconciled gap"]);
}

#[test]
fn a_gap_that_is_there_twice_is_an_offence_and_one_that_was_widened_is_not() {
    let again = |to: i64| {
        with_death(|world| {
            let mut gap = gap(None, false);
            gap.value["to"] = json!(to);
            world.puts.push(gap);
        })
    };
    assert_eq!(again(2000), ["twice: gap g under key alice is there twice"]);
    assert_eq!(again(2200), Vec::<String>::new());
    let reconciled = with_death(|world| world.puts.push(gap(None, true)));
    assert_eq!(reconciled, ["twice: gap g of alice is reconciled 2 times"]);
}

#[test]
fn a_gap_without_a_cause_is_an_offence() {
    let without = |met: &[FaultName], disturbances: Vec<Disturbance>| {
        offences(lost_on_the_wire(FaultName::Cut, "POSSIBLE"), |world| {
            world.ledger.events.truncate(2);
            world.puts.retain(|put| put.value["reconciled"] != true);
            world.remove("linxo.events", "r/g/100");
            world.rules.met = met.iter().map(|name| (*name, 1)).collect();
            world.rules.disturbances = disturbances;
        })
    };
    let text = "cause: gap g of alice (ANSWER_LOST, POSSIBLE) has no cause";
    let many = "proportion: 1 gaps where the faults excuse 0";
    assert_eq!(without(&[], Vec::new()), [text, many]);
    // an error head removes nothing
    assert_eq!(without(&[FaultName::Forbidden], Vec::new()), [text, many]);
    assert_eq!(without(&[FaultName::Cut], Vec::new()), Vec::<String>::new());
    assert_eq!(without(&[], vec![kill(1700, 1800)]), Vec::<String>::new());
    assert_eq!(without(&[], vec![kill(2700, 2800)]), [text]);
}

#[test]
fn a_gap_for_a_death_that_never_was_is_an_offence_whatever_else_happened() {
    let found = with_death(|world| {
        world.ledger.deaths.clear();
        world.ledger.queues = vec![queue(QUEUE, 800, None)];
        world.rules.met.insert(FaultName::Cut, 5);
        world.rules.disturbances = vec![kill(900, 2100)];
    });
    assert_eq!(found, ["cause: gap g of alice (QUEUE_GONE, CERTAIN) has no cause"]);
}

#[test]
fn more_gaps_than_the_faults_excuse_are_an_offence() {
    let found = with_death(|world| {
        for gap_id in ["h", "i"] {
            for (connection, is_reconciled) in
                [(None, false), (Some("100"), false), (None, true), (Some("100"), true)]
            {
                let mut gap = gap(connection, is_reconciled);
                gap.value["gap_id"] = json!(gap_id);
                world.puts.push(gap);
            }
            let mut listed = world.of("linxo.events")[2].clone();
            listed.value["idempotency_key"] = json!(format!("r/{gap_id}/100"));
            listed.value["sequence"] = json!(if gap_id == "h" { 4 } else { 5 });
            world.puts.push(listed);
        }
    });
    assert_eq!(found, ["proportion: 3 gaps where the faults excuse 1"]);
}

#[test]
fn a_pause_that_is_too_long_is_an_offence_also_when_it_goes_on_or_ended_in_death() {
    let bound = Some(Duration::from_millis(100));
    let paused = |change: fn(&mut World)| {
        with_death(|world| {
            world.rules.longest_pause = bound;
            change(world);
        })
    };
    assert_eq!(paused(|_| {}), Vec::<String>::new());
    let text = "pause: queue q2 of alice was not asked for 101 ms, the bound is 100";
    assert_eq!(paused(|world| world.ledger.queues[1].longest_pause_ms = 101), [text]);
    assert_eq!(paused(|world| world.ledger.queues[1].silent_ms = 101), [text]);
    let text = "pause: queue q1 of alice was not asked for 101 ms, the bound is 100";
    assert_eq!(paused(|world| world.ledger.queues[0].silent_ms = 101), [text]);
    // another took its place while it lived, so nobody had to ask it
    let superseded = paused(|world| {
        world.ledger.queues[0].silent_ms = 101;
        world.ledger.queues[1].opened_at = 1550;
    });
    assert_eq!(superseded, Vec::<String>::new());
    let unjudged = with_death(|world| world.ledger.queues[0].silent_ms = 1_000_000);
    assert_eq!(unjudged, Vec::<String>::new());
}
