//! The HTTP client behind a seam: one request out, one head and its body back, under one deadline.
//!
//! HTTP/1 only. Over HTTP/2 the client keeps one connection for the whole host, above the server's
//! stream limit requests wait inside it, and one broken connection would make every question under
//! way uncertain at once; here it is one question each.
//!
//! Promises:
//! - a request ends by its deadline, head and body together; connecting has at most half of it;
//! - nothing is redirected or repeated, save a request that provably never left (a pooled connection
//!   found closed);
//! - a fault says whether the request may have reached the server, and its text has no URL in it.
//!
//! The client is hyper-util's, which takes 5 us of CPU less for an empty poll than reqwest does over
//! it (`benches/polls.rs`); elsewhere in the program, where requests are rare, reqwest is.
//!
//! Knows nothing of: what an answer means. The only file of the room that names the client, so that
//! another one can take its place.

use std::error::Error;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, RETRY_AFTER, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::connect::{Connector, TooSlow};
use super::fault::SourceError;
use super::retry_after;
use crate::causes::{causes, in_one_line};
use crate::ids::Timestamp;

/// Below what servers and load balancers commonly allow (60 s), so that we close first.
const IDLE: Duration = Duration::from_secs(55);
const LONGEST_CONNECT: Duration = Duration::from_secs(5);
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROGRAM: &str = concat!("linxo-kafka-bridge/", env!("CARGO_PKG_VERSION"));
/// The longest text of a transport fault, in bytes.
const LONGEST_TEXT: usize = 300;

/// The connections to the source.
pub(super) struct Wire {
    client: Client<Connector, Full<Bytes>>,
    agent: HeaderValue,
    timeout: Duration,
}

/// One request.
pub(super) struct Call {
    /// Where to.
    pub(super) uri: Uri,
    /// A JSON body makes it a POST, none a GET.
    pub(super) json: Option<Vec<u8>>,
    /// In whose name.
    pub(super) authorization: Option<HeaderValue>,
    /// The header that names the user.
    pub(super) user: Option<(HeaderName, HeaderValue)>,
}

/// Why there is no answer, or not all of it.
#[derive(Clone, Debug)]
pub(super) enum WireFault {
    /// The deadline passed.
    Timeout {
        /// Whether the request may have reached the server.
        sent: bool,
    },
    /// The connection failed.
    Lost {
        /// Whether the request may have reached the server.
        sent: bool,
        /// What the client says.
        what: String,
    },
}

impl Wire {
    /// Prepares connections that reach these hosts, `idle` of them kept open. The source is told
    /// which `instance` asks.
    pub(super) fn new(
        hosts: [&Url; 2],
        timeout: Duration,
        idle: usize,
        instance: &str,
    ) -> Result<Self, SourceError> {
        // An error means that a provider is there already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        // A proxy of the environment cannot reach this machine's own loopback.
        let is_direct = hosts.iter().any(|url| is_loopback(url));
        let proxies = (!is_direct).then(Matcher::from_env);
        // Without TLS the machine needs no CA certificates.
        let with_tls = hosts.iter().any(|url| url.scheme() == "https");
        let connector = Connector::new(proxies, with_tls, LONGEST_CONNECT.min(timeout / 2))
            .map_err(|error| SourceError::Https { source: Box::new(error) })?;
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(idle.max(1))
            .build(connector);
        Ok(Self { client, agent: agent(instance), timeout })
    }

    /// Sends and waits for the head of the answer.
    pub(super) async fn send(&self, call: Call) -> Result<Reply, WireFault> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = call.uri;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, JSON);
        headers.insert(USER_AGENT, self.agent.clone());
        if let Some(authorization) = call.authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        if let Some((name, value)) = call.user {
            headers.insert(name, value);
        }
        if let Some(json) = call.json {
            headers.insert(CONTENT_TYPE, JSON);
            *request.method_mut() = Method::POST;
            *request.body_mut() = Full::from(json);
        }
        let deadline = Instant::now() + self.timeout;
        match timeout_at(deadline, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(Reply { response, deadline }),
            Ok(Err(error)) => {
                let sent = !error.is_connect();
                if !sent && is_too_slow(&error) {
                    return Err(WireFault::Timeout { sent });
                }
                Err(WireFault::Lost { sent, what: described(&error) })
            }
            // Connecting would have ended at half of the time.
            Err(_) => Err(WireFault::Timeout { sent: true }),
        }
    }
}

/// The head of an answer; its body is still to be read.
pub(super) struct Reply {
    response: Response<Incoming>,
    deadline: Instant,
}

impl Reply {
    /// The status of the head.
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The `Location` as given.
    pub(super) fn location(&self) -> Option<&[u8]> {
        self.response.headers().get(http::header::LOCATION).map(HeaderValue::as_bytes)
    }

    /// The wait that the head asks for.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let headers = self.response.headers();
        let date = headers.get(DATE).map(HeaderValue::as_bytes);
        retry_after::wait(headers.get(RETRY_AFTER)?.as_bytes(), date, Timestamp::now())
    }

    /// The length of the body, where the head tells it.
    pub(super) fn length(&self) -> Option<u64> {
        self.response.body().size_hint().exact()
    }

    /// Gives the rest of the body that much more time.
    pub(super) fn allow(&mut self, longer: Duration) {
        self.deadline += longer;
    }

    /// The next bytes of the body; none at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, WireFault> {
        loop {
            match timeout_at(self.deadline, self.response.body_mut().frame()).await {
                Ok(Some(Ok(frame))) => {
                    // trailers say nothing of interest
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
                Ok(Some(Err(error))) => {
                    return Err(WireFault::Lost { sent: true, what: described(&error) });
                }
                Ok(None) => return Ok(None),
                Err(_) => return Err(WireFault::Timeout { sent: true }),
            }
        }
    }

    /// A small body as a whole, for tokens and error codes; cut after `limit` bytes.
    pub(super) async fn small_body(mut self, limit: usize) -> Result<Vec<u8>, WireFault> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            let free = limit - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(free)]);
            if chunk.len() >= free {
                break;
            }
        }
        Ok(body)
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Whether connecting took too long.
fn is_too_slow(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| cause.is::<TooSlow>())
}

/// The error and its causes in one line. The client names no URL in them.
fn described(error: &(dyn Error + 'static)) -> String {
    let mut text = in_one_line(error);
    let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= LONGEST_TEXT).last();
    if text.len() > LONGEST_TEXT {
        text.truncate(end.unwrap_or(0));
    }
    text
}

/// What the source is told of who asks: an id that no header can hold is left out.
fn agent(instance: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("{PROGRAM} ({instance})"))
        .unwrap_or(HeaderValue::from_static(PROGRAM))
}
