//! The programs of Prometheus, 2.42 and a 3, as `scripts/setup.sh` brought them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::cache;

/// A version of Prometheus.
pub struct Prometheus {
    /// What its version begins with.
    pub version: &'static str,
    bin: PathBuf,
}

/// The oldest version that the rules are for, and the newest that is to be had.
pub fn both() -> [Prometheus; 2] {
    [("2.42.", cache::prometheus_2()), ("3.", cache::prometheus_3())].map(|(version, folder)| {
        let prometheus = Prometheus { version, bin: folder.join("bin") };
        let (_, said) = prometheus.promtool(&["--version"], "");
        let is = said.strip_prefix("promtool, version ").unwrap_or(&said);
        assert!(is.starts_with(version), "promtool is {is} where {version} is wanted");
        prometheus
    })
}

impl Prometheus {
    /// Runs promtool in `deploy/prometheus` with a text on stdin; whether it is content, and what it says.
    pub fn promtool(&self, arguments: &[&str], input: &str) -> (bool, String) {
        run(&self.program("promtool"), arguments, input)
    }

    /// A program of this version.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }
}

/// The same for amtool.
pub fn amtool(arguments: &[&str]) -> (bool, String) {
    run(&cache::prometheus_2().join("bin/amtool"), arguments, "")
}

/// The program of Alertmanager.
pub fn alertmanager() -> PathBuf {
    cache::prometheus_2().join("bin/prometheus-alertmanager")
}

fn run(program: &Path, arguments: &[&str], input: &str) -> (bool, String) {
    use std::io::Write;
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(cache::source("deploy/prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("{}: {error}; scripts/setup.sh brings it", program.display())
        });
    let mut stdin = child.stdin.take().unwrap();
    // who does not read its input closes it
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}
