//! Real servers for the tests, and readers that share nothing with the bridge.
//!
//! `kafka` and `registry` start Apache Kafka and a Schema Registry, one of each per test file; `consume` reads topics
//! as committed; `java` reads them with Kafka's and Avro's own Java code. What is missing on this machine is named with
//! the command that brings it, and the test fails: none is skipped.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panic")]

pub mod account;
mod broker;
pub mod cache;
mod consume;
pub mod dashboards;
mod decode;
pub mod java;
mod kafka;
pub mod oracle;
pub mod prometheus;
pub mod proxy;
mod registry;
pub mod secrecy;
pub mod server;
pub mod source;
mod stage;

pub use broker::Broker;
pub use cache::source as source_file;
pub use consume::{Reader, Record, read_topic, read_visible, wait_until};
pub use decode::Decoded;
pub use kafka::{Kafka, unique};
pub use registry::{Registry, http};
pub use server::free_ports;
pub use stage::{Bridge, PATIENCE, Stage, TOKEN, path_of};
