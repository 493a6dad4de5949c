//! How a call with the bridge's own token names its user.
//!
//! Promises:
//! - whatever the id is, it arrives as one value and decodes to the same id.
//!
//! Knows nothing of: tokens, paths.

use http::header::InvalidHeaderValue;
use http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use super::fault::SourceError;
use super::settings::UserNaming;
use crate::ids::UserId;

/// What a header value cannot hold as it is; `%` so that the rest can be told from it.
const IN_HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'%');
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Headers that say something else already.
const TAKEN: [&str; 7] = [
    "authorization",
    "host",
    "connection",
    "content-length",
    "content-type",
    "transfer-encoding",
    "accept",
];

/// [`UserNaming`], checked and ready.
pub(super) enum Naming {
    Header(HeaderName),
    /// `?name=`, ready to take the value.
    Parameter(String),
}

impl Naming {
    pub(super) fn new(naming: UserNaming) -> Result<Self, SourceError> {
        match naming {
            UserNaming::Header(name) => match HeaderName::from_bytes(name.as_bytes()) {
                Ok(header) if !TAKEN.contains(&header.as_str()) => Ok(Self::Header(header)),
                _ => Err(SourceError::UnusableNaming {
                    setting: "user_header",
                    name,
                    example: "x-linxo-user-id",
                }),
            },
            UserNaming::Parameter(name) if name.is_empty() => Err(SourceError::UnusableNaming {
                setting: "user_parameter",
                name,
                example: "user_id",
            }),
            UserNaming::Parameter(name) => {
                Ok(Self::Parameter(format!("?{}=", utf8_percent_encode(&name, IN_QUERY))))
            }
        }
    }

    /// Names the user in the URL's text, or by the header given back.
    pub(super) fn name(
        &self,
        user: &UserId,
        url: &mut String,
    ) -> Result<Option<(HeaderName, HeaderValue)>, InvalidHeaderValue> {
        match self {
            Self::Header(name) => Ok(Some((name.clone(), header_value(user)?))),
            Self::Parameter(name) => {
                url.push_str(name);
                url.extend(utf8_percent_encode(user.as_str(), IN_QUERY));
                Ok(None)
            }
        }
    }
}

/// Cannot fail, as what is left after encoding is visible ASCII; if it did, nothing may be sent.
fn header_value(user: &UserId) -> Result<HeaderValue, InvalidHeaderValue> {
    let text = user.as_str();
    let mut value = if text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'%') {
        HeaderValue::from_str(text)?
    } else {
        HeaderValue::from_str(&utf8_percent_encode(text, IN_HEADER).to_string())?
    };
    value.set_sensitive(true);
    Ok(value)
}
