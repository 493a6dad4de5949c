//! The independent readers in `java/`, run by the JVM: Kafka's own client, Avro's own decoder.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tokio::task::spawn_blocking;

use super::cache;

/// Where a reader finds the schema of a value.
#[derive(Clone, Copy)]
pub enum Schemas<'a> {
    /// By the fingerprint of single-object encoding, among the `.avsc` files of this folder.
    Folder(&'a Path),
    /// By the id of Confluent framing, at this registry.
    Registry(&'a str),
}

/// All committed records of a topic in the order of each partition, as objects with `partition`, `offset`,
/// `timestamp`, `key`, `headers` (object of texts), `schema` (full name), `value` (Avro's JSON encoding, in which a
/// union names its branch; null for a null value). A value that the reader cannot read fails the test.
pub async fn read_topic(bootstrap: &str, topic: &str, schemas: Schemas<'_>) -> Vec<Value> {
    let (kind, place) = match schemas {
        Schemas::Folder(path) => ("schemas", path.to_str().unwrap()),
        Schemas::Registry(url) => ("registry", url),
    };
    let lines = run("ReadTopic", &[bootstrap, topic, kind, place], String::new()).await;
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The partition into which a Java producer puts each key.
pub async fn partitions_of(keys: &[String], partitions: i32) -> Vec<i32> {
    let lines = run("Murmur2", &[&partitions.to_string()], keys.join("\n")).await;
    lines.lines().map(|line| line.parse().unwrap()).collect()
}

/// Runs a program of `java/`; what it prints.
async fn run(program: &'static str, arguments: &[&str], input: String) -> String {
    let class_path =
        format!("{}:{}/*", cache::classes().display(), cache::readers().join("libs").display());
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    spawn_blocking(move || {
        let mut child = Command::new("java")
            .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", &class_path, program])
            .args(&arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("java is missing: scripts/setup.sh brings it");
        let mut stdin = child.stdin.take().unwrap();
        // Small enough for the pipe and the program's buffers.
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?} failed:\n{errors}");
        String::from_utf8(output.stdout).unwrap()
    })
    .await
    .unwrap()
}
