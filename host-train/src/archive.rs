//! Safetensors files: named tensors and text metadata, read whole and written with the same bytes for the same content.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use backpropamine::image::MAGIC;
use safetensors::{Dtype, SafeTensorError, SafeTensors, View};
use serde_json::{Map, Value};

use crate::files::{self, FileError};

/// One tensor: element type, shape and little-endian row-major bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Element type.
    pub dtype: Dtype,
    /// Length of every dimension, slowest first.
    pub shape: Vec<usize>,
    /// The elements, little-endian, row by row.
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// An F32 tensor. `values` has as many elements as `shape` says.
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self {
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            bytes,
        }
    }

    /// An F64 tensor. `values` has as many elements as `shape` says.
    pub fn from_f64(shape: &[usize], values: &[f64]) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self {
            dtype: Dtype::F64,
            shape: shape.to_vec(),
            bytes,
        }
    }

    /// The elements of an F32 tensor; `None` for any other type.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        (self.dtype == Dtype::F32).then(|| elements(&self.bytes, f32::from_le_bytes))
    }

    /// The elements of an F64 tensor; `None` for any other type.
    pub fn to_f64(&self) -> Option<Vec<f64>> {
        (self.dtype == Dtype::F64).then(|| elements(&self.bytes, f64::from_le_bytes))
    }
}

/// Splits `bytes` into little-endian elements of `N` bytes.
pub(crate) fn elements<const N: usize, T>(bytes: &[u8], decode: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|&chunk| decode(chunk)).collect()
}

impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// The content of one safetensors file, in the order of the names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Archive {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// The text entries of `__metadata__`.
    pub metadata: BTreeMap<String, String>,
}

impl Archive {
    /// Reads a file.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read, is truncated or is no safetensors file.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        Self::from_bytes(&files::read(path)?, path)
    }

    /// Reads a file's bytes; `path` is for the error message.
    ///
    /// # Errors
    /// [`FileError`] when the bytes are truncated or are no safetensors file.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, FileError> {
        let view = SafeTensors::deserialize(bytes).map_err(|error| broken(bytes, path, &error))?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| broken(bytes, path, &error))?;
        let tensors = view.iter().map(|(name, tensor)| {
            let tensor = Tensor {
                dtype: tensor.dtype(),
                shape: tensor.shape().to_vec(),
                bytes: tensor.data().to_vec(),
            };
            (name.to_owned(), tensor)
        });
        let metadata = header.metadata().iter().flatten();
        Ok(Self {
            tensors: tensors.collect(),
            metadata: metadata.map(|(key, value)| (key.clone(), value.clone())).collect(),
        })
    }

    /// The file's bytes: a function of the content alone.
    ///
    /// # Errors
    /// When a tensor's bytes do not fit its shape.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SafeTensorError> {
        let metadata: HashMap<String, String> = self.metadata.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let bytes = safetensors::serialize(&self.tensors, (!metadata.is_empty()).then_some(metadata))?;
        sort_metadata(bytes)
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// When a tensor's bytes do not fit its shape, or the folder cannot be written to.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        Ok(files::write_atomically(path, &self.to_bytes()?)?)
    }
}

/// The safetensors library writes the metadata in the random order of a hash map; this sorts it in place.
fn sort_metadata(mut bytes: Vec<u8>) -> Result<Vec<u8>, SafeTensorError> {
    const LENGTH: usize = size_of::<u64>();
    let (end, _) = SafeTensors::read_metadata(&bytes)?;
    let header = &mut bytes[LENGTH..LENGTH + end];
    let mut object: Map<String, Value> = serde_json::from_slice(header)?;
    if let Some(Value::Object(metadata)) = object.get_mut("__metadata__") {
        metadata.sort_keys();
    }
    let sorted = serde_json::to_vec(&object)?;
    header.fill(b' ');
    header[..sorted.len()].copy_from_slice(&sorted);
    Ok(bytes)
}

/// Says what is wrong with a file that the safetensors library refuses.
fn broken(bytes: &[u8], path: &Path, error: &SafeTensorError) -> FileError {
    const HINT: &str = "the file is truncated or damaged: copy it again, or write it again with safetensors";
    let found = format!("a file of {} bytes", bytes.len());
    match error {
        SafeTensorError::HeaderTooSmall => FileError::new(path, "header length", "at least 8 bytes", found, HINT),
        SafeTensorError::InvalidHeaderLength => {
            let length = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
            FileError::new(
                path,
                "header",
                format_args!("{length} bytes of header after the first 8"),
                found,
                HINT,
            )
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            FileError::new(path, "data", "as many bytes as the header's tensors take", found, HINT)
        }
        SafeTensorError::InvalidOffset(name) => FileError::new(path, name, "offsets that follow the tensor before it", "others", HINT),
        _ if bytes.starts_with(&MAGIC.to_le_bytes()) => FileError::new(
            path,
            "header",
            "a safetensors model",
            "a .bpam image",
            "give the model that the image was exported from",
        ),
        other => FileError::new(path, "header", "a safetensors header", other, HINT),
    }
}
