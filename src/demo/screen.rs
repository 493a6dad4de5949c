//! Lines on stdout: coloured on a terminal, plain in a pipe.
//!
//! Promises:
//! - a line is never taken back: no cursor is moved;
//! - no escape code is written when stdout is no terminal, when `NO_COLOR` is set, or when `TERM`
//!   is `dumb`;
//! - a reader that went away (`| head`) ends nothing badly: further lines are dropped.
//!
//! Knows nothing of: what is told.

use std::io::{IsTerminal, Write};

use tokio::time::Instant;

/// How a line is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it is.
    Plain,
    /// Of less weight.
    Quiet,
    /// Stands out.
    Strong,
    /// All is well.
    Good,
    /// A user has to act.
    Act,
    /// Something was lost, or is wrong.
    Bad,
}

impl Tone {
    /// The parameters of the escape code.
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Quiet => Some("2"),
            Self::Strong => Some("1"),
            Self::Good => Some("1;32"),
            Self::Act => Some("1;33"),
            Self::Bad => Some("1;31"),
        }
    }
}

/// Where the demo writes.
pub(super) struct Screen {
    started: Instant,
    is_coloured: bool,
}

impl Screen {
    /// The process's stdout, from now on.
    pub(super) fn new() -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let is_coloured = std::io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb;
        Self { started: Instant::now(), is_coloured }
    }

    /// When the demo started.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// A line without a time.
    pub(super) fn line(&mut self, tone: Tone, text: &str) {
        // a reader that went away is no fault of ours
        writeln!(std::io::stdout(), "{}", self.painted(tone, text)).ok();
    }

    /// A line with the time since the start in front.
    pub(super) fn timed(&mut self, tone: Tone, text: &str) {
        let time = format!("{:5.1}s", self.started.elapsed().as_secs_f64());
        let line = format!("{}  {}", self.painted(Tone::Quiet, &time), self.painted(tone, text));
        self.line(Tone::Plain, &line);
    }

    /// What opens a part.
    pub(super) fn headline(&mut self, text: &str) {
        self.line(Tone::Strong, text);
    }

    /// What explains.
    pub(super) fn remark(&mut self, text: &str) {
        self.line(Tone::Quiet, text);
    }

    /// What the demo does, or what has come about.
    pub(super) fn story(&mut self, text: &str) {
        self.timed(Tone::Plain, &format!("* {text}"));
    }

    fn painted(&self, tone: Tone, text: &str) -> String {
        match tone.code() {
            Some(code) if self.is_coloured => format!("\x1b[{code}m{text}\x1b[0m"),
            Some(_) | None => text.to_owned(),
        }
    }
}

/// A number of things, with an `s` where there is not one.
pub(super) fn plural(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_gets_no_escape_codes_and_a_terminal_does() {
        let mut screen = Screen { started: Instant::now(), is_coloured: false };
        assert_eq!(screen.painted(Tone::Bad, "lost"), "lost");
        screen.is_coloured = true;
        assert_eq!(screen.painted(Tone::Bad, "lost"), "\x1b[1;31mlost\x1b[0m");
        assert_eq!(screen.painted(Tone::Plain, "plain"), "plain");
    }
}
