//! `snapshot`: what a lifetime has learned, looked at on the host and carried from one board to another.

use std::path::PathBuf;

use anyhow::Result;
use backpropamine::network::{Agent, Network};
use backpropamine::scalar::{FastF32, Q7, Q15};
use backpropamine::snapshot::{Head, PAGE, flash_life_steps};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::archive::Archive;
use crate::cli::{Console, ExitKind, NumericArg, Report, merged};
use crate::files;
use crate::replay::{Replayed, matrix};
use crate::runnable::{Choice, Runnable};
use crate::snapshot_file::{SnapshotFile, refused};

/// Look at what a lifetime has learned, and carry it from one board to another
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Show what a snapshot, or each snapshot in a dump of a board's flash, says about itself
    Show(Show),
    /// Take one snapshot out of a dump of a board's flash, or its traces as tensors
    Extract(Extract),
    /// Check that a snapshot belongs to a model, and write it as another board's flash wants it
    Apply(Apply),
}

impl SnapshotCommand {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// [`FileError`](files::FileError) for a bad snapshot or model.
    pub fn run(&self, console: &Console) -> Result<Report> {
        match self {
            Self::Show(command) => command.run(console),
            Self::Extract(command) => command.run(console),
            Self::Apply(command) => command.run(console),
        }
    }
}

/// `snapshot show`.
#[derive(Debug, Args)]
#[command(after_help = "\
JSON: file, snapshots (newest first; each: offset, bytes, sequence, model, numeric, scalar_bytes, seed, episode, step,
      reward_average, saturated_inputs), flash_life_steps.

Example: backpropamine snapshot show board.bin --every 1000")]
pub struct Show {
    /// A snapshot, or a dump of flash that holds some
    file: PathBuf,
    /// Steps from one save to the next, for the flash's expected life
    #[arg(long, value_name = "STEPS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// Times that a sector of the flash can be erased (the board's data sheet)
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    erase_cycles: u32,
}

impl Show {
    fn run(&self, console: &Console) -> Result<Report> {
        let all = SnapshotFile::load_all(&self.file)?;
        for snapshot in &all {
            let Head { life, .. } = snapshot.head;
            console.say(format_args!(
                "byte {}: snapshot {} of {} bytes, image {:#010x}, {}; seed {}, episode {}, step {}, reward average {:+.3}, {} inputs clamped",
                snapshot.offset,
                snapshot.head.sequence,
                snapshot.head.bytes,
                snapshot.head.model,
                NumericArg::of(&snapshot.head),
                life.seed,
                life.episode,
                life.step,
                life.reward_average,
                snapshot.head.saturated_inputs,
            ));
        }
        let steps = flash_life_steps(self.erase_cycles, self.every);
        console.say(format_args!(
            "flash life: {steps} steps, with two slots, a save every {} steps and {} erase cycles",
            self.every, self.erase_cycles
        ));
        Report::done(json!({
            "file": self.file,
            "snapshots": all.iter().map(describe).collect::<Vec<_>>(),
            "flash_life_steps": steps,
        }))
    }
}

fn describe(snapshot: &SnapshotFile) -> Value {
    let Head { life, .. } = snapshot.head;
    json!({
        "offset": snapshot.offset,
        "bytes": snapshot.head.bytes,
        "sequence": snapshot.head.sequence,
        "model": format!("{:#010x}", snapshot.head.model),
        "numeric": NumericArg::of(&snapshot.head).to_string(),
        "scalar_bytes": snapshot.head.scalar_bytes,
        "seed": life.seed,
        "episode": life.episode,
        "step": life.step,
        "reward_average": life.reward_average,
        "saturated_inputs": snapshot.head.saturated_inputs,
    })
}

impl NumericArg {
    /// The arithmetic that a snapshot was taken in; micromath's are those of f32.
    fn of(head: &Head) -> Self {
        if head.scalar_bytes == 8 { Self::F64 } else { head.numeric.into() }
    }
}

/// `snapshot extract`.
#[derive(Debug, Args)]
#[command(after_help = "\
With --model, --out may end in .safetensors: hidden [H], modulator [K], hebb [H, H] and eligibility [H, H] in real units.

JSON: out, and the keys of a snapshot in `snapshot show`.

Example: backpropamine snapshot extract board.bin --out learned.bpsn")]
pub struct Extract {
    /// A snapshot, or a dump of flash that holds some
    file: PathBuf,
    /// The file to write: a snapshot, or .safetensors
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The snapshot with this sequence number [default: the newest]
    #[arg(long, value_name = "N")]
    sequence: Option<u32>,
    /// The model or image that it belongs to
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    #[command(flatten)]
    choice: Choice,
}

impl Extract {
    fn run(&self, console: &Console) -> Result<Report> {
        let snapshot = self.snapshot()?;
        let network = self.model.as_ref().map(|model| self.choice.open(model, None)).transpose()?;
        if self.out.extension().is_some_and(|extension| extension == "safetensors") {
            let network = network.ok_or_else(|| {
                ExitKind::Usage("--out: tensors need the model that the snapshot belongs to; give --model MODEL".to_owned())
            })?;
            tensors(&snapshot, &network)?.write(&self.out)?;
        } else {
            network.map_or(Ok(()), |network| fits(&snapshot, &network))?;
            files::write_atomically(&self.out, &snapshot.bytes)?;
        }
        console.say(format_args!(
            "{}: snapshot {}, step {}",
            self.out.display(),
            snapshot.head.sequence,
            snapshot.head.life.step
        ));
        Report::done(merged(json!({ "out": self.out }), describe(&snapshot)))
    }

    fn snapshot(&self) -> Result<SnapshotFile> {
        let all = SnapshotFile::load_all(&self.file)?;
        let sequences: Vec<_> = all.iter().map(|snapshot| snapshot.head.sequence.to_string()).collect();
        let wanted = |snapshot: &SnapshotFile| self.sequence.is_none_or(|sequence| snapshot.head.sequence == sequence);
        all.into_iter().find(wanted).ok_or_else(|| {
            let message = format!(
                "--sequence: {} holds {}; give one of these",
                self.file.display(),
                sequences.join(", ")
            );
            ExitKind::Usage(message).into()
        })
    }
}

/// `snapshot apply`.
#[derive(Debug, Args)]
#[command(after_help = "\
The output is a whole number of flash pages; write it to the first address of a slot whose sectors are erased.

JSON: out, flash_bytes, and the keys of a snapshot in `snapshot show`.

Example: backpropamine snapshot apply cue.bpam learned.bpsn --out slot.bin")]
pub struct Apply {
    /// The network of the board, a safetensors model or a .bpam image
    model: PathBuf,
    /// The snapshot, or a dump of flash, whose newest is taken
    snapshot: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    choice: Choice,
}

impl Apply {
    fn run(&self, console: &Console) -> Result<Report> {
        let snapshot = SnapshotFile::load(&self.snapshot)?;
        let network = self.choice.open(&self.model, None)?;
        fits(&snapshot, &network)?;
        let mut bytes = snapshot.bytes.clone();
        bytes.resize(bytes.len().next_multiple_of(PAGE), 0xff);
        files::write_atomically(&self.out, &bytes)?;
        console.say(format_args!(
            "{}: {} bytes, snapshot {}; it belongs to {}",
            self.out.display(),
            bytes.len(),
            snapshot.head.sequence,
            self.model.display()
        ));
        let object = json!({ "out": self.out, "flash_bytes": bytes.len() });
        Report::done(merged(object, describe(&snapshot)))
    }
}

/// Runs `$function::<S>($arguments)` in the arithmetic of a network.
macro_rules! in_arithmetic {
    ($network:expr, $function:ident, $snapshot:expr) => {
        match $network.numeric {
            NumericArg::F64 => $function::<f64>($snapshot, &$network.words),
            NumericArg::F32 => $function::<f32>($snapshot, &$network.words),
            NumericArg::Micromath => $function::<FastF32>($snapshot, &$network.words),
            NumericArg::Q15 => $function::<Q15>($snapshot, &$network.words),
            NumericArg::Q7 => $function::<Q7>($snapshot, &$network.words),
        }
    };
}

/// Whether a snapshot belongs to a network.
fn fits(snapshot: &SnapshotFile, network: &Runnable) -> Result<()> {
    fn check<S: Replayed>(snapshot: &SnapshotFile, words: &[u32]) -> Result<()> {
        let fits = snapshot.head.fits(&Network::<S>::new(words)?);
        Ok(fits.map_err(|error| refused(&snapshot.path, error))?)
    }
    in_arithmetic!(network, check, snapshot)
}

/// What was learned, in real units.
fn tensors(snapshot: &SnapshotFile, network: &Runnable) -> Result<Archive> {
    fn restored<S: Replayed>(snapshot: &SnapshotFile, words: &[u32]) -> Result<Archive> {
        let network = Network::<S>::new(words)?;
        let mut memory = vec![0; network.memory_words()];
        let mut agent = Agent::new(&network, &mut memory)?;
        snapshot.restore(&mut agent)?;
        let header = network.header();
        let hidden: Vec<_> = agent.hidden().iter().map(|h| h.to_real()).collect();
        let modulator: Vec<_> = agent.modulator().iter().map(|&m| S::output_to_real(m)).collect();
        let mut archive = Archive::default();
        let mut add = |name: &str, shape: &[usize], values: &[S::Real]| {
            if !values.is_empty() {
                archive.tensors.insert(name.to_owned(), S::tensor(shape, values));
            }
        };
        let square = [header.hidden, header.hidden];
        add("hidden", &square[..1], &hidden);
        add("modulator", &[header.modulators], &modulator);
        add("hebb", &square, &matrix(header.hidden, |post, pre| agent.hebb(post, pre)));
        add(
            "eligibility",
            &square,
            &matrix(header.hidden, |post, pre| agent.eligibility(post, pre)),
        );
        Ok(archive)
    }
    in_arithmetic!(network, restored, snapshot)
}
