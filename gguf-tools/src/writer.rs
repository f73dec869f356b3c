//! Putting a GGUF file together out of pieces that need not be in memory.

use std::ops::Range;

use crate::reader::ALIGNMENT_DEFAULT;
use crate::tensor_type::TensorType;
use crate::value::ValueType;

/// A piece of a file that is being put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A range of the source file.
    Source(Range<u64>),
    /// As many zeros.
    Zeros(u64),
}

impl Piece {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::Source(range) => range.end - range.start,
            Piece::Zeros(len) => *len,
        }
    }
}

/// A metadata value that is written anew.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NewValue {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Bools(Vec<bool>),
    I32s(Vec<i32>),
    Texts(Vec<String>),
    /// Elements as they lie in a file, and how many there are.
    Raw(ValueType, u64, Vec<u8>),
}

/// A tensor to be written, whose data is `data`.
#[derive(Debug, Clone)]
pub(crate) struct NewTensor {
    pub(crate) name: String,
    pub(crate) dims: Vec<u64>,
    pub(crate) tensor_type: TensorType,
    pub(crate) data: Piece,
}

/// A file in the making.
#[derive(Debug)]
pub(crate) struct Builder {
    alignment: u64,
    keys: Vec<Piece>,
    n_keys: u64,
    tensors: Vec<NewTensor>,
}

impl Builder {
    /// Starts a file whose tensors are aligned to `alignment` bytes.
    ///
    /// The key that says so is the caller's, if it is not the usual alignment.
    pub(crate) fn new(alignment: u64) -> Self {
        Self {
            alignment,
            keys: Vec::new(),
            n_keys: 0,
            tensors: Vec::new(),
        }
    }

    /// Adds a key as it lies in the source.
    pub(crate) fn copy_key(&mut self, range: Range<u64>) {
        self.n_keys += 1;
        self.keys.push(Piece::Source(range));
    }

    /// Adds a key as it lies in some other file.
    pub(crate) fn raw_key(&mut self, bytes: Vec<u8>) {
        self.n_keys += 1;
        self.keys.push(Piece::Bytes(bytes));
    }

    /// Adds a key with a value of its own.
    pub(crate) fn key(&mut self, key: &str, value: &NewValue) {
        let mut bytes = Vec::new();
        put_text(&mut bytes, key.as_bytes());
        put_value(&mut bytes, value);

        self.raw_key(bytes);
    }

    /// Adds a tensor after those that are there.
    pub(crate) fn tensor(&mut self, tensor: NewTensor) {
        self.tensors.push(tensor);
    }

    /// Returns the file, piece by piece.
    pub(crate) fn build(self) -> Vec<Piece> {
        let mut pieces = self.header_pieces();
        for tensor in self.tensors {
            pieces.push(tensor.data);
            pieces.align(self.alignment);
        }

        pieces.list
    }

    /// Returns what stands before the tensors' data, piece by piece.
    pub(crate) fn header(&self) -> Vec<Piece> {
        self.header_pieces().list
    }

    /// Returns the bytes of the tensors' data, as they are aligned in the file.
    pub(crate) fn data_bytes(&self) -> u64 {
        let lens = self.tensors.iter().map(|tensor| tensor.data.len());

        lens.map(|len| len.next_multiple_of(self.alignment)).sum()
    }

    fn header_pieces(&self) -> Pieces {
        let mut pieces = Pieces::default();
        pieces.push(Piece::Bytes(self.preamble()));
        for key in &self.keys {
            pieces.push(key.clone());
        }
        pieces.push(Piece::Bytes(self.tensor_table()));
        pieces.align(self.alignment);

        pieces
    }

    fn preamble(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend(self.n_keys.to_le_bytes());

        bytes
    }

    fn tensor_table(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut offset = 0u64;

        for tensor in &self.tensors {
            put_text(&mut bytes, tensor.name.as_bytes());
            bytes.extend((tensor.dims.len() as u32).to_le_bytes()); // at most 4
            for dim in &tensor.dims {
                bytes.extend(dim.to_le_bytes());
            }
            bytes.extend(tensor.tensor_type.id().to_le_bytes());
            bytes.extend(offset.to_le_bytes());
            offset = (offset + tensor.data.len()).next_multiple_of(self.alignment);
        }

        bytes
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new(ALIGNMENT_DEFAULT)
    }
}

/// Pieces in order, joined where they can be.
#[derive(Default)]
struct Pieces {
    list: Vec<Piece>,
    len: u64,
}

impl Pieces {
    fn push(&mut self, piece: Piece) {
        self.len += piece.len();

        match (self.list.last_mut(), piece) {
            (_, empty) if empty.len() == 0 => {}
            (Some(Piece::Bytes(before)), Piece::Bytes(bytes)) => before.extend(bytes),
            (Some(Piece::Zeros(before)), Piece::Zeros(zeros)) => *before += zeros,
            (Some(Piece::Source(before)), Piece::Source(range)) if before.end == range.start => {
                before.end = range.end;
            }
            (_, piece) => self.list.push(piece),
        }
    }

    fn align(&mut self, alignment: u64) {
        self.push(Piece::Zeros(
            self.len.next_multiple_of(alignment) - self.len,
        ));
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text);
}

fn put_value(bytes: &mut Vec<u8>, value: &NewValue) {
    let put_type = |bytes: &mut Vec<u8>, value_type: ValueType| {
        bytes.extend(value_type.id().to_le_bytes());
    };
    let put_list = |bytes: &mut Vec<u8>, element: ValueType, len: usize| {
        put_type(bytes, ValueType::Array);
        put_type(bytes, element);
        bytes.extend((len as u64).to_le_bytes());
    };

    match value {
        NewValue::U32(number) => {
            put_type(bytes, ValueType::U32);
            bytes.extend(number.to_le_bytes());
        }
        NewValue::F32(number) => {
            put_type(bytes, ValueType::F32);
            bytes.extend(number.to_le_bytes());
        }
        NewValue::Bool(flag) => {
            put_type(bytes, ValueType::Bool);
            bytes.push(u8::from(*flag));
        }
        NewValue::Text(text) => {
            put_type(bytes, ValueType::String);
            put_text(bytes, text.as_bytes());
        }
        NewValue::Bools(flags) => {
            put_list(bytes, ValueType::Bool, flags.len());
            bytes.extend(flags.iter().map(|&flag| u8::from(flag)));
        }
        NewValue::I32s(numbers) => {
            put_list(bytes, ValueType::I32, numbers.len());
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
        NewValue::Texts(texts) => {
            put_list(bytes, ValueType::String, texts.len());
            for text in texts {
                put_text(bytes, text.as_bytes());
            }
        }
        NewValue::Raw(element, len, elements) => {
            put_type(bytes, ValueType::Array);
            put_type(bytes, *element);
            bytes.extend(len.to_le_bytes());
            bytes.extend(elements);
        }
    }
}
