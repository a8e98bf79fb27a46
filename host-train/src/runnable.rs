//! The MODEL argument of commands that run a network: a safetensors model in an arithmetic of the user's choice, or a
//! `.bpam` image, which fixes it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use backpropamine::image::Header;
use clap::Args;

use crate::cli::{ExitKind, NumericArg};
use crate::export;
use crate::image_file::{self, ImageFile};
use crate::model::Model;
use crate::task::trained_config;

/// How to run a model.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Choice {
    /// The arithmetic; a .bpam image fixes it [default: f32]
    #[arg(long, value_enum)]
    pub numeric: Option<NumericArg>,
    /// Largest magnitude of an input in q15 and q7 [default: the task's]
    #[arg(long, value_name = "R", value_parser = parse_range)]
    pub input_range: Option<f32>,
}

/// A network ready for `Network::new`.
#[derive(Debug, Clone)]
pub struct Runnable {
    /// The image.
    pub words: Vec<u32>,
    /// What it says about itself.
    pub header: Header,
    /// The arithmetic to run it in: for `f64`, the image is in f32.
    pub numeric: NumericArg,
    /// The model's metadata words: `task`, `seed`, `config`, …
    pub metadata: BTreeMap<String, String>,
}

impl Choice {
    /// Opens a model or an image. `largest` is the largest magnitude among the inputs to come, if that is known; it decides
    /// the input scale of a model that names no task.
    ///
    /// # Errors
    /// [`FileError`](crate::files::FileError) for a bad file; a usage error when a choice contradicts an image or does not
    /// go with f32 and f64.
    pub fn open(&self, path: &Path, largest: Option<f64>) -> Result<Runnable> {
        if image_file::is_image(path) {
            self.open_image(path)
        } else {
            self.open_model(path, largest)
        }
    }

    fn open_image(&self, path: &Path) -> Result<Runnable> {
        let ImageFile { words, header, metadata } = ImageFile::load(path)?;
        let numeric = NumericArg::from(header.numeric);
        if let Some(wanted) = self.numeric.filter(|&wanted| wanted != numeric) {
            return Err(ExitKind::Usage(format!(
                "--numeric {wanted}: {} is an image in {numeric}; leave the option out or give the safetensors model",
                path.display()
            ))
            .into());
        }
        if self.input_range.is_some() {
            return Err(ExitKind::Usage(format!(
                "--input-range: {} is an image, which has its input scale already; leave the option out",
                path.display()
            ))
            .into());
        }
        Ok(Runnable {
            words,
            header,
            numeric,
            metadata,
        })
    }

    fn open_model(&self, path: &Path, largest: Option<f64>) -> Result<Runnable> {
        let model = Model::load(path)?;
        let numeric = self.numeric.unwrap_or(NumericArg::F32);
        self.check_range_is_used(numeric)?;
        let words = match numeric {
            NumericArg::F64 | NumericArg::F32 | NumericArg::Micromath => export::f32_image(&model),
            NumericArg::Q15 | NumericArg::Q7 => {
                let range = self
                    .input_range
                    .or_else(|| task_range(&model.metadata))
                    .or(largest.map(|x| x as f32));
                export::fixed_image(&model, numeric.image(), path, range.unwrap_or(1.0))?.words
            }
        };
        let header = Header::parse(&words).map_err(|error| image_file::refused(path, error))?;
        Ok(Runnable {
            words,
            header,
            numeric,
            metadata: model.metadata,
        })
    }

    /// `--input-range` means nothing in floating point.
    pub fn check_range_is_used(&self, numeric: NumericArg) -> Result<(), ExitKind> {
        if self.input_range.is_some() && !numeric.is_fixed() {
            let message = format!("--input-range: {numeric} has no input scale; leave it out or use --numeric q15 or q7");
            return Err(ExitKind::Usage(message));
        }
        Ok(())
    }
}

/// The largest magnitude of an input that the model's task declares; `None` if its metadata names no task that we know.
pub fn task_range(metadata: &BTreeMap<String, String>) -> Option<f32> {
    // The options decide: in the maze, the reward is an input.
    trained_config(metadata, Path::new("metadata")).ok()??.task().ok()?.input_range()
}

/// Parses `--input-range`.
pub fn parse_range(text: &str) -> Result<f32, String> {
    text.parse()
        .ok()
        .filter(|range: &f32| range.is_finite() && *range > 0.0)
        .ok_or_else(|| "expected a number above 0".to_owned())
}
