//! That the bytes are what the schemas say, and stay readable.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use apache_avro::Schema;
use apache_avro::headers::{HeaderBuilder, RabinFingerprintHeader};
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::event::{
    Action, Channel, Connection, ListedConnection, Place, RaisedAction, Redaction, SourceEvent,
    Unmapped,
};
use crate::gap::{Cause, Certainty, Gap};
use crate::ids::{JournalId, SubscriptionId, Timestamp, UserId};
use crate::journal_mark::JournalMark;
use crate::queue_state::{KnownChannel, KnownConnection, QueueState, Recovery};
use crate::subscription::Subscription;

fn topics() -> Topics {
    Topics::new("", "linxo.actions.{action}")
}

fn confluent() -> Framing {
    let ids = (1000u32..).zip(topics().subjects()).map(|(id, s)| (s.topic.to_string(), id));
    Framing::Confluent { ids: ids.collect() }
}

fn encoder(framing: &Framing) -> Encoder {
    let redaction = Redaction::new(["credentials", "password", "token"]);
    Encoder::new(framing, &topics(), redaction, true).unwrap()
}

fn decoder(framing: &Framing) -> Decoder {
    Decoder::new(framing, &topics()).unwrap()
}

fn schema(kind: RecordKind) -> Schema {
    Schema::parse_str(kind.schema_text()).unwrap()
}

fn read_event(datum: &[u8]) -> mirror::Event {
    let schema = schema(RecordKind::Event);
    let mut rest = datum;
    let reader = GenericDatumReader::builder(&schema).build().unwrap();
    let event = reader.read_deser(&mut rest).unwrap();
    assert!(rest.is_empty());
    event
}

fn mirrored(record: &EventRecord<'_>, redaction: &Redaction) -> mirror::Event {
    let text = |text: &Option<Cow<'_, str>>| text.as_deref().map(str::to_owned);
    let millis = |moment: Option<Timestamp>| moment.map(|moment| moment.0);
    let (handed, connection, unmapped) = match record.happening {
        Happening::Handed(event) => (Some(event), event.connection.as_ref(), &event.unmapped[..]),
        Happening::ConnectionState(listed) => {
            (None, Some(&listed.connection), &listed.unmapped[..])
        }
        Happening::ConnectionAbsent(_) => (None, None, &[][..]),
    };
    let unmapped = unmapped.iter().filter(|_| !record.shed_unmapped);
    mirror::Event {
        event_id: record.event_id().to_owned(),
        event_type: record.event_type().to_owned(),
        actions: record
            .actions
            .iter()
            .map(|raised| mirror::RaisedAction {
                action: match raised.action {
                    Action::AuthFailed => mirror::Action::AuthFailed,
                    Action::TokenExpired => mirror::Action::TokenExpired,
                    Action::PasswordChangeRequired => mirror::Action::PasswordChangeRequired,
                    Action::UserActionRequired => mirror::Action::UserActionRequired,
                    Action::ChallengeRequired => mirror::Action::ChallengeRequired,
                },
                channel_definition_id: raised.channel_definition_id.clone(),
            })
            .collect(),
        resource_type: match handed {
            Some(event) => text(&event.resource_type),
            None => Some("CONNECTION".to_owned()),
        },
        created_at: handed.and_then(|event| millis(event.created_at)),
        user_id: record.user_id.to_string(),
        subscription_id: record.subscription_id.to_string(),
        queue_id: record.queue_id.to_string(),
        queue_generation: record.queue_generation,
        idempotency_key: record.idempotency_key.to_owned(),
        sequence: record.sequence,
        owner_epoch: record.owner_epoch,
        late: record.late,
        connection_id: record.connection_id().map(str::to_owned),
        channel_definition_id: handed.and_then(|event| text(&event.channel_definition_id)),
        channel_mode: handed.and_then(|event| event.channel_mode().map(str::to_owned)),
        connection: connection.map(|connection| mirror::Connection {
            id: connection.id.to_string(),
            provider_id: text(&connection.provider_id),
            name: text(&connection.name),
            status: text(&connection.status),
            created_at: millis(connection.created_at),
            channels: connection
                .channels
                .iter()
                .map(|channel| mirror::Channel {
                    definition_id: text(&channel.definition_id),
                    mode: text(&channel.mode),
                    status: text(&channel.status),
                    expires_at: millis(channel.expires_at),
                    last_success_at: millis(channel.last_success_at),
                    last_end_at: millis(channel.last_end_at),
                })
                .collect(),
        }),
        origin: match handed {
            Some(_) => mirror::Origin::Queue,
            None => mirror::Origin::Reconciliation,
        },
        received_at: record.received_at.0,
        unmapped: unmapped
            .filter_map(|field| Some((field.pointer(), field.redacted(redaction)?.into_owned())))
            .collect(),
    }
}

type Words = Option<Cow<'static, str>>;

fn words() -> impl Strategy<Value = Words> {
    prop::option::of("\\PC{0,20}".prop_map(Cow::Owned))
}

fn moment() -> impl Strategy<Value = Option<Timestamp>> {
    prop::option::of(any::<i64>().prop_map(Timestamp))
}

prop_compose! {
    fn channel()(
        definition_id in words(), mode in words(), status in words(),
        expires_at in moment(), last_success_at in moment(), last_end_at in moment(),
    ) -> Channel<'static> {
        Channel { definition_id, mode, status, expires_at, last_success_at, last_end_at }
    }
}

prop_compose! {
    fn connection()(
        id in "\\PC{1,200}", provider_id in words(), name in words(), status in words(),
        created_at in moment(), channels in prop::collection::vec(channel(), 0..12),
    ) -> Connection<'static> {
        Connection { id: id.into(), provider_id, name, status, created_at, channels }
    }
}

fn unmapped() -> impl Strategy<Value = Vec<Unmapped<'static>>> {
    let place = prop_oneof![
        Just(Place::Event),
        Just(Place::Resource),
        any::<usize>().prop_map(Place::Channel),
        (0usize..12).prop_map(Place::Channel),
    ];
    let name = prop_oneof!["[a~/é]{0,5}", Just("Token".to_owned())];
    let json = prop::sample::select(vec!["null", "[1, 2]", r#"{"password":1,"a":{"token":[]}}"#]);
    let field = (place, name.prop_map(Cow::Owned), json);
    let fields = prop::collection::vec(field, 0..6).prop_map(|fields| {
        let field = |(place, name, json)| Unmapped { place, name, json };
        fields.into_iter().map(field).collect::<Vec<_>>()
    });
    fields.prop_filter("names differ", |fields| {
        let names: std::collections::HashSet<_> = fields.iter().map(Unmapped::pointer).collect();
        names.len() == fields.len()
    })
}

prop_compose! {
    fn source()(
        event_id in "\\PC{1,20}", event_type in "\\PC{1,20}", resource_type in words(),
        created_at in moment(), connection in prop::option::of(connection()),
        linked_connection_id in words(), unmapped in unmapped(), other in words(), nth: usize,
    ) -> SourceEvent<'static> {
        let channels = connection.as_ref().map_or(&[][..], |connection| &connection.channels);
        let shown = channels.get(nth % (channels.len() + 1));
        let channel_definition_id = shown.and_then(|channel| channel.definition_id.clone()).or(other);
        SourceEvent {
            event_id: event_id.into(), event_type: event_type.into(), resource_type, created_at,
            channel_definition_id, connection, linked_connection_id, unmapped, raw: "",
        }
    }
}

fn raised() -> impl Strategy<Value = Vec<RaisedAction>> {
    let one = (prop::sample::select(Action::ALL.to_vec()), prop::option::of("\\PC{0,9}"));
    let one = one
        .prop_map(|(action, channel_definition_id)| RaisedAction { action, channel_definition_id });
    prop::collection::vec(one, 0..3)
}

proptest! {
    #[test]
    fn the_bytes_written_by_hand_are_those_of_the_schema(
        event in source(), actions in raised(), which in 0..3u8, generation: i32,
        sequence: Option<i64>, owner_epoch: i64, late: bool, shed in prop::bool::weighted(0.2), at: i64,
    ) {
        let listed = ListedConnection {
            connection: event.connection.clone().unwrap_or_default(),
            unmapped: event.unmapped.clone(),
            raw: "",
        };
        let absent = ConnectionId::from("gone");
        let record = EventRecord {
            happening: match which {
                0 => Happening::Handed(&event),
                1 => Happening::ConnectionState(&listed),
                _ => Happening::ConnectionAbsent(&absent),
            },
            user_id: &UserId::from("u"),
            subscription_id: &SubscriptionId::from("s"),
            queue_id: &QueueId::from("q"),
            queue_generation: generation,
            idempotency_key: "q/1",
            sequence,
            owner_epoch,
            late,
            actions: &actions,
            received_at: Timestamp(at),
            shed_unmapped: shed,
        };
        let redaction = Redaction::new(["password", "token"]);
        let encoder = Encoder::new(&Framing::SingleObject, &topics(), redaction.clone(), true).unwrap();
        let mut datum = Vec::new();
        encoder.event_datum(&record, &mut datum);
        let expected = mirrored(&record, &redaction);
        prop_assert_eq!(&read_event(&datum), &expected);

        // A map has no order, so the very bytes are compared when it cannot matter.
        if expected.unmapped.len() <= 1 {
            let schema = schema(RecordKind::Event);
            let writer = GenericDatumWriter::builder(&schema).build().unwrap();
            prop_assert_eq!(&datum, &writer.write_ser_to_vec(&expected).unwrap());
        }
    }
}

fn event() -> SourceEvent<'static> {
    let field = |name, json| Unmapped { place: Place::Resource, name: Cow::Borrowed(name), json };
    SourceEvent {
        event_id: "14".into(),
        event_type: "AUTH_FAILED".into(),
        resource_type: Some("CONNECTION".into()),
        created_at: Some(Timestamp(1)),
        channel_definition_id: None,
        connection: Some(Connection { id: "7".into(), ..Connection::default() }),
        linked_connection_id: None,
        unmapped: vec![field("password", "\"x\""), field("a", r#"{"token":"x","b":1}"#)],
        raw: "",
    }
}

fn written(framing: &Framing, unmapped: bool, shed_unmapped: bool, role: TopicRole) -> Vec<u8> {
    let event = event();
    let record = EventRecord {
        happening: Happening::Handed(&event),
        user_id: &UserId::from("u"),
        subscription_id: &SubscriptionId::from("s"),
        queue_id: &QueueId::from("q"),
        queue_generation: 1,
        idempotency_key: &idempotency_key(&QueueId::from("q"), "14"),
        sequence: Some(1),
        owner_epoch: 1,
        late: false,
        actions: &[],
        received_at: Timestamp(2),
        shed_unmapped,
    };
    assert_eq!(record.key(), "7");
    assert_eq!(record.headers()[3], (HEADER_IDEMPOTENCY_KEY, "q/14"));
    let encoder =
        Encoder::new(framing, &topics(), Redaction::new(["password", "token"]), unmapped).unwrap();
    let mut value = Vec::new();
    encoder.event(&record, role, &mut value);
    value
}

#[test]
fn the_framing_differs_by_topic_and_the_datum_does_not() {
    let action = TopicRole::Action(Action::AuthFailed);
    let single = written(&Framing::SingleObject, true, false, TopicRole::Events);
    assert_eq!(single, written(&Framing::SingleObject, true, false, action));
    let schema = schema(RecordKind::Event);
    assert_eq!(single[..10], RabinFingerprintHeader::from_schema(&schema).build_header());
    assert_eq!(single[..2], [0xC3, 0x01]);

    let Framing::Confluent { ids } = confluent() else { unreachable!() };
    for role in [TopicRole::Events, action] {
        let framed = written(&confluent(), true, false, role);
        assert_eq!(framed[0], 0);
        assert_eq!(framed[1..5], ids[topics().name(role)].to_be_bytes());
        assert_eq!(framed[5..], single[10..]);
    }
    assert_eq!(encoder(&confluent()).header(TopicRole::DeadLetters), b"");
}

#[test]
fn unmapped_fields_are_redacted_shed_and_switched_off() {
    let unmapped = |published, shed| {
        let value = written(&Framing::SingleObject, published, shed, TopicRole::Events);
        read_event(&value[10..]).unmapped
    };
    let kept = BTreeMap::from([("/resource/a".to_owned(), r#"{"b":1}"#.to_owned())]);
    assert_eq!(unmapped(true, false), kept);
    assert_eq!(unmapped(true, true), BTreeMap::new());
    assert_eq!(unmapped(false, false), BTreeMap::new());
}

#[test]
fn a_topic_without_an_id_is_told_by_name() {
    let framing = Framing::Confluent { ids: HashMap::new() };
    let refused = Encoder::new(&framing, &topics(), Redaction::default(), true).unwrap_err();
    assert!(matches!(refused, RecordError::MissingId { topic } if topic == "linxo.events"));
}

fn subscription() -> Subscription {
    Subscription {
        user_id: UserId::from("ü"),
        subscription_id: SubscriptionId::random(),
        queue_id: QueueId::from("q"),
        credential_kind: "client".to_owned(),
        sealed_credential: vec![0, 255, 128],
        created_at: Timestamp(1),
        updated_at: Timestamp(-2),
    }
}

fn full_state() -> QueueState {
    let channel = |status: &str| KnownChannel { definition_id: "01".into(), status: status.into() };
    QueueState {
        generation: 3,
        asked_at: Some(Timestamp(4)),
        last_event_id: Some("14".into()),
        user_sequence: i64::MAX,
        connections: vec![KnownConnection {
            connection_id: ConnectionId::from("7"),
            sequence: 12,
            absent: true,
            channels: vec![channel("SUCCESS"), channel("BANK_DOWN")],
        }],
        recovery: Some(Box::new(Recovery {
            gap_id: GapId::random(),
            cause: Cause::EventIdJump,
            certainty: Certainty::Possible,
            from: Timestamp(1),
            to: Timestamp(2),
            queue_id: QueueId::from("dead"),
            queue_generation: 2,
            last_event_id: None,
        })),
        ..QueueState::first(&subscription(), 9, Timestamp(5))
    }
}

fn mark() -> JournalMark {
    JournalMark {
        journal_id: JournalId::random(),
        instance_id: "bridge-0".to_owned(),
        url: "http://127.0.0.1:8080".to_owned(),
        incarnation: "x".to_owned(),
        position: 77,
        partitions: vec![0, 63],
        asked_until: Timestamp(1),
        published_until: Timestamp(2),
    }
}

#[test]
fn what_bridges_keep_for_each_other_is_read_back_in_either_framing() {
    let first = QueueState::first(&subscription(), 1, Timestamp(0));
    for framing in [Framing::SingleObject, confluent()] {
        let (encoder, decoder) = (encoder(&framing), decoder(&framing));
        let mut value = Vec::new();
        let expected = subscription();
        encoder.subscription(&expected, &mut value).unwrap();
        assert!(value.starts_with(encoder.header(TopicRole::Subscriptions)));
        assert_eq!(decoder.subscription(&value).unwrap(), expected);
        for expected in [&first, &full_state()] {
            value.clear();
            encoder.queue_state(expected, &mut value).unwrap();
            assert_eq!(decoder.queue_state(&value).unwrap(), *expected);
        }
        value.clear();
        let expected = mark();
        encoder.journal_mark(&expected, &mut value).unwrap();
        assert_eq!(decoder.journal_mark(&value).unwrap(), expected);

        assert!(matches!(decoder.queue_state(&value), Err(RecordError::OtherKind { .. })));
        value.push(0);
        let left_over = decoder.journal_mark(&value);
        assert!(matches!(left_over, Err(RecordError::Malformed { source: None, .. })));
        value.truncate(value.len() - 4);
        let cut = decoder.journal_mark(&value);
        assert!(matches!(cut, Err(RecordError::Malformed { source: Some(_), .. })));
    }
}

#[test]
fn a_gap_is_written_by_its_schema() {
    for (cause, certainty) in
        Cause::ALL.into_iter().flat_map(|cause| Certainty::ALL.map(|certainty| (cause, certainty)))
    {
        let gap = Gap {
            gap_id: GapId::from("g"),
            user_id: UserId::from("u"),
            subscription_id: SubscriptionId::from("s"),
            connection_id: Some(ConnectionId::from("7")),
            cause,
            certainty,
            from: Timestamp(1),
            to: Timestamp(2),
            queue_id: QueueId::from("q"),
            queue_generation: 1,
            next_queue_id: None,
            last_event_id: Some("13".to_owned()),
            next_event_id: None,
            after_sequence: Some(5),
            reconciled: true,
        };
        let mut value = Vec::new();
        encoder(&Framing::SingleObject).gap(&gap, &mut value).unwrap();
        let schema = schema(RecordKind::Gap);
        let reader = GenericDatumReader::builder(&schema).build().unwrap();
        assert_eq!(reader.read_deser::<Gap>(&mut &value[10..]).unwrap(), gap);
    }
}

#[test]
fn a_schema_of_the_registry_is_learnt_and_resolved() {
    let (old, new) = (older_subscription(), newer_queue_state());
    let mut decoder = decoder(&confluent());
    let framed = |id: u32, datum: Vec<u8>| [&[0][..], &id.to_be_bytes(), &datum].concat();
    let old_schema = Schema::parse_str(&old).unwrap();
    let writer = GenericDatumWriter::builder(&old_schema).build().unwrap();
    let value =
        framed(7, writer.write_ser_to_vec(&OlderSubscription::of(&subscription())).unwrap());
    assert!(matches!(decoder.subscription(&value), Err(RecordError::UnknownSchema { id: 7 })));
    decoder.learn(7, &old).unwrap();
    let read = decoder.subscription(&value).unwrap();
    assert_eq!(read.sealed_credential, b"");
    assert_eq!((read.user_id.as_str(), read.updated_at), ("ü", Timestamp(-2)));
    assert!(matches!(decoder.queue_state(&value), Err(RecordError::OtherKind { .. })));

    decoder.learn(8, &new).unwrap();
    let newer = Schema::parse_str(&new).unwrap();
    let expected = full_state();
    let mut datum = GenericDatumWriter::builder(&schema(RecordKind::QueueState))
        .build()
        .unwrap()
        .write_ser_to_vec(&expected)
        .unwrap();
    // The newer schema has one more field at its end.
    datum.extend_from_slice(&[4, b'h', b'i']);
    assert_eq!(newer.name().unwrap().fullname(None), RecordKind::QueueState.full_name());
    assert_eq!(decoder.queue_state(&framed(8, datum)).unwrap(), expected);

    decoder.learn(9, RecordKind::JournalMark.schema_text()).unwrap();
    let mut value = Vec::new();
    encoder(&confluent()).journal_mark(&mark(), &mut value).unwrap();
    value[1..5].copy_from_slice(&9u32.to_be_bytes());
    assert_eq!(decoder.journal_mark(&value).unwrap().position, 77);

    assert!(matches!(decoder.learn(10, "{}"), Err(RecordError::BadSchema { id: 10, .. })));
    assert!(matches!(decoder.journal_mark(b"{}"), Err(RecordError::NotFramed)));
    assert!(matches!(decoder.journal_mark(b""), Err(RecordError::NotFramed)));
    let unknown = [&[0xC3, 0x01][..], &1u64.to_le_bytes(), b"x"].concat();
    let refused = decoder.journal_mark(&unknown).unwrap_err();
    assert!(matches!(refused, RecordError::UnknownFingerprint { fingerprint: 1 }));
}

/// What a version before the sealed credential would have written.
#[derive(serde::Serialize)]
struct OlderSubscription {
    user_id: String,
    subscription_id: String,
    queue_id: String,
    credential_kind: String,
    created_at: i64,
    updated_at: i64,
}

impl OlderSubscription {
    fn of(present: &Subscription) -> Self {
        Self {
            user_id: present.user_id.to_string(),
            subscription_id: present.subscription_id.to_string(),
            queue_id: present.queue_id.to_string(),
            credential_kind: present.credential_kind.clone(),
            created_at: present.created_at.0,
            updated_at: present.updated_at.0,
        }
    }
}

/// The subscription's schema as if the sealed credential had been added since.
fn older_subscription() -> String {
    let mut schema: Value = serde_json::from_str(RecordKind::Subscription.schema_text()).unwrap();
    let fields = schema["fields"].as_array_mut().unwrap();
    fields.retain(|field| field["name"] != "sealed_credential");
    schema.to_string()
}

/// The queue state's schema as a later version may have it.
fn newer_queue_state() -> String {
    let mut schema: Value = serde_json::from_str(RecordKind::QueueState.schema_text()).unwrap();
    let field = serde_json::json!({"name": "note", "type": "string", "default": "", "doc": "x"});
    schema["fields"].as_array_mut().unwrap().push(field);
    schema.to_string()
}

fn each_definition(schema: &Value, visit: &mut impl FnMut(&Value)) {
    match schema {
        Value::Array(branches) => branches.iter().for_each(|branch| each_definition(branch, visit)),
        Value::Object(members) => {
            visit(schema);
            for inner in ["type", "items", "values"] {
                members.get(inner).into_iter().for_each(|inner| each_definition(inner, visit));
            }
            for field in members.get("fields").and_then(Value::as_array).into_iter().flatten() {
                each_definition(field, visit);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_record_field_and_enum_has_a_doc_and_what_is_optional_is_null_at_first() {
    for kind in RecordKind::ALL {
        let schema: Value = serde_json::from_str(kind.schema_text()).unwrap();
        assert_eq!(
            format!(
                "{}.{}",
                schema["namespace"].as_str().unwrap(),
                schema["name"].as_str().unwrap()
            ),
            kind.full_name()
        );
        let mut seen = 0;
        each_definition(&schema, &mut |part| {
            if part.get("name").is_some() {
                seen += 1;
                let doc = part.get("doc").and_then(Value::as_str).unwrap_or_default();
                assert!(doc.ends_with('.'), "{kind}: {} has no doc", part["name"]);
            }
            if part["type"] == "enum" {
                let symbols = part["symbols"].as_array().unwrap();
                assert!(symbols.contains(&part["default"]), "{kind}: {}", part["name"]);
            }
            if part["type"].is_array() {
                assert_eq!(part["type"][0], "null", "{kind}: {}", part["name"]);
                assert!(
                    part.get("default").is_some_and(Value::is_null),
                    "{kind}: {}",
                    part["name"]
                );
            }
        });
        assert!(seen > 5, "{kind}");
    }
}

#[test]
fn every_released_version_reads_the_present_one_and_is_read_by_it() {
    for (kind, text) in RELEASED {
        let released = Schema::parse_str(text).unwrap();
        let compatible = SchemaCompatibility::mutual_read(&released, &schema(kind));
        assert_eq!(compatible, Ok(Compatibility::Full), "{kind}");
    }
    let changed = RecordKind::Gap.schema_text().replace(
        r#""reconciled", "type": "boolean", "default": false"#,
        r#""settled", "type": "boolean""#,
    );
    let changed = Schema::parse_str(&changed).unwrap();
    assert!(SchemaCompatibility::mutual_read(&changed, &schema(RecordKind::Gap)).is_err());
}

#[test]
fn every_released_file_is_built_in() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/released");
    let mut files = 0;
    for version in std::fs::read_dir(root).unwrap() {
        for file in std::fs::read_dir(version.unwrap().path()).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            assert!(RELEASED.iter().any(|(_, released)| *released == text));
            files += 1;
        }
    }
    assert_eq!(files, RELEASED.len());
}

#[test]
fn keys_tell_where_an_event_comes_from() {
    assert_eq!(idempotency_key(&QueueId::from("q"), "14"), "q/14");
    assert_eq!(reconciliation_key(&GapId::from("g"), &ConnectionId::from("7")), "r/g/7");
}
