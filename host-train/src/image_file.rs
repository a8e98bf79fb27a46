//! `.bpam` files on the host: reading one with every check of the core, and the model words that it carries.

use std::collections::BTreeMap;
use std::path::Path;

use backpropamine::image::{Header, LoadError, Numeric, Section};
use backpropamine::network::Network;
use backpropamine::scalar::{Q7, Q15};

use crate::files::{self, FileError};

/// An image that passed every check.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageFile {
    /// The image, ready for `Network::new`.
    pub words: Vec<u32>,
    /// What it says about itself.
    pub header: Header,
    /// The model's metadata words that the header does not hold: `task`, `seed`, `config`, …
    pub metadata: BTreeMap<String, String>,
}

/// Whether a MODEL argument is an image, by its name or by its first bytes.
pub fn is_image(path: &Path) -> bool {
    let named = path.extension().is_some_and(|extension| extension == "bpam");
    named || std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"BPAM"))
}

impl ImageFile {
    /// Reads and checks an image.
    ///
    /// # Errors
    /// [`FileError`] naming the header field or section.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        Self::from_bytes(&files::read(path)?, path)
    }

    /// Checks an image's bytes; `path` is for the error message.
    ///
    /// # Errors
    /// [`FileError`] naming the header field or section.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, FileError> {
        let (quads, rest) = bytes.as_chunks();
        if !rest.is_empty() {
            return Err(FileError::new(path, "length", "a multiple of 4 bytes", bytes.len(), HINT));
        }
        let words: Vec<u32> = quads.iter().map(|&quad| u32::from_le_bytes(quad)).collect();
        let header = check(&words).map_err(|error| refused(path, error))?;
        let metadata = metadata(&words, &header, path)?;
        Ok(Self { words, header, metadata })
    }
}

/// Every check of the core, the numbers included.
fn check(words: &[u32]) -> Result<Header, LoadError> {
    let header = Header::parse(words)?;
    match header.numeric {
        Numeric::F32 => Network::<f32>::new(words).map(|_| header),
        Numeric::Q15 => Network::<Q15>::new(words).map(|_| header),
        Numeric::Q7 => Network::<Q7>::new(words).map(|_| header),
    }
}

const HINT: &str = "copy the file again, or export it again with `backpropamine export MODEL --out IMAGE.bpam`";

/// A [`LoadError`] with the file that it is about.
pub fn refused(path: &Path, error: LoadError) -> FileError {
    let hex = |word: u32| format!("{word:#010x}");
    let (field, expected, found) = match error {
        LoadError::NotAnImage { found } => ("magic", "\"BPAM\"".to_owned(), hex(found)),
        LoadError::Version { expected, found } => ("version", expected.to_string(), found.to_string()),
        LoadError::Length { expected, found } => ("length", format!("{expected} bytes"), format!("{found} bytes")),
        LoadError::Checksum { expected, found } => ("checksum", hex(expected), hex(found)),
        LoadError::Numeric { expected, found } => ("numeric", format!("{expected:?}"), format!("{found:?}")),
        LoadError::Field { field, found } => (field, "a value that this version knows".to_owned(), found.to_string()),
        LoadError::NotFinite { section, index } => (
            tensor_name(section),
            "finite values".to_owned(),
            format!("NaN or infinity at word {index}"),
        ),
        other => ("image", "an image that this version reads".to_owned(), other.to_string()),
    };
    FileError::new(path, field, expected, found, HINT)
}

/// The model file's name of the tensor in a section.
pub fn tensor_name(section: Section) -> &'static str {
    match section {
        Section::InputWeight => "input.weight",
        Section::InputBias => "input.bias",
        Section::RecurrentWeight => "recurrent.weight",
        Section::Alpha => "recurrent.alpha",
        Section::Eta => "recurrent.eta",
        Section::HebbianEta => "recurrent.hebbian_eta",
        Section::Mask => "modulator.mask",
        Section::ModulatorWeight => "modulator.weight",
        Section::ModulatorBias => "modulator.bias",
        Section::FanOutWeight => "modulator.fan_out.weight",
        Section::FanOutBias => "modulator.fan_out.bias",
        Section::PolicyWeight => "policy.weight",
        Section::PolicyBias => "policy.bias",
        Section::ValueWeight => "value.weight",
        Section::ValueBias => "value.bias",
        Section::Metadata => "metadata",
    }
}

fn metadata(words: &[u32], header: &Header, path: &Path) -> Result<BTreeMap<String, String>, FileError> {
    let bytes: Vec<u8> = words[header.section_start(Section::Metadata)..]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    let malformed = |found: String| FileError::new(path, "metadata", "lines of UTF-8 text, key = \"value\"", found, HINT);
    let text = std::str::from_utf8(&bytes[..header.metadata_bytes]).map_err(|error| malformed(error.to_string()))?;
    toml::from_str(text).map_err(|error| malformed(error.message().to_owned()))
}
