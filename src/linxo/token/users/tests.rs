//! Users' tokens on a clock that stands still.

use std::cell::{Cell, RefCell};

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::advance;
use zeroize::Zeroizing;

use super::*;
use crate::linxo::fault::{Refusal, Refused};

const LIFE: Duration = Duration::from_secs(3600);

fn store() -> UserTokens {
    UserTokens::new().unwrap()
}

fn user(name: &str) -> UserId {
    UserId::from(name)
}

fn given(text: &str) -> Result<Given, TokenFault> {
    Ok(Given { access_token: Zeroizing::new(text.to_owned()), expires_in: Some(LIFE) })
}

fn away() -> Result<Given, TokenFault> {
    Err(TokenFault::Answered { status: 503 })
}

fn refused() -> Result<Given, TokenFault> {
    let how = "400: invalid_grant".to_owned();
    Err(TokenFault::Refused(Refused { what: Refusal::Password, how }))
}

/// The token of ann under credential 1, with what the endpoint would answer; and whether it was asked.
async fn ann(store: &UserTokens, answer: Result<Given, TokenFault>) -> (String, bool) {
    of_ann(store, 1, answer).await
}

async fn of_ann(store: &UserTokens, of: u64, answer: Result<Given, TokenFault>) -> (String, bool) {
    let was_asked = Cell::new(false);
    let asking = async {
        was_asked.set(true);
        answer
    };
    let text = match store.current_or(&user("ann"), of, asking).await {
        Ok(token) => text(&token),
        Err(fault) => CallFault::from(fault).to_string(),
    };
    (text, was_asked.get())
}

fn text(token: &UserToken) -> String {
    token.authorization.to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned()
}

fn is(text: &str, was_asked: bool) -> (String, bool) {
    (text.to_owned(), was_asked)
}

#[tokio::test(start_paused = true)]
async fn whoever_needs_a_users_token_waits_for_the_one_request_under_way() {
    let (store, ann, asked) = (store(), user("ann"), Cell::new(0));
    let ask = |answer| {
        let asked = &asked;
        let asking = async move {
            asked.set(asked.get() + 1);
            tokio::time::sleep(Duration::from_secs(1)).await;
            answer
        };
        store.current_or(&ann, 1, asking)
    };
    let tokens = join_all((0..100).map(|_| ask(given("t1")))).await;
    assert!(tokens.iter().all(|token| text(token.as_ref().ok().unwrap()) == "t1"));
    assert_eq!(asked.get(), 1);

    store.forget(&ann);
    let faults = join_all((0..100).map(|_| ask(away()))).await;
    assert!(faults.iter().all(|fault| matches!(fault, Err(TokenFault::Answered { status: 503 }))));
    assert_eq!(asked.get(), 2, "who waited takes the failure too");
    assert_eq!(store.state().flights.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn when_the_one_who_asks_gives_up_the_next_in_line_asks() {
    let store = store();
    let ann = user("ann");
    let mut first = Box::pin(store.current_or(&ann, 1, std::future::pending()));
    assert!(futures_util::poll!(first.as_mut()).is_pending());
    let mut second = Box::pin(store.current_or(&ann, 1, async { given("t2") }));
    assert!(futures_util::poll!(second.as_mut()).is_pending(), "one at a time");
    drop(first);
    assert_eq!(text(&second.await.ok().unwrap()), "t2");
    assert_eq!(super::tests::ann(&store, away()).await, is("t2", false));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_asked_for_again_by_the_first_who_needs_it_shortly_before_its_end() {
    let store = store();
    assert_eq!(ann(&store, given("t1")).await, is("t1", true));
    advance(Duration::from_secs(3569)).await;
    assert_eq!(ann(&store, given("t2")).await, is("t1", false));
    advance(Duration::from_secs(1)).await;
    assert_eq!(ann(&store, given("t2")).await, is("t2", true));
    advance(LIFE).await;
    assert_eq!(ann(&store, given("t3")).await, is("t3", true), "its time was over");
}

#[tokio::test(start_paused = true)]
async fn a_life_is_counted_from_when_the_token_was_asked_for() {
    let store = store();
    let slow = async {
        tokio::time::sleep(Duration::from_secs(8)).await;
        given("t1")
    };
    assert!(store.current_or(&user("ann"), 1, slow).await.is_ok());
    advance(Duration::from_secs(3562)).await;
    assert_eq!(ann(&store, given("t2")).await, is("t2", true));
}

#[tokio::test(start_paused = true)]
async fn the_old_token_serves_to_its_end_while_its_renewal_fails_and_is_not_pressed_for() {
    let store = store();
    ann(&store, given("t1")).await;
    advance(Duration::from_secs(3570)).await;
    assert_eq!(ann(&store, away()).await, is("t1", true));
    assert_eq!(ann(&store, away()).await, is("t1", false), "not at once");
    let mut tries = 0;
    for _ in 0..29 {
        advance(Duration::from_secs(1)).await;
        let (text, was_asked) = ann(&store, away()).await;
        assert_eq!(text, "t1");
        tries += u32::from(was_asked);
    }
    assert_eq!(tries, 6, "after 0.5, 1, 2, 4, 8 and 10 seconds");
    advance(Duration::from_secs(1)).await;
    assert_eq!(ann(&store, away()).await, is("the token endpoint answered 503", true));
    assert_eq!(ann(&store, given("t2")).await, is("t2", true), "the caller says when to try again");
}

#[tokio::test(start_paused = true)]
async fn a_refused_renewal_is_not_tried_again_while_the_old_token_is_good() {
    let store = store();
    ann(&store, given("t1")).await;
    advance(Duration::from_secs(3575)).await;
    assert_eq!(ann(&store, refused()).await, is("t1", true));
    for _ in 0..24 {
        advance(Duration::from_secs(1)).await;
        assert_eq!(ann(&store, refused()).await, is("t1", false));
    }
    advance(Duration::from_secs(1)).await;
    let said = "the token endpoint refuses the user's name and password (400: invalid_grant); \
                give a new one or widen its scope";
    assert_eq!(ann(&store, refused()).await, is(said, true));
}

#[tokio::test(start_paused = true)]
async fn an_old_token_that_ends_while_its_renewal_fails_is_not_used() {
    let store = store();
    ann(&store, given("t1")).await;
    advance(Duration::from_secs(3595)).await;
    let slow = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        away()
    };
    assert!(store.current_or(&user("ann"), 1, slow).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_401_throws_away_the_token_that_was_used_and_no_newer_one() {
    let (store, ann) = (store(), user("ann"));
    let first = store.current_or(&ann, 1, async { given("t1") }).await.ok().unwrap();
    store.discard(&ann, &first);
    let second = store.current_or(&ann, 1, async { given("t2") }).await.ok().unwrap();
    assert_eq!(text(&second), "t2");
    store.discard(&ann, &first);
    assert_eq!(super::tests::ann(&store, given("t3")).await, is("t2", false));
    store.discard(&ann, &second);
    assert_eq!(super::tests::ann(&store, given("t3")).await, is("t3", true));
}

#[tokio::test(start_paused = true)]
async fn a_token_serves_only_the_name_and_password_that_it_was_given_for() {
    let store = store();
    assert_eq!(of_ann(&store, 1, given("t1")).await, is("t1", true));
    assert!(of_ann(&store, 2, refused()).await.1);
    assert_eq!(of_ann(&store, 2, given("t2")).await, is("t2", true));
    assert_eq!(of_ann(&store, 1, given("t3")).await, is("t3", true));
    let hash = |name, word| store.hasher.hash_one((name, word));
    assert_ne!(hash("ab", "c"), hash("a", "bc"));
    assert_eq!(hash("a", "b"), hash("a", "b"));
}

#[tokio::test(start_paused = true)]
async fn who_was_forgotten_is_not_brought_back_by_the_request_under_way() {
    let (store, ann, go) = (store(), user("ann"), Notify::new());
    let asking = async {
        go.notified().await;
        given("t1")
    };
    let mut first = Box::pin(store.current_or(&ann, 1, asking));
    assert!(futures_util::poll!(first.as_mut()).is_pending());
    store.forget(&ann);
    assert_eq!(super::tests::ann(&store, given("t2")).await, is("t2", true), "not that request");
    go.notify_one();
    assert_eq!(text(&first.await.ok().unwrap()), "t1", "to whom it was asked for it is given");
    assert_eq!(super::tests::ann(&store, given("t3")).await, is("t2", false));
    store.forget(&ann);
    let state = store.state();
    assert_eq!((state.bytes, state.by_user.len(), state.flights.len()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn no_user_is_ever_given_the_token_of_another() {
    let store = UserTokens::within(40 * (OVERHEAD_BYTES + 80)).unwrap();
    let serial = Cell::new(0);
    let owners: RefCell<HashMap<String, usize>> = RefCell::default();
    // 100 users who come and go, crowded, some thrown away, some forgotten, some refused
    for round in 0..200_usize {
        let asking = (0..100_usize).filter(|number| (number * 7 + round) % 3 == 0).map(|number| {
            let (store, serial, owners) = (&store, &serial, &owners);
            async move {
                let user = user(&format!("user-{number}"));
                let ask = async {
                    tokio::time::sleep(Duration::from_millis((number * round % 50) as u64)).await;
                    if (number + round) % 11 == 0 {
                        return refused();
                    }
                    serial.set(serial.get() + 1);
                    let token = format!("token-{}", serial.get());
                    owners.borrow_mut().insert(token.clone(), number);
                    given(&token)
                };
                let Ok(token) = store.current_or(&user, 1, ask).await else { return };
                assert_eq!(owners.borrow()[&text(&token)], number);
                match (number * round) % 13 {
                    0 => store.discard(&user, &token),
                    1 => store.forget(&user),
                    _ => {}
                }
            }
        });
        join_all(asking).await;
        advance(Duration::from_secs(60)).await;
    }
    assert!(serial.get() > 1000);
    // and even what is put in another's place does not open for them
    let mut state = store.state();
    let (one, _) = state.by_user.iter().next().map(|(user, kept)| (user.clone(), kept.of)).unwrap();
    let kept = state.by_user.remove(&one).unwrap();
    assert!(store.open(&one, &kept).is_some());
    assert!(store.open(&user("somebody-else"), &kept).is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_stays_within_its_bytes_and_what_was_used_least_lately_goes() {
    let most = 80 * (OVERHEAD_BYTES + 100);
    let store = UserTokens::within(most).unwrap();
    assert!(!store.pace().is_crowded);
    let ask = async |number: usize| {
        let was_asked = Cell::new(false);
        let asking = async {
            was_asked.set(true);
            given(&format!("{number:055}"))
        };
        store.current_or(&user(&number.to_string()), 1, asking).await.ok().unwrap();
        advance(Duration::from_millis(1)).await;
        was_asked.get()
    };
    for number in 0..80 {
        assert!(ask(number).await);
        assert!(!ask(0).await, "used all the time");
    }
    assert_eq!(store.state().bytes, most);
    assert!(ask(80).await);
    assert!(store.state().bytes <= most - most / 8, "an eighth at once");
    assert!(!ask(0).await && !ask(79).await && !ask(80).await && ask(1).await);
    let pace = store.pace();
    assert!(pace.is_crowded);
    let often = Duration::from_secs(300);
    assert!((pace.per_second(often) - 1.0 / 300.0).abs() < 1e-9, "a token for each question");
    for number in 0..1000 {
        ask(number).await;
        assert!(store.state().bytes <= most);
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_whose_time_is_over_do_not_pile_up() {
    let store = store();
    for number in 0..10_000 {
        let asking = async { given("t") };
        store.current_or(&user(&number.to_string()), 1, asking).await.ok().unwrap();
        advance(Duration::from_secs(10)).await;
    }
    assert!(store.state().by_user.len() <= CLEAN_FIRST_AT);
    assert!(!store.pace().is_crowded);
}

#[tokio::test(start_paused = true)]
async fn what_tokens_cost_follows_the_life_they_are_given() {
    let store = store();
    let rate = |pause| store.pace().per_second(Duration::from_secs(pause));
    assert!((rate(300) - 1.0 / 3570.0).abs() < 1e-9, "an hour until one is seen");
    let short = async {
        let access_token = Zeroizing::new("t".to_owned());
        Ok(Given { access_token, expires_in: Some(Duration::from_secs(600)) })
    };
    store.current_or(&user("ann"), 1, short).await.ok().unwrap();
    assert!((rate(300) - 1.0 / 570.0).abs() < 1e-9);
    assert!((rate(1800) - 1.0 / 1800.0).abs() < 1e-9, "who is asked rarely needs one rarely");
}
