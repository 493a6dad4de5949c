//! Where `scripts/setup.sh` put the servers, the Java readers and the tools: the same rule and the same versions as there.

use std::env;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The folder of Apache Kafka: `libs/`, a formatted data folder, and perhaps `kafka.jsa`.
pub fn kafka() -> PathBuf {
    present("kafka-4.4.0")
}

/// The folder of the Schema Registry: its runner jar, `lib/`, and perhaps `registry.jsa`.
pub fn registry() -> PathBuf {
    present("registry-2.6.13.Final")
}

/// The folder with the programs of Prometheus 2.42, and Alertmanager's: `bin/`.
pub fn prometheus_2() -> PathBuf {
    present("prometheus-2.42")
}

/// The folder with the programs of a Prometheus 3: `bin/`.
pub fn prometheus_3() -> PathBuf {
    present("prometheus-3")
}

/// The folder with the jars of the programs in `java/`: `libs/`.
pub fn readers() -> PathBuf {
    present("readers-4.4.0")
}

/// The folder of what looks at the Dockerfile and the YAML, programs and modules of Python, named after the list that it
/// was made from.
pub fn checks() -> PathBuf {
    let mut digest = Sha256::new();
    digest.update(include_bytes!("pip/checks.txt"));
    present(&format!("checks-{}", name_of(digest)))
}

/// The folder of those programs compiled, named after the text they were compiled from.
pub fn classes() -> PathBuf {
    let sources: [&[u8]; 3] = [
        include_bytes!("java/Cluster.java"),
        include_bytes!("java/Murmur2.java"),
        include_bytes!("java/ReadTopic.java"),
    ];
    let mut digest = Sha256::new();
    for source in sources {
        digest.update(source);
    }
    present(&format!("classes-{}", name_of(digest)))
}

fn name_of(digest: Sha256) -> String {
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Helm's program.
pub fn helm() -> PathBuf {
    present("helm-4.3.1").join("helm")
}

/// The folder of what looks at Kubernetes manifests, modules of Python, named after the list that it was made from.
pub fn manifests() -> PathBuf {
    let mut digest = Sha256::new();
    digest.update(include_bytes!("pip/manifests.txt"));
    present(&format!("manifests-{}", name_of(digest)))
}

/// A file of the source tree.
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn present(name: &str) -> PathBuf {
    let folder = root().join(name);
    assert!(
        folder.is_dir(),
        "{} is missing. Type, then try again:  scripts/setup.sh   (`make test` does both)",
        folder.display()
    );
    folder
}

fn root() -> PathBuf {
    let named = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("LINXO_BRIDGE_CACHE").unwrap_or_else(|| {
        named("XDG_CACHE_HOME")
            .or_else(|| named("HOME").map(|home| home.join(".cache")))
            .expect("HOME, XDG_CACHE_HOME or LINXO_BRIDGE_CACHE must say where the cache is")
            .join("linxo-kafka-bridge")
    })
}
