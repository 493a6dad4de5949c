//! `linxo-bridge subscriptions` as a process, and how it went.

use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::SECRET;
use crate::support::{PATIENCE, Stage};

/// How a command went.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// The lines of stdout as JSON.
    pub fn lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Asserts the exit code.
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        self
    }

    /// Asserts that this stands on stderr.
    pub fn told(&self, text: &str) {
        assert!(self.stderr.contains(text), "{text:?} is not told:\n{}", self.stderr);
    }

    /// Asserts that no secret stands anywhere.
    pub fn assert_secret(&self, stage: &Stage) {
        let place = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
        let places = [place("stdout", &self.stdout), place("stderr", &self.stderr)];
        stage.assert_absent(&places, &[SECRET]);
    }
}

pub fn start(stage: &Stage, arguments: &[&str]) -> Child {
    // a file of its own, as the stage writes its one anew for whatever is started next
    static FILES: AtomicUsize = AtomicUsize::new(0);
    let number = FILES.fetch_add(1, Ordering::Relaxed);
    let config = stage.folder.path().join(format!("subscriptions-{number}.toml"));
    std::fs::copy(stage.config(), &config).unwrap();
    Command::new(env!("CARGO_BIN_EXE_linxo-bridge"))
        .arg("--config")
        .arg(config)
        .arg("subscriptions")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

pub async fn ended(mut child: Child, input: &str) -> Ran {
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
    // it may end without reading all
    let writing = tokio::spawn(async move { stdin.write_all(input.as_bytes()).await.ok() });
    let output = timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    writing.await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Runs a command to its end.
pub async fn run(stage: &Stage, arguments: &[&str], input: &str) -> Ran {
    ended(start(stage, arguments), input).await
}
