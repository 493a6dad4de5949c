//! What the source API needs to be told, as plain values.
//!
//! Promises:
//! - printing the settings or a bearer shows no secret.
//!
//! Knows nothing of: where the values were configured, or how they are sealed.

use std::fmt;
use std::time::Duration;

use url::Url;
use zeroize::Zeroizing;

use crate::ids::Timestamp;

/// The scopes the bridge asks for with its own credentials. The source does not say which one
/// `/queues` needs: these two go with its only known topic (`linxo-api.md` 2).
pub const DEFAULT_SCOPE: &str = "connections_manage connections_sync";

/// How the source is reached, and what its statuses mean.
#[derive(Clone)]
pub struct SourceSettings {
    /// Base of `/queues` and `/connections`, `linxo.api_url`.
    pub api_url: Url,
    /// Base of `/token`, `linxo.auth_url`.
    pub auth_url: Url,
    /// The bridge's own client id, `linxo.client_id`.
    pub client_id: Option<String>,
    /// The bridge's own client secret, `linxo.client_secret`.
    pub client_secret: Option<Zeroizing<String>>,
    /// The scopes asked for with every token, space separated; [`DEFAULT_SCOPE`].
    pub scope: String,
    /// How a call with the bridge's own token names its user.
    pub user_naming: UserNaming,
    /// The time from sending a request to the last byte of its answer.
    pub request_timeout: Duration,
    /// The statuses by which the source says that a queue is dead, `linxo.dead_statuses`.
    pub dead_statuses: Vec<u16>,
    /// So many idle connections are kept open, `polling.max_in_flight`.
    pub max_in_flight: usize,
    /// This instance, named in the `User-Agent` of each request, `kafka.instance_id`.
    pub instance_id: String,
}

impl fmt::Debug for SourceSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SourceSettings")
            .field("api_url", &self.api_url.host_str())
            .field("auth_url", &self.auth_url.host_str())
            .field("client_id", &self.client_id)
            .field("client_secret", &self.client_secret.as_ref().map(|_| "redacted"))
            .field("user_naming", &self.user_naming)
            .field("request_timeout", &self.request_timeout)
            .field("dead_statuses", &self.dead_statuses)
            .finish_non_exhaustive()
    }
}

/// How a call with the bridge's own token names its user.
///
/// A user id is any text of up to some kilobytes. In a header its UTF-8 bytes outside visible ASCII,
/// the space and `%` are percent-encoded, so `é 1%` is sent as `%C3%A9%201%25` and an id of plain
/// visible ASCII as it is. In the query all but letters, digits and `-._~` is percent-encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserNaming {
    /// By a header of this name, `linxo.user_header`.
    Header(String),
    /// By a query parameter of this name, `linxo.user_parameter`.
    Parameter(String),
}

/// In whose name a call is made.
#[derive(Clone, Copy)]
pub enum Bearer<'a> {
    /// With a user's own access token, which also names the user.
    Token {
        /// The token.
        access_token: &'a str,
        /// When it runs out, if the integrator said so. It is used all the same: the source knows
        /// best.
        expires_at: Option<Timestamp>,
    },
    /// With a token that is asked for with the user's name and password, which also names the user.
    Password {
        /// The name the user has at the source.
        username: &'a str,
        /// The password.
        password: &'a str,
    },
    /// With the bridge's own token; the user is named beside it.
    Client,
}

impl fmt::Debug for Bearer<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Token { .. } => "Token(redacted)",
            Self::Password { .. } => "Password(redacted)",
            Self::Client => "Client",
        })
    }
}
