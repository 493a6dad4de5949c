//! The bridge from Linxo event queues to Kafka. The rooms, in the order the data flows:

/// The names by which things are called.
pub mod ids;

/// The HTTP door.
pub mod admin;

/// Every number we show, one method per happening.
pub mod metrics;
