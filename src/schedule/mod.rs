//! When each queue is asked next. Reads no clock: `now` is always an argument.
//!
//! Promises:
//! - a queue is never given a due time later than one keep-alive interval after it was asked;
//! - arming, moving and disarming an entry cost the same however many there are, and an entry
//!   takes 16 bytes ([`Wheel`]);
//! - of those that wait for budget and may die, the one nearest to its death comes first ([`Ready`]);
//! - queues at keep-alive cadence are spread over the interval by a hash of the user that has
//!   nothing to do with the partitioner's, so that a successor finds the same phases.
//!
//! Knows nothing of: queues, users' state, the source, Kafka.

mod pace;
mod ready;
mod wheel;

pub use pace::{Class, Pace, phase_of};
pub use ready::Ready;
pub use wheel::Wheel;
