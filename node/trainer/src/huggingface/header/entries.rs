//! The description's JSON, entry by entry, so that what does not parse is named.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use serde::{
    Deserialize,
    de::{Error, MapAccess, Visitor},
};

use crate::huggingface::names::shown;

/// Key of what is no tensor.
const METADATA: &str = "__metadata__";

/// A tensor as it is described.
#[derive(Deserialize)]
pub(super) struct Entry {
    pub(super) dtype: String,
    pub(super) shape: Vec<usize>,
    pub(super) data_offsets: (u64, u64),
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = BTreeMap<String, Entry>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut entries = BTreeMap::new();
        let mut metadata = false;
        while let Some(name) = access.next_key::<String>()? {
            if metadata && name == METADATA || entries.contains_key(&name) {
                return Err(A::Error::custom(format_args!("{} stands there twice", shown(&name))));
            }
            let at_its_place = |error| A::Error::custom(format_args!("{}: {error}", shown(&name)));
            if name == METADATA {
                // words for people, not used; the format allows nothing else
                access.next_value::<HashMap<String, String>>().map_err(at_its_place)?;
                metadata = true;
            } else {
                let entry = access.next_value().map_err(at_its_place)?;
                entries.insert(name, entry);
            }
        }
        Ok(entries)
    }
}

/// Every tensor that the description names, each once.
pub(super) fn entries(json: &[u8]) -> serde_json::Result<BTreeMap<String, Entry>> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let entries = serde::Deserializer::deserialize_map(&mut deserializer, Entries)?;
    deserializer.end()?;
    Ok(entries)
}
