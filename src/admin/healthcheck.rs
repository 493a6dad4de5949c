//! Asks a service's own `/readyz`, for containers that have no other client.
//!
//! Promises: an answer within three seconds, or the reason why not.
//!
//! Knows nothing of: the service in this process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(3);

/// Whether the service that listens on `listen` is ready; else why not.
pub async fn ask_readyz(listen: SocketAddr) -> Result<(), String> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .map_err(|error| format!("no http client: {error}"))?;
    let url = format!("http://{}/readyz", reachable(listen));
    let answer = client
        .get(&url)
        .send()
        .await
        .map_err(|_| format!("nobody answers at {url}; is the service running?"))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let text = answer.text().await.unwrap_or_default();
    Err(format!("{status}: {}", text.trim()))
}

/// Where an address to listen on can be asked from the same machine.
fn reachable(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    listen
}
