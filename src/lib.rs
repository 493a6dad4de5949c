//! The bridge from Linxo event queues to Kafka. The rooms, in the order the data flows:

/// The names by which things are called.
pub mod ids;
/// When each queue is asked next. Reads no clock.
pub mod schedule;
/// How many questions the source is asked to bear, and who goes first.
pub mod budget;
