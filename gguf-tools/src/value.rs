//! Metadata values as they lie in the file.

use std::fmt;

/// The type of a metadata value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // each is its name
pub enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    /// Returns the type with number `id` in a file, if there is one.
    pub fn from_id(id: u32) -> Option<Self> {
        Some(match id {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            8 => Self::String,
            9 => Self::Array,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    /// Returns the number that stands for this type in a file.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// Returns the bytes of one value, or `None` for strings and arrays.
    pub fn fixed_bytes(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::Bool => "bool",
            Self::String => "string",
            Self::Array => "array",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F64 => "f64",
        })
    }
}

/// A metadata value: a number, a string or an array, borrowed from the file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Any whole number that is not negative, whatever its width.
    Unsigned(u64),
    /// A negative whole number.
    Negative(i64),
    /// A number with a fraction, single or double.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// Text; the format promises UTF-8, files do not always keep it.
    String(&'a [u8]),
    /// Values of one type; never arrays.
    Array(Array<'a>),
}

impl fmt::Display for Value<'_> {
    /// Writes numbers as they are, and of the rest what and how much it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Unsigned(number) => write!(f, "{number}"),
            Value::Negative(number) => write!(f, "{number}"),
            Value::Float(number) => write!(f, "{number}"),
            Value::Bool(flag) => write!(f, "{flag}"),
            Value::String(text) => write!(f, "a string of {} bytes", text.len()),
            Value::Array(array) => write!(f, "a list of {} {}", array.len, array.element),
        }
    }
}

/// An array of metadata values, borrowed from the file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Array<'a> {
    /// Type of every element.
    pub element: ValueType,
    /// Number of elements.
    pub len: u64,
    /// The elements, one after the other, strings with their lengths.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// Returns the elements in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let (element, mut rest) = (self.element, self.bytes);

        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (value, after) = split_value(element, rest)?;
            rest = after;

            Some(value)
        })
    }

    /// Returns the bytes of elements `start..end`, which are of fixed size.
    pub(crate) fn slice(&self, start: u64, end: u64) -> Option<&'a [u8]> {
        let width = self.element.fixed_bytes()?;
        let start = usize::try_from(start.checked_mul(width)?).ok()?;
        let end = usize::try_from(end.checked_mul(width)?).ok()?;

        self.bytes.get(start..end)
    }
}

/// Takes one value of a type that is not an array from the front of `bytes`.
///
/// Returns `None` if there are too few.
pub(crate) fn split_value(value_type: ValueType, bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    fn take<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
        let (head, rest) = bytes.split_first_chunk::<N>()?;
        Some((*head, rest))
    }
    fn signed(value: i64) -> Value<'static> {
        u64::try_from(value).map_or(Value::Negative(value), Value::Unsigned)
    }

    Some(match value_type {
        ValueType::U8 => {
            take(bytes).map(|(b, r)| (Value::Unsigned(u8::from_le_bytes(b).into()), r))?
        }
        ValueType::I8 => take(bytes).map(|(b, r)| (signed(i8::from_le_bytes(b).into()), r))?,
        ValueType::U16 => {
            take(bytes).map(|(b, r)| (Value::Unsigned(u16::from_le_bytes(b).into()), r))?
        }
        ValueType::I16 => take(bytes).map(|(b, r)| (signed(i16::from_le_bytes(b).into()), r))?,
        ValueType::U32 => {
            take(bytes).map(|(b, r)| (Value::Unsigned(u32::from_le_bytes(b).into()), r))?
        }
        ValueType::I32 => take(bytes).map(|(b, r)| (signed(i32::from_le_bytes(b).into()), r))?,
        ValueType::U64 => take(bytes).map(|(b, r)| (Value::Unsigned(u64::from_le_bytes(b)), r))?,
        ValueType::I64 => take(bytes).map(|(b, r)| (signed(i64::from_le_bytes(b)), r))?,
        ValueType::F32 => {
            take(bytes).map(|(b, r)| (Value::Float(f32::from_le_bytes(b).into()), r))?
        }
        ValueType::F64 => take(bytes).map(|(b, r)| (Value::Float(f64::from_le_bytes(b)), r))?,
        ValueType::Bool => take::<1>(bytes).map(|(b, r)| (Value::Bool(b[0] != 0), r))?,
        ValueType::String => {
            let (len, rest) = take::<8>(bytes)?;
            let len = usize::try_from(u64::from_le_bytes(len)).ok()?;
            let (text, rest) = rest.split_at_checked(len)?;

            (Value::String(text), rest)
        }
        ValueType::Array => return None,
    })
}
