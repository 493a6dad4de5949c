//! Everything that is wrong with a configuration, told at once.
//!
//! Promises:
//! - each fault names its key, what stands there and what would be right;
//! - what stands at a secret, or at a key that nobody knows, is never shown.
//!
//! Knows nothing of: which settings there are.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key, as in `polling.keep_alive`, or several with `, ` between; or the file.
    pub key: String,
    /// What stands there, redacted when it is a secret.
    pub found: String,
    /// What would be right.
    pub wanted: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}; {}", self.key, self.found, self.wanted)
    }
}

/// All that is wrong with a configuration, in the order of its sections; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let noun = if count == 1 { "fault" } else { "faults" };
        write!(formatter, "{count} {noun} in the configuration:")?;
        for (index, fault) in self.0.iter().enumerate() {
            write!(formatter, "\n{:>3}. {fault}", index + 1)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
