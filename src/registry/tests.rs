//! The room against a fake registry on loopback; the real one is tested in `tests/`.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::Value;
use tokio::net::TcpListener;
use url::Url;

use super::*;

type Seen = Arc<Mutex<Vec<(String, String, String)>>>;

/// A registry that gives the same answer to all; what it saw: method and path, authorization, body.
async fn fake(status: u16, body: &'static str) -> (Url, Seen) {
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    let router = Router::new().fallback(move |request: Request| {
        let noted = Arc::clone(&noted);
        async move {
            let (head, received) = request.into_parts();
            let received = axum::body::to_bytes(received, 1 << 20).await.unwrap();
            let authorization = head.headers.get("authorization");
            noted.lock().unwrap().push((
                format!("{} {}", head.method, head.uri),
                authorization.map_or("", |value| value.to_str().unwrap()).to_owned(),
                String::from_utf8(received.to_vec()).unwrap(),
            ));
            answer(status, body)
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/apis/ccompat/v7/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url.parse().unwrap(), seen)
}

fn answer(status: u16, body: &'static str) -> Response {
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

fn registry(url: &Url, register: bool) -> (Registry, Arc<Mutex<Vec<RegistryOutcome>>>) {
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&outcomes);
    let observer: RegistryObserver = Arc::new(move |outcome| noted.lock().unwrap().push(outcome));
    (Registry::new(url, register, observer).unwrap(), outcomes)
}

async fn prepared(register: bool, status: u16, body: &'static str) -> Result<u32, RegistryFault> {
    let (url, _) = fake(status, body).await;
    registry(&url, register).0.prepare("linxo.events-value", r#""string""#).await
}

#[tokio::test]
async fn registering_and_looking_up_give_the_id() {
    for (register, path) in [
        (true, "POST /apis/ccompat/v7/subjects/a%2Fb-value/versions"),
        (false, "POST /apis/ccompat/v7/subjects/a%2Fb-value"),
    ] {
        let (url, seen) = fake(200, r#"{"subject":"a/b-value","version":3,"id":7}"#).await;
        let (registry, outcomes) = registry(&url, register);
        assert_eq!(registry.prepare("a/b-value", r#""string""#).await, Ok(7));
        assert_eq!(*outcomes.lock().unwrap(), [RegistryOutcome::Ok]);
        let seen = seen.lock().unwrap();
        assert_eq!(seen[0].0, path);
        let sent: Value = serde_json::from_str(&seen[0].2).unwrap();
        assert_eq!(sent, serde_json::json!({ "schema": r#""string""# }));
    }
}

#[tokio::test]
async fn a_refusal_names_the_subject_the_answer_and_what_to_do() {
    let fault = prepared(true, 409, r#"{"error_code":409,"message":"field\n x  differs"}"#).await;
    let fault = fault.unwrap_err();
    assert!(matches!(&fault, RegistryFault::Incompatible { subject, answer }
        if subject == "linxo.events-value" && answer == "409: field x differs"));
    assert!(fault.to_string().starts_with("subject linxo.events-value: "), "{fault}");
    let fault = prepared(true, 422, r#"{"error_code":42201,"message":"bad"}"#).await.unwrap_err();
    assert!(matches!(&fault, RegistryFault::Invalid { answer, .. } if answer == "422: bad"));
    let fault = prepared(true, 400, "Unexpected character").await.unwrap_err();
    assert!(matches!(&fault, RegistryFault::Invalid { answer, .. }
        if answer == "400: Unexpected character"));
    let fault = prepared(true, 422, r#"{"error_code":42205,"message":"read only"}"#).await;
    assert!(matches!(fault, Err(RegistryFault::Refused { .. })));
    for status in [401, 403] {
        let fault = prepared(true, status, "").await.unwrap_err();
        assert!(matches!(&fault, RegistryFault::Refused { answer, .. }
            if *answer == status.to_string()));
        assert!(fault.to_string().contains("user and password in schema_registry.url"));
    }
}

#[tokio::test]
async fn an_unknown_schema_is_told_from_a_wrong_address() {
    for body in [r#"{"error_code":40401,"message":"no subject"}"#, r#"{"error_code":40403}"#] {
        let fault = prepared(false, 404, body).await.unwrap_err();
        assert_eq!(fault, RegistryFault::NotRegistered { subject: "linxo.events-value".into() });
    }
    for register in [true, false] {
        let fault = prepared(register, 404, "<html>").await.unwrap_err();
        assert!(
            matches!(&fault, RegistryFault::Away { what, .. }
            if what.contains("schema_registry.url has the right path")),
            "{fault}"
        );
    }
    let fault = prepared(true, 200, "<html>").await.unwrap_err();
    assert!(matches!(fault, RegistryFault::Away { .. }));
}

#[tokio::test]
async fn a_registry_in_trouble_is_away() {
    for (status, body) in [(500, r#"{"error_code":50002}"#), (503, ""), (429, "slow"), (302, "")] {
        let (url, _) = fake(status, body).await;
        let (registry, outcomes) = registry(&url, true);
        let fault = registry.prepare("s", "{}").await.unwrap_err();
        assert!(matches!(fault, RegistryFault::Away { .. }), "{fault}");
        assert_eq!(*outcomes.lock().unwrap(), [RegistryOutcome::Error]);
    }
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://ann:hush@{}", listener.local_addr().unwrap()).parse().unwrap()
    };
    let fault = registry(&nobody, true).0.prepare("s", "{}").await.unwrap_err();
    assert!(fault.to_string().contains("subject s: the registry cannot be reached"), "{fault}");
    assert!(!format!("{fault} {fault:?}").contains("hush"));
}

#[tokio::test]
async fn an_answer_is_shown_shortened() {
    let long: &'static str = "é ".repeat(10_000).leak();
    let RegistryFault::Invalid { answer, .. } = prepared(true, 400, long).await.unwrap_err() else {
        panic!()
    };
    assert!(answer.len() < 420 && answer.ends_with("..."), "{}", answer.len());
}

#[tokio::test]
async fn user_and_password_are_sent_and_never_shown() {
    let (mut url, seen) = fake(200, r#"{"id":1}"#).await;
    url.set_username("ann").unwrap();
    url.set_password(Some("hu/sh%")).unwrap();
    let (registry, _) = registry(&url, true);
    assert_eq!(registry.prepare("s", "{}").await, Ok(1));
    assert_eq!(seen.lock().unwrap()[0].1, "Basic YW5uOmh1L3NoJQ==");
    assert!(!format!("{registry:?}").contains("ann"), "{registry:?}");
}

#[tokio::test]
async fn a_schema_is_found_by_its_id() {
    let (url, seen) = fake(200, r#"{"schema":"\"string\""}"#).await;
    assert_eq!(registry(&url, true).0.schema(7).await, Ok(r#""string""#.to_owned()));
    assert_eq!(seen.lock().unwrap()[0].0, "GET /apis/ccompat/v7/schemas/ids/7");
    let (url, _) = fake(404, r#"{"error_code":40403,"message":"no"}"#).await;
    let (registry, outcomes) = registry(&url, true);
    assert_eq!(registry.schema(7).await, Err(RegistryFault::UnknownId { id: 7 }));
    assert_eq!(*outcomes.lock().unwrap(), [RegistryOutcome::Refused]);
}

#[tokio::test]
async fn compatibility_is_told_without_a_change() {
    let told = async |status, body| {
        let (url, seen) = fake(status, body).await;
        let told = registry(&url, true).0.compatibility("s", "{}").await;
        let path = "POST /apis/ccompat/v7/compatibility/subjects/s/versions/latest?verbose=true";
        assert_eq!(seen.lock().unwrap()[0].0, path);
        told
    };
    assert_eq!(told(200, r#"{"is_compatible":true}"#).await, Ok(Compatibility::Compatible));
    assert_eq!(
        told(200, r#"{"is_compatible":false,"messages":["a","b"]}"#).await,
        Ok(Compatibility::Incompatible("a; b".to_owned()))
    );
    assert_eq!(told(404, r#"{"error_code":40401}"#).await, Ok(Compatibility::NoVersion));
    assert!(matches!(told(404, "nothing here").await, Err(RegistryFault::Away { .. })));
    assert!(matches!(told(422, "").await, Err(RegistryFault::Invalid { .. })));
}

#[test]
fn a_url_that_cannot_work_is_refused_without_being_shown() {
    for url in ["ftp://ann:hush@h/", "http://ann:hush@h/?a=b", "mailto:ann:hush@h"] {
        let refusal = Registry::new(&url.parse().unwrap(), true, Arc::new(|_| {})).unwrap_err();
        assert!(matches!(refusal, RegistryError::UnusableUrl));
        assert!(!refusal.to_string().contains("hush"));
    }
}

#[tokio::test]
async fn a_subject_without_versions_has_none_and_what_is_no_list_is_worth_another_try() {
    let versions = async |status, body| {
        let (url, _) = fake(status, body).await;
        registry(&url, false).0.versions("linxo.queues-value").await
    };
    assert_eq!(versions(404, r#"{"error_code":40401,"message":"none"}"#).await, Ok(Vec::new()));
    for (status, body) in [(200, "<html>"), (500, ""), (404, "")] {
        let fault = versions(status, body).await.unwrap_err();
        assert!(matches!(fault, RegistryFault::Away { .. }), "{status} {fault}");
    }
    let fault = versions(403, "").await.unwrap_err();
    assert!(matches!(fault, RegistryFault::Refused { .. }), "{fault}");
}
