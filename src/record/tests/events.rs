//! Events: the bytes written by hand against what `apache_avro` makes of the same fields.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;

use super::super::*;
use super::{confluent, encoder, schema, topics};
use crate::event::{
    Action, Channel, Connection, ListedConnection, Place, RaisedAction, Redaction, SourceEvent,
    Unmapped,
};
use crate::ids::{SubscriptionId, Timestamp, UserId};

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
        let names: HashSet<_> = fields.iter().map(Unmapped::pointer).collect();
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
    assert_eq!(single[..2], [0xC3, 0x01]);
    assert_eq!(single[2..10], super::super::schema::fingerprint(&schema).unwrap());

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

#[test]
fn keys_tell_where_an_event_comes_from() {
    assert_eq!(idempotency_key(&QueueId::from("q"), "14"), "q/14");
    assert_eq!(reconciliation_key(&GapId::from("g"), &ConnectionId::from("7")), "r/g/7");
}
