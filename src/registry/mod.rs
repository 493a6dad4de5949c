//! Schema ids, from a Schema Registry that speaks the Confluent API: Apicurio (`/apis/ccompat/v7`),
//! Karapace, Confluent. Without a registry nobody asks for ids, and this room is not used.
//!
//! Promises:
//! - called at start and by `check` only, never on the way of an event;
//! - a fault says whether waiting helps; its text names the subject, what the registry answered and
//!   what to do, and never the registry's password;
//! - answers are read up to a limit, each call has a deadline.
//!
//! Knows nothing of: what a schema says, which subject belongs to which topic.

mod answer;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Serialize;
use thiserror::Error;

use crate::causes::in_one_line;
use crate::metrics::RegistryOutcome;
use url::Url;

use answer::{Answered, shown};

/// The time a call may take, connecting included.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer that is read, in bytes; a schema is some kilobytes.
const LONGEST_ANSWER: usize = 1024 * 1024;
const USER_AGENT: &str = concat!("linxo-kafka-bridge/", env!("CARGO_PKG_VERSION"));
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Is told what each call came to.
pub type RegistryObserver = Arc<dyn Fn(RegistryOutcome) + Send + Sync>;

/// Why the registry gave no id or schema. Only [`RegistryFault::Away`] is worth another try.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RegistryFault {
    /// The subject holds a version that this schema does not go with.
    #[error(
        "subject {subject}: the schema does not go with the version registered there ({answer}); \
         take another topics.prefix, or change the subject's compatibility level"
    )]
    Incompatible {
        /// The subject.
        subject: String,
        /// What the registry answered, shortened.
        answer: String,
    },
    /// The registry takes the schema for none.
    #[error(
        "subject {subject}: the registry cannot read the schema ({answer}); \
         see whether schema_registry.url speaks the confluent api with avro"
    )]
    Invalid {
        /// The subject.
        subject: String,
        /// What the registry answered, shortened.
        answer: String,
    },
    /// The schema is not there, and may not be put there.
    #[error(
        "subject {subject}: this schema is not registered; \
         register it, or set schema_registry.register = true"
    )]
    NotRegistered {
        /// The subject.
        subject: String,
    },
    /// No schema has this id: the registry was reset, or it is another one.
    #[error(
        "the registry knows no schema of id {id}; see whether schema_registry.url is the right one"
    )]
    UnknownId {
        /// The id.
        id: u32,
    },
    /// The registry does not let us.
    #[error(
        "{about}: the registry refuses ({answer}); \
         see the user and password in schema_registry.url and the rights of that user"
    )]
    Refused {
        /// `subject ...` or `schema ...`.
        about: String,
        /// What the registry answered, shortened.
        answer: String,
    },
    /// No usable answer: wait and try again.
    #[error("{about}: {what}")]
    Away {
        /// `subject ...` or `schema ...`.
        about: String,
        /// What happened, shortened.
        what: String,
    },
}

/// Why a registry cannot be set up: the configuration is at fault.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// Nothing can be put under this URL.
    #[error(
        "schema_registry.url must be an http or https url with a host and without query or fragment"
    )]
    UnusableUrl,
    /// The HTTP client cannot be built, mostly for want of CA certificates.
    #[error("cannot prepare https; install ca certificates or point SSL_CERT_FILE at them")]
    Https {
        /// What the client says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// How a schema goes with what a subject holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compatibility {
    /// It goes with the latest version, at the level set for the subject.
    Compatible,
    /// It does not; what the registry says of it, shortened.
    Incompatible(String),
    /// The subject has no version yet.
    NoVersion,
}

/// A Schema Registry. A clone shares its connections.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    client: reqwest::Client,
    /// Ends before the `/` of a path; without user and password.
    base: String,
    authorization: Option<HeaderValue>,
    register: bool,
    observer: RegistryObserver,
}

#[derive(Serialize)]
struct SchemaText<'a> {
    schema: &'a str,
}

impl Registry {
    /// Prepares to call a registry; nothing is sent yet. The URL may have a path and
    /// `user:password@`. With `register` unknown schemas are registered, else only looked up.
    pub fn new(
        url: &Url,
        register: bool,
        observer: RegistryObserver,
    ) -> Result<Self, RegistryError> {
        let is_web = matches!(url.scheme(), "http" | "https") && url.has_host();
        if !is_web || url.query().is_some() || url.fragment().is_some() {
            return Err(RegistryError::UnusableUrl);
        }
        let authorization = basic(url)?;
        let mut plain = url.clone();
        if plain.set_username("").is_err() || plain.set_password(None).is_err() {
            return Err(RegistryError::UnusableUrl);
        }
        // An error means that a provider is there already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(TIMEOUT / 2)
            .timeout(TIMEOUT);
        if is_loopback(url) {
            builder = builder.no_proxy();
        }
        if url.scheme() == "http" {
            // Without TLS the machine needs no CA certificates.
            builder = builder.tls_certs_only([]);
        }
        let client =
            builder.build().map_err(|error| RegistryError::Https { source: Box::new(error) })?;
        let base = plain.as_str().trim_end_matches('/').to_owned();
        Ok(Self(Arc::new(Inner { client, base, authorization, register, observer })))
    }

    /// The id of the schema under the subject, registered first where that is allowed. Any number of
    /// instances may do so at once: the same schema gets the same id.
    pub async fn prepare(&self, subject: &str, schema: &str) -> Result<u32, RegistryFault> {
        let mut path = format!("/subjects/{}", segment(subject));
        if self.0.register {
            path.push_str("/versions");
        }
        let answered = self.call(Method::POST, &path, Some(schema)).await;
        self.counted(|| {
            let answered = answered.map_err(|what| away(subject, what))?;
            match answered.status {
                200..300 => answered.id().ok_or_else(|| away(subject, answered.unexpected())),
                404 if !self.0.register && answered.is_unknown() => {
                    Err(RegistryFault::NotRegistered { subject: subject.to_owned() })
                }
                _ => Err(subject_fault(subject, &answered)),
            }
        })
    }

    /// The text of a schema, as the registry writes it: compare parsed schemas, never text.
    pub async fn schema(&self, id: u32) -> Result<String, RegistryFault> {
        let answered = self.call(Method::GET, &format!("/schemas/ids/{id}"), None).await;
        self.counted(|| {
            let about = || format!("schema {id}");
            let answered = answered.map_err(|what| RegistryFault::Away { about: about(), what })?;
            match answered.status {
                200..300 => answered.schema().ok_or_else(|| RegistryFault::Away {
                    about: about(),
                    what: answered.unexpected(),
                }),
                404 if answered.is_unknown() => Err(RegistryFault::UnknownId { id }),
                401 | 403 => {
                    Err(RegistryFault::Refused { about: about(), answer: answered.shown() })
                }
                _ => Err(RegistryFault::Away { about: about(), what: answered.unexpected() }),
            }
        })
    }

    /// Id and text of every version of a subject.
    pub async fn versions(&self, subject: &str) -> Result<Vec<(u32, String)>, RegistryFault> {
        let path = format!("/subjects/{}/versions", segment(subject));
        let answered = self.call(Method::GET, &path, None).await;
        let numbers: Vec<u32> = self.counted(|| {
            let answered = answered.map_err(|what| away(subject, what))?;
            match answered.status {
                200..300 => serde_json::from_slice(&answered.body)
                    .map_err(|_| away(subject, answered.unexpected())),
                404 if answered.is_unknown() => Ok(Vec::new()),
                _ => Err(subject_fault(subject, &answered)),
            }
        })?;
        let mut versions = Vec::new();
        for number in numbers {
            let answered = self.call(Method::GET, &format!("{path}/{number}"), None).await;
            versions.push(self.counted(|| {
                let answered = answered.map_err(|what| away(subject, what))?;
                match (answered.status, answered.id(), answered.schema()) {
                    (200..300, Some(id), Some(schema)) => Ok((id, schema)),
                    (200..300, _, _) => Err(away(subject, answered.unexpected())),
                    _ => Err(subject_fault(subject, &answered)),
                }
            })?);
        }
        Ok(versions)
    }

    /// Whether the schema goes with the latest version of the subject; changes nothing.
    pub async fn compatibility(
        &self,
        subject: &str,
        schema: &str,
    ) -> Result<Compatibility, RegistryFault> {
        let path =
            format!("/compatibility/subjects/{}/versions/latest?verbose=true", segment(subject));
        let answered = self.call(Method::POST, &path, Some(schema)).await;
        self.counted(|| {
            let answered = answered.map_err(|what| away(subject, what))?;
            match answered.status {
                200..300 => match answered.is_compatible() {
                    Some(true) => Ok(Compatibility::Compatible),
                    Some(false) => Ok(Compatibility::Incompatible(answered.messages())),
                    None => Err(away(subject, answered.unexpected())),
                },
                404 if answered.is_unknown() => Ok(Compatibility::NoVersion),
                _ => Err(subject_fault(subject, &answered)),
            }
        })
    }

    fn counted<T>(
        &self,
        judge: impl FnOnce() -> Result<T, RegistryFault>,
    ) -> Result<T, RegistryFault> {
        let judged = judge();
        (self.0.observer)(match &judged {
            Ok(_) => RegistryOutcome::Ok,
            Err(RegistryFault::Away { .. }) => RegistryOutcome::Error,
            Err(_) => RegistryOutcome::Refused,
        });
        judged
    }

    /// The answer, or what became of it in words.
    async fn call(
        &self,
        method: Method,
        path: &str,
        schema: Option<&str>,
    ) -> Result<Answered, String> {
        let inner = &*self.0;
        let url = Url::parse(&[&inner.base, path].concat()).map_err(|error| error.to_string())?;
        let mut request = reqwest::Request::new(method, url);
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &inner.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if let Some(schema) = schema {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let json = serde_json::to_vec(&SchemaText { schema }).map_err(|e| e.to_string())?;
            *request.body_mut() = Some(json.into());
        }
        let mut response = inner.client.execute(request).await.map_err(unreachable)?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > LONGEST_ANSWER {
                return Err(format!("the registry answered {status} and more than can be read"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answered { status, body })
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Registry")
            .field("base", &self.0.base)
            .field("register", &self.0.register)
            .finish_non_exhaustive()
    }
}

fn away(subject: &str, what: String) -> RegistryFault {
    RegistryFault::Away { about: format!("subject {subject}"), what }
}

/// What an error status about a subject means; 404 of another kind is an address without registry.
fn subject_fault(subject: &str, answered: &Answered) -> RegistryFault {
    let subject = subject.to_owned();
    match (answered.status, answered.code()) {
        (409, _) => RegistryFault::Incompatible { subject, answer: answered.shown() },
        // 42205: the subject is in read-only mode.
        (401 | 403, _) | (422, Some(42205)) => {
            RegistryFault::Refused { about: format!("subject {subject}"), answer: answered.shown() }
        }
        (400 | 422, _) => RegistryFault::Invalid { subject, answer: answered.shown() },
        _ => away(&subject, answered.unexpected()),
    }
}

/// Basic authentication from `user:password@`, each percent-decoded.
fn basic(url: &Url) -> Result<Option<HeaderValue>, RegistryError> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let mut pair: Vec<u8> = percent_decode_str(url.username()).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(url.password().unwrap_or_default()));
    let text = format!("Basic {}", STANDARD.encode(pair));
    let mut value = HeaderValue::from_str(&text).map_err(|_| RegistryError::UnusableUrl)?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn segment(subject: &str) -> String {
    utf8_percent_encode(subject, SEGMENT).to_string()
}

/// The error and its causes in one line, without URL.
fn unreachable(error: reqwest::Error) -> String {
    let error = error.without_url();
    let text = format!("the registry cannot be reached: {}", in_one_line(&error));
    shown(text.as_bytes())
}
