//! The value of `protectInit`, whose errors name the key and say what may stand there.

use serde::{Deserialize, Deserializer, de::Visitor};
use std::fmt;

/// Whether the init is to be protected.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProtectInit(pub(super) bool);

impl<'de> Deserialize<'de> for ProtectInit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Asked for a bool, the library says of a list that a text is missing.
        deserializer.deserialize_any(Asked)
    }
}

struct Asked;

impl Visitor<'_> for Asked {
    type Value = ProtectInit;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("`protectInit: true` or `protectInit: false`")
    }

    fn visit_bool<E>(self, value: bool) -> Result<ProtectInit, E> {
        Ok(ProtectInit(value))
    }
}
