//! The bridge from Linxo event queues to Kafka. The rooms, in the order the data flows:

/// What a queue's event is, and whether it asks a user to act.
pub mod event;
/// A span of time in which events of a user were or may have been lost.
pub mod gap;
/// The names by which things are called.
pub mod ids;
/// How far a journal has been published, as the journals topic holds it.
pub mod journal_mark;
/// How far each queue has been published, which connections it has shown, its generation.
pub mod queue_state;
/// An event as Avro: its topic, its key, its bytes.
pub mod record;
/// Who is watched: what the control topic holds for a user.
pub mod subscription;
