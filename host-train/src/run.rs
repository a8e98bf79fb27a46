//! The run folder: configuration, metrics, model, checkpoint, curve.
//!
//! | file | content |
//! |---|---|
//! | `config.toml` | the resolved configuration, kernel path included |
//! | `metrics.jsonl` | one line per iteration |
//! | `model.safetensors` | the network at the last checkpoint |
//! | `state.safetensors` | all that resuming needs: network, optimiser, position in the random streams and the curriculum |
//! | `curve.svg` | the score (see [`Course`]), when the run ends |
//! | `env.json` | version, machine and command |
//!
//! Each file but the metrics is replaced whole. Metrics are made durable before the checkpoint that counts them; what a killed
//! run wrote after its last checkpoint is cut off on resuming. So a run that was killed and resumed leaves the same
//! bytes as one that was not.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use crate::archive::Archive;
use crate::cli::ExitKind;
use crate::config::Config;
use crate::files::{self, FileError, WriteError};
use crate::interrupt;
use crate::plot;
use crate::recurrence::Kernel;
use crate::rollout::Course;
use crate::train::{Metrics, Trainer};

/// The name of the resolved configuration in a run folder.
pub const CONFIG: &str = "config.toml";
/// The name of the metrics in a run folder.
pub const METRICS: &str = "metrics.jsonl";
/// The name of the network in a run folder.
pub const MODEL: &str = "model.safetensors";
/// The name of the checkpoint in a run folder.
pub const STATE: &str = "state.safetensors";

/// What a run shows while it goes on.
pub struct Progress<'a> {
    /// The last iteration.
    pub metrics: &'a Metrics,
    /// Iterations of the full task made, and to be made.
    pub full_iterations: (u32, u32),
}

/// Meta-trains in a run folder, from the beginning or, with `resume`, from its last checkpoint if it has one.
///
/// # Errors
/// [`ExitKind::Usage`] when the folder holds something and `resume` is not asked for, or holds a run of another
/// configuration; [`FileError`] when its files are damaged; [`interrupt::Interrupted`] after Ctrl-C, the checkpoint written;
/// anything from [`Trainer::iterate`], the last checkpoint kept.
pub fn train_in<C: Course>(
    folder: &Path,
    config: Config,
    course: C,
    resume: bool,
    mut progress: impl FnMut(Progress),
) -> Result<Trainer<C>> {
    let run = RunFolder::new(folder);
    let mut trainer = run.open(config, course, resume)?;
    let mut log = MetricsLog::open(run.file(METRICS), trainer.iteration())?;
    run.checkpoint(&trainer, &mut log)?;
    while !trainer.finished() {
        let metrics = trainer
            .iterate()
            .with_context(|| format!("{}: stopped, the last checkpoint is kept", folder.display()))?;
        log.append(&metrics)?;
        let full_iterations = (trainer.curriculum().full_iterations, trainer.config().training.iterations);
        progress(Progress {
            metrics: &metrics,
            full_iterations,
        });
        if trainer.iteration() % trainer.config().run.checkpoint_every == 0 {
            run.checkpoint(&trainer, &mut log)?;
        }
        if interrupt::requested() {
            run.checkpoint(&trainer, &mut log)?;
        }
        interrupt::check()?;
    }
    run.checkpoint(&trainer, &mut log)?;
    plot::draw_runs(&[folder.to_owned()], &run.file("curve.svg"))?;
    Ok(trainer)
}

/// The configuration of a run folder, if it has one.
///
/// # Errors
/// [`FileError`] when it cannot be used.
pub fn folder_config(folder: &Path) -> Result<Option<Config>, FileError> {
    let path = folder.join(CONFIG);
    if !path.exists() {
        return Ok(None);
    }
    Config::parse(&files::read_text(&path)?, &path).map(Some)
}

struct RunFolder {
    folder: PathBuf,
}

impl RunFolder {
    fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn open<C: Course>(&self, mut config: Config, course: C, resume: bool) -> Result<Trainer<C>> {
        let occupied = fs::read_dir(&self.folder).is_ok_and(|mut entries| entries.next().is_some());
        if occupied && !resume {
            let folder = self.folder.display();
            return Err(ExitKind::Usage(format!(
                "--out {folder}: the folder is not empty; give another, or --resume to go on with its run"
            ))
            .into());
        }
        let context = || format!("{}: cannot be used as a run folder", self.folder.display());
        fs::create_dir_all(&self.folder).with_context(context)?;
        files::remove_temporaries(&self.folder).with_context(context)?;
        if let Some(saved) = folder_config(&self.folder)? {
            if config.run.kernel == Kernel::Auto {
                config.run.kernel = saved.run.kernel;
            }
            self.check_same(&config, &saved)?;
        }
        let state = self.file(STATE);
        if state.exists() {
            return Trainer::restore(config, course, &Archive::read(&state)?, &state);
        }
        self.check_nothing_to_lose()?;
        let trainer = Trainer::new(config, course)?;
        files::write_atomically(&self.file(CONFIG), trainer.config().to_toml().as_bytes())?;
        files::write_atomically(&self.file("env.json"), environment(trainer.config()).as_bytes())?;
        Ok(trainer)
    }

    /// Without a checkpoint the run begins anew, which must not cost a network that was trained here.
    fn check_nothing_to_lose(&self) -> Result<(), FileError> {
        let model = self.file(MODEL);
        if !model.exists() {
            return Ok(());
        }
        let hint = format!("put it back, or move {} away to begin anew", model.display());
        Err(FileError::new(
            &self.file(STATE),
            "file",
            "the checkpoint of this run",
            "no such file",
            hint,
        ))
    }

    fn check_same(&self, config: &Config, saved: &Config) -> Result<()> {
        let (asked, saved) = (config.to_toml(), saved.to_toml());
        match asked.lines().zip(saved.lines()).find(|(asked, saved)| asked != saved) {
            None => Ok(()),
            Some((asked, saved)) => Err(ExitKind::Usage(format!(
                "--resume: {} has `{saved}`, the command line asks for `{asked}`; leave the settings out or give another --out",
                self.file(CONFIG).display()
            ))
            .into()),
        }
    }

    fn checkpoint<C: Course>(&self, trainer: &Trainer<C>, log: &mut MetricsLog) -> Result<()> {
        log.make_durable()?;
        trainer.state()?.write(&self.file(STATE))?;
        trainer.model().save(&self.file(MODEL))
    }
}

fn environment(config: &Config) -> String {
    let environment = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "threads": rayon::current_num_threads(),
        "kernel": config.run.kernel,
        "command": std::env::args().collect::<Vec<_>>(),
    });
    format!("{environment:#}\n")
}

/// `metrics.jsonl`, open at its end.
struct MetricsLog {
    path: PathBuf,
    file: BufWriter<File>,
}

impl MetricsLog {
    /// Opens the file and cuts off what follows the first `lines` lines.
    fn open(path: PathBuf, lines: u32) -> Result<Self> {
        let context = || format!("{}: cannot be written", path.display());
        let text = if path.exists() { files::read(&path)? } else { Vec::new() };
        let end = end_of_line(&text, lines as usize).ok_or_else(|| {
            let found = format!("{} lines", text.iter().filter(|&&byte| byte == b'\n').count());
            let hint = "the file was changed since the checkpoint: start the run anew in another folder";
            FileError::new(&path, "lines", format!("the {lines} lines of the checkpoint"), found, hint)
        })?;
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(false).open(&path).with_context(context)?;
        file.set_len(end as u64).with_context(context)?;
        file.seek(SeekFrom::End(0)).with_context(context)?;
        let file = BufWriter::new(file);
        Ok(Self { path, file })
    }

    fn append(&mut self, metrics: &Metrics) -> Result<()> {
        let line = serde_json::to_string(metrics)?;
        let written = writeln!(self.file, "{line}");
        Ok(written.map_err(|source| self.error(source))?)
    }

    fn make_durable(&mut self) -> Result<(), WriteError> {
        let durable = self.file.flush().and_then(|()| self.file.get_ref().sync_data());
        durable.map_err(|source| self.error(source))
    }

    fn error(&self, source: io::Error) -> WriteError {
        let file = self.path.clone();
        WriteError { file, source }
    }
}

/// The offset after the `lines`-th line; `None` if there are fewer.
fn end_of_line(text: &[u8], lines: usize) -> Option<usize> {
    let mut ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    if lines == 0 { Some(0) } else { ends.nth(lines - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_by_their_ends() {
        let text = b"a\nbc\nhalf";
        assert_eq!(end_of_line(text, 0), Some(0));
        assert_eq!(end_of_line(text, 2), Some(5));
        assert_eq!(end_of_line(text, 3), None);
    }
}
