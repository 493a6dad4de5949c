//! What the chart renders: its objects, and what a pod made of them would read.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use linxo_kafka_bridge::config::Config;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::cache;

pub(crate) const CHART: &str = "deploy/helm";
pub(crate) const FULL: [&str; 2] = ["--values", "deploy/helm/ci/full-values.yaml"];
pub(crate) fn helm(arguments: &[&str]) -> Output {
    let mut command = Command::new(cache::helm());
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap()
}

/// A Python program of the cache, given a text.
pub(crate) fn python(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new("python3")
        .args(arguments)
        .env("PYTHONPATH", cache::manifests())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

pub(crate) fn said(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{out}{err}")
}

/// What it said on stdout, when it ended well.
pub(crate) fn well(output: Output) -> String {
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The documents of a YAML text.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    const READ: &str = "import json, sys, yaml; json.dump([d for d in yaml.safe_load_all(sys.stdin) if d], sys.stdout)";
    serde_json::from_str(&well(python(&["-c", READ], text))).unwrap()
}

/// The objects of a release named `linxo`, in the namespace `bridge`.
pub(crate) struct Rendered {
    pub(crate) text: String,
    pub(crate) objects: Vec<Value>,
}

impl Rendered {
    pub(crate) fn of(chart: &str, values: &[&str]) -> Self {
        let arguments = [&["template", "linxo", chart, "--namespace", "bridge"], values].concat();
        let text = well(helm(&arguments));
        let objects = documents(&text);
        Self { text, objects }
    }

    pub(crate) fn default() -> Self {
        Self::of(CHART, &[])
    }

    pub(crate) fn full() -> Self {
        Self::of(CHART, &FULL)
    }

    pub(crate) fn all<'a>(&'a self, kind: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
        let kind = kind.to_owned();
        self.objects.iter().filter(move |object| object["kind"] == kind.as_str())
    }

    pub(crate) fn only(&self, kind: &str) -> &Value {
        let found: Vec<_> = self.all(kind).collect();
        assert_eq!(found.len(), 1, "objects of kind {kind}");
        found[0]
    }

    pub(crate) fn named(&self, kind: &str, name: &Value) -> &Value {
        let found = self.all(kind).find(|object| object["metadata"]["name"] == *name);
        found.unwrap_or_else(|| panic!("no {kind} is named {name}"))
    }

    /// The NetworkPolicy of all pods, which has the name of the release; the topics' Job has one of its own.
    pub(crate) fn policy(&self) -> &Value {
        self.named("NetworkPolicy", &self.only("StatefulSet")["metadata"]["name"])
    }

    /// The pod that the StatefulSet makes, without what it is known by.
    pub(crate) fn pod(&self) -> &Value {
        &self.only("StatefulSet")["spec"]["template"]["spec"]
    }

    /// The configuration as the first instance reads it, with the pod's files below `folder`.
    pub(crate) fn configuration(&self, folder: &Path) -> Config {
        let container = &self.pod()["containers"][0];
        let below = |path: &str| folder.join(path.trim_start_matches('/'));
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        for mount in items(&container["volumeMounts"]) {
            let volume = items(&self.pod()["volumes"]).find(|one| one["name"] == mount["name"]);
            let at = text(&mount["mountPath"]);
            let Some(volume) = volume else { continue };
            if let Some(name) = volume["configMap"].get("name") {
                let data = self.named("ConfigMap", name)["data"].as_object().unwrap();
                files.extend(
                    data.iter().map(|(name, is)| (format!("{at}/{name}"), text(is).to_owned())),
                );
            }
            for source in items(&volume["projected"]["sources"]) {
                for item in items(&source["secret"]["items"]) {
                    // a key of 32 bytes, which passes for any other secret
                    let secret = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".to_owned();
                    files.insert(format!("{at}/{}", text(&item["path"])), secret);
                }
            }
            if volume["secret"].is_object() {
                files.insert(format!("{at}/password"), "of kafka".to_owned());
            }
        }
        let rooted = |text: &str| {
            ["/etc/linxo-bridge/", "/var/lib/linxo-bridge/"]
                .iter()
                .fold(text.to_owned(), |text, path| {
                    text.replace(path, below(path).to_str().unwrap())
                })
        };
        for (path, text) in &files {
            fs::create_dir_all(below(path).parent().unwrap()).unwrap();
            fs::write(below(path), rooted(text)).unwrap();
        }
        let arguments: Vec<_> = items(&container["args"]).map(text).collect();
        assert_eq!(arguments[0], "--config");
        assert_eq!(arguments[2..], ["serve"]);
        Config::load(Some(&below(arguments[1])), self.variables().into_iter())
            .unwrap_or_else(|faults| panic!("{faults}"))
    }

    /// The environment of the first instance.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let name = format!("{}-0", text(&self.only("StatefulSet")["metadata"]["name"]));
        let mut variables: Vec<(String, String)> = Vec::new();
        for variable in items(&self.pod()["containers"][0]["env"]) {
            let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some("metadata.name") => name.clone(),
                Some(other) => panic!("{other} is not known here"),
                None => variables
                    .iter()
                    .fold(text(&variable["value"]).to_owned(), |value, (name, is)| {
                        value.replace(&format!("$({name})"), is)
                    }),
            };
            variables.push((text(&variable["name"]).to_owned(), value));
        }
        variables
    }
}

/// Both renderings as files.
pub(crate) fn written() -> (TempDir, [String; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let files =
        [("default", Rendered::default()), ("full", Rendered::full())].map(|(name, rendered)| {
            let file = folder.path().join(format!("{name}.yaml"));
            fs::write(&file, rendered.text).unwrap();
            file.to_str().unwrap().to_owned()
        });
    (folder, files)
}

pub(crate) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().map_or(&[][..], Vec::as_slice).iter()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// Whether everything in `selector` is among `labels`.
pub(crate) fn selects(selector: &Value, labels: &Value) -> bool {
    selector.as_object().unwrap().iter().all(|(name, value)| labels[name] == *value)
}

pub(crate) fn chart(name: &str) -> Value {
    documents(&fs::read_to_string(cache::source(CHART).join(name)).unwrap()).remove(0)
}
