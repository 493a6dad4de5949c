//! That somebody asks the process to end.
//!
//! Promises: SIGTERM and SIGINT count alike.
//!
//! Knows nothing of: what ends.

use tokio::signal::unix::{SignalKind, signal};

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
