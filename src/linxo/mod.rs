//! The source API over HTTP: subscribe, ask, list connections, tokens; says what an answer means.
//!
//! Promises:
//! - each question has exactly one outcome ([`Asked`]), each with its own count in `polls_total`;
//! - no question waits, reads or remembers without a bound: one deadline each, at most `max_answer`
//!   bytes, and memory reserved in a [`Room`] before asking;
//! - nothing is sent twice behind the caller's back, save once more after a 401 to the bridge's own
//!   token, which the source refused to look into;
//! - no token, secret or user id is in an error, a log line or a `Debug` output.
//!
//! Knows nothing of: when to ask, what an event is, where answers go, how credentials are kept.

mod asked;
mod body;
mod fault;
mod location;
mod naming;
mod retry_after;
mod room;
mod settings;
mod source;
#[cfg(test)]
mod tests;
mod token;
mod wire;

pub use asked::Asked;
pub use fault::{CallFault, SourceError};
pub use room::{Answer, Room};
pub use settings::{Bearer, DEFAULT_SCOPE, SourceSettings, UserNaming};
pub use source::{Checked, Source};
pub use token::{TokenObserver, UserToken};
