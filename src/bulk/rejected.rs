//! The file of lines that were not put, to be mended and imported again.
//!
//! Promises: it holds credentials, so its owner alone may read it; an existing file is never touched;
//! it is there only when it holds a line.
//!
//! Knows nothing of: what a line says.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file, open.
pub(super) struct Rejected {
    path: PathBuf,
    file: File,
    is_empty: bool,
}

impl Rejected {
    /// Makes the file.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Self { path: path.to_owned(), file, is_empty: true })
    }

    /// Adds a line as it was read.
    pub(super) fn add(&mut self, line: &[u8]) -> io::Result<()> {
        self.is_empty = false;
        self.file.write_all(&[line, b"\n"].concat())
    }
}

impl Drop for Rejected {
    fn drop(&mut self) {
        if self.is_empty {
            // an empty file that stays does no harm
            std::fs::remove_file(&self.path).ok();
        }
    }
}
