//! Tokens for a user's name and password.

use super::*;
use crate::simulator::Revocation;
use crate::simulator::ledger::UserEntry;
use crate::simulator::reply::{Sending, Waybill};

fn body(username: &str, password: &str) -> TokenRequest {
    TokenRequest {
        grant: "password".to_owned(),
        client_id: "simulated-client".to_owned(),
        client_secret: "simulated-client-secret".to_owned(),
        username: username.to_owned(),
        password: password.to_owned(),
    }
}

/// The token, or the status and the error.
fn token(desk: &mut Desk, username: &str, password: &str) -> Result<String, (u16, &'static str)> {
    match desk.world.token(&body(username, password)) {
        Reply::Json { text, waybill, .. } => {
            desk.world.close(&waybill, true);
            let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
            Ok(answer["access_token"].as_str().unwrap().to_owned())
        }
        Reply::Refused(refusal) => Err((refusal.status, refusal.error)),
        Reply::Nothing | Reply::Events { .. } | Reply::Created { .. } => panic!("no token"),
    }
}

fn entry(desk: &mut Desk, user: &str) -> UserEntry {
    desk.ledger().users.into_iter().find(|entry| &*entry.user == user).unwrap()
}

const REFUSED: Result<String, (u16, &str)> = Err((401, "invalid_grant"));

#[tokio::test(start_paused = true)]
async fn a_password_gives_a_token_of_that_user_until_it_is_changed() {
    let mut desk = desk();
    let queue = desk.subscribe("u");
    let own = token(&mut desk, "u", "password-of-u").unwrap();
    let alone = Caller { token: Some(&own), user: None, agent: "test" };
    assert_eq!(desk.world.ask(&alone, &queue).outcome(), Outcome::Empty);
    assert_eq!(token(&mut desk, "u", "guess"), REFUSED);
    assert_eq!(token(&mut desk, "u", ""), REFUSED);
    assert_eq!(token(&mut desk, "v", "password-of-u"), REFUSED);
    desk.world.set_password("u", "another").unwrap();
    assert_eq!(token(&mut desk, "u", "password-of-u"), REFUSED);
    assert!(token(&mut desk, "u", "another").is_ok());
    assert_eq!(desk.world.ask(&alone, &queue).outcome(), Outcome::Empty, "a token outlives it");
    assert_eq!(desk.world.revoke(&Revocation::User("u".to_owned())), 2);
    assert_eq!(desk.world.ask(&alone, &queue).outcome(), Outcome::Unauthorized);
    let stats = desk.world.stats();
    assert_eq!((stats.token_requests, stats.token_refusals), (6, 4));
    assert_eq!(entry(&mut desk, "u").token_requests, 5);
}

#[tokio::test(start_paused = true)]
async fn who_is_unknown_comes_into_being_by_the_right_password_where_that_is_allowed() {
    let mut desk = desk();
    assert_eq!(token(&mut desk, "new", "guess"), REFUSED);
    assert_eq!(token(&mut desk, "", "password-of-"), REFUSED);
    assert_eq!(desk.world.stats().users, 0);
    assert!(token(&mut desk, "new", "password-of-new").is_ok());
    assert_eq!(entry(&mut desk, "new").token_requests, 1);
    let mut strict = Desk::new(Options { make_users: false, ..Options::default() });
    assert_eq!(token(&mut strict, "new", "password-of-new"), REFUSED);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_client_gets_no_token_for_the_right_password() {
    let mut desk = desk();
    let wrong = TokenRequest { client_secret: "guess".to_owned(), ..body("u", "password-of-u") };
    let reply = desk.world.token(&wrong);
    assert!(matches!(reply, Reply::Refused(refusal) if refusal.error == "invalid_client"));
    let odd = TokenRequest { grant: "odd".to_owned(), ..body("u", "password-of-u") };
    assert!(matches!(desk.world.token(&odd), Reply::Refused(refusal) if refusal.status == 400));
}

#[tokio::test(start_paused = true)]
async fn a_token_fault_meets_the_user_whose_name_is_given_and_no_other() {
    let mut desk = desk();
    for (fault, refused) in [
        (Fault::Unauthorized, (401, "invalid_grant")),
        (Fault::ServerError { status: 502 }, (502, "INTERNAL_ERROR")),
        (Fault::Throttle { retry_after: Some(1) }, (429, "TOO_MANY_REQUESTS")),
    ] {
        let order = Order::next(1, fault).of("u").on(RequestKind::Token);
        desk.world.inflict(order).unwrap();
        assert!(token(&mut desk, "v", "password-of-v").is_ok());
        let client = TokenRequest { grant: "client_credentials".to_owned(), ..body("", "") };
        assert!(matches!(desk.world.token(&client), Reply::Json { .. }));
        assert_eq!(token(&mut desk, "u", "password-of-u"), Err(refused));
        assert!(token(&mut desk, "u", "password-of-u").is_ok());
    }
    assert_eq!(entry(&mut desk, "u").token_requests, 6);
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_a_token_while_one_is_on_its_way_is_seen() {
    let mut desk = desk();
    desk.world.set_password("u", "password-of-u").unwrap();
    desk.world.inflict(Order::always(Fault::Slow { over_ms: 100 })).unwrap();
    let begin = |desk: &mut Desk, user: &str| -> Waybill {
        let reply = desk.world.token(&body(user, &format!("password-of-{user}")));
        let Reply::Json { waybill, sending: Sending::Slow { .. }, .. } = reply else {
            panic!("{reply:?}")
        };
        waybill
    };
    for _ in 0..2 {
        assert_eq!(token(&mut desk, "u", "guess"), REFUSED);
    }
    for _ in 0..3 {
        let alone = begin(&mut desk, "u");
        desk.world.close(&alone, true);
    }
    let under_way = [begin(&mut desk, "v"), begin(&mut desk, "v"), begin(&mut desk, "w")];
    for (waybill, is_whole) in under_way.iter().zip([true, false, true]) {
        desk.world.close(waybill, is_whole);
    }
    let again = begin(&mut desk, "v");
    desk.world.close(&again, true);
    let most = |desk: &mut Desk, user| entry(desk, user).most_token_requests_at_once;
    assert_eq!([most(&mut desk, "u"), most(&mut desk, "v"), most(&mut desk, "w")], [1, 2, 1]);
    assert_eq!(desk.world.stats().most_token_requests_at_once, 2);
}
