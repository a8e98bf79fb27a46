//! Building the firmware: finds the checkout, hands the image over, returns the linked ELF.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use super::board::Board;
use super::toolchain::Toolchain;
use crate::cli::ExitKind;

/// The firmware workspace and a compiler for it.
#[derive(Debug, Clone)]
pub struct Firmware {
    folder: PathBuf,
    toolchain: Toolchain,
}

/// What to build.
#[derive(Debug, Clone)]
pub struct Recipe<'a> {
    /// Binary in `firmware/src/bin`.
    pub binary: &'a str,
    /// Board whose memory it is linked for.
    pub board: &'static Board,
    /// Image to embed; `None` embeds the firmware's own.
    pub image: Option<&'a Path>,
    /// Further variables for `firmware/build.rs`, such as `BPAM_LIFETIMES`.
    pub variables: Vec<(&'static str, String)>,
    /// Cargo features; `None` is the default set.
    pub features: Option<&'a str>,
}

impl<'a> Recipe<'a> {
    /// `binary` for `board` with the firmware's own image.
    pub fn new(binary: &'a str, board: &'static Board) -> Self {
        Self {
            binary,
            board,
            image: None,
            variables: Vec::new(),
            features: None,
        }
    }
}

/// A linked program in memory: later builds overwrite cargo's file of the same name.
#[derive(Debug)]
pub struct Elf {
    /// A private copy, deleted with this value.
    pub file: tempfile::TempPath,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl Firmware {
    /// The firmware workspace in `folder`, or the one of the checkout that the current folder lies in.
    ///
    /// # Errors
    /// [`ExitKind::Usage`] when there is none.
    pub fn locate(folder: Option<&Path>, toolchain: Toolchain) -> Result<Self> {
        Ok(Self {
            folder: folder_of(folder)?,
            toolchain,
        })
    }

    /// The workspace's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Builds and returns the program.
    ///
    /// # Errors
    /// When cargo fails; the message ends with what it said.
    pub fn build(&self, recipe: &Recipe) -> Result<Elf> {
        // Two builds of one binary with different images share its file name: from cargo to our copy is one section.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);

        let (success, said) = self.cargo("build", recipe)?;
        if !success {
            bail!("building firmware `{}` for {} failed:\n{said}", recipe.binary, recipe.board.name);
        }
        let linked = self.target_folder().join(recipe.board.target).join("release").join(recipe.binary);
        let bytes = std::fs::read(&linked).with_context(|| format!("reading {}", linked.display()))?;
        let file = tempfile::NamedTempFile::with_suffix(".elf")?.into_temp_path();
        std::fs::write(&file, &bytes)?;
        Ok(Elf { file, bytes })
    }

    /// Runs one cargo subcommand on one binary: whether it succeeded, and everything it said.
    ///
    /// # Errors
    /// When cargo cannot be started.
    pub fn cargo(&self, subcommand: &str, recipe: &Recipe) -> Result<(bool, String)> {
        let mut command = self.toolchain.cargo(subcommand, recipe.board.target);
        command
            .args(["--release", "--locked", "--bin", recipe.binary, "--target-dir"])
            .arg(self.target_folder())
            .current_dir(&self.folder)
            .env("BPAM_BOARD", recipe.board.memory)
            .envs(recipe.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        if let Some(features) = recipe.features {
            command.args(["--no-default-features", "--features", features]);
        }
        if let Some(image) = recipe.image {
            command.env("BPAM_IMAGE", std::path::absolute(image)?);
        }
        let output = command.output().context("starting cargo")?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    fn target_folder(&self) -> PathBuf {
        self.folder.join("target")
    }
}

fn folder_of(folder: Option<&Path>) -> Result<PathBuf> {
    let is_firmware = |folder: &Path| folder.join("boards").is_dir() && folder.join("Cargo.toml").is_file();
    let here = std::env::current_dir()?;
    let mut candidates = match folder {
        Some(folder) => vec![here.join(folder)],
        None => here.ancestors().map(|parent| parent.join("firmware")).collect(),
    };
    candidates.retain(|candidate| is_firmware(candidate));
    match candidates.into_iter().next() {
        Some(found) => Ok(found),
        None => Err(ExitKind::Usage("no firmware folder here or above; run this inside a checkout, or give --firmware DIR".into()).into()),
    }
}
