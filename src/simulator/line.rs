//! The listener and its connections, which can be cut.
//!
//! Promises:
//! - a connection that is told to reset sends not one more byte and ends with a reset (RST);
//! - while the source cannot be reached, its port is kept and refuses connections, so that whoever
//!   asks has provably sent nothing; open connections are closed, and what they bring is not read;
//! - a body that is being sent then is cut short, and what it carried is lost.
//!
//! Knows nothing of: what is said on a connection.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// Before the port is tried again, or another connection.
const PAUSE: Duration = Duration::from_millis(10);

/// Whether the source can be reached.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gate {
    closed_until: Option<Instant>,
    /// How often it was closed: connections older than that are cut.
    closings: u64,
}

impl Gate {
    /// Closes it for so long; open connections are cut.
    pub(super) fn close(&mut self, length: Duration) {
        self.closed_until = Some(Instant::now() + length);
        self.closings += 1;
    }

    pub(super) fn open(&mut self) {
        self.closed_until = None;
    }

    fn closed(&self) -> Option<Instant> {
        self.closed_until.filter(|until| *until > Instant::now())
    }
}

/// Where connections come in.
pub(super) struct Door {
    address: SocketAddr,
    /// None while it is closed.
    listener: Option<TcpListener>,
    gate: watch::Receiver<Gate>,
}

impl Door {
    pub(super) async fn bind(address: SocketAddr, gate: watch::Receiver<Gate>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { address: listener.local_addr()?, listener: Some(listener), gate })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Refuses connections until the gate is open.
    async fn stay_closed(&mut self) {
        // Whoever waits to be accepted is reset with it.
        self.listener = None;
        // Bound and not listening: the port stays ours, and connections are refused.
        let place = reserve(self.address);
        loop {
            let closed = self.gate.borrow_and_update().closed();
            let Some(until) = closed else { break };
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                changed = self.gate.changed() => if changed.is_err() { return },
            }
        }
        self.listener = place.and_then(|place| place.listen(BACKLOG)).ok();
    }
}

/// Takes a port without listening.
fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

impl Listener for Door {
    type Io = Line;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line, SocketAddr) {
        loop {
            let gate = *self.gate.borrow_and_update();
            if gate.closed().is_some() {
                self.stay_closed().await;
                continue;
            }
            let Some(listener) = &self.listener else {
                // Somebody else took the port in between, or descriptors are few.
                match reserve(self.address).and_then(|place| place.listen(BACKLOG)) {
                    Ok(listener) => self.listener = Some(listener),
                    Err(error) => {
                        tracing::warn!(%error, address = %self.address, "cannot listen again");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
                continue;
            };
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => return (Line::new(stream, self.gate.clone(), gate.closings), peer),
                    Err(error) => {
                        tracing::debug!(%error, "a connection came to nothing");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                // An error says that the simulator is gone, and its server with it.
                changed = self.gate.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// What a reply pulls to have its connection reset.
#[derive(Clone, Debug, Default)]
pub(super) struct Cord(Arc<AtomicBool>);

impl Cord {
    pub(super) fn pull(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_pulled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Connected<IncomingStream<'_, Door>> for Cord {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.io().cord.clone()
    }
}

/// A connection.
pub(super) struct Line {
    stream: TcpStream,
    cord: Cord,
    /// Ends when the gate is closed.
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_cut: bool,
}

impl Line {
    fn new(stream: TcpStream, mut gate: watch::Receiver<Gate>, closings: u64) -> Self {
        // An answer is one small write: waiting for more of it would only cost time.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set nodelay");
        }
        let cut = Box::pin(async move {
            if gate.wait_for(|gate| gate.closings > closings).await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        Self { stream, cord: Cord::default(), cut, is_cut: false }
    }

    /// Sees to it that a connection whose cord was pulled ends without another byte.
    fn check(&self) -> io::Result<()> {
        if !self.cord.is_pulled() {
            return Ok(());
        }
        self.stream.set_zero_linger()?;
        Err(io::Error::new(io::ErrorKind::ConnectionReset, "the simulator resets this connection"))
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_cut || self.cut.as_mut().poll(context).is_ready() {
            // Nothing read is the end of the connection.
            self.is_cut = true;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
