//! The other calls, how users and queues are named, and what is never shown.

use super::*;

#[tokio::test]
async fn users_of_any_name_are_named_both_ways() {
    let fake = Fake::start(|seen| {
        if seen.path == "/auth/token" { token("t") } else { StatusCode::NO_CONTENT.into_response() }
    })
    .await;
    let mut by_parameter = settings(&fake.url);
    by_parameter.user_naming = UserNaming::Parameter("user_id".to_owned());
    let by_parameter = Source::new(by_parameter, Arc::new(|_| {})).unwrap();
    let by_header = source(&fake.url);
    let long = "é/".repeat(512);
    for user in ["7", "a/b", "a b", "é", "50%", "a&b=c#d?e+f", "\n\u{7f}", "", long.as_str()] {
        let queue = QueueId::from("q");
        for source in [&by_header, &by_parameter] {
            let asked = source.ask(&UserId::from(user), Bearer::Client, &queue, &room()).await;
            assert!(matches!(asked, Asked::Empty), "{user}: {asked:?}");
        }
        let seen = fake.seen.lock().unwrap();
        let asked: Vec<_> = seen.iter().filter(|seen| seen.path != "/auth/token").collect();
        let [.., first, second] = asked[..] else { panic!() };
        let named = [
            first.header("x-linxo-user-id"),
            second.path.split_once("?user_id=").map_or("-", |(_, user)| user),
        ];
        for (name, way) in named.into_iter().zip([first, second]) {
            let decoded = percent_encoding::percent_decode_str(name).decode_utf8().unwrap();
            assert_eq!(decoded, user, "{}", way.path);
        }
        assert_eq!(second.header("x-linxo-user-id"), "");
        assert_eq!(first.path, "/v2.1/queues/q");
    }
    let seen = fake.seen.lock().unwrap();
    assert!(seen.iter().any(|seen| seen.header("x-linxo-user-id") == "a/b"), "as it is");
}

#[tokio::test]
async fn a_queue_id_stays_one_segment() {
    let fake = Fake::start(|_| StatusCode::NO_CONTENT.into_response()).await;
    let source = source(&fake.url);
    for (queue, path) in [
        ("q-1_2.3~4", "/v2.1/queues/q-1_2.3~4"),
        ("a/b?c#d", "/v2.1/queues/a%2Fb%3Fc%23d"),
        ("é 50%", "/v2.1/queues/%C3%A9%2050%25"),
        ("...", "/v2.1/queues/..."),
    ] {
        assert!(matches!(ask(&source, queue).await, Asked::Empty));
        assert_eq!(fake.seen.lock().unwrap().last().unwrap().path, path);
    }
    let before = fake.seen.lock().unwrap().len();
    for queue in ["", ".", ".."] {
        assert!(matches!(ask(&source, queue).await, Asked::Dead { status: 404 }));
    }
    assert_eq!(fake.seen.lock().unwrap().len(), before, "nothing is sent");
}

#[tokio::test]
async fn subscribing_gives_the_queue_of_the_location() {
    let fake = Fake::start(|seen| {
        let location = match seen.header("authorization").strip_prefix("Bearer ").unwrap() {
            "relative" => "/queues/Q1",
            "absolute" => "https://api.example/v3/queues/Q1?x=1",
            "encoded" => "/queues/a%2Fb",
            "other" => "/connections/Q1",
            "refused" => {
                return (StatusCode::FORBIDDEN, r#"{"error":"bad word!"}"#).into_response();
            }
            "throttled" => {
                return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "3")]).into_response();
            }
            "down" => return StatusCode::BAD_GATEWAY.into_response(),
            "wrong" => return StatusCode::NOT_FOUND.into_response(),
            _ => return StatusCode::CREATED.into_response(),
        };
        (StatusCode::CREATED, [("location", location)]).into_response()
    })
    .await;
    let source = source(&fake.url);
    let user = UserId::from("u1");
    let subscribe = async |token| source.subscribe(&user, own(token)).await;
    assert_eq!(subscribe("relative").await, Ok(QueueId::from("Q1")));
    assert_eq!(subscribe("absolute").await, Ok(QueueId::from("Q1")));
    assert_eq!(subscribe("encoded").await, Ok(QueueId::from("a/b")));
    assert!(matches!(subscribe("other").await, Err(CallFault::Unusable { .. })));
    assert!(matches!(subscribe("missing").await, Err(CallFault::Unusable { .. })));
    assert_eq!(subscribe("refused").await, Err(CallFault::Refused(refused(Refusal::Scope, "403"))));
    let retry_after = Some(Duration::from_secs(3));
    assert_eq!(subscribe("throttled").await, Err(CallFault::Throttled { retry_after }));
    assert!(matches!(subscribe("down").await, Err(CallFault::Retry { .. })));
    assert!(matches!(subscribe("wrong").await, Err(CallFault::Unusable { .. })));
    let seen = fake.seen.lock().unwrap();
    assert_eq!(
        (seen[0].method.as_str(), seen[0].path.as_str()),
        ("POST", "/v2.1/queues/subscribe")
    );
    assert_eq!(seen[0].body, r#"{"topics":["connections"]}"#);
    assert_eq!(seen[0].header("content-type"), "application/json");
}

#[tokio::test]
async fn connections_come_as_received() {
    let fake = Fake::start(|seen| match seen.header("authorization") {
        "Bearer list" => r#"[{"id":"1"}]"#.into_response(),
        "Bearer none" => "[]".into_response(),
        "Bearer wrapped" => r#"{"connections":[{}]}"#.into_response(),
        "Bearer page" => "<html>".into_response(),
        "Bearer long" => vec![b'['; 2000].into_response(),
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    })
    .await;
    let source = source(&fake.url);
    let (user, room) = (UserId::from("u1"), Room::new(1, 2000, 1000));
    let list = async |token| source.connections(&user, own(token), &room).await;
    assert_eq!(list("list").await.unwrap().into_bytes(), br#"[{"id":"1"}]"#);
    assert_eq!(list("none").await.unwrap().into_bytes(), b"[]");
    assert_eq!(list("wrapped").await.unwrap().into_bytes(), br#"{"connections":[{}]}"#);
    assert!(matches!(list("page").await, Err(CallFault::Unusable { .. })));
    assert!(matches!(list("long").await, Err(CallFault::Unusable { .. })));
    assert!(matches!(list("down").await, Err(CallFault::Retry { .. })));
    assert_eq!(fake.seen.lock().unwrap()[0].path, "/v2.1/connections");
}

#[tokio::test]
async fn a_check_tells_reach_and_credential_apart() {
    let fake = Fake::start(|seen| match seen.path.as_str() {
        "/auth/token" => StatusCode::NOT_FOUND.into_response(),
        _ => StatusCode::UNAUTHORIZED.into_response(),
    })
    .await;
    let checked = source(&fake.url).check().await;
    assert_eq!(checked.api, Ok(401));
    let fault = checked.token.unwrap().unwrap_err().to_string();
    assert!(fault.contains("check linxo.auth_url"), "{fault}");
    assert!(fake.seen.lock().unwrap().iter().all(|seen| seen.header("authorization").is_empty()));
}

#[tokio::test]
async fn nothing_printed_names_a_user_or_a_secret() {
    let closing = raw(|stream| async move { drop(stream) }).await;
    let mut settings = settings(&closing);
    settings.user_naming = UserNaming::Parameter("user_id".to_owned());
    let printed = format!("{settings:?}");
    settings.client_secret = None;
    let source = Source::new(settings, Arc::new(|_| {})).unwrap();
    let inner_fault = source.subscribe(&UserId::from("ann-private"), own("hush-token")).await;
    let printed = format!("{printed} {source:?} {inner_fault:?} {:?}", own("hush-token"));
    assert!(printed.contains("cannot be reached"), "{printed}");
    for secret in ["hush", "ann-private", "http:"] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_by_name() {
    type Change = fn(&mut SourceSettings);
    let url: Url = "http://127.0.0.1:1".parse().unwrap();
    let refusal = |change: Change| {
        let mut settings = settings(&url);
        change(&mut settings);
        Source::new(settings, Arc::new(|_| {})).unwrap_err().to_string()
    };
    let unusable: [(&str, Change); 5] = [
        ("linxo.api_url", |settings| settings.api_url = "ftp://h/".parse().unwrap()),
        ("linxo.auth_url", |settings| settings.auth_url = "https://a:b@h/".parse().unwrap()),
        ("user_header", |settings| settings.user_naming = UserNaming::Header("a b".into())),
        ("user_header", |settings| {
            settings.user_naming = UserNaming::Header("Authorization".into())
        }),
        ("user_parameter", |settings| settings.user_naming = UserNaming::Parameter(String::new())),
    ];
    for (setting, change) in unusable {
        let text = refusal(change);
        assert!(text.contains(setting) && !text.contains("a:b"), "{text}");
    }
}
