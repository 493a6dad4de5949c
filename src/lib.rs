//! The bridge from Linxo event queues to Kafka. The rooms, in the order the data flows:

/// The names by which things are called.
pub mod ids;

/// Text that must not be seen.
pub mod secret;

/// What a user shows to the source, and how it is sealed.
pub mod credential;

/// When each queue is asked next. Reads no clock.
pub mod schedule;

/// How many questions the source is asked to bear, and who goes first.
pub mod budget;

/// The HTTP door.
pub mod admin;

/// Every number we show.
pub mod metrics;

/// Every setting, its default, and what makes a set of them wrong.
pub mod config;
