//! Files that are never half-written, and the one error type for files that are not what they should be.

use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// An input file that cannot be used: says which file, which field, what was expected, what was found and what to do.
///
/// The process ends with exit code 3.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {field}: expected {expected}, found {found}; {hint}", .file.display())]
pub struct FileError {
    /// The file, as the user named it.
    pub file: PathBuf,
    /// The tensor, metadata word, key, header field or section.
    pub field: String,
    /// What the format asks for.
    pub expected: String,
    /// What the file has.
    pub found: String,
    /// What the user can do about it.
    pub hint: String,
}

impl FileError {
    /// Builds the error; every argument becomes one part of the message.
    pub fn new(file: &Path, field: impl Display, expected: impl Display, found: impl Display, hint: impl Display) -> Self {
        Self {
            file: file.to_owned(),
            field: field.to_string(),
            expected: expected.to_string(),
            found: found.to_string(),
            hint: hint.to_string(),
        }
    }
}

/// An output file that could not be written; what was there before still is. The process ends with exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be written: {}; check that its folder exists, may be written to and has room", .file.display(), first_cause(.source))]
pub struct WriteError {
    /// The file, as the user named it.
    pub file: PathBuf,
    /// What the operating system says.
    pub source: io::Error,
}

/// Without the name of the temporary file, which says nothing to anyone.
fn first_cause(error: &io::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// Reads a whole input file.
///
/// # Errors
/// [`FileError`] when it does not exist or cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|error| FileError::new(path, "file", "a readable file", error, "check the path and its permissions"))
}

/// Reads a whole UTF-8 text file.
///
/// # Errors
/// [`FileError`] when it does not exist, cannot be read or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, FileError> {
    String::from_utf8(read(path)?).map_err(|error| FileError::new(path, "text", "UTF-8", error.utf8_error(), "save the file as UTF-8 text"))
}

/// How the name of a temporary file begins and ends.
const TEMPORARY: (&str, &str) = (".backpropamine-", ".tmp");

/// Removes the temporary files that killed processes left in `folder`. No living process may be writing there.
///
/// # Errors
/// When the folder cannot be read or a file not be removed.
pub fn remove_temporaries(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(TEMPORARY.0) && name.ends_with(TEMPORARY.1) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Replaces `path` by `bytes`, whole or not at all.
///
/// # Errors
/// [`WriteError`] when the folder cannot be written to; `path` is then as it was before.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    replace_file(path, |file| file.write_all(bytes)).map_err(|source| WriteError {
        file: path.to_owned(),
        source,
    })
}

/// Replaces `path` by what `fill` writes, whole or not at all: a temporary file in the same folder, made durable,
/// then renamed over the old one. Links are followed. What is not a regular file (a pipe, `/dev/stdout`) has no
/// old content to protect and is written in place.
///
/// # Errors
/// Whatever `fill` or the file system reports; `path` is then as it was before, and no temporary file stays behind.
pub fn replace_file(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    if std::fs::metadata(path).is_ok_and(|data| !data.is_file() && !data.is_dir()) {
        return fill(&mut std::fs::OpenOptions::new().write(true).open(path)?);
    }
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY.0).suffix(TEMPORARY.1);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut temporary = builder.tempfile_in(folder)?;
    fill(temporary.as_file_mut())?;
    temporary.as_file().sync_all()?;
    temporary.persist(&target)?;
    Ok(())
}
