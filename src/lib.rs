//! The bridge from Linxo event queues to Kafka. The rooms, in the order the data flows:

/// The names by which things are called.
pub mod ids;
/// A Linxo API that misbehaves on request and remembers what it handed out.
pub mod simulator;
