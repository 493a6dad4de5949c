//! The bridge from Linxo event queues to Kafka. The rooms, in the order the data flows:

/// The names by which things are called.
pub mod ids;

/// The source API over HTTP: subscribe, ask, list connections, tokens; says what an answer means.
pub mod linxo;

/// Schema ids, from a Schema Registry or none.
pub mod registry;
