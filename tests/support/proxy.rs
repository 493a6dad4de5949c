//! A TCP proxy on the loopback: what stands between a client and a server, and can be told to be in the way.
//!
//! Promises:
//! - whatever it is told holds for open connections and for new ones, from then on;
//! - told [`Way::Open`], it hands on what it held back; connections of which it has swallowed something are closed, as
//!   their two ends no longer agree;
//! - bounded: 64 KiB held for each direction of a connection, the rest waits in the sockets.
//!
//! Of what passes it knows one thing: how Kafka frames requests and answers (length, then the head with the number of
//! the call and of the request), so that it can swallow the answers to one kind of call.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// The number of Kafka's call `EndTxn`, which commits.
pub const END_TXN: i16 = 26;

const CHUNK: usize = 64 * 1024;

/// What becomes of what comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    /// It passes.
    Open,
    /// Connections are closed, new ones as soon as they are made.
    Cut,
    /// Nothing passes and nothing is closed.
    BlackHole,
    /// Each chunk, of whatever size it came in, passes so much later, each direction for itself.
    Slow(Duration),
    /// So many bytes a second pass on each connection, each direction for itself.
    Throttled(u32),
    /// Requests pass. The answer to this kind of Kafka's calls does not, nor what follows it on its connection.
    Deaf(i16),
    /// Everything passes; [`Proxy::answered`] tells when the answer to this kind of Kafka's calls has.
    Watched(i16),
}

/// A proxy before a port of this machine; gone when dropped.
pub struct Proxy {
    port: u16,
    way: watch::Sender<Way>,
    answered: Arc<Notify>,
    serving: Option<thread::JoinHandle<()>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Proxy {
    /// A proxy before `port`, which need not be listened on yet. It has a thread of its own, as it outlives the
    /// runtimes of single tests.
    pub fn before(port: u16) -> Self {
        let (way, told) = watch::channel(Way::Open);
        let answered = Arc::new(Notify::new());
        let tell = Arc::clone(&answered);
        let [own] = super::free_ports();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (listens, listening) = std::sync::mpsc::channel();
        let serving = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, own)).await.unwrap();
                listens.send(()).unwrap();
                tokio::select! {
                    () = serve(&listener, port, told, &tell) => {}
                    _ = stopped => {}
                }
            });
        });
        listening.recv().expect("the port was free a moment ago");
        Self { port: own, way, answered, serving: Some(serving), stop: Some(stop) }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Says what becomes of what comes from now on.
    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Waits until the answer to a call has passed (or had just before), while the way is [`Way::Watched`].
    pub async fn answered(&self) {
        self.answered.notified().await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(serving) = self.serving.take() {
            serving.join().unwrap();
        }
    }
}

async fn serve(
    listener: &TcpListener,
    port: u16,
    way: watch::Receiver<Way>,
    answered: &Arc<Notify>,
) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let (way, answered) = (way.clone(), Arc::clone(answered));
        tokio::spawn(async move {
            if *way.borrow() == Way::Cut {
                return;
            }
            let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if let Ok(server) = TcpStream::connect(server).await {
                join(client, server, way, answered).await;
            }
        });
    }
}

/// Serves one connection until either end closes it, or it is cut.
async fn join(
    client: TcpStream,
    server: TcpStream,
    way: watch::Receiver<Way>,
    answered: Arc<Notify>,
) {
    // a small request is not held back for more of it
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let asked = Arc::new(Asked::default());
    let requests = Pump {
        from: from_client,
        to: to_server,
        way: way.clone(),
        frames: Frames::new(12),
        side: Side::Requests,
        asked: Arc::clone(&asked),
        answered: Arc::clone(&answered),
    };
    let answers = Pump {
        from: from_server,
        to: to_client,
        way,
        frames: Frames::new(8),
        side: Side::Answers,
        asked,
        answered,
    };
    tokio::select! {
        () = requests.run() => {}
        () = answers.run() => {}
    }
}

/// The requests under way of the kind whose answers are swallowed or watched, by their numbers.
#[derive(Default)]
struct Asked(Mutex<HashSet<i32>>);

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Requests,
    Answers,
}

/// One direction of a connection.
struct Pump {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    way: watch::Receiver<Way>,
    frames: Frames,
    side: Side,
    asked: Arc<Asked>,
    answered: Arc<Notify>,
}

impl Pump {
    async fn run(mut self) {
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = tokio::select! {
                read = self.from.read(&mut chunk) => read,
                () = is_cut(self.way.clone()) => return,
            };
            let Ok(length @ 1..) = read else { return };
            if !self.may_pass(length).await {
                return;
            }
            let passing = self.before_swallowed(&chunk[..length]);
            if self.to.write_all(&chunk[..passing]).await.is_err() {
                return;
            }
            if passing < length {
                // deaf for good: closed when the way is another
                while matches!(*self.way.borrow_and_update(), Way::Deaf(_)) {
                    if self.way.changed().await.is_err() {
                        return;
                    }
                }
                return;
            }
        }
    }

    /// Waits as the way has it; false when the connection is cut.
    async fn may_pass(&mut self, length: usize) -> bool {
        loop {
            let way = *self.way.borrow_and_update();
            let wait = match way {
                Way::Open | Way::Deaf(_) | Way::Watched(_) => return true,
                Way::Cut => return false,
                Way::BlackHole => Duration::MAX,
                Way::Slow(delay) => delay,
                Way::Throttled(bytes) => Duration::from_secs_f64(length as f64 / f64::from(bytes)),
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => return true,
                changed = self.way.changed() => if changed.is_err() { return false },
            }
        }
    }

    /// How much of a chunk comes before an answer that is to be swallowed.
    fn before_swallowed(&mut self, chunk: &[u8]) -> usize {
        let way = *self.way.borrow();
        let mut passing = chunk.len();
        let mut asked = self.asked.0.lock().unwrap();
        let side = self.side;
        self.frames.feed(chunk, |head, end| match (side, way) {
            (Side::Requests, Way::Deaf(call) | Way::Watched(call))
                if number16(&head[4..]) == call =>
            {
                asked.insert(number32(&head[8..]));
            }
            (Side::Answers, Way::Deaf(_)) if asked.contains(&number32(&head[4..])) => {
                // what of the head came with an earlier chunk has passed: half an answer is none
                passing = passing.min(end.saturating_sub(8));
            }
            (Side::Answers, Way::Watched(_)) if asked.remove(&number32(&head[4..])) => {
                self.answered.notify_one();
            }
            _ => {}
        });
        passing
    }
}

/// Ends when the way is [`Way::Cut`].
async fn is_cut(mut way: watch::Receiver<Way>) {
    if way.wait_for(|way| *way == Way::Cut).await.is_err() {
        // nobody can cut any more
        std::future::pending::<()>().await;
    }
}

fn number16(bytes: &[u8]) -> i16 {
    i16::from_be_bytes([bytes[0], bytes[1]])
}

fn number32(bytes: &[u8]) -> i32 {
    i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Finds the heads of Kafka's frames in a stream: four bytes of length, and the first of what they count.
struct Frames {
    wanted: usize,
    head: Vec<u8>,
    /// Bytes of the frame after the head that are still to come.
    left: usize,
}

impl Frames {
    /// `wanted`: how many bytes of each frame make its head, the length included.
    fn new(wanted: usize) -> Self {
        Self { wanted, head: Vec::new(), left: 0 }
    }

    /// Calls `each` with a head and the place in the chunk where it ends.
    fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(&[u8], usize)) {
        let mut at = 0;
        while at < chunk.len() {
            let skipped = self.left.min(chunk.len() - at);
            self.left -= skipped;
            at += skipped;
            if self.left > 0 || at == chunk.len() {
                return;
            }
            let taken = (self.wanted - self.head.len()).min(chunk.len() - at);
            self.head.extend(&chunk[at..at + taken]);
            at += taken;
            if self.head.len() == self.wanted {
                each(&self.head, at);
                let length = usize::try_from(number32(&self.head)).unwrap_or(0);
                self.left = (length + 4).saturating_sub(self.wanted);
                self.head.clear();
            }
        }
    }
}
