//! Reading a field and knowing where it was when it cannot be read.
//!
//! Promises:
//! - a fault is told by its place, never by its value;
//! - text is borrowed wherever it holds no escapes.
//!
//! Knows nothing of: which fields there are.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::super::moment::Moment;
use super::super::{BadElementReason, Place, Unmapped};
use crate::ids::Timestamp;

/// Where the first fault was met, since serde's errors tell a position and a value instead.
#[derive(Default)]
pub(super) struct Notes(RefCell<Option<(BadElementReason, String)>>);

impl Notes {
    /// What was noted, if anything.
    pub(super) fn taken(&self) -> Option<(BadElementReason, String)> {
        self.0.take()
    }

    pub(super) fn read<'de, T, A>(
        &self,
        map: &mut A,
        place: Place,
        name: &str,
    ) -> Result<T, A::Error>
    where
        T: Deserialize<'de>,
        A: MapAccess<'de>,
    {
        let read = map.next_value();
        if read.is_err() {
            self.note(BadElementReason::WrongType, place, name);
        }
        read
    }

    pub(super) fn read_seed<'de, S, A>(
        &self,
        map: &mut A,
        seed: S,
        place: Place,
        name: &str,
    ) -> Result<S::Value, A::Error>
    where
        S: DeserializeSeed<'de>,
        A: MapAccess<'de>,
    {
        let read = map.next_value_seed(seed);
        if read.is_err() {
            self.note(BadElementReason::WrongType, place, name);
        }
        read
    }

    pub(super) fn text<'de, A: MapAccess<'de>>(
        &self,
        map: &mut A,
        place: Place,
        name: &str,
    ) -> Result<Option<Cow<'de, str>>, A::Error> {
        Ok(self.read::<Option<Text<'de>>, A>(map, place, name)?.map(|text| text.0))
    }

    pub(super) fn moment<'de, A: MapAccess<'de>>(
        &self,
        map: &mut A,
        place: Place,
        name: &str,
    ) -> Result<Option<Timestamp>, A::Error> {
        Ok(self.read::<Option<Moment>, A>(map, place, name)?.map(|moment| moment.0))
    }

    /// The text of an id or type, which must be there and not be empty.
    pub(super) fn present<'de, E: de::Error>(
        &self,
        text: Option<Cow<'de, str>>,
        reason: BadElementReason,
        place: Place,
        name: &str,
    ) -> Result<Cow<'de, str>, E> {
        text.filter(|text| !text.is_empty()).ok_or_else(|| {
            self.note(reason, place, name);
            E::custom("missing")
        })
    }

    #[cold]
    pub(super) fn note(&self, reason: BadElementReason, place: Place, name: &str) {
        // The innermost place is noted first and stays.
        self.0.borrow_mut().get_or_insert_with(|| (reason, place.pointer(name)));
    }
}

/// Text, borrowed when it holds no escapes.
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("text")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// Keeps a field that the schema does not name.
pub(super) fn keep<'de, A: MapAccess<'de>>(
    unmapped: &mut Vec<Unmapped<'de>>,
    map: &mut A,
    place: Place,
    name: Cow<'de, str>,
) -> Result<(), A::Error> {
    let json = map.next_value::<&'de RawValue>()?.get();
    unmapped.push(Unmapped { place, name, json });
    Ok(())
}
