//! That the bytes are what the schemas say, and stay readable.

mod described;
mod events;
mod kept;
mod schemas;

use apache_avro::Schema;

use super::{Decoder, Encoder, Framing, RecordKind, Topics};
use crate::event::Redaction;

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

#[test]
fn one_encoder_and_one_decoder_serve_all_threads() {
    fn shared<T: Send + Sync + 'static>(_: &T) {}
    shared(&encoder(&confluent()));
    shared(&decoder(&confluent()));
}
