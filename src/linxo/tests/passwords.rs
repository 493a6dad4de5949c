//! Calls in the name of users whose name and password the bridge has.

use super::*;
use crate::ids::Timestamp;

fn login<'a>(username: &'a str, password: &'a str) -> Bearer<'a> {
    Bearer::Password { username, password }
}

async fn ask_as(source: &Source, user: &str, password: &str) -> Asked {
    let bearer = login(user, password);
    source.ask(&UserId::from(user), bearer, &QueueId::from("q1"), &room()).await
}

/// The name in a token request.
fn username(seen: &Seen) -> String {
    let request: serde_json::Value = serde_json::from_str(&seen.body).unwrap();
    request["username"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_users_token_is_asked_for_once_and_used_for_every_call() {
    let fake = Fake::start(|seen| match seen.path.as_str() {
        "/auth/token" => token("anns-own"),
        "/v2.1/queues/subscribe" => {
            (StatusCode::CREATED, [("location", "/queues/q1")]).into_response()
        }
        "/v2.1/connections" => "[]".into_response(),
        _ => StatusCode::NO_CONTENT.into_response(),
    })
    .await;
    let source = source(&fake.url);
    let answers = join_all((0..50).map(|_| ask_as(&source, "ann", "right"))).await;
    assert!(answers.iter().all(|asked| matches!(asked, Asked::Empty)), "{answers:?}");
    let ann = UserId::from("ann");
    assert!(source.subscribe(&ann, login("ann", "right")).await.is_ok());
    assert!(source.connections(&ann, login("ann", "right"), &room()).await.is_ok());
    assert_eq!(fake.count("/auth/token"), 1);
    source.forget(&ann);
    assert!(matches!(ask_as(&source, "ann", "right").await, Asked::Empty));
    assert_eq!(fake.count("/auth/token"), 2);

    let seen = fake.seen.lock().unwrap();
    let request: serde_json::Value = serde_json::from_str(&seen[0].body).unwrap();
    let expected = serde_json::json!({
        "provider": "linxoConnect", "grant_type": "password", "scope": DEFAULT_SCOPE,
        "client_id": "bridge", "client_secret": SECRET, "username": "ann", "password": "right",
    });
    assert_eq!(request, expected);
    for call in seen.iter().filter(|seen| seen.path != "/auth/token") {
        assert_eq!(call.header("authorization"), "Bearer anns-own", "{}", call.path);
        assert_eq!(call.header("x-linxo-user-id"), "", "the token names the user");
    }
}

#[tokio::test]
async fn no_users_token_is_in_another_users_request() {
    let given = AtomicUsize::new(0);
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        "/auth/token" => {
            token(&format!("{}.{}", username(seen), given.fetch_add(1, Ordering::SeqCst)))
        }
        // every third is taken for invalid, so that tokens come and go
        _ if seen.header("authorization").ends_with(['0', '3', '6', '9']) => {
            StatusCode::UNAUTHORIZED.into_response()
        }
        _ => StatusCode::NO_CONTENT.into_response(),
    })
    .await;
    let source = source(&fake.url);
    for _ in 0..4 {
        let asking = (0..200).map(|number| {
            let source = &source;
            async move {
                let name = format!("user-{}", number % 50);
                let queue = QueueId::from(name.as_str());
                let user = UserId::from(name.as_str());
                source.ask(&user, login(&name, "pass"), &queue, &room()).await
            }
        });
        join_all(asking).await;
    }
    let seen = fake.seen.lock().unwrap();
    let mut calls = 0;
    for call in seen.iter().filter(|seen| seen.path != "/auth/token") {
        let owner = call.path.rsplit_once('/').unwrap().1;
        let token = call.header("authorization").strip_prefix("Bearer ").unwrap();
        assert_eq!(token.split_once('.').unwrap().0, owner);
        calls += 1;
    }
    assert!(calls >= 800, "{calls}");
}

#[tokio::test]
async fn after_a_401_a_users_token_is_asked_for_anew_and_the_question_once_more() {
    let fake = Fake::refusing_the_first_token().await;
    let source = source(&fake.url);
    let answers = join_all((0..20).map(|_| ask_as(&source, "ann", "right"))).await;
    assert!(answers.iter().all(|asked| matches!(asked, Asked::Empty)), "{answers:?}");
    assert_eq!(fake.count("/auth/token"), 2);
}

#[tokio::test]
async fn a_401_to_a_fresh_token_stands_and_costs_one_token_a_try_from_then_on() {
    let fake = Fake::start(|seen| match seen.path.as_str() {
        "/auth/token" => token("t"),
        _ => StatusCode::UNAUTHORIZED.into_response(),
    })
    .await;
    let source = source(&fake.url);
    for tokens in 2..5 {
        let asked = ask_as(&source, "ann", "right").await;
        let Asked::Unauthorized(why) = asked else { panic!("{asked:?}") };
        assert_eq!(why, refused(Refusal::UserToken, "401"));
        assert_eq!(fake.count("/auth/token"), tokens);
    }
}

#[tokio::test]
async fn what_the_token_endpoint_refuses_is_told_from_its_being_away() {
    let fake = Fake::start(|seen| {
        let (status, body) = match username(seen).as_str() {
            "wrong" => (400, r#"{"error":"invalid_grant"}"#),
            "unknown" => (401, r#"{"error":"invalid_grant"}"#),
            "locked" => (403, "<html>"),
            "client" => (401, r#"{"error":"invalid_client"}"#),
            "throttled" => (429, ""),
            "down" => (502, ""),
            "page" => (200, "<html>"),
            _ => (500, ""),
        };
        let status = StatusCode::from_u16(status).unwrap();
        (status, [("retry-after", "7")], body).into_response()
    })
    .await;
    let source = source(&fake.url);
    for (user, what, how) in [
        ("wrong", Refusal::Password, "400: invalid_grant"),
        ("unknown", Refusal::Password, "401: invalid_grant"),
        ("locked", Refusal::Password, "403"),
        ("client", Refusal::Client, "401: invalid_client"),
    ] {
        let asked = ask_as(&source, user, "hush-pass").await;
        let Asked::Unauthorized(why) = asked else { panic!("{user}: {asked:?}") };
        assert_eq!(why, refused(what, how), "{user}");
        let fault = source.subscribe(&UserId::from(user), login(user, "hush-pass")).await;
        assert_eq!(fault, Err(CallFault::Refused(why)));
        assert!(!format!("{fault:?}").contains("hush"));
    }
    let wait = Some(Duration::from_secs(7));
    let asked = ask_as(&source, "throttled", "p").await;
    assert!(matches!(asked, Asked::Throttled { retry_after } if retry_after == wait));
    let asked = ask_as(&source, "down", "p").await;
    assert!(matches!(asked, Asked::ServerError { status: 502, .. }), "{asked:?}");
    let asked = ask_as(&source, "page", "p").await;
    assert!(matches!(asked, Asked::ServerError { status: 200, .. }), "{asked:?}");
    assert_eq!(fake.count("/v2.1"), 0, "no question was sent");
}

#[tokio::test]
async fn without_client_credentials_no_users_token_can_be_asked_for() {
    let fake = Fake::start(|_| StatusCode::NO_CONTENT.into_response()).await;
    let mut none = settings(&fake.url);
    none.client_secret = None;
    let source = Source::new(none, Arc::new(|_| {})).unwrap();
    let asked = ask_as(&source, "ann", "right").await;
    assert!(matches!(asked, Asked::Unauthorized(why) if why.what == Refusal::Client));
    assert!(fake.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_token_past_its_expiry_is_tried_and_its_refusal_says_so() {
    let fake = Fake::start(|seen| {
        let is_good = seen.header("authorization") == "Bearer good";
        let status = if is_good { StatusCode::NO_CONTENT } else { StatusCode::UNAUTHORIZED };
        status.into_response()
    })
    .await;
    let source = source(&fake.url);
    let ask = async |access_token, expires_at| {
        let bearer = Bearer::Token { access_token, expires_at };
        source.ask(&UserId::from("ann"), bearer, &QueueId::from("q"), &room()).await
    };
    let (past, later) = (Timestamp(1_500_000_000_000), Timestamp(Timestamp::now().0 + 60_000));
    assert!(matches!(ask("good", Some(past)).await, Asked::Empty), "the source knows best");
    for (expires_at, what) in [
        (Some(past), Refusal::ExpiredAccessToken),
        (Some(later), Refusal::AccessToken),
        (None, Refusal::AccessToken),
    ] {
        let asked = ask("bad", expires_at).await;
        assert!(matches!(asked, Asked::Unauthorized(why) if why == refused(what, "401")));
    }
    assert_eq!(fake.count("/auth/token"), 0);
}
