//! Secrets as files, drawn where they are missing.
//!
//! Promises: a file is there whole or not at all, only its owner may read it, and what was drawn is
//! never drawn again.
//!
//! Knows nothing of: who reads them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chacha20poly1305::Key;
use chacha20poly1305::aead::Generate;
use zeroize::{Zeroize, Zeroizing};

use super::SealError;

/// Why secrets could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is no randomness.
    #[error(transparent)]
    Draw(#[from] SealError),
}

/// Makes the files that are missing in a folder; answers their names. The client secret is the one
/// in the file that is given, when there is one and it is not empty: then it counts over one that is
/// there.
pub fn create_secrets(
    folder: &Path,
    client_secret: Option<&Path>,
) -> Result<Vec<&'static str>, FileFault> {
    let mut made = Vec::new();
    for name in ["keys", "admin-token", "client-secret"] {
        let path = folder.join(name);
        let fault = |path: &Path| {
            let path = path.to_owned();
            move |source| FileFault::File { path, source }
        };
        let given = match client_secret {
            Some(file) if name == "client-secret" => {
                Zeroizing::new(fs::read_to_string(file).map_err(fault(file))?)
            }
            _ => Zeroizing::default(),
        };
        if path.try_exists().map_err(fault(&path))? {
            let text = Zeroizing::new(fs::read_to_string(&path).map_err(fault(&path))?);
            if given.trim().is_empty() || given.trim() == text.trim() {
                continue;
            }
        }
        let text = match given.trim() {
            "" if name == "keys" => drawn(|bytes| STANDARD.encode(bytes))?,
            "" => drawn(|bytes| URL_SAFE_NO_PAD.encode(bytes))?,
            given => Zeroizing::new(given.to_owned()),
        };
        write_whole(&path, &text).map_err(fault(&path))?;
        made.push(name);
    }
    Ok(made)
}

/// 32 random bytes as text.
fn drawn(as_text: impl Fn(&[u8]) -> String) -> Result<Zeroizing<String>, SealError> {
    let mut key = Key::try_generate().map_err(|_| SealError::NoRandomness)?;
    let text = Zeroizing::new(as_text(&key));
    key.0.zeroize();
    Ok(text)
}

fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    // of a start that was cut off
    if unfinished.try_exists()? {
        fs::remove_file(&unfinished)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&unfinished)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::KeyRing;
    use super::*;

    #[test]
    fn what_is_missing_is_made_and_what_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("admin-token"), "mine").unwrap();
        fs::write(at("keys.unfinished"), "half").unwrap();
        fs::write(at("none"), "\n").unwrap();
        let made = create_secrets(folder.path(), Some(&at("none"))).unwrap();
        assert_eq!(made, ["keys", "client-secret"]);
        assert_eq!(KeyRing::from_file(&at("keys")).unwrap().key_ids().count(), 1);
        assert_eq!(fs::read_to_string(at("admin-token")).unwrap(), "mine");
        assert_eq!(fs::metadata(at("keys")).unwrap().permissions().mode() & 0o777, 0o400);
        assert_eq!(fs::read_to_string(at("client-secret")).unwrap().trim().len(), 43);
        assert!(!at("keys.unfinished").exists());
        let keys = fs::read_to_string(at("keys")).unwrap();
        assert!(create_secrets(folder.path(), None).unwrap().is_empty());
        assert_eq!(fs::read_to_string(at("keys")).unwrap(), keys);
    }

    #[test]
    fn a_client_secret_that_is_given_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let given = folder.path().join("given");
        fs::write(&given, "of Linxo\n").unwrap();
        create_secrets(folder.path(), Some(&given)).unwrap();
        let taken = fs::read_to_string(folder.path().join("client-secret")).unwrap();
        assert_eq!(taken, "of Linxo\n");
        assert!(create_secrets(folder.path(), Some(&given)).unwrap().is_empty());
        fs::write(&given, "a newer one").unwrap();
        assert_eq!(create_secrets(folder.path(), Some(&given)).unwrap(), ["client-secret"]);
        let taken = fs::read_to_string(folder.path().join("client-secret")).unwrap();
        assert_eq!(taken, "a newer one\n");
        let fault = create_secrets(&folder.path().join("nowhere"), None).unwrap_err();
        assert!(fault.to_string().contains("nowhere/keys"), "{fault}");
    }
}
