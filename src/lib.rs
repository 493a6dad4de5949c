//! The bridge from Linxo event queues to Kafka. The rooms, in the order the data flows:

/// The names by which things are called.
pub mod ids;

/// Who is watched: what the control topic holds.
pub mod subscription;

/// Which partitions this instance owns.
pub mod assignment;

/// One partition's loop: asks due queues, has the answers kept, recovers dead queues.
pub mod worker;

/// When each queue is asked next. Reads no clock.
pub mod schedule;

/// How many questions the source is asked to bear, and who goes first.
pub mod budget;

/// The source API over HTTP, and what an answer means.
pub mod linxo;

/// Keeps answers, in order, from the moment they are received until they are published.
pub mod journal;

/// What a queue's event is, and whether it asks a user to act.
pub mod event;

/// How far each queue has been published, which connections it has shown, its generation.
pub mod queue_state;

/// What was or may have been lost.
pub mod gap;

/// An event as Avro: its topic, its key, its bytes.
pub mod record;

/// What an instance says of its journal.
pub mod journal_mark;

/// Schema ids, from a Schema Registry or none.
pub mod registry;

/// Puts records, states and the journal position into Kafka in one transaction.
pub mod publisher;

/// Settings shared by every Kafka client, reading to the end, what a Kafka error means for us.
pub mod kafka;

/// The topics we need: what they should be, what is there, and the command that mends it.
pub mod topics;

/// The HTTP door.
pub mod admin;

/// The admin API of bridges, as those who call it see it.
pub mod door;

/// Subscriptions in bulk, through the admin API.
pub mod bulk;

/// Puts the rooms together and runs them.
pub mod service;

/// Reaches out to everything configured and says what to do about it.
pub mod check;

/// A Linxo API that misbehaves on request and remembers what it handed out.
pub mod simulator;

/// Whether what the source handed out and what the topics hold agree.
pub mod oracle;

/// Load and fault runs, judged at their end.
pub mod load;

/// Everything in one process, for a person to see.
pub mod demo;

/// What is behind an error.
pub mod causes;

/// That somebody asks the process to end.
pub mod stop;

/// That the parts which must never stand still do not.
pub mod pulse;

/// Every number we show.
pub mod metrics;

/// What the process writes about itself.
pub mod logging;

/// How long each step of an answer took, told for some answers to whoever collects traces.
pub mod traces;

/// Every setting, its default, and what makes a set of them wrong.
pub mod config;

/// What a user shows to the source, and how it is sealed.
pub mod credential;

/// Text that must not be seen.
pub mod secret;

/// What the fault suite may break on purpose; nothing in release builds.
pub mod sabotage;
