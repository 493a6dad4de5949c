//! What bridges keep in Kafka for each other, and gaps: written, read, resolved.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use serde_json::Value;

use super::super::*;
use super::{confluent, decoder, encoder, schema};
use crate::gap::{Cause, Certainty, Gap};
use crate::ids::{JournalId, SubscriptionId, Timestamp, UserId};
use crate::journal_mark::{JournalMark, LeftPartition, ToldLoss};
use crate::queue_state::{KnownChannel, KnownConnection, QueueState, Recovery, Suspicion};
use crate::subscription::Subscription;

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
        suspicion: Some(Box::new(Suspicion {
            since: Timestamp(7),
            at: Timestamp(8),
            last_event_id: Some("12".into()),
        })),
        consecutive: -1,
        recent_event_ids: vec!["13".into(), "14".into()],
        journal_id: Some(JournalId::random()),
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
        left: vec![LeftPartition { partition: 3, asked_until: Timestamp(4), is_published: true }],
        told: vec![ToldLoss { partition: 63, until: Timestamp(5) }],
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
    let decoder = decoder(&confluent());
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

#[test]
fn what_a_registry_forgot_or_gave_away_is_read_by_the_version_that_fits_to_the_last_byte() {
    let (wish, mark) = (subscription(), mark());
    let decoder = decoder(&confluent());
    let mut value = Vec::new();
    encoder(&confluent()).subscription(&wish, &mut value).unwrap();
    value[1..5].copy_from_slice(&70u32.to_be_bytes());
    assert!(matches!(decoder.subscription(&value), Err(RecordError::UnknownSchema { id: 70 })));
    decoder.forget(70);
    assert_eq!(decoder.subscription(&value).unwrap(), wish);
    decoder.learn(70, r#"{"type": "fixed", "name": "Stranger", "size": 7}"#).unwrap();
    assert_eq!(decoder.subscription(&value).unwrap(), wish);

    decoder.forget(71);
    value[1..5].copy_from_slice(&71u32.to_be_bytes());
    value.push(0);
    let refused = decoder.subscription(&value).unwrap_err();
    assert!(matches!(refused, RecordError::ForgottenSchema { id: 71, .. }));

    let mut value = Vec::new();
    encoder(&confluent()).journal_mark(&mark, &mut value).unwrap();
    value[1..5].copy_from_slice(&72u32.to_be_bytes());
    assert!(decoder.journal_mark(&value).is_err(), "another instance may be newer");
    assert_eq!(decoder.own_journal_mark(&value).unwrap(), mark);
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
