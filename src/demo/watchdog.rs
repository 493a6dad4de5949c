//! Ends the process when the demo hangs, whatever hangs, and says where.
//!
//! Promises: the process ends within its time also when the runtime is stuck or does not come down.
//!
//! Knows nothing of: what the steps are.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use super::DemoError;
use super::stage::Folder;

/// Watches from a thread of its own.
pub(super) struct Watchdog {
    step: Arc<Mutex<String>>,
}

impl Watchdog {
    /// Ends the process after `patience`, and removes the folder.
    pub(super) fn start(patience: Duration, folder: &Folder) -> Result<Self, DemoError> {
        let step = Arc::new(Mutex::new("the start".to_owned()));
        let (watched, folder) = (Arc::clone(&step), folder.path().to_owned());
        let watch = move || wait(patience, &watched, &folder);
        std::thread::Builder::new()
            .name("watchdog".into())
            .spawn(watch)
            .map_err(DemoError::Thread)?;
        Ok(Self { step })
    }

    /// Notes what is being done.
    pub(super) fn now(&self, step: &str) {
        let mut noted = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        step.clone_into(&mut noted);
    }
}

fn wait(patience: Duration, step: &Mutex<String>, folder: &Path) {
    // nobody ever sends: the end of the process is what ends the wait early
    let (_sender, never) = mpsc::channel::<()>();
    never.recv_timeout(patience).ok();
    let step = step.lock().unwrap_or_else(PoisonError::into_inner);
    let text = format!("the demo hangs, it ends here after {patience:?}; it was at: {step}");
    // a reader that went away is no reason to stay
    writeln!(std::io::stdout(), "{text}").ok();
    std::fs::remove_dir_all(folder).ok();
    std::process::exit(1);
}
