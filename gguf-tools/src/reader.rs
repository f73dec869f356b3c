//! Reading a GGUF file without copying it.
//!
//! ```text
//! "GGUF" version n_tensors n_keys │ key type value … │ name dims type offset … │ pad │ tensor data
//! ```
//!
//! [`Gguf::open`] walks over the whole header once and checks all of it: every count against the
//! bytes that are left, every tensor against the size of the file. What it keeps is one offset per
//! key and per tensor, so it needs less memory than the header it read, whatever the header claims.
//! [`KeyValue`] and [`Tensor`] are made from those offsets when asked for, and borrow the file.
//!
//! The rules are those of llama.cpp's own reader where that is strict: names are unique, tensors lie
//! in file order with nothing but padding in between, and arrays hold no arrays. It follows
//! that no byte of the file belongs to two tensors.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::mapping::Mapping;
use crate::tensor_type::TensorType;
use crate::value::{Array, Value, ValueType, split_value};

/// Versions that share the layout read here: 3, and 2, which differs from it only in its number.
const VERSIONS: [u32; 2] = [2, 3];

/// Most keys in a file. Real ones have about 40; a guess with room to spare.
const KEYS_MAX: u64 = 1 << 16;

/// Most tensors in a file: 512 layers, which is llama.cpp's limit, of 128 tensors each.
const TENSORS_MAX: u64 = 1 << 16;

/// Most bytes in a key, from the GGUF specification.
const KEY_BYTES_MAX: u64 = (1 << 16) - 1;

/// Most bytes in a tensor's name: `GGML_MAX_NAME` less its terminator.
const TENSOR_NAME_BYTES_MAX: u64 = 63;

/// Most dimensions of a tensor: `GGML_MAX_DIMS`.
const DIMS_MAX: u32 = 4;

/// Bytes to which tensors are aligned where the file does not say (`GGUF_DEFAULT_ALIGNMENT`).
pub(crate) const ALIGNMENT_DEFAULT: u64 = 32;

/// Largest alignment taken seriously: a page of the largest kind in use, 2 MiB.
const ALIGNMENT_MAX: u64 = 2 << 20;

/// Fewest bytes that a key with its value takes: length, one letter, type, one byte.
const KEY_VALUE_BYTES_MIN: u64 = 8 + 1 + 4 + 1;

/// Fewest bytes that a tensor's description takes: length, one letter, one dimension, type, offset.
const TENSOR_BYTES_MIN: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// Why a file could not be read, or does not say what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system could not open or map the file.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file does not start with `GGUF`.
    #[error("not a GGUF file: it starts with {start:?} instead of \"GGUF\"")]
    NotGguf {
        /// The first bytes, at most four.
        start: String,
    },
    /// The file is in the byte order of another kind of machine.
    #[error("the file is big-endian; convert it to little-endian")]
    BigEndian,
    /// The layout is another one.
    #[error("GGUF version {found} is not supported, versions 2 and 3 are")]
    Version {
        /// Version in the file.
        found: u32,
    },
    /// The file ends in the middle of something.
    #[error("the file ends too early: {what} at byte {at} needs {needed} bytes, {left} are left")]
    Truncated {
        /// What was being read.
        what: String,
        /// Offset in the file.
        at: u64,
        /// Bytes that it takes, at least.
        needed: u64,
        /// Bytes from there to the end of the file.
        left: u64,
    },
    /// A count or length is beyond what any model needs.
    #[error("{what} at byte {at} is {found}, at most {max} is accepted")]
    TooLarge {
        /// What is being counted.
        what: String,
        /// Offset in the file.
        at: u64,
        /// The count.
        found: u64,
        /// The most that is accepted.
        max: u64,
    },
    /// A name is empty or is not UTF-8.
    #[error("{what} at byte {at} is empty or not UTF-8")]
    BadName {
        /// What is being named.
        what: String,
        /// Offset in the file.
        at: u64,
    },
    /// A name stands for two things.
    #[error("{what} `{name}` occurs twice")]
    Duplicate {
        /// "key" or "tensor".
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A metadata type that does not exist.
    #[error("key `{key}` at byte {at} has value type {found}, which does not exist")]
    ValueType {
        /// The key.
        key: String,
        /// Offset of the type in the file.
        at: u64,
        /// The number found there.
        found: u32,
    },
    /// An array of arrays.
    #[error("key `{key}` at byte {at} is an array of arrays, which no model uses")]
    NestedArray {
        /// The key.
        key: String,
        /// Offset of the inner type in the file.
        at: u64,
    },
    /// `general.alignment` is not a power of two, or absurdly large.
    #[error("general.alignment is {found}; it must be a power of two up to {ALIGNMENT_MAX}")]
    Alignment {
        /// The alignment found.
        found: u64,
    },
    /// A tensor type that is not known.
    #[error("tensor `{tensor}` has type {found}, which is not known")]
    TensorType {
        /// The tensor.
        tensor: String,
        /// The number found.
        found: u32,
    },
    /// A shape with no, too many, or zero dimensions, or with rows that are not whole blocks.
    #[error("tensor `{tensor}` of type {tensor_type} cannot have the shape {dims:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its type.
        tensor_type: TensorType,
        /// Its dimensions.
        dims: Vec<u64>,
    },
    /// Tensors overlap, or there is a gap between them.
    #[error("tensor `{tensor}` starts at {found} in the data, it should start at {expected}")]
    Offset {
        /// The tensor.
        tensor: String,
        /// Offset in the file's data section, as the file says.
        found: u64,
        /// Where the tensor before ends, aligned.
        expected: u64,
    },
    /// A key that is needed is missing.
    #[error("the file has no key `{key}`")]
    MissingKey {
        /// The key.
        key: String,
    },
    /// A key holds another kind of value than is needed.
    #[error("key `{key}` should be {wanted}, it is {found}")]
    WrongValue {
        /// The key.
        key: String,
        /// What is needed.
        wanted: &'static str,
        /// What is there.
        found: String,
    },
}

/// A GGUF file whose header has been checked.
///
/// Clones share the file.
///
/// ```no_run
/// use gguf_tools::Gguf;
///
/// let model = Gguf::open("model.gguf".as_ref())?;
/// println!("{}", model.text("general.architecture")?);
/// for tensor in model.tensors() {
///     println!("{} {:?} {}", tensor.name, tensor.dims(), tensor.tensor_type);
/// }
/// # Ok::<(), gguf_tools::ReadError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Gguf {
    mapping: Arc<Mapping>,
    header: Arc<Header>,
}

/// Where everything is.
#[derive(Debug)]
struct Header {
    version: u32,
    alignment: u64,
    keys: Directory,
    tensors: Directory,
    /// Offset of the first tensor's data in the file.
    data_start: u64,
}

/// Offsets of named things in the file.
#[derive(Debug, Default)]
struct Directory {
    /// In file order.
    offsets: Vec<u64>,
    /// Sorted by name.
    by_name: Vec<u64>,
}

/// A metadata key with its value, borrowed from the file.
#[derive(Debug, Clone)]
pub struct KeyValue<'a> {
    /// The key.
    pub key: &'a str,
    /// The value.
    pub value: Value<'a>,
    /// Type of the value as it is written.
    pub value_type: ValueType,
    /// Where key, type and value lie in the file.
    pub(crate) range: Range<u64>,
}

/// A tensor's description with its data, borrowed from the file.
#[derive(Debug, Clone)]
pub struct Tensor<'a> {
    /// The name, such as `blk.0.attn_q.weight`.
    pub name: &'a str,
    /// How the elements are packed.
    pub tensor_type: TensorType,
    /// The data.
    pub bytes: &'a [u8],
    /// Where the data lies in the file.
    pub(crate) range: Range<u64>,
    dims: [u64; DIMS_MAX as usize],
    n_dims: usize,
}

impl Gguf {
    /// Maps the file at `path` and checks its header.
    ///
    /// # Errors
    ///
    /// - [`ReadError::Io`] if the file cannot be opened
    /// - any other variant but [`ReadError::MissingKey`] and [`ReadError::WrongValue`] if the file
    ///   is not whole or not well-formed
    ///
    /// # Blocking
    ///
    /// As long as it takes to read the header from disk: up to 10 MB where the vocabulary is large.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let mapping = Mapping::open(path).map_err(|source| ReadError::Io {
            path: path.to_owned(),
            source,
        })?;

        Self::parse(mapping)
    }

    /// Checks the header of a file that is in memory.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), without [`ReadError::Io`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ReadError> {
        Self::parse(Mapping::Memory(bytes))
    }

    fn parse(mapping: Mapping) -> Result<Self, ReadError> {
        let header = read_header(&mapping)?;

        Ok(Self {
            mapping: Arc::new(mapping),
            header: Arc::new(header),
        })
    }

    /// Returns the bytes of the file.
    pub fn file_bytes(&self) -> u64 {
        self.mapping.len() as u64
    }

    /// Returns the version of the format.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// Returns the bytes to which the tensors are aligned.
    pub fn alignment(&self) -> u64 {
        self.header.alignment
    }

    /// Returns where the data of the first tensor starts.
    pub fn data_start(&self) -> u64 {
        self.header.data_start
    }

    /// Returns the number of metadata keys.
    pub fn n_keys(&self) -> usize {
        self.header.keys.offsets.len()
    }

    /// Returns the number of tensors.
    pub fn n_tensors(&self) -> usize {
        self.header.tensors.offsets.len()
    }

    /// Returns keys and values in file order.
    pub fn key_values(&self) -> impl Iterator<Item = KeyValue<'_>> {
        let offsets = self.header.keys.offsets.iter();

        offsets.map(|&at| self.key_value_at(at))
    }

    /// Returns tensors in file order.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> {
        let offsets = self.header.tensors.offsets.iter();

        offsets.map(|&at| self.tensor_at(at))
    }

    /// Returns key, type and value of `pair` as they lie in the file.
    ///
    /// # Panics
    ///
    /// If `pair` is of another, longer file.
    pub fn raw_key_value(&self, pair: &KeyValue<'_>) -> &[u8] {
        part(&self.mapping, pair.range.clone()).expect("a key lies in its file")
    }

    /// Returns the key with its value, if it is there.
    pub fn key_value(&self, key: &str) -> Option<KeyValue<'_>> {
        let at = self.header.keys.find(&self.mapping, key)?;

        Some(self.key_value_at(at))
    }

    /// Returns the value of `key`, if it is there.
    pub fn value(&self, key: &str) -> Option<Value<'_>> {
        self.key_value(key).map(|pair| pair.value)
    }

    /// Returns the tensor called `name`, if there is one.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let at = self.header.tensors.find(&self.mapping, name)?;

        Some(self.tensor_at(at))
    }

    /// Returns the whole number at `key`.
    ///
    /// # Errors
    ///
    /// - [`ReadError::MissingKey`] if it is not there
    /// - [`ReadError::WrongValue`] if it is not a whole number from 0 to 2³² − 1
    pub fn number(&self, key: &str) -> Result<u32, ReadError> {
        self.find_number(key)?.ok_or_else(|| missing(key))
    }

    /// Returns the whole number at `key`, if the key is there.
    ///
    /// # Errors
    ///
    /// [`ReadError::WrongValue`] if it is not a whole number from 0 to 2³² − 1.
    pub fn find_number(&self, key: &str) -> Result<Option<u32>, ReadError> {
        self.find(
            key,
            "a whole number from 0 to 2^32-1",
            |value| match value {
                Value::Unsigned(number) => u32::try_from(number).ok(),
                Value::Negative(_)
                | Value::Float(_)
                | Value::Bool(_)
                | Value::String(_)
                | Value::Array(_) => None,
            },
        )
    }

    /// Returns the number at `key`, whole or not, if the key is there.
    ///
    /// # Errors
    ///
    /// [`ReadError::WrongValue`] if it is not a floating-point number.
    pub fn find_float(&self, key: &str) -> Result<Option<f64>, ReadError> {
        self.find(key, "a floating-point number", |value| match value {
            Value::Float(number) => Some(number),
            Value::Unsigned(_)
            | Value::Negative(_)
            | Value::Bool(_)
            | Value::String(_)
            | Value::Array(_) => None,
        })
    }

    /// Returns the text at `key`.
    ///
    /// # Errors
    ///
    /// - [`ReadError::MissingKey`] if it is not there
    /// - [`ReadError::WrongValue`] if it is not UTF-8 text
    pub fn text(&self, key: &str) -> Result<&str, ReadError> {
        self.find_text(key)?.ok_or_else(|| missing(key))
    }

    /// Returns the text at `key`, if the key is there.
    ///
    /// # Errors
    ///
    /// [`ReadError::WrongValue`] if it is not UTF-8 text.
    pub fn find_text(&self, key: &str) -> Result<Option<&str>, ReadError> {
        self.find(key, "UTF-8 text", |value| match value {
            Value::String(text) => std::str::from_utf8(text).ok(),
            Value::Unsigned(_)
            | Value::Negative(_)
            | Value::Float(_)
            | Value::Bool(_)
            | Value::Array(_) => None,
        })
    }

    /// Returns the array at `key`, if the key is there.
    ///
    /// # Errors
    ///
    /// [`ReadError::WrongValue`] if it is not an array.
    pub fn find_array(&self, key: &str) -> Result<Option<Array<'_>>, ReadError> {
        self.find(key, "an array", |value| match value {
            Value::Array(array) => Some(array),
            Value::Unsigned(_)
            | Value::Negative(_)
            | Value::Float(_)
            | Value::Bool(_)
            | Value::String(_) => None,
        })
    }

    fn find<'a, T>(
        &'a self,
        key: &str,
        wanted: &'static str,
        take: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> Result<Option<T>, ReadError> {
        let Some(pair) = self.key_value(key) else {
            return Ok(None);
        };

        take(pair.value)
            .map(Some)
            .ok_or_else(|| ReadError::WrongValue {
                key: key.to_owned(),
                wanted,
                found: describe_value(&pair),
            })
    }

    pub(crate) fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    fn key_value_at(&self, at: u64) -> KeyValue<'_> {
        Cursor::new(&self.mapping, at)
            .key_value()
            .expect("every key was read once when the file was opened")
    }

    fn tensor_at(&self, at: u64) -> Tensor<'_> {
        Cursor::new(&self.mapping, at)
            .tensor()
            .and_then(|described| described.with_data(&self.mapping, self.header.data_start))
            .expect("every tensor was read once when the file was opened")
    }
}

impl Tensor<'_> {
    /// Returns the dimensions, the length of a row first.
    pub fn dims(&self) -> &[u64] {
        &self.dims[..self.n_dims]
    }

    /// Returns the number of elements.
    pub fn n_elements(&self) -> u64 {
        self.dims.iter().product() // with the size in bytes, this was checked to fit
    }
}

fn missing(key: &str) -> ReadError {
    ReadError::MissingKey {
        key: key.to_owned(),
    }
}

fn describe_value(pair: &KeyValue<'_>) -> String {
    match pair.value {
        Value::String(_) | Value::Array(_) => pair.value.to_string(),
        Value::Unsigned(_) | Value::Negative(_) | Value::Float(_) | Value::Bool(_) => {
            format!("{} {}", pair.value_type, pair.value)
        }
    }
}

/// Checks everything before the data, and that the data is all there.
fn read_header(bytes: &[u8]) -> Result<Header, ReadError> {
    let mut cursor = Cursor::new(bytes, 0);
    let version = cursor.magic_and_version()?;
    let n_tensors = cursor.count(format_args!("the number of tensors"), TENSORS_MAX)?;
    let n_keys = cursor.count(format_args!("the number of keys"), KEYS_MAX)?;

    let keys = read_keys(&mut cursor, n_keys)?;
    let alignment = read_alignment(bytes, &keys)?;
    let (tensors, data_start) = read_tensors(&mut cursor, n_tensors, alignment)?;

    Ok(Header {
        version,
        alignment,
        keys,
        tensors,
        data_start,
    })
}

fn read_keys(cursor: &mut Cursor<'_>, n_keys: u64) -> Result<Directory, ReadError> {
    cursor.expect_left(
        format_args!("the metadata"),
        n_keys.saturating_mul(KEY_VALUE_BYTES_MIN),
    )?;

    let mut offsets = Vec::with_capacity(n_keys as usize); // at most KEYS_MAX, 8 bytes for 14
    for _ in 0..n_keys {
        offsets.push(cursor.at);
        cursor.key_value()?;
    }

    Directory::new(cursor.bytes, offsets, "key")
}

fn read_alignment(bytes: &[u8], keys: &Directory) -> Result<u64, ReadError> {
    let Some(at) = keys.find(bytes, "general.alignment") else {
        return Ok(ALIGNMENT_DEFAULT);
    };
    let pair = Cursor::new(bytes, at).key_value()?;

    match pair.value {
        Value::Unsigned(found) if found.is_power_of_two() && found <= ALIGNMENT_MAX => Ok(found),
        Value::Unsigned(found) => Err(ReadError::Alignment { found }),
        Value::Negative(_)
        | Value::Float(_)
        | Value::Bool(_)
        | Value::String(_)
        | Value::Array(_) => Err(ReadError::WrongValue {
            key: pair.key.to_owned(),
            wanted: "a whole number",
            found: describe_value(&pair),
        }),
    }
}

/// Reads the descriptions of the tensors, and returns them with where their data starts.
fn read_tensors(
    cursor: &mut Cursor<'_>,
    n_tensors: u64,
    alignment: u64,
) -> Result<(Directory, u64), ReadError> {
    cursor.expect_left(
        format_args!("the tensors"),
        n_tensors.saturating_mul(TENSOR_BYTES_MIN),
    )?;

    let mut offsets = Vec::with_capacity(n_tensors as usize); // at most TENSORS_MAX, 8 bytes for 33
    let mut expected = 0;
    for _ in 0..n_tensors {
        offsets.push(cursor.at);
        expected = cursor.tensor()?.end_if_at(expected, alignment)?;
    }

    let tensors = Directory::new(cursor.bytes, offsets, "tensor")?;
    let data_start = cursor.at.next_multiple_of(alignment);
    for &at in &tensors.offsets {
        Cursor::new(cursor.bytes, at)
            .tensor()?
            .with_data(cursor.bytes, data_start)?;
    }

    Ok((tensors, data_start))
}

impl Directory {
    /// Sorts the things at `offsets` by name; `what` they are is for the error.
    fn new(bytes: &[u8], offsets: Vec<u64>, what: &'static str) -> Result<Self, ReadError> {
        let mut by_name = offsets.clone();
        by_name.sort_unstable_by_key(|&at| name_at(bytes, at));

        let twice = by_name
            .windows(2)
            .find(|pair| name_at(bytes, pair[0]) == name_at(bytes, pair[1]));
        if let Some(pair) = twice {
            return Err(ReadError::Duplicate {
                what,
                name: name_at(bytes, pair[0]).to_owned(),
            });
        }

        Ok(Self { offsets, by_name })
    }

    fn find(&self, bytes: &[u8], name: &str) -> Option<u64> {
        let index = self
            .by_name
            .binary_search_by_key(&name, |&at| name_at(bytes, at))
            .ok()?;

        Some(self.by_name[index])
    }
}

/// Returns the name that starts at `at`, where one has been read before.
fn name_at(bytes: &[u8], at: u64) -> &str {
    Cursor::new(bytes, at)
        .name(format_args!("a name"), KEY_BYTES_MAX)
        .expect("this name was read once")
}

/// A place in the file, and what can be read from there on.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: u64,
}

/// What the file says about a tensor.
struct Described<'a> {
    name: &'a str,
    dims: [u64; DIMS_MAX as usize],
    n_dims: usize,
    tensor_type: TensorType,
    /// Offset in the data section.
    offset: u64,
    bytes: u64,
}

impl<'a> Cursor<'a> {
    fn new(bytes: &'a [u8], at: u64) -> Self {
        Self { bytes, at }
    }

    fn magic_and_version(&mut self) -> Result<u32, ReadError> {
        let start = &self.bytes[..self.bytes.len().min(4)];
        if start != b"GGUF" {
            return Err(ReadError::NotGguf {
                start: String::from_utf8_lossy(start).into_owned(),
            });
        }
        self.at = 4;

        let found = self.u32(format_args!("the version"))?;
        match found {
            _ if VERSIONS.contains(&found) => Ok(found),
            // 3 in the other byte order, and the same for every version below 65,536.
            _ if found & 0xffff == 0 && found != 0 => Err(ReadError::BigEndian),
            _ => Err(ReadError::Version { found }),
        }
    }

    fn key_value(&mut self) -> Result<KeyValue<'a>, ReadError> {
        let start = self.at;
        let key = self.name(format_args!("a key"), KEY_BYTES_MAX)?;
        let value_type = self.value_type(key)?;

        let value = if value_type == ValueType::Array {
            Value::Array(self.array(key)?)
        } else {
            let needed = value_type.fixed_bytes().unwrap_or(8); // a string: its length at least
            let (value, rest) = split_value(value_type, self.rest())
                .ok_or_else(|| self.truncated(format_args!("the value of `{key}`"), needed))?;
            self.at = self.bytes.len() as u64 - rest.len() as u64;

            value
        };

        Ok(KeyValue {
            key,
            value,
            value_type,
            range: start..self.at,
        })
    }

    fn array(&mut self, key: &str) -> Result<Array<'a>, ReadError> {
        let at = self.at;
        let element = self.value_type(key)?;
        if element == ValueType::Array {
            return Err(ReadError::NestedArray {
                key: key.to_owned(),
                at,
            });
        }
        let len = self.u64(format_args!("the length of `{key}`"))?;
        let start = self.at;

        match element.fixed_bytes() {
            Some(width) => {
                self.skip(format_args!("the array `{key}`"), len.saturating_mul(width))?;
            }
            None => {
                for index in 0..len {
                    let bytes = self.u64(format_args!("element {index} of `{key}`"))?;
                    self.skip(format_args!("element {index} of `{key}`"), bytes)?;
                }
            }
        }

        Ok(Array {
            element,
            len,
            bytes: part(self.bytes, start..self.at).expect("just passed over"),
        })
    }

    fn value_type(&mut self, key: &str) -> Result<ValueType, ReadError> {
        let at = self.at;
        let found = self.u32(format_args!("the type of `{key}`"))?;

        ValueType::from_id(found).ok_or_else(|| ReadError::ValueType {
            key: key.to_owned(),
            at,
            found,
        })
    }

    fn tensor(&mut self) -> Result<Described<'a>, ReadError> {
        let name = self.name(format_args!("a tensor's name"), TENSOR_NAME_BYTES_MAX)?;
        let at = self.at;
        let n_dims = self.u32(format_args!("the dimensions of `{name}`"))?;
        if n_dims > DIMS_MAX {
            return Err(ReadError::TooLarge {
                what: format!("the number of dimensions of `{name}`"),
                at,
                found: n_dims.into(),
                max: DIMS_MAX.into(),
            });
        }

        let n_dims = n_dims as usize; // at most 4
        let mut dims = [1; DIMS_MAX as usize];
        for dim in &mut dims[..n_dims] {
            *dim = self.u64(format_args!("the shape of `{name}`"))?;
        }
        let id = self.u32(format_args!("the type of `{name}`"))?;
        let offset = self.u64(format_args!("the offset of `{name}`"))?;

        let tensor_type = TensorType::from_id(id).ok_or_else(|| ReadError::TensorType {
            tensor: name.to_owned(),
            found: id,
        })?;
        let whole = n_dims > 0 && !dims.contains(&0);
        let bytes = tensor_type.bytes_of(&dims).filter(|_| whole);

        Ok(Described {
            name,
            dims,
            n_dims,
            tensor_type,
            offset,
            bytes: bytes.ok_or_else(|| ReadError::Shape {
                tensor: name.to_owned(),
                tensor_type,
                dims: dims[..n_dims].to_vec(),
            })?,
        })
    }

    fn name(&mut self, what: fmt::Arguments<'_>, bytes_max: u64) -> Result<&'a str, ReadError> {
        let at = self.at;
        let bytes = self.u64(what)?;
        if bytes > bytes_max {
            return Err(ReadError::TooLarge {
                what: format!("the length of {what}"),
                at,
                found: bytes,
                max: bytes_max,
            });
        }
        let name = self.skip(what, bytes)?;

        match std::str::from_utf8(name) {
            Ok(name) if !name.is_empty() => Ok(name),
            _ => Err(ReadError::BadName {
                what: what.to_string(),
                at,
            }),
        }
    }

    fn count(&mut self, what: fmt::Arguments<'_>, max: u64) -> Result<u64, ReadError> {
        let at = self.at;
        let found = self.u64(what)?;
        if found > max {
            return Err(ReadError::TooLarge {
                what: what.to_string(),
                at,
                found,
                max,
            });
        }

        Ok(found)
    }

    fn u32(&mut self, what: fmt::Arguments<'_>) -> Result<u32, ReadError> {
        let bytes = self.skip(what, 4)?;

        Ok(u32::from_le_bytes(bytes.try_into().expect("asked for 4")))
    }

    fn u64(&mut self, what: fmt::Arguments<'_>) -> Result<u64, ReadError> {
        let bytes = self.skip(what, 8)?;

        Ok(u64::from_le_bytes(bytes.try_into().expect("asked for 8")))
    }

    /// Passes over `needed` bytes and returns them.
    fn skip(&mut self, what: fmt::Arguments<'_>, needed: u64) -> Result<&'a [u8], ReadError> {
        self.expect_left(what, needed)?;
        let start = self.at;
        self.at += needed;

        Ok(part(self.bytes, start..self.at).expect("as much is left"))
    }

    fn expect_left(&self, what: fmt::Arguments<'_>, needed: u64) -> Result<(), ReadError> {
        if needed > self.rest().len() as u64 {
            return Err(self.truncated(what, needed));
        }

        Ok(())
    }

    fn truncated(&self, what: fmt::Arguments<'_>, needed: u64) -> ReadError {
        ReadError::Truncated {
            what: what.to_string(),
            at: self.at,
            needed,
            left: self.rest().len() as u64,
        }
    }

    fn rest(&self) -> &'a [u8] {
        part(self.bytes, self.at..self.bytes.len() as u64).expect("never beyond the end")
    }
}

impl<'a> Described<'a> {
    /// Returns where the next tensor starts, if this one starts where the one before has ended.
    fn end_if_at(&self, expected: u64, alignment: u64) -> Result<u64, ReadError> {
        let end = expected
            .checked_add(self.bytes)
            .and_then(|end| end.checked_next_multiple_of(alignment));

        match end {
            Some(end) if self.offset == expected => Ok(end),
            _ => Err(ReadError::Offset {
                tensor: self.name.to_owned(),
                found: self.offset,
                expected,
            }),
        }
    }

    /// Returns the tensor with its data.
    fn with_data(self, file: &'a [u8], data_start: u64) -> Result<Tensor<'a>, ReadError> {
        let start = data_start.saturating_add(self.offset);
        let end = start.saturating_add(self.bytes);
        let bytes = part(file, start..end);

        Ok(Tensor {
            name: self.name,
            tensor_type: self.tensor_type,
            bytes: bytes.ok_or_else(|| ReadError::Truncated {
                what: format!("tensor `{}`", self.name),
                at: start,
                needed: self.bytes,
                left: (file.len() as u64).saturating_sub(start),
            })?,
            range: start..end,
            dims: self.dims,
            n_dims: self.n_dims,
        })
    }
}

/// Returns the bytes at `range` of the file, if they are there.
pub(crate) fn part(file: &[u8], range: Range<u64>) -> Option<&[u8]> {
    let start = usize::try_from(range.start).ok()?;
    let end = usize::try_from(range.end).ok()?;

    file.get(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let file = File::new()
            .key("general.architecture", 8, &text("llama"))
            .key("llama.block_count", 4, &7u32.to_le_bytes())
            .key(
                "some.list",
                9,
                &[
                    &5u32.to_le_bytes()[..],
                    &2u64.to_le_bytes(),
                    &[1, 0, 0, 0, 2, 0, 0, 0],
                ]
                .concat(),
            )
            .tensor("a", &[3, 2], 0, 0)
            .tensor("b", &[32], 2, 32)
            .data(&[7; 24])
            .data(&[8; 18]);

        let gguf = Gguf::from_bytes(file.bytes()).unwrap();

        assert_eq!(gguf.text("general.architecture").unwrap(), "llama");
        assert_eq!(gguf.number("llama.block_count").unwrap(), 7);
        let list = gguf.find_array("some.list").unwrap().unwrap();
        assert_eq!(
            list.iter().collect::<Vec<_>>(),
            [Value::Unsigned(1), Value::Unsigned(2)]
        );
        let tensors = gguf
            .tensors()
            .map(|t| (t.name, t.dims().to_vec(), t.bytes.to_vec()));
        assert_eq!(
            tensors.collect::<Vec<_>>(),
            [("a", vec![3, 2], vec![7; 24]), ("b", vec![32], vec![8; 18])]
        );
        assert!(gguf.tensor("b").is_some() && gguf.tensor("c").is_none());
    }

    #[test]
    fn a_missing_or_wrong_number_names_its_key() {
        let file = File::new().key("llama.block_count", 8, &text("seven"));
        let gguf = Gguf::from_bytes(file.bytes()).unwrap();

        let wrong = gguf.number("llama.block_count").unwrap_err().to_string();
        let missing = gguf.number("llama.context_length").unwrap_err().to_string();

        assert!(
            wrong.contains("`llama.block_count`") && wrong.contains("5 bytes"),
            "{wrong}"
        );
        assert!(missing.contains("`llama.context_length`"), "{missing}");
    }

    /// Every way in which a header can be wrong, and what is said about it.
    #[test]
    fn every_fault_is_named() {
        let list =
            |element: u32, len: u64| [&element.to_le_bytes()[..], &len.to_le_bytes()].concat();
        let faults: Vec<(&str, Vec<u8>)> = vec![
            ("starts with \"\"", vec![]),
            ("starts with \"PK\\u{3}\\u{4}\"", b"PK\x03\x04rest".to_vec()),
            ("the version at byte 4", b"GGUF\x03".to_vec()),
            ("version 1 is not supported", File::new().version(1).bytes()),
            ("version 0 is not supported", File::new().version(0).bytes()),
            ("version 4 is not supported", File::new().version(4).bytes()),
            ("big-endian", File::new().version(3u32.swap_bytes()).bytes()),
            (
                "number of tensors at byte 8 is 9223372036854775808",
                File::new().counts(1 << 63, 0).bytes(),
            ),
            (
                "number of keys at byte 16 is 65537",
                File::new().counts(0, 65_537).bytes(),
            ),
            (
                "the metadata at byte 24 needs 14 bytes, 0 are left",
                File::new().counts(0, 1).bytes(),
            ),
            (
                "the tensors at byte 24 needs 33 bytes, 0 are left",
                File::new().counts(1, 0).bytes(),
            ),
            (
                "a key at byte 24 is empty",
                File::new().key("", 4, &[1, 0, 0, 0]).bytes(),
            ),
            (
                "key `k` at byte 33 has value type 13",
                File::new().key("k", 13, &[0; 8]).bytes(),
            ),
            (
                "key `k` at byte 37 is an array of arrays",
                File::new().key("k", 9, &list(9, 1)).bytes(),
            ),
            (
                "the array `k` at byte 49 needs 18446744073709551615",
                File::new().key("k", 9, &list(10, u64::MAX)).bytes(),
            ),
            (
                "element 0 of `k` at byte 49 needs 8",
                File::new().key("k", 9, &list(8, u64::MAX)).bytes(),
            ),
            (
                "the value of `k`",
                File::new().key("k", 8, &u64::MAX.to_le_bytes()).bytes(),
            ),
            (
                "key `k` occurs twice",
                File::new().key("k", 0, &[1]).key("k", 0, &[2]).bytes(),
            ),
            (
                "general.alignment is 0",
                File::new().key("general.alignment", 4, &[0; 4]).bytes(),
            ),
            (
                "general.alignment is 48",
                File::new()
                    .key("general.alignment", 4, &[48, 0, 0, 0])
                    .bytes(),
            ),
            (
                "should be a whole number",
                File::new().key("general.alignment", 8, &text("x")).bytes(),
            ),
            (
                "the length of a tensor's name at byte 24 is 64",
                File::new().tensor(&"x".repeat(64), &[1], 0, 0).bytes(),
            ),
            (
                "dimensions of `t` at byte 33 is 5",
                File::new().tensor("t", &[1; 5], 0, 0).bytes(),
            ),
            (
                "`t` has type 4",
                File::new().tensor("t", &[1], 4, 0).bytes(),
            ),
            (
                "cannot have the shape [33]",
                File::new().tensor("t", &[33], 2, 0).bytes(),
            ),
            (
                "cannot have the shape [1, 0]",
                File::new().tensor("t", &[1, 0], 0, 0).bytes(),
            ),
            (
                "cannot have the shape [4294967296, 4294967296]",
                File::new().tensor("t", &[1 << 32, 1 << 32], 0, 0).bytes(),
            ),
            (
                "tensor `t` starts at 32 in the data, it should start at 0",
                File::new().tensor("t", &[1], 0, 32).data(&[0; 64]).bytes(),
            ),
            (
                "tensor `t` starts at 18446744073709551615",
                File::new()
                    .tensor("t", &[1], 0, u64::MAX)
                    .data(&[0; 64])
                    .bytes(),
            ),
            (
                "tensor `u` starts at 0 in the data, it should start at 32",
                File::new()
                    .tensor("t", &[1], 0, 0)
                    .tensor("u", &[1], 0, 0)
                    .data(&[0; 64])
                    .bytes(),
            ),
            (
                "tensor `t` occurs twice",
                File::new()
                    .tensor("t", &[1], 0, 0)
                    .tensor("t", &[1], 0, 32)
                    .data(&[0; 64])
                    .bytes(),
            ),
            (
                "tensor `t` at byte 64 needs 4611686018427387904 bytes, 0 are left",
                File::new().tensor("t", &[1 << 60], 0, 0).bytes(),
            ),
        ];

        for (said, bytes) in faults {
            let error = Gguf::from_bytes(bytes).expect_err(said).to_string();
            assert!(error.contains(said), "{error:?} should say {said:?}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Gguf::open("/nowhere/model.gguf".as_ref()).unwrap_err();

        assert!(error.to_string().contains("/nowhere/model.gguf"), "{error}");
    }

    /// A file put together byte by byte, right or wrong.
    #[derive(Default)]
    struct File {
        version: Option<u32>,
        counts: Option<(u64, u64)>,
        keys: Vec<Vec<u8>>,
        tensors: Vec<Vec<u8>>,
        data: Vec<Vec<u8>>,
    }

    impl File {
        fn new() -> Self {
            Self::default()
        }

        fn version(mut self, version: u32) -> Self {
            self.version = Some(version);
            self
        }

        /// Claims that there are so many tensors and keys.
        fn counts(mut self, tensors: u64, keys: u64) -> Self {
            self.counts = Some((tensors, keys));
            self
        }

        fn key(mut self, key: &str, value_type: u32, value: &[u8]) -> Self {
            let bytes = [&text(key), &value_type.to_le_bytes()[..], value];
            self.keys.push(bytes.concat());
            self
        }

        fn tensor(mut self, name: &str, dims: &[u64], tensor_type: u32, offset: u64) -> Self {
            let mut bytes = text(name);
            bytes.extend((dims.len() as u32).to_le_bytes());
            bytes.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
            bytes.extend(tensor_type.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
            self.tensors.push(bytes);
            self
        }

        fn data(mut self, bytes: &[u8]) -> Self {
            self.data.push(bytes.to_vec());
            self
        }

        fn bytes(self) -> Vec<u8> {
            let real = (self.tensors.len() as u64, self.keys.len() as u64);
            let (n_tensors, n_keys) = self.counts.unwrap_or(real);
            let mut bytes = b"GGUF".to_vec();
            bytes.extend(self.version.unwrap_or(3).to_le_bytes());
            bytes.extend(n_tensors.to_le_bytes());
            bytes.extend(n_keys.to_le_bytes());
            bytes.extend(self.keys.concat());
            bytes.extend(self.tensors.concat());
            for data in self.data {
                bytes.resize(bytes.len().next_multiple_of(32), 0);
                bytes.extend(data);
            }

            bytes
        }
    }

    fn text(text: &str) -> Vec<u8> {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());

        bytes
    }
}
