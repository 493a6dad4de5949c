//! Which queue a `Location` header names, and how a queue id stands in a path.
//!
//! Promises:
//! - relative, absolute, versioned, with query or trailing slash: the queue is the segment after the
//!   last `queues`, percent-decoded once; what the encoding makes of the id is decoded to the same id;
//! - an id that cannot stand in a path is never given out.
//!
//! Knows nothing of: HTTP.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::ids::QueueId;

/// The longest queue id taken from a header, in bytes.
const MAX_ID: usize = 4096;

/// What must be encoded in a path segment (RFC 3986, `pchar`).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// The queue that a `Location` names; none when it names none.
pub(super) fn named_queue(location: &[u8]) -> Option<QueueId> {
    let location = std::str::from_utf8(location).ok()?.trim();
    let path = location.split(['?', '#']).next()?;
    // The authority of an absolute location is no segment of its path.
    let authority = path.split_once("://").map(|(_, rest)| rest).or(path.strip_prefix("//"));
    let path = match authority {
        Some(rest) => &rest[rest.find('/')?..],
        None => path,
    };
    let mut segments = path.split('/').filter(|segment| !segment.is_empty() && *segment != ".");
    let last = segments.next_back()?;
    let parent = segments.next_back();
    // A lone segment is relative to the call's own path, `queues/subscribe` (RFC 3986, 5.2).
    let below_queues = parent == Some("queues") || (parent.is_none() && !path.starts_with('/'));
    if !below_queues || last == "queues" || last == "subscribe" {
        return None;
    }
    let id = percent_decode_str(last).decode_utf8().ok()?;
    is_usable(&id).then(|| QueueId::from(&*id))
}

/// Whether an id can stand in a path: URLs swallow empty and dot segments.
pub(super) fn is_usable(id: &str) -> bool {
    !id.is_empty() && id != "." && id != ".." && id.len() <= MAX_ID
}

/// Appends the id as one path segment.
pub(super) fn push_segment(text: &mut String, id: &str) {
    text.extend(utf8_percent_encode(id, SEGMENT));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_location_names_the_same_queue() {
        for location in [
            "/queues/Q1",
            "/v2.1/queues/Q1",
            "queues/Q1",
            "./Q1",
            "Q1",
            "/queues/Q1/",
            "https://host.example/v3/queues/Q1?x=/y",
            "https://host.example:8443/queues/Q1#part",
            "//host.example/queues/Q1",
            "/queues/%51%31",
            " /queues/Q1 ",
        ] {
            assert_eq!(named_queue(location.as_bytes()), Some(QueueId::from("Q1")), "{location}");
        }
    }

    #[test]
    fn what_names_no_queue_is_refused() {
        for location in [
            "",
            "/",
            "/queues",
            "/queues/",
            "/queues/subscribe",
            "/connections/7",
            "/queues/Q1/events",
            "https://host.example",
            "https://host.example/Q1",
            "/queues/..",
            "/queues/%2E%2e",
            "/queues/%FF",
        ] {
            assert_eq!(named_queue(location.as_bytes()), None, "{location}");
        }
        assert_eq!(named_queue(b"/queues/\xff"), None);
        assert_eq!(named_queue(format!("/queues/{}", "q".repeat(MAX_ID + 1)).as_bytes()), None);
    }

    #[test]
    fn an_id_is_decoded_once_and_encoded_back() {
        for id in ["a/b", "50%25", "é 1", "a?b#c", "x;y=1", "~-._", "%2E"] {
            let mut path = String::from("/queues/");
            push_segment(&mut path, id);
            assert_eq!(named_queue(path.as_bytes()), Some(QueueId::from(id)), "{path}");
        }
        assert_eq!(named_queue(b"/queues/50%2525"), Some(QueueId::from("50%25")));
    }
}
