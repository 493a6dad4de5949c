//! Why a call to the source came to nothing, told by what the caller does about it.
//!
//! Promises:
//! - no text names a user, a token or a URL;
//! - where a setting may be to blame, the text names it.
//!
//! Knows nothing of: the HTTP client.

use std::time::Duration;

use thiserror::Error;

/// Why a subscribe, a listing or a token request came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallFault {
    /// The credential is refused: block the user, try slowly, wait for a new one.
    #[error("the credential is refused with {status}{code}; give a new one or widen its scope")]
    Refused {
        /// The status of the refusal; 401 when nothing could be sent.
        status: u16,
        /// `: ` and the source's error code, empty when it gave none.
        code: String,
    },
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
    /// The HTTP client cannot be built, mostly for want of CA certificates.
    #[error("cannot prepare https; install ca certificates or point SSL_CERT_FILE at them")]
    Https {
        /// What the client says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
