//! The keys that seal and open.
//!
//! Sealed bytes: version (1) | key id (4, the first bytes of SHA-256 of the key) | nonce (24) | ciphertext and tag (16).
//! XChaCha20-Poly1305; its nonces are long enough to be drawn at random for any number of messages. The associated data
//! holds version, purpose and owner, so what was sealed for one user or purpose does not open for another.
//!
//! Promises:
//! - no error and no `Debug` shows a key or what was sealed;
//! - what was altered, or sealed for someone else, does not open, and which of the two it was cannot be told;
//! - keys rotate by adding a new one in front: it seals from then on, the others still open.
//!
//! Knows nothing of: where sealed bytes are kept.

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use chacha20poly1305::aead::Generate as _;
use chacha20poly1305::{AeadInOut as _, Key, KeyInit as _, Tag, XChaCha20Poly1305, XNonce};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use super::Credential;
use crate::ids::UserId;

const VERSION: u8 = 1;
const KEY_BYTES: usize = 32;
const KEY_ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
const HEAD_BYTES: usize = 1 + KEY_ID_BYTES + NONCE_BYTES;
/// What sealing adds to the length of the plaintext.
pub const SEAL_OVERHEAD_BYTES: usize = HEAD_BYTES + TAG_BYTES;
/// The largest key file that is read; more than a thousand keys fit.
const MAX_KEY_FILE_BYTES: u64 = 64 * 1024;
const PURPOSE: &str = "credential";

/// A credential as it may be kept: only a [`KeyRing`] opens it, and only for its user.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedCredential(Box<[u8]>);

impl SealedCredential {
    /// The bytes to keep.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The id in hex of the key that sealed it, fit to be logged; none when it is no sealed
    /// credential.
    pub fn key_id(&self) -> Option<String> {
        self.0.get(1..)?.first_chunk::<KEY_ID_BYTES>().map(|id| hex(*id))
    }
}

impl From<Vec<u8>> for SealedCredential {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into_boxed_slice())
    }
}

impl From<&[u8]> for SealedCredential {
    fn from(bytes: &[u8]) -> Self {
        Self(Box::from(bytes))
    }
}

impl fmt::Debug for SealedCredential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SealedCredential({} bytes)", self.0.len())
    }
}

/// Why something could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Sealed by a key that is not in the file.
    #[error(
        "sealed by key {key_id}, which credentials.key_file does not hold; put it back behind the others: a key must stay in the file until nothing sealed by it remains"
    )]
    UnknownKey {
        /// The first four bytes of SHA-256 of the key, in hex.
        key_id: String,
    },
    /// Altered, cut, or sealed for another user or purpose.
    #[error("sealed bytes are damaged or belong to someone else; store the credential anew")]
    Damaged,
    /// Sealed in a form that came later.
    #[error(
        "sealed in form {version}, this version knows form 1 only; run the version that sealed it"
    )]
    UnknownVersion {
        /// The first of the sealed bytes.
        version: u8,
    },
    /// Opened, but of a type that this version does not serve.
    #[error("the sealed credential is of a type that this version does not serve")]
    Unserved,
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes; nothing can be sealed")]
    NoRandomness,
    /// More bytes than the cipher can take.
    #[error("too long to be sealed")]
    TooLong,
}

/// Why a key file is of no use. Names lines, never what stands there.
#[derive(Debug, thiserror::Error)]
pub enum KeyFault {
    /// Not there, or not ours to read.
    #[error("cannot read the key file {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Much larger than any key file.
    #[error("the key file is larger than 64 KiB; give the file that holds one base64 key a line")]
    TooLarge,
    /// No key in it.
    #[error(
        "the key file holds no key; put one in with `head -c 32 /dev/urandom | base64`, newest first"
    )]
    Empty,
    /// Not base64.
    #[error("line {line} of the key file is not base64")]
    NotBase64 {
        /// Counted from 1.
        line: usize,
    },
    /// Another length than 32 bytes.
    #[error("line {line} of the key file holds {bytes} bytes, a key has 32")]
    WrongLength {
        /// Counted from 1.
        line: usize,
        /// How many bytes the line decodes to.
        bytes: usize,
    },
    /// The same key twice.
    #[error("line {line} of the key file repeats the key of line {first}")]
    Repeated {
        /// Counted from 1.
        line: usize,
        /// Where the key stands first.
        first: usize,
    },
}

type KeyId = [u8; KEY_ID_BYTES];

struct RingKey {
    id: KeyId,
    cipher: XChaCha20Poly1305,
}

impl RingKey {
    fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        let digest = Sha256::digest(bytes);
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&digest[..KEY_ID_BYTES]);
        Self { id, cipher: XChaCha20Poly1305::new(<&Key>::from(bytes)) }
    }
}

/// The keys that seal and open: the newest seals, all open.
pub struct KeyRing {
    newest: RingKey,
    older: Vec<RingKey>,
}

impl KeyRing {
    /// Reads a file of one base64 key of 32 bytes per line, newest first; blank lines and lines that begin with `#` do not count.
    pub fn from_file(path: &Path) -> Result<Self, KeyFault> {
        let unreadable = |source| KeyFault::Unreadable { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        // Of a length known beforehand: a buffer that grows leaves copies behind.
        let length = file.metadata().map_err(unreadable)?.len().min(MAX_KEY_FILE_BYTES);
        let mut text =
            Zeroizing::new(String::with_capacity(usize::try_from(length).unwrap_or(0) + 64));
        let mut limited = file.take(MAX_KEY_FILE_BYTES + 1);
        limited.read_to_string(&mut text).map_err(unreadable)?;
        if limited.limit() == 0 {
            return Err(KeyFault::TooLarge);
        }
        Self::from_text(&text)
    }

    /// Reads the text of a key file.
    pub fn from_text(text: &str) -> Result<Self, KeyFault> {
        let mut found: Vec<(usize, Zeroizing<[u8; KEY_BYTES]>)> = Vec::new();
        for (line, content) in
            text.lines().enumerate().map(|(index, text)| (index + 1, text.trim()))
        {
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let key = key_of_line(line, content)?;
            if let Some((first, _)) = found.iter().find(|(_, earlier)| *earlier == key) {
                return Err(KeyFault::Repeated { line, first: *first });
            }
            found.push((line, key));
        }
        let mut keys = found.iter().map(|(_, key)| RingKey::new(key));
        let newest = keys.next().ok_or(KeyFault::Empty)?;
        Ok(Self { newest, older: keys.collect() })
    }

    /// A ring of one new key that nobody else has: what it seals is lost with the process.
    pub fn random() -> Result<Self, SealError> {
        let mut key = Key::try_generate().map_err(|_| SealError::NoRandomness)?;
        let newest = RingKey::new(&key.0);
        key.0.zeroize();
        Ok(Self { newest, older: Vec::new() })
    }

    /// The ids of the keys in hex, newest first; fit to be logged.
    pub fn key_ids(&self) -> impl Iterator<Item = String> {
        std::iter::once(&self.newest).chain(&self.older).map(|key| hex(key.id))
    }

    /// Seals a credential for its user.
    pub fn seal(
        &self,
        user: &UserId,
        credential: &Credential,
    ) -> Result<SealedCredential, SealError> {
        let plain = credential.to_plain()?;
        self.seal_bytes(PURPOSE, user.as_str(), &plain).map(SealedCredential::from)
    }

    /// Opens a credential of this user.
    pub fn open(&self, user: &UserId, sealed: &SealedCredential) -> Result<Credential, SealError> {
        let plain = self.open_bytes(PURPOSE, user.as_str(), &sealed.0)?;
        Credential::from_plain(&plain)
    }

    /// Seals any bytes; they open again only under the same purpose and owner.
    pub fn seal_bytes(
        &self,
        purpose: &str,
        owner: &str,
        plain: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let nonce = XNonce::try_generate().map_err(|_| SealError::NoRandomness)?;
        // The plaintext is copied once, to where its ciphertext replaces it.
        let mut sealed = Vec::with_capacity(plain.len() + SEAL_OVERHEAD_BYTES);
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.newest.id);
        sealed.extend_from_slice(&nonce.0);
        sealed.extend_from_slice(plain);
        let bound = associated(purpose, owner);
        let body = &mut sealed[HEAD_BYTES..];
        match self.newest.cipher.encrypt_inout_detached(&nonce, &bound, body.into()) {
            Ok(tag) => {
                sealed.extend_from_slice(&tag.0);
                Ok(sealed)
            }
            Err(_) => {
                sealed.zeroize();
                Err(SealError::TooLong)
            }
        }
    }

    /// Opens what was sealed under this purpose and owner.
    pub fn open_bytes(
        &self,
        purpose: &str,
        owner: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let version = *sealed.first().ok_or(SealError::Damaged)?;
        if version != VERSION {
            return Err(SealError::UnknownVersion { version });
        }
        let (id, rest) =
            sealed[1..].split_first_chunk::<KEY_ID_BYTES>().ok_or(SealError::Damaged)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Damaged)?;
        let (body, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(SealError::Damaged)?;
        let key = std::iter::once(&self.newest)
            .chain(&self.older)
            .find(|key| key.id == *id)
            .ok_or_else(|| SealError::UnknownKey { key_id: hex(*id) })?;
        let mut plain = Zeroizing::new(body.to_vec());
        key.cipher
            .decrypt_inout_detached(
                <&XNonce>::from(nonce),
                &associated(purpose, owner),
                plain.as_mut_slice().into(),
                <&Tag>::from(tag),
            )
            .map_err(|_| SealError::Damaged)?;
        Ok(plain)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("KeyRing").field(&self.key_ids().collect::<Vec<_>>()).finish()
    }
}

fn key_of_line(line: usize, content: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyFault> {
    const BASE64: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let bytes = Zeroizing::new(BASE64.decode(content).map_err(|_| KeyFault::NotBase64 { line })?);
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    if bytes.len() != KEY_BYTES {
        return Err(KeyFault::WrongLength { line, bytes: bytes.len() });
    }
    key.copy_from_slice(&bytes);
    Ok(key)
}

/// What is authenticated beside the ciphertext. Lengths come first, so that no two pairs look alike.
fn associated(purpose: &str, owner: &str) -> Vec<u8> {
    let mut bound = Vec::with_capacity(32 + purpose.len() + owner.len());
    bound.extend_from_slice(b"linxo-bridge");
    bound.push(VERSION);
    for part in [purpose, owner] {
        bound.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bound.extend_from_slice(part.as_bytes());
    }
    bound
}

fn hex(id: KeyId) -> String {
    format!("{:08x}", u32::from_be_bytes(id))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ids::Timestamp;
    use crate::secret::Secret;

    const OLD: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const NEW: &str = "//////////////////////////////////////////8";

    fn token(text: &str) -> Credential {
        Credential::AccessToken {
            access_token: Secret::from(text),
            expires_at: Some(Timestamp(1_800_000_000_000)),
        }
    }

    #[test]
    fn what_was_sealed_for_a_user_opens_for_that_user_only() {
        let ring = KeyRing::random().unwrap();
        let password = Credential::Password {
            username: Secret::from("ann \u{e9}"),
            password: Secret::from("\"\\\n"),
        };
        for credential in [token("tok\u{e9}n-\"1\""), password, Credential::Client] {
            let sealed = ring.seal(&UserId::from("u1"), &credential).unwrap();
            assert_eq!(ring.open(&UserId::from("u1"), &sealed).unwrap(), credential);
            assert_eq!(ring.open(&UserId::from("u2"), &sealed), Err(SealError::Damaged));
        }
    }

    #[test]
    fn no_altered_or_cut_byte_goes_unnoticed() {
        let ring = KeyRing::from_text(OLD).unwrap();
        let user = UserId::from("u1");
        let sealed = ring.seal(&user, &token("abc")).unwrap();
        for position in 0..sealed.as_bytes().len() {
            let mut bytes = sealed.as_bytes().to_vec();
            bytes[position] ^= 1;
            let refused = ring.open(&user, &SealedCredential::from(bytes)).unwrap_err();
            match position {
                0 => assert_eq!(refused, SealError::UnknownVersion { version: 0 }),
                1..=4 => assert!(matches!(refused, SealError::UnknownKey { .. })),
                _ => assert_eq!(refused, SealError::Damaged),
            }
            let cut = SealedCredential::from(&sealed.as_bytes()[..position]);
            assert_eq!(ring.open(&user, &cut), Err(SealError::Damaged));
        }
    }

    #[test]
    fn a_new_key_in_front_seals_while_the_old_one_still_opens() {
        let user = UserId::from("u1");
        let before = KeyRing::from_text(OLD).unwrap();
        let during = KeyRing::from_text(&format!("# 2026\n{NEW}\n\n{OLD}\n")).unwrap();
        let after = KeyRing::from_text(NEW).unwrap();
        let old = before.seal(&user, &token("abc")).unwrap();
        assert_eq!(during.open(&user, &old).unwrap(), token("abc"));
        let new = during.seal(&user, &token("abc")).unwrap();
        assert_eq!(after.open(&user, &new).unwrap(), token("abc"));
        assert_eq!([new.key_id(), old.key_id()], [0, 1].map(|at| during.key_ids().nth(at)));
        let refused = after.open(&user, &old).unwrap_err();
        let key_id = before.key_ids().next().unwrap();
        assert_eq!(refused, SealError::UnknownKey { key_id: key_id.clone() });
        let text = refused.to_string();
        assert!(text.contains(&key_id), "{text}");
        assert!(text.contains("until nothing sealed by it remains"), "{text}");
    }

    #[test]
    fn the_same_credential_never_looks_the_same_twice() {
        let ring = KeyRing::random().unwrap();
        let sealed: BTreeSet<Vec<u8>> = (0..100)
            .map(|_| {
                ring.seal(&UserId::from("u"), &Credential::Client).unwrap().as_bytes().to_vec()
            })
            .collect();
        assert_eq!(sealed.len(), 100);
    }

    #[test]
    fn bytes_open_only_under_the_purpose_and_owner_they_were_sealed_under() {
        let ring = KeyRing::random().unwrap();
        for plain in [&b""[..], b"an answer"] {
            let sealed = ring.seal_bytes("answer", "u1", plain).unwrap();
            assert_eq!(sealed.len(), plain.len() + SEAL_OVERHEAD_BYTES);
            assert_eq!(ring.open_bytes("answer", "u1", &sealed).unwrap().as_slice(), plain);
            for (purpose, owner) in [("credential", "u1"), ("answer", "u2"), ("answeru", "1")] {
                assert_eq!(ring.open_bytes(purpose, owner, &sealed), Err(SealError::Damaged));
            }
        }
    }

    /// `token("abc")` sealed for "u1" by `OLD`, before the first release.
    const FIRST_FORM: &str = "AWMNzSliMmhixPjkflxgzjS+CJH5DMvHcqChwIxI0CV0pMvCYWJU13Z2UZOsGMtZGy1mTabHP5CWtqfsV19d/Nm8rC8/1Rl0WQPOpniiPi3n9//ogcrS1E/A4zEH6sZg0NAO9I3m3I0pQwILo9F1313NiAo=";

    #[test]
    fn sealed_by_the_first_released_form_still_opens() {
        let sealed: Vec<u8> = base64::engine::general_purpose::STANDARD.decode(FIRST_FORM).unwrap();
        let ring = KeyRing::from_text(OLD).unwrap();
        let opened = ring.open(&UserId::from("u1"), &SealedCredential::from(sealed)).unwrap();
        assert_eq!(opened, token("abc"));
    }

    #[test]
    fn faults_in_a_key_file_name_lines_and_never_contents() {
        let fault = |text: &str| KeyRing::from_text(text).unwrap_err().to_string();
        assert!(fault("").contains("holds no key"));
        assert!(fault("# none\n\n").contains("holds no key"));
        assert_eq!(fault(&format!("{OLD}\nmy-secret!\n")), "line 2 of the key file is not base64");
        assert_eq!(fault("AAEC"), "line 1 of the key file holds 3 bytes, a key has 32");
        assert_eq!(
            fault(&format!("{OLD}\n{NEW}\n{OLD}")),
            "line 3 of the key file repeats the key of line 1"
        );
        let missing = KeyRing::from_file(Path::new("/nonexistent/keys")).unwrap_err();
        assert!(missing.to_string().starts_with("cannot read the key file /nonexistent/keys: "));
    }

    #[test]
    fn a_key_file_is_read_from_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, format!("{NEW}\r\n{OLD}\r\n")).unwrap();
        assert_eq!(KeyRing::from_file(&path).unwrap().key_ids().count(), 2);
        std::fs::write(&path, "#".repeat(64 * 1024 + 1)).unwrap();
        assert!(matches!(KeyRing::from_file(&path), Err(KeyFault::TooLarge)));
    }

    #[test]
    fn nothing_that_is_printed_shows_a_key_or_a_token() {
        let ring = KeyRing::from_text(OLD).unwrap();
        let credential = token("hush-hush");
        let sealed = ring.seal(&UserId::from("u1"), &credential).unwrap();
        let printed = format!("{ring:?} {credential:?} {sealed:?}");
        assert_eq!(
            printed,
            format!(
                "KeyRing([\"630dcd29\"]) AccessToken {{ access_token: <redacted>, expires_at: Some(Timestamp(1800000000000)) }} SealedCredential({} bytes)",
                sealed.as_bytes().len()
            )
        );
    }
}
