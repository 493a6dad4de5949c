//! Rules about what is there.

use super::*;

#[test]
fn a_missing_event_is_an_offence_and_so_is_the_hole_it_leaves() {
    let found = in_quiet(|world| world.remove("linxo.events", "q1/1"));
    assert_eq!(
        found,
        [
            "lost: event q1/1 of alice is in no topic and in no gap",
            "sequence: event q1/2 under key 100 has number 2 after 0",
        ]
    );
}

#[test]
fn a_doubled_event_is_an_offence_unless_it_was_handed_out_twice() {
    let double = |world: &mut World| world.puts.push(event("1", "SYNC_ALL_STARTED", 3));
    let order = "order: event q1/1 stands after q1/2 under key 100 and was handed out before it";
    assert_eq!(in_quiet(double), ["twice: event q1/1 of alice is there 2 times", order]);
    let twice = in_quiet(|world| {
        double(world);
        again(world, 7);
    });
    assert_eq!(twice, Vec::<String>::new());
    // the second time stands before what was handed out before it
    let early = in_quiet(|world| {
        again(world, 7);
        world.ledger.events[1].handed_out.as_mut().unwrap().turn = 9;
        double(world);
    });
    assert_eq!(early, [order]);
    let missing = in_quiet(|world| again(world, 7));
    assert_eq!(missing, ["lost: event q1/1 of alice is in no topic and in no gap"]);
}

/// The first event was handed out a second time.
fn again(world: &mut World, turn: u32) {
    let first = &mut world.ledger.events[0];
    first.again.push(HandOut { at: 970, answer: 2, turn, fault: None, lost: false });
    first.times_handed_out = 2;
}

#[test]
fn where_it_may_be_handed_out_again_an_event_is_there_once_and_what_is_late_may_repeat_it() {
    let repeated = |world: &mut World| {
        world.rules.delivery = Delivery::Repeatable;
        again(world, 7);
    };
    assert_eq!(in_quiet(repeated), Vec::<String>::new());
    let doubled = |is_late: bool| {
        in_quiet(|world| {
            repeated(world);
            let mut double = event("1", "SYNC_ALL_STARTED", 3);
            double.value["late"] = json!(is_late);
            if is_late {
                double.value["sequence"] = Value::Null;
            }
            world.puts.push(double);
        })
    };
    assert_eq!(doubled(false), ["twice: event q1/1 of alice is there 2 times"]);
    assert_eq!(doubled(true), Vec::<String>::new());
}

#[test]
fn what_was_lost_and_handed_out_again_is_as_good_as_handed_out_once() {
    let lost_first = |world: &mut World| {
        world.rules.delivery = Delivery::Repeatable;
        let first = &mut world.ledger.events[0];
        let lost = HandOut { at: 905, answer: 1, turn: 1, fault: None, lost: true };
        first.handed_out.as_mut().unwrap().turn = 2;
        first.again.push(lost);
        first.times_lost = 1;
        world.ledger.events[1].handed_out.as_mut().unwrap().turn = 3;
    };
    assert_eq!(in_quiet(lost_first), Vec::<String>::new());
    let missing = in_quiet(|world| {
        lost_first(world);
        world.remove("linxo.events", "q1/1");
    });
    assert_eq!(missing[0], "lost: event q1/1 of alice is in no topic and in no gap");
}

#[test]
fn an_invented_event_is_an_offence() {
    let found = in_quiet(|world| world.puts.push(event("9", "SYNC_ALL_STARTED", 3)));
    assert_eq!(found, ["invented: event q1/9 was never handed out"]);
}

#[test]
fn an_event_under_another_key_of_another_type_or_user_is_an_offence() {
    let key = in_quiet(|world| world.ledger.events[0].connection = Some("101".into()));
    assert_eq!(key[0], "altered: event q1/1: key is 100, the source had 101");
    let user = in_quiet(|world| world.of("linxo.events")[0].value["user_id"] = json!("bob"));
    assert_eq!(user, ["altered: event q1/1: user_id is bob, the source had alice"]);
    let kind = in_quiet(|world| world.of("linxo.events")[0].value["event_type"] = json!("ELSE"));
    assert_eq!(kind, ["altered: event q1/1: event_type is ELSE, the source had SYNC_ALL_STARTED"]);
    let origin = in_quiet(|world| world.of("linxo.events")[0].value["origin"] = json!("UNKNOWN"));
    assert_eq!(origin[0], "altered: event q1/1 is of an origin that nobody knows");
}

/// The first two events of the quiet world the other way round in the topic.
fn swap(world: &mut World) {
    let mut events = world.of("linxo.events");
    let first = events[0].value.clone();
    events[0].value = events[1].value.clone();
    events[1].value = first;
    events[0].value["sequence"] = json!(1);
    events[1].value["sequence"] = json!(2);
}

#[test]
fn events_of_a_key_out_of_order_are_an_offence_within_an_epoch_only() {
    let order = "order: event q1/1 stands after q1/2 under key 100 and was handed out before it";
    assert_eq!(in_quiet(swap), [order]);
    let later_epoch = in_quiet(|world| {
        swap(world);
        world.of("linxo.events")[1].value["owner_epoch"] = json!(2);
    });
    assert_eq!(later_epoch, Vec::<String>::new());
    let late = in_quiet(|world| {
        swap(world);
        world.of("linxo.events")[1].value["late"] = json!(true);
        world.of("linxo.events")[1].value["sequence"] = Value::Null;
    });
    assert_eq!(late, Vec::<String>::new());
}

#[test]
fn what_is_late_though_all_was_handed_over_in_order_is_an_offence() {
    let late = |is_orderly: bool| {
        in_quiet(|world| {
            world.rules.is_orderly = is_orderly;
            world.of("linxo.events")[1].value["late"] = json!(true);
            world.of("linxo.events")[1].value["sequence"] = Value::Null;
        })
    };
    let count = |found: &[String]| found.iter().filter(|what| what.starts_with("late: ")).count();
    assert_eq!((count(&late(true)), count(&late(false))), (1, 0));
}

#[test]
fn two_that_ask_a_queue_in_turn_for_too_long_are_an_offence() {
    let contested = |bound: Option<u64>| {
        in_quiet(|world| {
            world.rules.longest_contest = bound.map(Duration::from_millis);
            world.ledger.queues[0].contested_ms = 700;
        })
    };
    let what = "contest: queue q1 of alice was asked by two in turn for 700 ms, the bound is 600";
    assert_eq!(contested(Some(600)), [what]);
    assert_eq!((contested(Some(700)).len(), contested(None).len()), (0, 0));
}

#[test]
fn an_epoch_that_falls_is_an_offence() {
    let found = in_quiet(|world| world.of("linxo.events")[0].value["owner_epoch"] = json!(2));
    let order = "order: event q1/2 of epoch 1 stands after q1/1 of epoch 2 and is not late";
    assert_eq!(found, [order]);
}

#[test]
fn a_number_is_counted_anew_with_a_subscription_and_belongs_to_nothing_late() {
    let anew = in_quiet(|world| {
        let second = &mut world.of("linxo.events")[1].value;
        second["subscription_id"] = json!("s2");
        second["sequence"] = json!(1);
    });
    assert_eq!(anew, Vec::<String>::new());
    let late = in_quiet(|world| world.of("linxo.events")[1].value["late"] = json!(true));
    assert_eq!(late, ["sequence: event q1/2 under key 100 is late and has number 2"]);
    let none = in_quiet(|world| world.of("linxo.events")[1].value["sequence"] = Value::Null);
    assert_eq!(none, ["sequence: event q1/2 under key 100 has number none after 1"]);
}

#[test]
fn an_action_without_its_copy_with_two_or_without_a_reason_is_an_offence() {
    let missing = in_quiet(|world| world.puts.retain(|put| put.topic != TOPIC));
    let text = "action: linxo.actions.auth-failed: event q1/2 is there 0 times and should be 1";
    assert_eq!(missing, [text]);
    let doubled = in_quiet(|world| world.puts.push(copy(TOPIC, &event("2", "AUTH_FAILED", 2))));
    let text = "action: linxo.actions.auth-failed: event q1/2 is there 2 times and should be 1";
    assert_eq!(doubled, [text]);
    let invented =
        in_quiet(|world| world.puts.push(copy(TOPIC, &event("1", "SYNC_ALL_STARTED", 1))));
    let text = "action: linxo.actions.auth-failed: event q1/1 asks nothing new of its user";
    assert_eq!(invented, [text]);
}

#[test]
fn a_status_that_is_entered_asks_once_and_one_that_stays_does_not() {
    let stays = |world: &mut World| {
        world.ledger.events[0].redirect = Some(Status::TokenExpired);
        world.ledger.events[1].redirect = Some(Status::TokenExpired);
    };
    let asks = json!([{"action": "TOKEN_EXPIRED"}]);
    let unseen = in_quiet(stays);
    assert_eq!(
        unseen,
        [
            "action: event q1/1 asks for [] and should ask for {TokenExpired}",
            "action: linxo.actions.token-expired: event q1/1 is there 0 times and should be 1",
        ]
    );
    let told = in_quiet(|world| {
        stays(world);
        world.of("linxo.events")[0].value["actions"] = asks.clone();
        let copied = world.of("linxo.events")[0].clone();
        world.puts.push(copy("linxo.actions.token-expired", &copied));
    });
    assert_eq!(told, Vec::<String>::new());
    let told_again = in_quiet(|world| {
        stays(world);
        for event in world.of("linxo.events") {
            event.value["actions"].as_array_mut().unwrap().push(asks[0].clone());
        }
        for place in [0, 1] {
            let copied = world.of("linxo.events")[place].clone();
            world.puts.push(copy("linxo.actions.token-expired", &copied));
        }
    });
    let again = "action: linxo.actions.token-expired: event q1/2 asks nothing new of its user";
    assert_eq!(told_again[1..], [again]);
}

#[test]
fn a_status_that_a_reconciliation_showed_is_not_entered_by_the_next_event() {
    let found = with_death(|world| {
        let listed = &mut world.of("linxo.events")[2].value;
        listed["connection"] =
            json!({"channels": [{"mode": "REDIRECT", "status": "TOKEN_EXPIRED"}]});
        listed["actions"] = json!([{"action": "TOKEN_EXPIRED"}]);
        let copied = world.of("linxo.events")[2].clone();
        world.puts.push(copy("linxo.actions.token-expired", &copied));
        let mut next = entry("4", "SYNC_ALL_FAILED", 2500, Fate::HandedOut);
        next.redirect = Some(Status::TokenExpired);
        world.ledger.events.push(next);
        world.puts.push(event("4", "SYNC_ALL_FAILED", 4));
    });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_dead_letter_is_delivered_but_what_can_be_read_must_not_be_one() {
    let dead = |world: &mut World| {
        world.remove("linxo.events", "q1/2");
        world.remove(TOPIC, "q1/2");
    };
    let without = in_quiet(|world| {
        dead(world);
        world.ledger.events[1].without = Some("event_type".into());
        world.puts.push(letter(r#"{"id":"2"}"#, "missing_type"));
    });
    assert_eq!(without, Vec::<String>::new());
    let nameless = in_quiet(|world| {
        dead(world);
        world.ledger.events[1].without = Some("id".into());
        world.puts.push(letter(r#"{"event_type":"AUTH_FAILED"}"#, "missing_id"));
    });
    assert_eq!(nameless, Vec::<String>::new());
    let readable = in_quiet(|world| {
        dead(world);
        world.puts.push(letter(r#"{"id":"2"}"#, "other"));
    });
    assert_eq!(readable, ["dead_letter: event q1/2 is a dead letter (other) and can be read"]);
    let large = in_quiet(|world| {
        dead(world);
        world.puts.push(letter(r#"{"id":"2"}"#, "too_large"));
    });
    assert_eq!(large, Vec::<String>::new());
}

#[test]
fn a_dead_letter_counts_beside_the_record_and_one_that_stands_for_nothing_is_an_offence() {
    let both = in_quiet(|world| {
        world.ledger.events[1].without = Some("event_type".into());
        world.puts.push(letter(r#"{"id":"2"}"#, "missing_type"));
    });
    assert_eq!(both, ["twice: event q1/2 of alice is there 2 times"]);
    let invented = in_quiet(|world| world.puts.push(letter(r#"{"id":"9"}"#, "missing_type")));
    assert_eq!(invented, ["invented: event q1/9 is a dead letter and was never handed out"]);
    let whole = |world: &mut World| world.puts.push(letter("[{\"id\":", "malformed"));
    let text = "dead_letter: a dead letter (malformed) of queue q1 stands for nothing that was \
                handed out";
    assert_eq!(in_quiet(whole), [text]);
    let broken = in_quiet(|world| {
        whole(world);
        world.rules.met.insert(FaultName::Cut, 1);
    });
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn a_dead_letter_that_was_cut_is_put_together() {
    let found = in_quiet(|world| {
        world.remove("linxo.events", "q1/2");
        world.remove(TOPIC, "q1/2");
        for (part, text) in [("1/2", r#"{"id":"#), ("2/2", r#""2"}"#)] {
            let mut letter = letter(text, "too_large");
            letter.headers.push(("linxo-part", part.to_owned()));
            world.puts.push(letter);
        }
    });
    assert_eq!(found, Vec::<String>::new());
}
