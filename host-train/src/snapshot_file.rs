//! Files with snapshots of what a lifetime has learned: alone, or somewhere in a dump of a board's flash.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use anyhow::Result;
use backpropamine::network::Agent;
use backpropamine::scalar::Scalar;
use backpropamine::snapshot::{self, HEADER_BYTES, Head, Life, MAGIC, SnapshotError};

use crate::files::{self, FileError};

/// A snapshot that passed every check that needs no model.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotFile {
    /// The file, for messages.
    pub path: PathBuf,
    /// Where in the file it begins.
    pub offset: usize,
    /// What it says about itself.
    pub head: Head,
    /// The snapshot.
    pub bytes: Vec<u8>,
}

impl SnapshotFile {
    /// The newest snapshot of a file, whether it is that snapshot or a dump of flash.
    ///
    /// # Errors
    /// [`FileError`] when there is none that is whole.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let mut all = Self::load_all(path)?;
        Ok(all.swap_remove(0))
    }

    /// All whole snapshots of a file, the newest first; at least one.
    ///
    /// # Errors
    /// As [`load`](Self::load): what is wrong with the first that begins, or that none does.
    pub fn load_all(path: &Path) -> Result<Vec<Self>, FileError> {
        let bytes = files::read(path)?;
        let (mut whole, mut wrong) = (Vec::new(), None);
        for offset in (0..bytes.len()).step_by(4) {
            let rest = &bytes[offset..];
            if !rest.starts_with(&MAGIC.to_le_bytes()) {
                continue;
            }
            match verify(rest) {
                Ok(head) => whole.push(Self {
                    path: path.to_owned(),
                    offset,
                    head,
                    bytes: rest[..head.bytes as usize].to_vec(),
                }),
                Err(error) => wrong = wrong.or(Some(error)),
            }
        }
        if whole.is_empty() {
            let found = bytes.first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
            return Err(refused(path, wrong.unwrap_or(SnapshotError::NotASnapshot { found })));
        }
        whole.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.head.sequence));
        Ok(whole)
    }

    /// Gives an agent this life.
    ///
    /// # Errors
    /// [`FileError`] when it is that of another model or arithmetic; the agent is then as it was.
    pub fn restore<S: Scalar>(&self, agent: &mut Agent<'_, '_, S>) -> Result<Life, FileError> {
        snapshot::restore_bytes(agent, &self.bytes).map_err(|error| refused(&self.path, error))
    }
}

/// The header of the snapshot that begins here, if it is whole.
fn verify(bytes: &[u8]) -> Result<Head, SnapshotError> {
    let short = |expected| SnapshotError::Length {
        expected,
        found: bytes.len() as u32,
    };
    let head = Head::parse(bytes.first_chunk().ok_or(short(HEADER_BYTES as u32))?)?;
    let bytes = bytes.get(..head.bytes as usize).ok_or(short(head.bytes))?;
    head.verify(&mut snapshot::reader(bytes))?;
    Ok(head)
}

/// The snapshot of an agent, as a file's bytes.
pub fn write<S: Scalar>(agent: &mut Agent<'_, '_, S>, life: &Life, sequence: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let Ok(()) = snapshot::write(agent, life, sequence, |part| {
        bytes.extend_from_slice(part);
        Ok::<(), Infallible>(())
    });
    bytes
}

/// A [`SnapshotError`] with the file that it is about.
pub fn refused(path: &Path, error: SnapshotError) -> FileError {
    let hex = |word: u32| format!("{word:#010x}");
    let (field, expected, found) = match error {
        SnapshotError::NotASnapshot { found } => ("magic", "\"BPSN\"".to_owned(), hex(found)),
        SnapshotError::Version { expected, found } => ("version", expected.to_string(), found.to_string()),
        SnapshotError::Length { expected, found } => ("length", format!("{expected} bytes"), format!("{found} bytes")),
        SnapshotError::Checksum { expected, found } => ("checksum", hex(expected), hex(found)),
        SnapshotError::Model { expected, found } => ("model", format!("the image with checksum {}", hex(expected)), hex(found)),
        SnapshotError::Numeric { expected, found } => ("numeric", format!("numbers of {expected} bytes"), format!("{found} bytes")),
        SnapshotError::Field { field, found } => (field, "a value that this version knows".to_owned(), found.to_string()),
        SnapshotError::NotFinite { offset } => ("state", "finite numbers".to_owned(), format!("NaN or infinity at byte {offset}")),
        other => ("snapshot", "a snapshot that this version reads".to_owned(), other.to_string()),
    };
    let hint = match error {
        SnapshotError::Model { .. } | SnapshotError::Numeric { .. } => "give the model and the --numeric that the board runs",
        _ => "read it from the board again, or take an older one",
    };
    FileError::new(path, field, expected, found, hint)
}
