//! The lines of a file or of standard input, one by one.
//!
//! Promises:
//! - lines are numbered from 1, blank ones too, which are not given out;
//! - a line longer than [`MAX_LINE_BYTES`] is passed over without being held, and said to be so;
//! - at most [`AHEAD`] lines are read before they are wanted.
//!
//! Knows nothing of: what a line says.

use std::io::{self, BufRead, BufReader, Read};

use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::admin;

/// The longest line that is held: what the body of a call may be, which is more than any subscription
/// that the API takes.
pub(super) const MAX_LINE_BYTES: usize = admin::MAX_BODY_BYTES;
/// Lines that are read before they are wanted.
const AHEAD: usize = 64;

/// A line that is not blank.
pub(super) struct Line {
    /// Its number, from 1.
    pub(super) number: u64,
    /// Its text without the end of the line; none when it is too long.
    pub(super) text: Option<Zeroizing<Vec<u8>>>,
}

/// Reads the lines from number `from` on, on a thread of its own, as far ahead as is allowed.
pub(super) fn read(
    source: impl Read + Send + 'static,
    from: u64,
) -> io::Result<mpsc::Receiver<io::Result<Line>>> {
    let (lines, taken) = mpsc::channel(AHEAD);
    std::thread::Builder::new().name("lines".to_owned()).spawn(move || {
        for line in Lines::of(BufReader::new(source)) {
            let is_before = line.as_ref().is_ok_and(|line| line.number < from);
            let is_last = line.is_err();
            if !is_before && (lines.blocking_send(line).is_err() || is_last) {
                return;
            }
        }
    })?;
    Ok(taken)
}

struct Lines<S> {
    source: S,
    number: u64,
}

impl<S: BufRead> Lines<S> {
    fn of(source: S) -> Self {
        Self { source, number: 0 }
    }

    fn line(&mut self) -> io::Result<Option<Line>> {
        loop {
            let mut text = Zeroizing::new(Vec::new());
            // one more than a line may have, for its end
            let most = MAX_LINE_BYTES as u64 + 1;
            if self.source.by_ref().take(most).read_until(b'\n', &mut text)? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if text.last() == Some(&b'\n') {
                text.pop();
            } else if text.len() > MAX_LINE_BYTES {
                self.source.skip_until(b'\n')?;
                return Ok(Some(Line { number: self.number, text: None }));
            }
            if !text.trim_ascii().is_empty() {
                return Ok(Some(Line { number: self.number, text: Some(text) }));
            }
        }
    }
}

impl<S: BufRead> Iterator for Lines<S> {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        self.line().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(u64, Option<String>)> {
        Lines::of(text.as_bytes())
            .map(|line| {
                let line = line.unwrap();
                (line.number, line.text.map(|text| String::from_utf8(text.to_vec()).unwrap()))
            })
            .collect()
    }

    #[test]
    fn lines_are_numbered_and_blank_ones_count() {
        let found = lines("a\n\n  \t\r\nb c\r\n\nd");
        let expected = [(1, "a"), (4, "b c\r"), (6, "d")];
        assert!(found.iter().map(|(n, t)| (*n, t.as_deref().unwrap())).eq(expected), "{found:?}");
        assert!(lines("").is_empty() && lines("\n\n").is_empty());
    }

    #[test]
    fn a_line_may_be_as_long_as_a_body_and_what_is_longer_is_passed_over() {
        let (longest, longer) = ("x".repeat(MAX_LINE_BYTES), "y".repeat(MAX_LINE_BYTES + 1));
        let much_longer = "z".repeat(5 * MAX_LINE_BYTES);
        let found = lines(&format!("{longest}\n{longer}\n{much_longer}\na\n{longest}"));
        let lengths: Vec<_> =
            found.iter().map(|(number, text)| (*number, text.as_ref().map(String::len))).collect();
        let whole = Some(MAX_LINE_BYTES);
        assert_eq!(lengths, [(1, whole), (2, None), (3, None), (4, Some(1)), (5, whole)]);
        assert_eq!(lines(&longer), [(1, None)]);
    }

    #[tokio::test]
    async fn reading_begins_at_a_line_and_stays_a_bounded_way_ahead() {
        let text: String = (1..=1000).map(|number| format!("{number}\n")).collect();
        let mut taken = read(io::Cursor::new(text), 700).unwrap();
        let first = taken.recv().await.unwrap().unwrap();
        assert_eq!((first.number, first.text.unwrap().as_slice()), (700, &b"700"[..]));
        assert!(taken.max_capacity() == AHEAD);
        let mut last = 700;
        while let Some(line) = taken.recv().await {
            last = line.unwrap().number;
        }
        assert_eq!(last, 1000);
    }
}
