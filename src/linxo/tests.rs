//! The room against servers on loopback: an axum one that answers as told, a raw one that misbehaves.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;
use zeroize::Zeroizing;

use super::*;
use crate::ids::{QueueId, UserId};

const SECRET: &str = "hush-secret";

/// One request as the server saw it.
struct Seen {
    method: String,
    /// Path and query, still encoded.
    path: String,
    headers: HeaderMap,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A server that remembers what it saw.
struct Fake {
    url: Url,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    async fn start<F>(answer: F) -> Self
    where
        F: Fn(&Seen) -> Response + Send + Sync + 'static,
    {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (noted, answer) = (Arc::clone(&seen), Arc::new(answer));
        let router = Router::new().fallback(move |request: Request| {
            let (noted, answer) = (Arc::clone(&noted), Arc::clone(&answer));
            async move {
                let (head, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                let seen = Seen {
                    method: head.method.to_string(),
                    path: head.uri.to_string(),
                    headers: head.headers,
                    body: String::from_utf8(body.to_vec()).unwrap(),
                };
                let response = answer(&seen);
                noted.lock().unwrap().push(seen);
                response
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v2.1", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, seen }
    }

    fn count(&self, path: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|seen| seen.path.starts_with(path)).count()
    }
}

/// A server that takes each connection, reads one request, and does as told.
async fn raw<F, D>(doing: F) -> Url
where
    F: Fn(TcpStream) -> D + Send + 'static,
    D: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            request(&mut stream).await;
            tokio::spawn(doing(stream));
        }
    });
    url
}

/// Reads one request without body; less when the client goes.
async fn request(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
}

fn settings(url: &Url) -> SourceSettings {
    SourceSettings {
        api_url: url.clone(),
        auth_url: url.join("/auth").unwrap(),
        client_id: Some("bridge".to_owned()),
        client_secret: Some(Zeroizing::new(SECRET.to_owned())),
        scope: DEFAULT_SCOPE.to_owned(),
        user_naming: UserNaming::Header("X-Linxo-User-Id".to_owned()),
        request_timeout: Duration::from_secs(10),
        dead_statuses: vec![404, 410],
        max_in_flight: 128,
    }
}

fn source(url: &Url) -> Source {
    Source::new(settings(url), Arc::new(|_| {})).unwrap()
}

fn hasty(url: &Url) -> Source {
    let settings = SourceSettings { request_timeout: Duration::from_millis(300), ..settings(url) };
    Source::new(settings, Arc::new(|_| {})).unwrap()
}

fn room() -> Room {
    Room::new(128, 1 << 20, 1 << 16)
}

fn token(text: &str) -> Response {
    format!(r#"{{"access_token":"{text}","token_type":"bearer","expires_in":3600}}"#)
        .into_response()
}

async fn ask(source: &Source, queue: &str) -> Asked {
    ask_in(source, queue, &room()).await
}

async fn ask_in(source: &Source, queue: &str, room: &Room) -> Asked {
    source.ask(&UserId::from("u1"), Bearer::Token("users-own"), &QueueId::from(queue), room).await
}

async fn ask_as_client(source: &Source) -> Asked {
    source.ask(&UserId::from("u1"), Bearer::Client, &QueueId::from("q1"), &room()).await
}

#[tokio::test]
async fn every_answer_has_its_outcome() {
    let fake = Fake::start(|seen| {
        let (status, body) = seen.path.rsplit_once('/').unwrap().1.split_once('-').unwrap();
        let body = percent_encoding::percent_decode_str(body).decode_utf8_lossy().into_owned();
        let status = StatusCode::from_u16(status.parse().unwrap()).unwrap();
        (status, [("retry-after", "7")], body).into_response()
    })
    .await;
    let source = source(&fake.url);
    for (queue, outcome) in [
        ("200-[{\"id\":\"1\"}]", PollOutcome::Events),
        ("200-{\"events\":[{}]}", PollOutcome::Events),
        ("201-[{}]", PollOutcome::Events),
        ("204-", PollOutcome::Empty),
        ("205-", PollOutcome::Empty),
        ("200-[ ]", PollOutcome::EmptyList),
        ("200-{\"events\":[]}", PollOutcome::EmptyList),
        ("404-", PollOutcome::Dead),
        ("410-gone", PollOutcome::Dead),
        ("401-", PollOutcome::Unauthorized),
        ("403-", PollOutcome::Forbidden),
        ("429-", PollOutcome::Throttled),
        ("500-", PollOutcome::ServerError),
        ("503-", PollOutcome::ServerError),
        ("400-", PollOutcome::ServerError),
        ("301-", PollOutcome::ServerError),
        ("200-", PollOutcome::Malformed),
        ("200-<html></html>", PollOutcome::Malformed),
        ("200-[{\"id\":", PollOutcome::Malformed),
    ] {
        assert_eq!(ask(&source, queue).await.outcome(), outcome, "{queue}");
    }
    let Asked::Events(body) = ask(&source, "200-[1, 2]").await else { panic!() };
    assert_eq!(&*body, b"[1, 2]");
    let Asked::Malformed(body) = ask(&source, "200-oops").await else { panic!() };
    assert_eq!(body.into_bytes(), b"oops");
    assert!(matches!(ask(&source, "410-").await, Asked::Dead { status: 410 }));
    let wait = Some(Duration::from_secs(7));
    assert!(
        matches!(ask(&source, "429-").await, Asked::Throttled { retry_after } if retry_after == wait)
    );
    assert!(matches!(ask(&source, "503-").await,
        Asked::ServerError { status: 503, retry_after } if retry_after == wait));
}

#[tokio::test]
async fn dead_is_what_the_settings_call_dead() {
    let fake = Fake::start(|seen| {
        let status = seen.path.rsplit_once('/').unwrap().1.parse().unwrap();
        StatusCode::from_u16(status).unwrap().into_response()
    })
    .await;
    let settings = SourceSettings { dead_statuses: vec![403], ..settings(&fake.url) };
    let source = Source::new(settings, Arc::new(|_| {})).unwrap();
    assert_eq!(ask(&source, "403").await.outcome(), PollOutcome::Dead);
    assert_eq!(ask(&source, "404").await.outcome(), PollOutcome::ServerError);
}

#[tokio::test]
async fn a_hundred_askers_share_one_token_request() {
    let fake = Fake::start(|seen| match seen.path.as_str() {
        "/auth/token" => token("bridges-own"),
        _ => StatusCode::NO_CONTENT.into_response(),
    })
    .await;
    let counted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&counted);
    let observer: TokenObserver = Arc::new(move |outcome| {
        assert_eq!(outcome, TokenOutcome::Ok);
        count.fetch_add(1, Ordering::SeqCst);
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
    let given = AtomicUsize::new(0);
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        "/auth/token" => token(&format!("t{}", given.fetch_add(1, Ordering::SeqCst))),
        _ if seen.header("authorization") == "Bearer t0" => {
            StatusCode::UNAUTHORIZED.into_response()
        }
        _ => StatusCode::NO_CONTENT.into_response(),
    })
    .await;
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
    assert!(matches!(ask_as_client(&source).await, Asked::Unauthorized));
    assert_eq!((fake.count("/auth/token"), fake.count("/v2.1/queues/q1")), (2, 2));
    for _ in 0..10 {
        assert!(matches!(ask_as_client(&source).await, Asked::Unauthorized));
    }
    assert!(fake.count("/auth/token") <= 3, "no token request for each refusal");
}

#[tokio::test]
async fn a_401_to_a_users_own_token_is_not_repeated() {
    let fake = Fake::start(|_| StatusCode::UNAUTHORIZED.into_response()).await;
    let source = source(&fake.url);
    assert!(matches!(ask(&source, "q1").await, Asked::Unauthorized));
    assert!(matches!(
        source.subscribe(&UserId::from("u1"), Bearer::Token("t")).await,
        Err(CallFault::Refused { status: 401, .. })
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
    assert!(answers.iter().all(|asked| matches!(asked, Asked::Unauthorized)));
    assert_eq!((fake.count("/auth/token"), fake.count("/v2.1")), (1, 0));
    let fault = source.subscribe(&UserId::from("u1"), Bearer::Client).await.unwrap_err();
    assert_eq!(
        fault.to_string(),
        "the credential is refused with 401: invalid_client; give a new one or widen its scope"
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
    assert!(matches!(asked, Asked::Unauthorized), "{asked:?}");
}

#[tokio::test]
async fn without_a_head_it_is_told_whether_the_question_left() {
    let silent = raw(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    assert!(matches!(ask(&hasty(&silent), "q").await, Asked::Timeout { sent: true }));
    let closing = raw(|stream| async move { drop(stream) }).await;
    assert!(matches!(ask(&source(&closing), "q").await, Asked::TransportError { sent: true }));
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap()).parse().unwrap()
    };
    assert!(matches!(ask(&source(&nobody), "q").await, Asked::TransportError { sent: false }));
}

#[tokio::test]
async fn a_body_that_does_not_end_is_broken_with_what_was_read() {
    for head in ["content-length: 100\r\n\r\n[{", "transfer-encoding: chunked\r\n\r\n2\r\n[{\r\n"] {
        for hangs in [false, true] {
            let url = raw(move |mut stream| async move {
                stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}").as_bytes()).await.unwrap();
                if hangs {
                    std::future::pending::<()>().await;
                }
            })
            .await;
            let Asked::Broken { start } = ask(&hasty(&url), "q").await else {
                panic!("{head} {hangs}")
            };
            assert_eq!(&*start, b"[{");
        }
    }
}

#[tokio::test]
async fn questions_in_turn_share_one_connection() {
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let url = raw(move |mut stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            for _ in 0..10 {
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                request(&mut stream).await;
                let gone = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}";
                stream.write_all(gone).await.unwrap();
                request(&mut stream).await;
            }
        }
    })
    .await;
    let source = source(&url);
    for _ in 0..10 {
        assert!(matches!(ask(&source, "q").await, Asked::Empty));
        assert!(matches!(ask(&source, "q").await, Asked::Dead { status: 404 }));
    }
    assert_eq!(taken.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_body_above_the_limit_is_cut_there() {
    let fake = Fake::start(|seen| {
        let (way, size) = seen.path.rsplit_once('/').unwrap().1.split_once('-').unwrap();
        let body = vec![b'['; size.parse().unwrap()];
        if way == "whole" {
            return body.into_response();
        }
        let chunks: Vec<_> =
            body.chunks(100).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect();
        Body::from_stream(futures_util::stream::iter(chunks)).into_response()
    })
    .await;
    let source = source(&fake.url);
    let room = Room::new(4, 3000, 1000);
    for way in ["whole", "chunks"] {
        let asked = ask_in(&source, &format!("{way}-1001"), &room).await;
        let Asked::Oversized { limit: 1000, start } = asked else { panic!("{asked:?}") };
        assert_eq!(start.len(), 1000);
        drop(start);
        let asked = ask_in(&source, &format!("{way}-1000"), &room).await;
        assert!(matches!(&asked, Asked::Malformed(body) if body.len() == 1000), "{asked:?}");
    }
}

#[tokio::test]
async fn large_bodies_take_turns_and_all_arrive() {
    let fake = Fake::start(|seen| {
        let body = format!("[{}]", "1,".repeat(20_000) + "1").into_bytes();
        if seen.path.ends_with("whole") {
            return body.into_response();
        }
        let chunks: Vec<_> =
            body.chunks(999).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect();
        Body::from_stream(futures_util::stream::iter(chunks)).into_response()
    })
    .await;
    let source = source(&fake.url);
    let room = Room::new(8, 60_000 + 8 * 1000, 60_000);
    let asking = (0..32).map(|number| {
        let queue = if number % 2 == 0 { "whole" } else { "chunks" };
        let (source, room) = (source.clone(), room.clone());
        tokio::spawn(async move {
            let asked = ask_in(&source, queue, &room).await;
            let Asked::Events(body) = &asked else { panic!("{asked:?}") };
            assert_eq!(body.len(), 40_003);
        })
    });
    for asked in join_all(asking).await {
        asked.unwrap();
    }
    assert_eq!(room.free_seats(), 8);
}

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
    let subscribe = async |token| source.subscribe(&user, Bearer::Token(token)).await;
    assert_eq!(subscribe("relative").await, Ok(QueueId::from("Q1")));
    assert_eq!(subscribe("absolute").await, Ok(QueueId::from("Q1")));
    assert_eq!(subscribe("encoded").await, Ok(QueueId::from("a/b")));
    assert!(matches!(subscribe("other").await, Err(CallFault::Unusable { .. })));
    assert!(matches!(subscribe("missing").await, Err(CallFault::Unusable { .. })));
    assert_eq!(
        subscribe("refused").await,
        Err(CallFault::Refused { status: 403, code: String::new() })
    );
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
    let list = async |token| source.connections(&user, Bearer::Token(token), &room).await;
    assert_eq!(list("list").await.unwrap().into_bytes(), br#"[{"id":"1"}]"#);
    assert_eq!(list("none").await.unwrap().into_bytes(), b"[]");
    assert_eq!(list("wrapped").await.unwrap().into_bytes(), br#"{"connections":[{}]}"#);
    assert!(matches!(list("page").await, Err(CallFault::Unusable { .. })));
    assert!(matches!(list("long").await, Err(CallFault::Unusable { .. })));
    assert!(matches!(list("down").await, Err(CallFault::Retry { .. })));
    assert_eq!(fake.seen.lock().unwrap()[0].path, "/v2.1/connections");
}

#[tokio::test]
async fn a_users_token_is_given_for_name_and_password() {
    let fake = Fake::start(|seen| {
        if seen.body.contains("right") {
            token("users-own")
        } else {
            (StatusCode::BAD_REQUEST, r#"{"error":"invalid_grant"}"#).into_response()
        }
    })
    .await;
    let source = source(&fake.url);
    let given = source.user_token("ann", "right").await.unwrap();
    assert_eq!(given.access_token.as_str(), "users-own");
    assert_eq!(given.expires_in, Some(Duration::from_secs(3600)));
    let request: serde_json::Value =
        serde_json::from_str(&fake.seen.lock().unwrap()[0].body).unwrap();
    assert_eq!((&request["grant_type"], &request["username"]), (&"password".into(), &"ann".into()));
    let fault = source.user_token("ann", "wrong").await.unwrap_err();
    assert_eq!(fault, CallFault::Refused { status: 400, code: ": invalid_grant".to_owned() });
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
    let inner_fault =
        source.subscribe(&UserId::from("ann-private"), Bearer::Token("hush-token")).await;
    let printed = format!("{printed} {source:?} {inner_fault:?} {:?}", Bearer::Token("hush-token"));
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
