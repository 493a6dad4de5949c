//! Whose token is used, and how often one is asked for.

use super::*;

#[tokio::test]
async fn a_hundred_askers_share_one_token_request() {
    let fake = Fake::start(|seen| match seen.path.as_str() {
        "/auth/token" => token("bridges-own"),
        _ => StatusCode::NO_CONTENT.into_response(),
    })
    .await;
    let counted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&counted);
    let observer: TokenObserver = Arc::new(move |news| match news {
        TokenNews::Asking => {
            count.fetch_add(1, Ordering::SeqCst);
        }
        TokenNews::Answered(outcome) => assert_eq!(outcome, TokenOutcome::Ok),
    });
    let source = Source::new(settings(&fake.url), observer).unwrap();
    let answers = join_all((0..100).map(|_| ask_as_client(&source))).await;
    assert!(answers.iter().all(|asked| matches!(asked, Asked::Empty)));
    assert_eq!((fake.count("/auth/token"), fake.count("/v2.1/queues/q1")), (1, 100));
    assert_eq!(counted.load(Ordering::SeqCst), 1);

    let seen = fake.seen.lock().unwrap();
    let request: serde_json::Value = serde_json::from_str(&seen[0].body).unwrap();
    assert_eq!(request["grant_type"], "client_credentials");
    assert_eq!(request["client_secret"], SECRET);
    assert_eq!(request["scope"], DEFAULT_SCOPE);
    assert_eq!(seen[50].header("authorization"), "Bearer bridges-own");
    assert_eq!(seen[50].header("accept"), "application/json");
    assert!(seen[50].header("user-agent").starts_with("linxo-kafka-bridge/"));
}

#[tokio::test]
async fn after_a_401_the_client_token_is_renewed_once_for_all() {
    let fake = Fake::refusing_the_first_token().await;
    let source = source(&fake.url);
    let answers = join_all((0..20).map(|_| ask_as_client(&source))).await;
    assert!(answers.iter().all(|asked| matches!(asked, Asked::Empty)), "{answers:?}");
    assert_eq!(fake.count("/auth/token"), 2);
}

#[tokio::test]
async fn a_401_to_the_fresh_token_stands() {
    let fake = Fake::start(|seen| match seen.path.as_str() {
        "/auth/token" => token("t"),
        _ => StatusCode::UNAUTHORIZED.into_response(),
    })
    .await;
    let source = source(&fake.url);
    assert!(matches!(ask_as_client(&source).await, Asked::Unauthorized(_)));
    assert_eq!((fake.count("/auth/token"), fake.count("/v2.1/queues/q1")), (2, 2));
    for _ in 0..10 {
        assert!(matches!(ask_as_client(&source).await, Asked::Unauthorized(_)));
    }
    assert!(fake.count("/auth/token") <= 3, "no token request for each refusal");
}

#[tokio::test]
async fn a_401_to_a_users_own_token_is_not_repeated() {
    let fake = Fake::start(|_| StatusCode::UNAUTHORIZED.into_response()).await;
    let source = source(&fake.url);
    assert!(matches!(ask(&source, "q1").await, Asked::Unauthorized(_)));
    assert!(matches!(
        source.subscribe(&UserId::from("u1"), own("t")).await,
        Err(CallFault::Refused(why)) if why == refused(Refusal::AccessToken, "401")
    ));
    let seen = fake.seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].header("authorization"), "Bearer users-own");
    assert_eq!(seen[0].header("x-linxo-user-id"), "", "the token names the user");
}

#[tokio::test]
async fn a_refused_client_is_not_asked_about_for_every_question() {
    let fake = Fake::start(|_| {
        (StatusCode::UNAUTHORIZED, r#"{"error":"invalid_client"}"#).into_response()
    })
    .await;
    let source = source(&fake.url);
    let answers = join_all((0..50).map(|_| ask_as_client(&source))).await;
    assert!(answers.iter().all(|asked| matches!(asked, Asked::Unauthorized(_))));
    assert_eq!((fake.count("/auth/token"), fake.count("/v2.1")), (1, 0));
    let fault = source.subscribe(&UserId::from("u1"), Bearer::Client).await.unwrap_err();
    assert_eq!(
        fault.to_string(),
        "the bridge's own client credentials are refused: see linxo.client_id and linxo.client_secret_file (401: invalid_client); give a new one or widen its scope"
    );
}

#[tokio::test]
async fn trouble_at_the_token_endpoint_says_that_no_question_was_sent() {
    let fake = Fake::start(|_| StatusCode::BAD_GATEWAY.into_response()).await;
    let asked = ask_as_client(&source(&fake.url)).await;
    assert!(matches!(asked, Asked::ServerError { status: 502, .. }), "{asked:?}");
    let silent = raw(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let asked = ask_as_client(&hasty(&silent)).await;
    assert!(matches!(asked, Asked::Timeout { sent: false }), "{asked:?}");
    let closing = raw(|stream| async move { drop(stream) }).await;
    let asked = ask_as_client(&source(&closing)).await;
    assert!(matches!(asked, Asked::TransportError { sent: false }), "{asked:?}");
    let mut none = settings(&closing);
    none.client_secret = None;
    let asked = ask_as_client(&Source::new(none, Arc::new(|_| {})).unwrap()).await;
    assert!(matches!(asked, Asked::Unauthorized(_)), "{asked:?}");
}
