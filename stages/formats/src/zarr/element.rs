//! The data types of arrays.

use schemas::atlas::StoredNumber;
use zarrs::{array::DataType, plugin::ExtensionName};

use super::metadata::MetadataResult;

/// The element type of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Number(StoredNumber),
    /// 16-bit floats, which are converted to `f32` when they are read.
    Half,
    Flag,
    /// Text of any length.
    Text,
    /// Text of this many bytes, four per letter, padded with zeros.
    Letters(usize),
}

impl Element {
    pub(super) fn from_data_type(data_type: &DataType) -> MetadataResult<Self> {
        let name = data_type.name_v3().unwrap_or_default();
        // `uint8` is called `u8` in other metadata.
        let number = name.replace("uint", "u").replace("int", "i").replace("float", "f");
        Ok(match &*name {
            "bool" => Self::Flag,
            "float16" => Self::Half,
            "string" | "bytes" => Self::Text,
            "fixed_length_utf32" => Self::Letters(data_type.fixed_size().unwrap_or_default()),
            _ => match serde_json::from_value(number.into()) {
                Ok(number) => Self::Number(number),
                Err(_) => return Err(format!("has the data type `{name}`, which is not supported")),
            },
        })
    }

    /// The number type of numbers and flags, which are 0 and 1; `None` for text.
    pub(super) fn number(self) -> Option<StoredNumber> {
        match self {
            Self::Number(number) => Some(number),
            Self::Half => Some(StoredNumber::F32),
            Self::Flag => Some(StoredNumber::U8),
            Self::Text | Self::Letters(_) => None,
        }
    }
}
