//! A connection and its channels, as a resource or as an element of a listing.
//!
//! Promises:
//! - everything but the id may be missing; null counts as missing;
//! - a channel that is null is passed over, and the others keep their index.
//!
//! Knows nothing of: events.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::super::{BadElementReason, Channel, Connection, Place, Unmapped};
use super::notes::{Notes, Text, keep};

/// A connection, or nothing when it is null.
pub(super) struct ConnectionSeed<'s, 'de> {
    pub(super) notes: &'s Notes,
    pub(super) unmapped: &'s mut Vec<Unmapped<'de>>,
}

impl<'de> DeserializeSeed<'de> for ConnectionSeed<'_, 'de> {
    type Value = Option<Connection<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ConnectionSeed<'_, 'de> {
    type Value = Option<Connection<'de>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a connection")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Self { notes, unmapped } = self;
        let place = Place::Resource;
        let mut id = None;
        let mut connection = Connection::default();
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "id" => id = notes.text(&mut map, place, "id")?,
                "provider_id" => {
                    connection.provider_id = notes.text(&mut map, place, "provider_id")?;
                }
                "name" => connection.name = notes.text(&mut map, place, "name")?,
                "status" => connection.status = notes.text(&mut map, place, "status")?,
                "creation_date" => {
                    connection.created_at = notes.moment(&mut map, place, "creation_date")?;
                }
                "channels" => {
                    unmapped.retain(|field| !matches!(field.place, Place::Channel(_)));
                    let seed = ChannelsSeed { notes, unmapped: &mut *unmapped };
                    connection.channels = notes.read_seed(&mut map, seed, place, "channels")?;
                }
                _ => keep(unmapped, &mut map, place, key)?,
            }
        }
        connection.id = notes.present(id, BadElementReason::MissingId, place, "id")?;
        Ok(Some(connection))
    }
}

struct ChannelsSeed<'s, 'de> {
    notes: &'s Notes,
    unmapped: &'s mut Vec<Unmapped<'de>>,
}

impl<'de> DeserializeSeed<'de> for ChannelsSeed<'_, 'de> {
    type Value = Vec<Channel<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ChannelsSeed<'_, 'de> {
    type Value = Vec<Channel<'de>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("channels")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let Self { notes, unmapped } = self;
        let mut channels = Vec::new();
        for index in 0.. {
            let seed =
                ChannelSeed { notes, unmapped: &mut *unmapped, place: Place::Channel(index) };
            match seq.next_element_seed(seed) {
                Ok(Some(channel)) => channels.extend(channel),
                Ok(None) => break,
                Err(error) => {
                    notes.note(BadElementReason::WrongType, Place::Resource, "channels");
                    return Err(error);
                }
            }
        }
        Ok(channels)
    }
}

/// A channel, or nothing when it is null.
struct ChannelSeed<'s, 'de> {
    notes: &'s Notes,
    unmapped: &'s mut Vec<Unmapped<'de>>,
    place: Place,
}

impl<'de> DeserializeSeed<'de> for ChannelSeed<'_, 'de> {
    type Value = Option<Channel<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ChannelSeed<'_, 'de> {
    type Value = Option<Channel<'de>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a channel")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Self { notes, unmapped, place } = self;
        let mut channel = Channel::default();
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "channel_definition_id" => {
                    channel.definition_id = notes.text(&mut map, place, "channel_definition_id")?;
                }
                "mode" => channel.mode = notes.text(&mut map, place, "mode")?,
                "status" => channel.status = notes.text(&mut map, place, "status")?,
                "expires" => channel.expires_at = notes.moment(&mut map, place, "expires")?,
                "last_success_date" => {
                    channel.last_success_at = notes.moment(&mut map, place, "last_success_date")?;
                }
                "last_end_date" => {
                    channel.last_end_at = notes.moment(&mut map, place, "last_end_date")?;
                }
                _ => keep(unmapped, &mut map, place, key)?,
            }
        }
        Ok(Some(channel))
    }
}
