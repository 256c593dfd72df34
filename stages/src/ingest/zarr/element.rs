//! The data types of arrays, and what stands where nothing was written.

use serde_json::{Map, Value};

use super::metadata::Refused;
use crate::element;

/// The longest text of fixed length.
const LONGEST_TEXT: u64 = 1 << 16;
/// Bytes of a letter of fixed-length text.
const LETTER_BYTES: u64 = 4;

/// What an array holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Number(element::Element),
    /// Numbers of 16 bits, which are widened to `f32` when they are read.
    Half,
    Flag,
    /// Text of any length.
    Text,
    /// Text of so many bytes, padded with zeros.
    Bytes(usize),
    /// Text of so many bytes, four a letter, padded with zeros.
    Letters(usize),
}

impl Element {
    /// A data type of version 3.
    pub(super) fn version_3(name: &str, configuration: Option<&Map<String, Value>>) -> Refused<Self> {
        use element::Element::{F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};
        let bytes = || {
            let bytes =
                configuration.and_then(|configuration| configuration.get("length_bytes")).and_then(Value::as_u64);
            let bytes = bytes.filter(|bytes| (1..=LONGEST_TEXT).contains(bytes));
            bytes.and_then(|bytes| usize::try_from(bytes).ok()).ok_or("has texts of no length".to_owned())
        };
        Ok(match name {
            "bool" => Self::Flag,
            "int8" => Self::Number(I8),
            "int16" => Self::Number(I16),
            "int32" => Self::Number(I32),
            "int64" => Self::Number(I64),
            "uint8" => Self::Number(U8),
            "uint16" => Self::Number(U16),
            "uint32" => Self::Number(U32),
            "uint64" => Self::Number(U64),
            "float16" => Self::Half,
            "float32" => Self::Number(F32),
            "float64" => Self::Number(F64),
            "string" => Self::Text,
            "null_terminated_bytes" => Self::Bytes(bytes()?),
            "fixed_length_utf32" => Self::Letters(bytes()?),
            other => return Err(format!("has the data type `{other}`, which is not known here")),
        })
    }

    /// A data type of version 2, as NumPy writes it, and whether its bytes are in the big-endian order.
    pub(super) fn version_2(text: &str) -> Refused<(Self, bool)> {
        let unknown = || format!("has the data type `{text}`, which is not known here");
        let (order, kind) = text.split_at_checked(1).ok_or_else(unknown)?;
        if !["<", ">", "|"].contains(&order) {
            return Err(unknown());
        }
        let length = |letters: &str, bytes: u64| {
            let length = letters.parse().ok().and_then(|length: u64| length.checked_mul(bytes));
            let length = length.filter(|length| (1..=LONGEST_TEXT).contains(length)).ok_or_else(unknown)?;
            usize::try_from(length).map_err(|_| unknown())
        };
        let element = match kind {
            "b1" => Self::Flag,
            "O" => Self::Text,
            "f2" => Self::Half,
            _ => match kind.split_at_checked(1) {
                Some(("S", bytes)) => Self::Bytes(length(bytes, 1)?),
                Some(("U", letters)) => Self::Letters(length(letters, LETTER_BYTES)?),
                Some((sort @ ("i" | "u" | "f"), bytes)) => {
                    let sort = [("i", "int"), ("u", "uint"), ("f", "float")].into_iter().find(|known| known.0 == sort);
                    let bits = bytes.parse::<u8>().ok().and_then(|bytes| bytes.checked_mul(8)).ok_or_else(unknown)?;
                    let name = format!("{}{bits}", sort.ok_or_else(unknown)?.1);
                    Self::version_3(&name, None).map_err(|_| unknown())?
                }
                _ => return Err(unknown()),
            },
        };
        Ok((element, order == ">"))
    }

    /// Bytes of one value as it is stored; none where they vary.
    pub(super) fn stored_bytes(self) -> Option<usize> {
        match self {
            Self::Number(number) => Some(number.bytes()),
            Self::Half => Some(2),
            Self::Flag => Some(1),
            Self::Text => None,
            Self::Bytes(bytes) | Self::Letters(bytes) => Some(bytes),
        }
    }

    /// Bytes within which the order of bytes matters.
    pub(super) fn word_bytes(self) -> usize {
        match self {
            Self::Number(number) => number.bytes(),
            Self::Half => 2,
            Self::Letters(_) => 4,
            Self::Flag | Self::Text | Self::Bytes(_) => 1,
        }
    }

    /// What numbers are worked with as.
    pub(super) fn number(self) -> Option<element::Element> {
        match self {
            Self::Number(number) => Some(number),
            Self::Half => Some(element::Element::F32),
            Self::Flag | Self::Text | Self::Bytes(_) | Self::Letters(_) => None,
        }
    }
}

/// What stands where nothing was written: the bytes of a number or flag as it is worked with, or a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    Bytes(Vec<u8>),
    Text(String),
}

impl Fill {
    pub(super) fn of(element: Element, value: Option<&Value>) -> Refused<Self> {
        use element::Element::{F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};
        let refused =
            || format!("has the fill value {}, which is none of its data type", value.unwrap_or(&Value::Null));
        let value = match value {
            // Version 2 leaves it open.
            None | Some(Value::Null) => return Ok(Self::none(element)),
            Some(value) => value,
        };
        let number = match element {
            // Whatever stands for text that is not there, it is no text.
            Element::Text | Element::Bytes(_) | Element::Letters(_) => {
                return Ok(Self::Text(value.as_str().unwrap_or_default().to_owned()));
            }
            Element::Flag => {
                let flag = value.as_bool().or_else(|| value.as_u64().map(|number| number != 0)).ok_or_else(refused)?;
                return Ok(Self::Bytes(vec![u8::from(flag)]));
            }
            Element::Half => F32,
            Element::Number(number) => number,
        };
        let signed = || value.as_i64().or_else(|| whole(value)).ok_or_else(refused);
        let unsigned =
            || value.as_u64().or_else(|| whole(value).and_then(|whole| u64::try_from(whole).ok())).ok_or_else(refused);
        let float = || match value.as_str() {
            None => value.as_f64().ok_or_else(refused),
            Some("NaN") => Ok(f64::NAN),
            Some("Infinity") => Ok(f64::INFINITY),
            Some("-Infinity") => Ok(f64::NEG_INFINITY),
            // The bits of one of the many numbers that are none.
            Some(text) if text.starts_with("0x") => Ok(f64::NAN),
            Some(_) => Err(refused()),
        };
        fn bytes<T, const N: usize>(
            number: Result<T, impl Sized>,
            to: fn(T) -> [u8; N],
            refused: String,
        ) -> Refused<Fill> {
            number.map(|number| Fill::Bytes(to(number).to_vec())).map_err(|_| refused)
        }
        #[expect(clippy::cast_possible_truncation, reason = "a fill value that was written as f32 is one")]
        let narrow = |number: f64| number as f32;
        match number {
            I8 => bytes(i8::try_from(signed()?), i8::to_le_bytes, refused()),
            I16 => bytes(i16::try_from(signed()?), i16::to_le_bytes, refused()),
            I32 => bytes(i32::try_from(signed()?), i32::to_le_bytes, refused()),
            I64 => bytes(signed(), i64::to_le_bytes, refused()),
            U8 => bytes(u8::try_from(unsigned()?), u8::to_le_bytes, refused()),
            U16 => bytes(u16::try_from(unsigned()?), u16::to_le_bytes, refused()),
            U32 => bytes(u32::try_from(unsigned()?), u32::to_le_bytes, refused()),
            U64 => bytes(unsigned(), u64::to_le_bytes, refused()),
            F32 => bytes(float().map(narrow), f32::to_le_bytes, refused()),
            F64 => bytes(float(), f64::to_le_bytes, refused()),
        }
    }

    fn none(element: Element) -> Self {
        match (element, element.number()) {
            (_, Some(number)) => Self::Bytes(vec![0; number.bytes()]),
            (Element::Flag, None) => Self::Bytes(vec![0]),
            _ => Self::Text(String::new()),
        }
    }
}

/// A whole number that is written as a float.
fn whole(value: &Value) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "it is compared with what it was")]
    let whole = value.as_f64()? as i64;
    #[expect(clippy::cast_precision_loss, reason = "it is compared with what it was")]
    let same = value.as_f64() == Some(whole as f64);
    same.then_some(whole)
}
