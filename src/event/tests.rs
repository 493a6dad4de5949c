//! What is understood of the source's answers, by example.

use super::*;

/// The queue page's sample (linxo-api.md 4), with fields of the recorded v2.1 connections.
const SAMPLE: &str = r#"[{
  "id":"14","event_type":"SYNC_ALL_SUCCESS","resource_type":"CONNECTION",
  "creation_date":1527761001,"channel_definition_id":"870101","new~field/x":{"a":[1, 2]},
  "resource":{"id":"77","provider_id":"8701","name":"Ma \"banque\"","status":"SUCCESS",
    "creation_date":0,"auto_sync":true,"logo_url":"https://x/y.png","owner":null,
    "channels":[
      {"channel_definition_id":"870101","mode":"REDIRECT","status":"RUNNING","expires":1535537001,
       "last_success_date":1527761000.5,"credentials":[],"account_types":["CHECKINGS"]},
      {"channel_definition_id":"870100","status":"EMPTY","eligible_accounts":false}
    ]}
}]"#;

fn one(body: &str) -> Result<SourceEvent<'_>, BadElement<'_>> {
    let mut elements = decode_answer(body.as_bytes()).unwrap();
    assert_eq!(elements.len(), 1);
    elements.remove(0)
}

fn unmapped(event: &SourceEvent<'_>) -> Vec<(String, String)> {
    let pair = |field: &Unmapped<'_>| (field.pointer(), field.json.to_owned());
    event.unmapped.iter().map(pair).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|&(pointer, json)| (pointer.to_owned(), json.to_owned())).collect()
}

#[test]
fn the_documented_sample_is_understood_whole() {
    let event = one(SAMPLE).unwrap();
    assert_eq!(event.event_id, "14");
    assert_eq!(event.event_type, "SYNC_ALL_SUCCESS");
    assert_eq!(event.sync_sign(), Some(SyncSign::Ended));
    assert_eq!(event.resource_type.as_deref(), Some("CONNECTION"));
    assert_eq!(event.created_at, Some(Timestamp(1_527_761_001_000)));
    assert_eq!(event.connection_id(), Some("77"));
    assert_eq!(event.channel_mode(), Some("REDIRECT"));
    assert!(event.raw.starts_with('{') && event.raw.ends_with('}'));
    let connection = event.connection.as_ref().unwrap();
    assert_eq!(connection.name.as_deref(), Some("Ma \"banque\""));
    assert_eq!(connection.created_at, Some(Timestamp(0)));
    assert_eq!(connection.channels.len(), 2);
    assert_eq!(connection.channels[0].last_success_at, Some(Timestamp(1_527_761_000_500)));
    assert_eq!(connection.channels[0].last_end_at, None);
    assert_eq!(connection.channels[1].mode, None);
    assert_eq!(
        unmapped(&event),
        pairs(&[
            ("/new~0field~1x", r#"{"a":[1, 2]}"#),
            ("/resource/auto_sync", "true"),
            ("/resource/logo_url", r#""https://x/y.png""#),
            ("/resource/owner", "null"),
            ("/resource/channels/0/credentials", "[]"),
            ("/resource/channels/0/account_types", r#"["CHECKINGS"]"#),
            ("/resource/channels/1/eligible_accounts", "false"),
        ])
    );
}

#[test]
fn text_without_escapes_is_borrowed() {
    let event = one(SAMPLE).unwrap();
    assert!(matches!(event.event_id, Cow::Borrowed(_)));
    assert!(matches!(event.unmapped[0].name, Cow::Borrowed(_)));
    let connection = event.connection.unwrap();
    assert!(matches!(connection.provider_id, Some(Cow::Borrowed(_))));
    assert!(matches!(connection.name, Some(Cow::Owned(_))));
}

#[test]
fn a_resource_reads_the_same_before_and_after_its_type() {
    let after = one(
        r#"[{"id":"1","event_type":"T","resource_type":"connections","resource":{"id":"7","x":1}}]"#,
    );
    let before = one(
        r#"[{"resource":{"id":"7","x":1},"id":"1","event_type":"T","resource_type":"connections"}]"#,
    );
    let (after, before) = (after.unwrap(), before.unwrap());
    assert_eq!(after.connection, before.connection);
    assert_eq!(unmapped(&after), unmapped(&before));
    assert_eq!(after.connection_id(), Some("7"));
}

#[test]
fn a_resource_without_a_type_is_a_connection_when_it_looks_like_one() {
    for (resource, expected) in [
        (r#"{"id":"7","channels":[]}"#, true),
        (r#"{"provider_id":"9","id":"7"}"#, true),
        (r#"{"id":"7","name":"x"}"#, false),
        (r#"{"provider_id":"9"}"#, false),
        ("[]", false),
        ("null", false),
    ] {
        let body = format!(r#"[{{"id":"1","event_type":"T","resource":{resource}}}]"#);
        let event = one(&body).unwrap();
        assert_eq!(event.connection.is_some(), expected, "{resource}");
        let kept = usize::from(!expected && resource != "null");
        assert!(event.unmapped.len() >= kept, "{resource}");
    }
}

#[test]
fn another_resource_keeps_its_fields_and_may_name_a_connection() {
    let event = one(
        r#"[{"id":"1","event_type":"T","resource_type":"ACCOUNT","resource":{"id":"5","connection_id":"7","balance":1.50}}]"#,
    )
    .unwrap();
    assert_eq!(event.connection_id(), Some("7"));
    assert_eq!(event.connection, None);
    assert_eq!(
        unmapped(&event),
        pairs(&[("/resource/id", r#""5""#), ("/resource/balance", "1.50")])
    );

    let event = one(
        r#"[{"id":"1","event_type":"T","resource_type":"USER","resource":{"connection_id":7}}]"#,
    )
    .unwrap();
    assert_eq!(event.connection_id(), None);
    assert_eq!(unmapped(&event), pairs(&[("/resource/connection_id", "7")]));

    let event = one(r#"[{"id":"1","event_type":"T","resource_type":"USER","resource":"u"}]"#);
    assert_eq!(unmapped(&event.unwrap()), pairs(&[("/resource", r#""u""#)]));
}

#[test]
fn null_counts_as_absent() {
    let event = one(
        r#"[{"id":"1","event_type":"T","resource_type":"CONNECTION","creation_date":null,"channel_definition_id":null,
            "resource":{"id":"7","status":null,"channels":[null,{"status":null,"expires":null}]}}]"#,
    )
    .unwrap();
    assert_eq!((event.created_at, &event.channel_definition_id), (None, &None));
    assert_eq!(event.connection.unwrap().channels, [Channel::default()]);
    let event =
        one(r#"[{"id":"1","event_type":"T","resource_type":"CONNECTION","resource":null}]"#)
            .unwrap();
    assert_eq!(event.connection_id(), None);
    assert_eq!(event.unmapped, []);
}

#[test]
fn a_bad_element_names_the_place_and_spoils_nothing_else() {
    use BadElementReason::{MissingId, MissingType, NotAnObject, WrongType};
    let cases = [
        ("14", NotAnObject, ""),
        ("null", NotAnObject, ""),
        ("[]", NotAnObject, ""),
        (r#"{"event_type":"T"}"#, MissingId, "/id"),
        (r#"{"id":null,"event_type":"T"}"#, MissingId, "/id"),
        (r#"{"id":"","event_type":"T"}"#, MissingId, "/id"),
        (r#"{"id":"1"}"#, MissingType, "/event_type"),
        (r#"{"id":14,"event_type":"T"}"#, WrongType, "/id"),
        (r#"{"id":"\ud800","event_type":"T"}"#, WrongType, "/id"),
        (r#"{"id":"1","event_type":"T","creation_date":true}"#, WrongType, "/creation_date"),
        (
            r#"{"id":"1","event_type":"T","resource_type":"CONNECTION","resource":[]}"#,
            WrongType,
            "/resource",
        ),
        (
            r#"{"id":"1","event_type":"T","resource":"x","resource_type":"CONNECTION"}"#,
            WrongType,
            "/resource",
        ),
        (
            r#"{"id":"1","event_type":"T","resource_type":"CONNECTION","resource":{"name":"x"}}"#,
            MissingId,
            "/resource/id",
        ),
        (
            r#"{"id":"1","event_type":"T","resource_type":"CONNECTION","resource":{"id":7}}"#,
            WrongType,
            "/resource/id",
        ),
        (
            r#"{"id":"1","event_type":"T","resource":{"id":"7","channels":{}}}"#,
            WrongType,
            "/resource/channels",
        ),
        (
            r#"{"id":"1","event_type":"T","resource":{"id":"7","channels":[{},3]}}"#,
            WrongType,
            "/resource/channels",
        ),
        (
            r#"{"id":"1","event_type":"T","resource":{"id":"7","channels":[{},{"status":3}]}}"#,
            WrongType,
            "/resource/channels/1/status",
        ),
    ];
    for (bad, reason, pointer) in cases {
        let body =
            format!(r#"[{{"id":"0","event_type":"T"}}, {bad} ,{{"id":"2","event_type":"T"}}]"#);
        let elements = decode_answer(body.as_bytes()).unwrap();
        assert_eq!(elements.len(), 3);
        assert!(elements[0].is_ok() && elements[2].is_ok());
        assert_eq!(elements[1], Err(BadElement { reason, pointer: pointer.to_owned(), raw: bad }));
    }
}

#[test]
fn an_answer_is_an_array_or_an_object_with_one() {
    let event = r#"{"id":"1","event_type":"T"}"#;
    for body in [
        format!("[{event}]"),
        format!(r#" {{"events":[{event}]}} "#),
        format!(r#"{{"count":1,"events":[{event}],"next":null}}"#),
    ] {
        assert_eq!(one(&body).unwrap().event_id, "1", "{body}");
    }
    assert_eq!(decode_answer(b"[]"), Ok(vec![]));
    for (body, fault) in [
        (b"".as_slice(), AnswerFault::NotJson),
        (b"[{\"id\":\"1\"", AnswerFault::NotJson),
        (b"[] []", AnswerFault::NotJson),
        (b"[\"\xff\"]", AnswerFault::NotJson),
        (b"<html>", AnswerFault::NotJson),
        (b"\"x\"", AnswerFault::NotAnArray),
        (b"null", AnswerFault::NotAnArray),
        (b"{}", AnswerFault::NotAnArray),
        (b"{\"events\":{}}", AnswerFault::NotAnArray),
        (b"{\"events\":[],\"events\":[]}", AnswerFault::NotAnArray),
        (b"{\"connections\":[]}", AnswerFault::NotAnArray),
    ] {
        assert_eq!(decode_answer(body), Err(fault), "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn a_listing_looks_like_the_resources_of_events() {
    for body in [
        r#"[{"id":"7","creation_date":"2018-05-31T10:03:21Z","provider_logo_url":"l","channels":[{"x":1}]},{"name":"x"}]"#,
        r#"{"connections":[{"id":"7","creation_date":1527761001,"provider_logo_url":"l","channels":[{"x":1}]},7]}"#,
    ] {
        let listed = decode_connections(body.as_bytes()).unwrap();
        let first = listed[0].as_ref().unwrap();
        assert_eq!(first.connection.id, "7");
        assert_eq!(first.connection.created_at, Some(Timestamp(1_527_761_001_000)));
        let pointers: Vec<_> = first.unmapped.iter().map(Unmapped::pointer).collect();
        assert_eq!(pointers, ["/resource/provider_logo_url", "/resource/channels/0/x"]);
        assert!(listed[1].is_err());
    }
}

#[test]
fn unmapped_fields_are_redacted_by_name_and_inside() {
    let redaction = Redaction::new(["credentials", "password"]);
    let field = |name, json| Unmapped { place: Place::Resource, name: Cow::Borrowed(name), json };
    assert_eq!(field("Credentials", "[1]").redacted(&redaction), None);
    assert_eq!(
        field("constraints", r#"{"a":1,"password":"x"}"#).redacted(&redaction).as_deref(),
        Some(r#"{"a":1}"#)
    );
    assert!(matches!(field("a", "\"b\"").redacted(&redaction), Some(Cow::Borrowed("\"b\""))));
}

#[test]
fn any_depth_is_taken() {
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let body = format!(r#"[{{"id":"1","event_type":"T","x":{deep}}}]"#);
    assert_eq!(one(&body).unwrap().unmapped[0].json, deep);
}

#[test]
fn debug_text_shows_nothing_of_what_was_received() {
    let secret = r#"[{"id":"1","event_type":"T","password":"s3cret","resource":{"id":"7","channels":[],"token":"s3cret"}},
        {"id":"2","password":"s3cret"}]"#;
    let text = format!("{:?}", decode_answer(secret.as_bytes()).unwrap());
    assert!(text.contains("/resource/token") && !text.contains("s3cret"), "{text}");
    let listed = r#"[{"id":"7","token":"s3cret"},{"token":"s3cret"}]"#;
    let text = format!("{:?}", decode_connections(listed.as_bytes()).unwrap());
    assert!(text.contains("MissingId") && !text.contains("s3cret"), "{text}");
}
