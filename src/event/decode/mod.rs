//! JSON straight into the structs, without a tree between.
//!
//! Promises:
//! - a resource is read the same whether `resource_type` comes before or after it;
//! - a field that comes twice counts as its last; null counts as absent where the schema names
//!   the field;
//! - a fault is told by its place, never by its value.
//!
//! Knows nothing of: what the values mean.

mod connection;
mod notes;

use std::borrow::Cow;
use std::fmt;

use connection::ConnectionSeed;
use notes::{Notes, Text, keep};
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    AnswerFault, BadElement, BadElementReason, ListedConnection, Place, SourceEvent, Unmapped,
};

/// The elements of an answer: of the array itself, or of the one under `name` in an object.
pub(super) fn elements<'a>(
    body: &'a [u8],
    name: &'static str,
) -> Result<Vec<&'a RawValue>, AnswerFault> {
    let text = std::str::from_utf8(body).map_err(|_| AnswerFault::NotJson)?;
    if let Ok(elements) = serde_json::from_str(text) {
        return Ok(elements);
    }
    let Wrapped(mut found) = serde_json::from_str(text).map_err(|_| fault(text))?;
    let mut wrapped = found.extract_if(.., |(key, _)| key.0 == name);
    match (wrapped.next(), wrapped.next()) {
        (Some((_, array)), None) => {
            serde_json::from_str(array.get()).map_err(|_| AnswerFault::NotAnArray)
        }
        _ => Err(AnswerFault::NotAnArray),
    }
}

fn fault(text: &str) -> AnswerFault {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(_) => AnswerFault::NotAnArray,
        Err(_) => AnswerFault::NotJson,
    }
}

/// The members of an object, in order.
struct Wrapped<'a>(Vec<(Text<'a>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Wrapped<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Wrapped<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Wrapped(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// One element of a queue's answer.
pub(super) fn event(element: &RawValue) -> Result<SourceEvent<'_>, BadElement<'_>> {
    read(element.get(), |notes, json| {
        let mut event = from_json(EventSeed { notes }, json)?;
        event.raw = element.get();
        Ok(event)
    })
}

/// One element of a listing.
pub(super) fn listed(element: &RawValue) -> Result<ListedConnection<'_>, BadElement<'_>> {
    read(element.get(), |notes, json| {
        let mut unmapped = Vec::new();
        let seed = ConnectionSeed { notes, unmapped: &mut unmapped };
        let connection = from_json(seed, json)?;
        // The element is an object, so there is one.
        let connection = connection.ok_or_else(|| de::Error::custom("no connection"))?;
        Ok(ListedConnection { connection, unmapped, raw: element.get() })
    })
}

fn read<'a, T>(
    raw: &'a str,
    decode: impl FnOnce(&Notes, &'a str) -> Result<T, serde_json::Error>,
) -> Result<T, BadElement<'a>> {
    let bad = |reason, pointer| BadElement { reason, pointer, raw };
    if !raw.starts_with('{') {
        return Err(bad(BadElementReason::NotAnObject, String::new()));
    }
    let notes = Notes::default();
    decode(&notes, raw).map_err(|_| {
        let noted = notes.taken();
        let (reason, pointer) = noted.unwrap_or((BadElementReason::WrongType, String::new()));
        bad(reason, pointer)
    })
}

fn from_json<'de, S: DeserializeSeed<'de>>(
    seed: S,
    json: &'de str,
) -> Result<S::Value, serde_json::Error> {
    seed.deserialize(&mut serde_json::Deserializer::from_str(json))
}

fn names_connection(resource_type: &str) -> bool {
    resource_type.eq_ignore_ascii_case("CONNECTION")
        || resource_type.eq_ignore_ascii_case("CONNECTIONS")
}

struct EventSeed<'s> {
    notes: &'s Notes,
}

impl<'de> DeserializeSeed<'de> for EventSeed<'_> {
    type Value = SourceEvent<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EventSeed<'_> {
    type Value = SourceEvent<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Self { notes } = self;
        let place = Place::Event;
        let (mut event_id, mut event_type) = (None, None);
        let mut event = SourceEvent {
            event_id: Cow::Borrowed(""),
            event_type: Cow::Borrowed(""),
            resource_type: None,
            created_at: None,
            channel_definition_id: None,
            connection: None,
            linked_connection_id: None,
            unmapped: Vec::new(),
            raw: "",
        };
        // A resource that came before its type.
        let mut early: Option<&'de RawValue> = None;
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "id" => event_id = notes.text(&mut map, place, "id")?,
                "event_type" => event_type = notes.text(&mut map, place, "event_type")?,
                "resource_type" => {
                    event.resource_type = notes.text(&mut map, place, "resource_type")?;
                }
                "creation_date" => {
                    event.created_at = notes.moment(&mut map, place, "creation_date")?;
                }
                "channel_definition_id" => {
                    event.channel_definition_id =
                        notes.text(&mut map, place, "channel_definition_id")?;
                }
                "resource" if event.resource_type.as_deref().is_some_and(names_connection) => {
                    event.unmapped.retain(|field| field.place == Place::Event);
                    let seed = ConnectionSeed { notes, unmapped: &mut event.unmapped };
                    event.connection = notes.read_seed(&mut map, seed, place, "resource")?;
                    early = None;
                }
                "resource" => early = Some(notes.read(&mut map, place, "resource")?),
                _ => keep(&mut event.unmapped, &mut map, place, key)?,
            }
        }
        event.event_id = notes.present(event_id, BadElementReason::MissingId, place, "id")?;
        event.event_type =
            notes.present(event_type, BadElementReason::MissingType, place, "event_type")?;
        if let Some(resource) = early {
            read_early(notes, &mut event, resource.get()).map_err(de::Error::custom)?;
        }
        Ok(event)
    }
}

/// Reads a resource that is no connection, or of which that was not known when it was met.
fn read_early<'de>(
    notes: &Notes,
    event: &mut SourceEvent<'de>,
    resource: &'de str,
) -> Result<(), serde_json::Error> {
    let is_connection = match event.resource_type.as_deref() {
        Some(resource_type) => names_connection(resource_type),
        None => from_json(LooksLikeConnection, resource).unwrap_or(false),
    };
    if is_connection {
        let seed = ConnectionSeed { notes, unmapped: &mut event.unmapped };
        event.connection = from_json(seed, resource)
            .inspect_err(|_| notes.note(BadElementReason::WrongType, Place::Event, "resource"))?;
    } else if resource.starts_with('{') {
        let seed = OtherSeed { unmapped: &mut event.unmapped };
        event.linked_connection_id = from_json(seed, resource)?;
    } else if resource != "null" {
        let name = Cow::Borrowed("resource");
        event.unmapped.push(Unmapped { place: Place::Event, name, json: resource });
    }
    Ok(())
}

/// Whether a resource without a type is a connection: it has an id, and channels or a provider.
struct LooksLikeConnection;

impl<'de> DeserializeSeed<'de> for LooksLikeConnection {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for LooksLikeConnection {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a resource")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let (mut has_id, mut has_more) = (false, false);
        while let Some((Text(key), IgnoredAny)) = map.next_entry()? {
            has_id |= key == "id";
            has_more |= key == "channels" || key == "provider_id";
        }
        Ok(has_id && has_more)
    }
}

/// The fields of a resource that is no connection; its value is the connection it names.
struct OtherSeed<'s, 'de> {
    unmapped: &'s mut Vec<Unmapped<'de>>,
}

impl<'de> DeserializeSeed<'de> for OtherSeed<'_, 'de> {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OtherSeed<'_, 'de> {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a resource")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut linked = None;
        while let Some((Text(name), value)) = map.next_entry::<_, &'de RawValue>()? {
            let json = value.get();
            if name == "connection_id"
                && let Ok(Text(id)) = serde_json::from_str(json)
                && !id.is_empty()
            {
                linked = Some(id);
            } else {
                self.unmapped.push(Unmapped { place: Place::Resource, name, json });
            }
        }
        Ok(linked)
    }
}
