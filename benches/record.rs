//! What an event costs: from the answer's JSON to the bytes of its record.
//!
//! `apache_avro`'s own writer stands beside the one written by hand, kept and not rebuilt, as the
//! ratio between them is what the hand-written one has to be worth.

#![expect(missing_docs, reason = "criterion's macros make undocumented functions")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a bench that cannot go on has to stop")]

use std::collections::BTreeMap;
use std::hint::black_box;

use apache_avro::Schema;
use apache_avro::writer::datum::GenericDatumWriter;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use linxo_kafka_bridge::event::{Redaction, SourceEvent, decode_answer};
use linxo_kafka_bridge::ids::{QueueId, SubscriptionId, Timestamp, UserId};
use linxo_kafka_bridge::queue_state::QueueState;
use linxo_kafka_bridge::record::{
    Decoder, Encoder, EventRecord, Framing, Happening, RecordKind, TopicRole, Topics,
};
use linxo_kafka_bridge::subscription::Subscription;

#[path = "../src/record/mirror.rs"]
mod mirror;

/// One event with this many channels; `full` has the fields that the schema does not name as well.
fn answer(channels: usize, full: bool) -> String {
    let more = |text: &'static str| if full { text } else { "" };
    let channels: Vec<String> = (0..channels)
        .map(|number| {
            let more = more(r#","credentials":[],"account_types":["CHECKINGS","CREDIT_CARD"]"#);
            format!(
                r#"{{"channel_definition_id":"8701{number:02}","mode":"REDIRECT","status":"SUCCESS","expires":1535537001,"last_success_date":1527761000,"last_end_date":1527761000{more}}}"#
            )
        })
        .collect();
    format!(
        r#"[{{"id":"140001","event_type":"SYNC_ALL_SUCCESS","resource_type":"CONNECTION","creation_date":1527761001,"channel_definition_id":"870101","resource":{{"id":"771234","provider_id":"8701","name":"Banque de test","status":"SUCCESS","creation_date":1527700000{},"channels":[{}]}}}}]"#,
        more(
            r#","auto_sync":true,"logo_url":"https://static.example/logo/8701.png","user_id":"5512""#
        ),
        channels.join(",")
    )
}

struct Context {
    user: UserId,
    subscription: SubscriptionId,
    queue: QueueId,
    encoder: Encoder,
}

impl Context {
    fn new() -> Self {
        let topics = Topics::new("", "linxo.actions.{action}");
        let redaction = Redaction::new(["credentials", "password", "token"]);
        Self {
            user: UserId::from("user-000001"),
            subscription: SubscriptionId::random(),
            queue: QueueId::from("7f3c1f6e-4f0b-4df5-9a54-3d54c3a7b1aa"),
            encoder: Encoder::new(&Framing::SingleObject, &topics, redaction, true).unwrap(),
        }
    }

    fn record<'a>(&'a self, event: &'a SourceEvent<'a>) -> EventRecord<'a> {
        EventRecord {
            happening: Happening::Handed(event),
            user_id: &self.user,
            subscription_id: &self.subscription,
            queue_id: &self.queue,
            queue_generation: 1,
            idempotency_key: "7f3c1f6e-4f0b-4df5-9a54-3d54c3a7b1aa/140001",
            sequence: Some(1234),
            owner_epoch: 3,
            late: false,
            actions: &[],
            received_at: Timestamp(1_527_761_002_123),
            shed_unmapped: false,
        }
    }
}

fn one(body: &str) -> SourceEvent<'_> {
    match decode_answer(body.as_bytes()).map(|mut elements| elements.pop()) {
        Ok(Some(Ok(event))) => event,
        other => panic!("{other:?}"),
    }
}

fn mirrored(context: &Context, event: &SourceEvent<'_>) -> mirror::Event {
    let connection = event.connection.as_ref().unwrap();
    let channel = |channel: &linxo_kafka_bridge::event::Channel<'_>| mirror::Channel {
        definition_id: channel.definition_id.as_deref().map(str::to_owned),
        mode: channel.mode.as_deref().map(str::to_owned),
        status: channel.status.as_deref().map(str::to_owned),
        expires_at: channel.expires_at.map(|moment| moment.0),
        last_success_at: channel.last_success_at.map(|moment| moment.0),
        last_end_at: channel.last_end_at.map(|moment| moment.0),
    };
    let kept = |field: &&linxo_kafka_bridge::event::Unmapped<'_>| field.name != "credentials";
    let pair =
        |field: &linxo_kafka_bridge::event::Unmapped<'_>| (field.pointer(), field.json.to_owned());
    mirror::Event {
        event_id: event.event_id.to_string(),
        event_type: event.event_type.to_string(),
        actions: vec![],
        resource_type: event.resource_type.as_deref().map(str::to_owned),
        created_at: event.created_at.map(|moment| moment.0),
        user_id: context.user.to_string(),
        subscription_id: context.subscription.to_string(),
        queue_id: context.queue.to_string(),
        queue_generation: 1,
        idempotency_key: "7f3c1f6e-4f0b-4df5-9a54-3d54c3a7b1aa/140001".to_owned(),
        sequence: Some(1234),
        owner_epoch: 3,
        late: false,
        connection_id: event.connection_id().map(str::to_owned),
        channel_definition_id: event.channel_definition_id.as_deref().map(str::to_owned),
        channel_mode: event.channel_mode().map(str::to_owned),
        connection: Some(mirror::Connection {
            id: connection.id.to_string(),
            provider_id: connection.provider_id.as_deref().map(str::to_owned),
            name: connection.name.as_deref().map(str::to_owned),
            status: connection.status.as_deref().map(str::to_owned),
            created_at: connection.created_at.map(|moment| moment.0),
            channels: connection.channels.iter().map(channel).collect(),
        }),
        origin: mirror::Origin::Queue,
        received_at: 1_527_761_002_123,
        unmapped: event.unmapped.iter().filter(kept).map(pair).collect::<BTreeMap<_, _>>(),
    }
}

fn events(criterion: &mut Criterion) {
    let context = Context::new();
    let schema = Schema::parse_str(RecordKind::Event.schema_text()).unwrap();
    let library = GenericDatumWriter::builder(&schema).build().unwrap();
    for (name, body) in
        [("5 channels", answer(5, false)), ("5 channels and unmapped fields", answer(5, true))]
    {
        let mut group = criterion.benchmark_group(format!("event of {name}, {} B", body.len()));
        group.throughput(Throughput::Elements(1));
        let mut buffer = Vec::with_capacity(8192);
        group.bench_function("decode", |bencher| bencher.iter(|| one(black_box(&body))));
        let event = one(&body);
        group.bench_function("encode", |bencher| {
            bencher.iter(|| {
                buffer.clear();
                let record = context.record(black_box(&event));
                context.encoder.event(&record, TopicRole::Events, &mut buffer);
                buffer.len()
            });
        });
        group.bench_function("decode and encode", |bencher| {
            bencher.iter(|| {
                buffer.clear();
                let event = one(black_box(&body));
                let record = context.record(&event);
                context.encoder.event(&record, TopicRole::Events, &mut buffer);
                buffer.len()
            });
        });
        let mirror = mirrored(&context, &event);
        group.bench_function("encode by apache_avro", |bencher| {
            bencher.iter(|| {
                buffer.clear();
                library.write_ser(&mut buffer, black_box(&mirror)).unwrap()
            });
        });
        group.finish();
    }
}

fn states(criterion: &mut Criterion) {
    let topics = Topics::new("", "linxo.actions.{action}");
    let context = Context::new();
    let decoder = Decoder::new(&Framing::SingleObject, &topics).unwrap();
    let subscription = Subscription {
        user_id: context.user.clone(),
        subscription_id: context.subscription.clone(),
        queue_id: context.queue.clone(),
        credential_kind: "client".to_owned(),
        sealed_credential: vec![7; 60],
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
    };
    let mut state = QueueState::first(&subscription, 1, Timestamp(1));
    let body = answer(2, false);
    state.note_event(&one(&body));
    let mut value = Vec::new();
    context.encoder.queue_state(&state, &mut value).unwrap();
    let mut group = criterion.benchmark_group("queue state of 1 connection, 2 channels");
    group.bench_function("encode", |bencher| {
        let mut buffer = Vec::with_capacity(1024);
        bencher.iter(|| {
            buffer.clear();
            context.encoder.queue_state(black_box(&state), &mut buffer).unwrap();
            buffer.len()
        });
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| decoder.queue_state(black_box(&value)).unwrap());
    });
    group.bench_function("note an event", |bencher| {
        let event = one(&body);
        bencher.iter_batched_ref(
            || state.clone(),
            |state| state.note_event(black_box(&event)),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, events, states);
criterion_main!(benches);
