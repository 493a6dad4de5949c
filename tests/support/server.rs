//! The process of a server and its folder, both gone when the test is.
//!
//! Promises:
//! - the process ends and the folder goes when the value is dropped, and also when the test process ends without
//!   dropping anything (a static, a panic, a SIGKILL): a shell waits for the end of our pipe to it and cleans up then;
//! - nothing but this process is ever signalled.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

/// Reads which process runs now (a line with its id, an empty one for none), until we are gone.
const CLEAN_UP: &str = r#"
trap '' INT TERM HUP
running=
while read -r line; do running=$line; done
if [ -n "$running" ]; then kill -9 "$running"; sleep 0.2; fi
rm -rf "$1"
"#;

/// A server's folder and, while it runs, its process.
pub struct Server {
    folder: PathBuf,
    child: Option<Child>,
    cleaner: Child,
    orders: Option<ChildStdin>,
}

impl Server {
    /// A new folder in which nothing runs yet.
    pub fn in_new_folder(name: &str) -> Self {
        let folder = tempfile::Builder::new().prefix(name).tempdir().unwrap().keep();
        let mut cleaner = Command::new("sh")
            .args(["-c", CLEAN_UP, "clean-up"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let orders = cleaner.stdin.take();
        Self { folder, child: None, cleaner, orders }
    }

    /// The server's own folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("the server does not run").id()
    }

    /// Starts the process, its output going to `server.log`.
    pub fn run(&mut self, mut command: Command) {
        assert!(self.child.is_none(), "the server runs already");
        let path = self.folder.join("server.log");
        let log = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{:?} does not start: {error}; scripts/setup.sh brings it",
                    command.get_program()
                )
            });
        self.order(&child.id().to_string());
        self.child = Some(child);
    }

    /// Whether the process is there no longer, though nobody here ended it.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    /// Sends a signal by its name: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let script = "kill -s \"$1\" \"$2\"";
        let id = self.id().to_string();
        let status = Command::new("sh").args(["-c", script, "signal", name, &id]).status().unwrap();
        assert!(status.success(), "signal {name} did not reach process {id}");
    }

    /// Ends the process as a power cut would, if it runs.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
            self.order("");
        }
    }

    /// The last lines that the server wrote.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.folder.join("server.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn order(&mut self, line: &str) {
        let orders = self.orders.as_mut().expect("taken only by drop");
        writeln!(orders, "{line}").unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        self.orders.take();
        self.cleaner.wait().unwrap();
    }
}

/// Ports of 127.0.0.1 that nobody listens on.
///
/// They lie below those that the system gives to outgoing connections: a client that tries and tries to reach a server
/// that is down would otherwise be given the server's own port one day, connect to itself, and keep the server out.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let mut held = Vec::new();
    while held.len() < N {
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", rand::random_range(15_000..32_000))) {
            held.push(listener);
        }
    }
    std::array::from_fn(|index| held[index].local_addr().unwrap().port())
}
