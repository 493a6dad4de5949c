//! Access tokens: asking for them, and keeping them: the bridge's own, and users' by the password
//! grant.
//!
//! Promises:
//! - a token is asked for again shortly before it runs out; if that fails, the old one serves to its
//!   end;
//! - one request at a time for the bridge's token, and one for each user's.
//!
//! Knows nothing of: queues.

mod client;
mod endpoint;
mod users;

use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;
use zeroize::Zeroizing;

pub(super) use client::{ClientToken, Token};
pub(super) use endpoint::{TokenEndpoint, error_code};
pub use endpoint::{TokenNews, TokenObserver};
pub use users::TokenPace;
pub(super) use users::{UserToken, UserTokens};

use super::fault::{CallFault, Refused};
use super::wire::WireFault;

/// A token is renewed this long before it runs out, or a tenth of its life before when that is less.
const AHEAD: Duration = Duration::from_secs(30);
/// The life of a token that comes without one.
const ASSUMED_LIFE: Duration = Duration::from_secs(300);
const SHORTEST_LIFE: Duration = Duration::from_secs(1);
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);
const REFUSED_PAUSE: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_THROTTLE: Duration = Duration::from_secs(60);

/// Why there is no token.
#[derive(Clone, Debug)]
pub(super) enum TokenFault {
    Refused(Refused),
    Throttled { retry_after: Option<Duration> },
    Answered { status: u16 },
    Unreachable(WireFault),
}

impl TokenFault {
    /// How long nobody should ask again after it, when it is the `failures`-th in a row but one.
    fn pause(&self, failures: u32) -> Duration {
        match self {
            Self::Refused(_) => REFUSED_PAUSE,
            Self::Throttled { retry_after: Some(wait) } => {
                (*wait).clamp(FIRST_PAUSE, LONGEST_THROTTLE)
            }
            Self::Throttled { retry_after: None }
            | Self::Answered { .. }
            | Self::Unreachable(_) => (FIRST_PAUSE * 2u32.pow(failures.min(5))).min(LONGEST_PAUSE),
        }
    }
}

impl From<TokenFault> for CallFault {
    fn from(fault: TokenFault) -> Self {
        match fault {
            TokenFault::Refused(refused) => Self::Refused(refused),
            TokenFault::Throttled { retry_after } => Self::Throttled { retry_after },
            TokenFault::Answered { status } if status >= 500 || status == 408 => {
                Self::Retry { what: format!("the token endpoint answered {status}") }
            }
            TokenFault::Answered { status } => Self::Unusable {
                what: format!(
                    "the token endpoint answered {status} without a usable token; check linxo.auth_url"
                ),
            },
            TokenFault::Unreachable(WireFault::Timeout { .. }) => {
                Self::Retry { what: "the token endpoint did not answer in time".to_owned() }
            }
            TokenFault::Unreachable(WireFault::Lost { what, .. }) => {
                Self::Retry { what: format!("the token endpoint cannot be reached: {what}") }
            }
        }
    }
}

/// From when to when a token is of use.
#[derive(Clone, Copy)]
struct Span {
    renew_at: Instant,
    ends_at: Instant,
}

impl Span {
    fn new(life: Option<Duration>, asked_at: Instant) -> Self {
        let life = life.unwrap_or(ASSUMED_LIFE).clamp(SHORTEST_LIFE, LONGEST_LIFE);
        let ends_at = asked_at + life;
        Self { renew_at: ends_at - AHEAD.min(life / 10), ends_at }
    }
}

/// The `Authorization` for a token; none when no header can hold it.
pub(super) fn header(token: &str) -> Option<HeaderValue> {
    let text = Zeroizing::new(["Bearer ", token].concat());
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    (!token.is_empty()).then_some(value)
}
