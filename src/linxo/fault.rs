//! Why a call to the source came to nothing, told by what the caller does about it.
//!
//! Promises:
//! - no text names a user, a token or a URL;
//! - where a setting may be to blame, the text names it.
//!
//! Knows nothing of: the HTTP client.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use crate::credential::SealError;

/// Why a subscribe, a listing or a token request came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallFault {
    /// The credential is refused: block the user, try slowly, wait for a new one.
    #[error("{0}; give a new one or widen its scope")]
    Refused(Refused),
    /// The source asks for fewer requests: wait that long, or as the caller sees fit.
    #[error("throttled; lower linxo.max_requests_per_second")]
    Throttled {
        /// The time the source asked for, at most ten minutes.
        retry_after: Option<Duration>,
    },
    /// No answer, or one that says nothing about the request: try again later.
    #[error("{what}")]
    Retry {
        /// What happened.
        what: String,
    },
    /// An answer that trying again will not change: someone must look.
    #[error("{what}")]
    Unusable {
        /// What is wrong, and which setting may be to blame.
        what: String,
    },
}

/// A refusal: why a user is blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What is refused.
    pub what: Refusal,
    /// How: status and error code, or why nothing could be sent; perhaps empty.
    pub how: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, how } = self;
        if how.is_empty() {
            write!(formatter, "{what}")
        } else {
            write!(formatter, "{what} ({how})")
        }
    }
}

/// What is refused, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// A token that the integrator gave.
    #[error("linxo refuses the access token")]
    AccessToken,
    /// The same, when the time that the integrator gave with it is over.
    #[error("linxo refuses the access token, its expires_at is past")]
    ExpiredAccessToken,
    /// A user's name and password, by the token endpoint.
    #[error("the token endpoint refuses the user's name and password")]
    Password,
    /// A token that was just given for a user's name and password.
    #[error("linxo refuses the token that it gave for the user's name and password")]
    UserToken,
    /// The bridge's own client credentials, or none are configured.
    #[error(
        "the bridge's own client credentials are refused: see linxo.client_id and linxo.client_secret_file"
    )]
    Client,
    /// A credential that is good, and not for this.
    #[error("linxo does not let the credential do this")]
    Scope,
    /// A credential that cannot be opened, so that nothing can be sent.
    #[error("the credential cannot be opened")]
    Sealed,
}

/// Why the source cannot be set up at all: the configuration is at fault.
#[derive(Debug, Error)]
pub enum SourceError {
    /// A base URL that nothing can be put under.
    #[error(
        "{setting} must be an http or https url with a host and without user, query or fragment"
    )]
    UnusableUrl {
        /// The key in the configuration.
        setting: &'static str,
    },
    /// No header or parameter can have this name.
    #[error("linxo.{setting} = {name:?} cannot name a user; take a name such as {example:?}")]
    UnusableNaming {
        /// `user_header` or `user_parameter`.
        setting: &'static str,
        /// The name as configured.
        name: String,
        /// A name that would do.
        example: &'static str,
    },
    /// Nothing to seal tokens with.
    #[error("no key can be made to seal users' tokens with: {source}")]
    NoKey {
        /// What was missing.
        #[source]
        source: SealError,
    },
    /// The HTTP client cannot be built, mostly for want of CA certificates.
    #[error("cannot prepare https; install ca certificates or point SSL_CERT_FILE at them")]
    Https {
        /// What the client says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
