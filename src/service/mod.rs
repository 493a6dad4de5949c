//! Puts the rooms together and runs them: from a configuration to a bridge that works, and from a
//! stop to a process that has let go of everything.
//!
//! The start, in order: the journal's folder, the HTTP door, the topics, the schemas, the
//! publisher with its position, the group. Each step waits for as long as what it needs is away,
//! says so, and leaves `/livez` true meanwhile.
//!
//! Promises:
//! - no queue is asked before its partition was read to the end, its schemas are known and the
//!   publisher has a producer;
//! - a stop finishes what is under way within `service.grace`.
//!
//! Knows nothing of: what the rooms do inside.

mod absent;
mod directory;
mod drain;
mod fleet;
mod load;
#[cfg(test)]
mod model;
mod peers;
mod progress;
mod schemas;
mod start;

pub use drain::drain;
pub use start::{Running, ServiceError, Setting, registry, serve, source};
