//! Where a secret might stand, and whether one does.
//!
//! A place is anything that a run leaves behind or shows: records, files, log lines, metrics, answers.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use linxo_kafka_bridge::simulator::FAKE_SECRET;
use memchr::memmem;

use super::account::TOPICS;
use super::{Bridge, Stage, path_of, read_topic};

/// The files of a stage that hold secrets by intent.
const SECRET_FILES: [&str; 3] = ["token", "keys", "client-secret"];
/// How every access token of the simulator begins; 32 hexadecimal digits follow.
const TOKEN_HEAD: &str = "simulated-";

/// A place and what stands there.
pub type Place = (String, Vec<u8>);

/// Asserts that no secret stands in any of these places, in clear, as base64 or as hexadecimal digits,
/// and no access token that the simulator ever gave.
pub fn assert_absent(places: &[Place], secrets: &[&[u8]]) {
    for (place, bytes) in places {
        for secret in secrets {
            if let Some(form) = found(bytes, secret) {
                panic!("{place} shows {} {form}", String::from_utf8_lossy(secret));
            }
        }
        if let Some(token) = token_in(bytes) {
            panic!("{place} shows the token {token}");
        }
    }
}

/// In what form a secret stands in bytes.
fn found(bytes: &[u8], secret: &[u8]) -> Option<&'static str> {
    assert!(!secret.is_empty());
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    if memmem::find(bytes, secret).is_some() {
        return Some("in clear");
    }
    if memmem::find(&bytes.to_ascii_lowercase(), hex.as_bytes()).is_some() {
        return Some("in hexadecimal digits");
    }
    // wherever it begins within something encoded as a whole: less what its neighbours change
    for shift in 0..3 {
        let shifted = [&[0; 2][..shift], secret].concat();
        let encoded = STANDARD_NO_PAD.encode(&shifted);
        let (from, to) = ((shift * 4).div_ceil(3), encoded.len() - shifted.len() % 3);
        if memmem::find(bytes, &encoded.as_bytes()[from..to]).is_some() {
            return Some("in base64");
        }
    }
    None
}

fn token_in(bytes: &[u8]) -> Option<String> {
    memmem::find_iter(bytes, TOKEN_HEAD).find_map(|at| {
        let token = &bytes[at..bytes.len().min(at + TOKEN_HEAD.len() + 32)];
        let digits = &token[TOKEN_HEAD.len()..];
        let is_token = digits.len() == 32 && digits.iter().all(u8::is_ascii_hexdigit);
        is_token.then(|| String::from_utf8_lossy(token).into_owned())
    })
}

fn add_files(folder: &Path, root: &Path, places: &mut Vec<Place>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            add_files(&path, root, places);
        } else if !SECRET_FILES.contains(&name.as_str()) {
            places.push((name, std::fs::read(&path).unwrap()));
        }
    }
}

impl Stage {
    /// Every place of this world as it is now: topics, files, and what the bridge says.
    pub async fn places(&self, bridge: &Bridge) -> Vec<Place> {
        let mut places = self.kept().await;
        places.push(("the log".to_owned(), bridge.log().into_bytes()));
        let mut paths: Vec<String> =
            ["/metrics", "/livez", "/readyz", "/openapi.json", "/v1/instances"]
                .map(str::to_owned)
                .to_vec();
        let (_, page) = bridge.get("/v1/subscriptions?limit=1000").await;
        places.push(("/v1/subscriptions".to_owned(), page.to_string().into_bytes()));
        let users = page["subscriptions"].as_array().into_iter().flatten();
        paths.extend(users.map(|user| path_of(user["user_id"].as_str().unwrap())));
        for path in paths {
            let answer = bridge.get(&path).await.1.to_string();
            places.push((path, answer.into_bytes()));
        }
        places
    }

    /// The places that outlive a bridge: topics and files.
    pub async fn kept(&self) -> Vec<Place> {
        let mut places = Vec::new();
        for topic in TOPICS {
            for record in read_topic(self.kafka.bootstrap_servers(), &self.topic(topic)).await {
                let headers = record.headers.into_iter().map(|(_, value)| value);
                let parts = record.key.into_iter().chain(record.value).chain(headers);
                places.extend(parts.map(|part| (topic.to_owned(), part)));
            }
        }
        places.extend(self.files());
        places
    }

    /// The files of the folder that bridges run in, less those that hold secrets by intent.
    pub fn files(&self) -> Vec<Place> {
        let mut places = Vec::new();
        add_files(self.folder.path(), self.folder.path(), &mut places);
        places
    }

    /// Asserts that none of these texts, nor the secrets that this world gives away or is made with,
    /// stands in any place.
    pub async fn assert_secret(&self, bridge: &Bridge, texts: &[&str]) {
        let places = self.places(bridge).await;
        self.assert_absent(&places, texts);
    }

    /// The same of given places.
    pub fn assert_absent(&self, places: &[Place], texts: &[&str]) {
        let read = |file| std::fs::read_to_string(self.folder.path().join(file)).unwrap();
        let (client_secret, keys) = (read("client-secret"), read("keys"));
        let opened: Vec<Vec<u8>> = keys
            .lines()
            .map(|key| STANDARD_NO_PAD.decode(key.trim_end_matches('=')).unwrap())
            .collect();
        let mut secrets: Vec<&[u8]> = vec![FAKE_SECRET.as_bytes(), super::TOKEN.as_bytes()];
        secrets.push(client_secret.as_bytes());
        secrets.extend(keys.lines().map(str::as_bytes));
        secrets.extend(opened.iter().map(Vec::as_slice));
        secrets.extend(texts.iter().map(|text| text.as_bytes()));
        assert_absent(places, &secrets);
    }
}
