//! What a question comes to, for every answer and every way of having none.

use super::*;

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
