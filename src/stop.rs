//! That somebody asks the process to end.
//!
//! Promises: SIGTERM and SIGINT count alike.
//!
//! Knows nothing of: what ends.

use tokio::signal::unix::{SignalKind, signal};

/// What comes of the work; none when the process is asked to end before it is done.
pub async fn or_requested<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = requested() => None,
    }
}

/// Resolves at SIGTERM or SIGINT.
pub async fn requested() {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        _ => {
            tracing::error!("signals cannot be heard, only a kill ends this process");
            std::future::pending::<()>().await;
        }
    }
}
