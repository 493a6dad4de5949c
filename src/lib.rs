//! The bridge from Linxo event queues to Kafka. The rooms, in the order the data flows:

/// The names by which things are called.
pub mod ids;

/// Text that must not be seen.
pub mod secret;

/// What a user shows to the source, and how it is sealed.
pub mod credential;

/// Every setting, its default, and what makes a set of them wrong.
pub mod config;
