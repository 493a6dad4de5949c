//! The source API over HTTP: subscribe, ask, list connections, tokens; says what an answer means.
//!
//! Promises:
//! - each question has exactly one outcome ([`Asked`]), each with its own count in `polls_total`;
//! - no question waits, reads or remembers without a bound: one deadline each, at most `max_answer`
//!   bytes, and memory reserved in a [`Room`] before asking;
//! - nothing is sent twice behind the caller's back, save once more after a 401 to a token that the
//!   bridge asked for, which the source refused to look into;
//! - a token that was given for one user is used for no other;
//! - no token, secret or user id is in an error, a log line or a `Debug` output.
//!
//! Knows nothing of: when to ask, what an event is, where answers go, where credentials are kept.

mod asked;
mod body;
mod connect;
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
pub use fault::{CallFault, Refusal, Refused, SourceError};
pub use room::{Answer, Room};
pub use settings::{Bearer, DEFAULT_SCOPE, SourceSettings, UserNaming};
pub use source::{Checked, Source};
pub use token::{TokenNews, TokenObserver, TokenPace};
