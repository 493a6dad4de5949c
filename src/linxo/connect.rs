//! How a connection to the source is made: a name, TCP, a proxy where the environment names one, TLS.
//!
//! Promises:
//! - a connection is there, TLS and proxy included, within the time given, or the attempt fails as
//!   [`TooSlow`];
//! - a proxy of `HTTPS_PROXY`, `HTTP_PROXY` or `ALL_PROXY` is asked for a tunnel (CONNECT), but for what
//!   `NO_PROXY` excepts;
//! - certificates are checked as the platform does.
//!
//! Knows nothing of: requests.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;

/// An idle connection that the network has forgotten is found out before a question is lost in it.
const PROBE: Duration = Duration::from_secs(15);
const PROBES: u32 = 3;

type BoxError = Box<dyn Error + Send + Sync>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;
/// To the proxy, or to the source itself.
type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// No connection within the time given.
#[derive(Debug, Error)]
#[error("no connection in time")]
pub(super) struct TooSlow;

/// A proxy that is asked in a way which is not spoken here.
#[derive(Debug, Error)]
#[error(
    "the proxy of the environment is neither http:// nor https://; name such a one, or except the source in NO_PROXY"
)]
struct UnusableProxy;

/// Makes connections.
#[derive(Clone)]
pub(super) struct Connector {
    https: HttpsConnector<Way>,
    most: Duration,
}

/// The way to a host, without the TLS that is spoken with it.
#[derive(Clone)]
struct Way {
    direct: HttpConnector,
    /// To a proxy, which may itself want TLS.
    to_proxy: HttpsConnector<HttpConnector>,
    proxies: Option<Arc<Matcher>>,
}

impl Connector {
    /// Connections that take no longer than `most`, by way of `proxies` if there are any. Without `tls`
    /// no certificates are looked for, and no https is possible.
    pub(super) fn new(
        proxies: Option<Matcher>,
        tls: bool,
        most: Duration,
    ) -> Result<Self, rustls::Error> {
        let builder = ClientConfig::builder();
        let mut config = if tls {
            builder.with_platform_verifier()?.with_no_client_auth()
        } else {
            builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let config = Arc::new(config);
        let mut direct = HttpConnector::new();
        direct.set_nodelay(true);
        direct.set_keepalive(Some(PROBE));
        direct.set_keepalive_interval(Some(PROBE));
        direct.set_keepalive_retries(Some(PROBES));
        // https is spoken over it
        direct.enforce_http(false);
        let to_proxy = HttpsConnector::from((direct.clone(), Arc::clone(&config)));
        let way = Way { direct, to_proxy, proxies: proxies.map(Arc::new) };
        Ok(Self { https: HttpsConnector::from((way, config)), most })
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Stream>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(context)
    }

    fn call(&mut self, host: Uri) -> Self::Future {
        let (most, connecting) = (self.most, self.https.call(host));
        Box::pin(async move { timeout(most, connecting).await.map_err(|_| TooSlow)? })
    }
}

impl Service<Uri> for Way {
    type Response = Stream;
    type Error = BoxError;
    type Future = Connecting<Stream>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.direct.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, host: Uri) -> Self::Future {
        let proxy = self.proxies.as_ref().and_then(|proxies| proxies.intercept(&host));
        match proxy {
            None => {
                let connecting = self.direct.call(host);
                Box::pin(async move { Ok(MaybeHttpsStream::Http(connecting.await?)) })
            }
            Some(proxy) => self.tunnel(&proxy, host),
        }
    }
}

impl Way {
    fn tunnel(&self, proxy: &Intercept, host: Uri) -> Connecting<Stream> {
        if !matches!(proxy.uri().scheme_str(), Some("http" | "https")) {
            return Box::pin(async { Err(UnusableProxy.into()) });
        }
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.to_proxy.clone());
        if let Some(authorization) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        Box::pin(async move { Ok(tunnel.call(host).await?) })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);
    const QUICK: Duration = Duration::from_millis(50);

    async fn connect(proxy: &str, host: &str, most: Duration) -> Result<(), BoxError> {
        let proxies = Matcher::builder().all(proxy.to_owned()).no("except.example").build();
        let mut connector = Connector::new(Some(proxies), false, most).unwrap();
        connector.call(host.parse().unwrap()).await.map(|_| ())
    }

    /// Takes one connection, reads a head and answers it.
    async fn proxy(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(head).unwrap()
        });
        (address.to_string(), asked)
    }

    #[tokio::test]
    async fn a_proxy_is_asked_for_a_tunnel_with_the_name_and_password_of_its_url() {
        let (address, asked) = proxy("HTTP/1.1 200 OK\r\n\r\n").await;
        let through = format!("http://ann:secret@{address}");
        connect(&through, "http://source.example:8443/queues", PATIENCE).await.unwrap();
        let head = asked.await.unwrap();
        assert!(head.starts_with("CONNECT source.example:8443 HTTP/1.1\r\n"), "{head}");
        assert!(
            head.to_lowercase().contains("proxy-authorization: basic yw5uonnly3jlda=="),
            "{head}"
        );
    }

    #[tokio::test]
    async fn a_proxy_that_refuses_or_cannot_be_spoken_with_is_said_to_be_at_fault() {
        let (address, _asked) = proxy("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
        let through = format!("http://{address}");
        let refused = connect(&through, "http://source.example/", PATIENCE).await.unwrap_err();
        let told = refused.to_string();
        assert!(told.contains("proxy authorization required"), "{told}");
        let other =
            connect("socks5://127.0.0.1:1", "http://source.example/", QUICK).await.unwrap_err();
        assert!(other.is::<UnusableProxy>(), "{other}");
    }

    #[tokio::test]
    async fn what_is_excepted_is_reached_without_the_proxy() {
        // nobody resolves it, and nobody asks the proxy, which listens and never answers
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let through = format!("http://{}", listener.local_addr().unwrap());
        assert!(connect(&through, "http://except.example/", PATIENCE).await.is_err());
        assert!(timeout(QUICK, listener.accept()).await.is_err());
    }

    #[tokio::test]
    async fn a_proxy_that_says_nothing_costs_no_more_than_the_time_given() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let through = format!("http://{}", listener.local_addr().unwrap());
        let told = connect(&through, "http://source.example/", QUICK).await.unwrap_err();
        assert!(told.is::<TooSlow>(), "{told}");
    }
}
