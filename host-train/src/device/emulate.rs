//! `emulate`: a network on an emulated board, live.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use backpropamine::task::{cue, maze};
use clap::Args;
use serde_json::{Value, json};

use super::board::{BOARDS, Board, Slot};
use super::emulator::{self, Options};
use super::firmware::{Elf, Firmware, Recipe};
use super::record::{self, Record};
use super::setup::SetupArgs;
use crate::cli::{self, Console, ExitKind, NumericArg, Report};
use crate::eval::{self, Evaluation};
use crate::files;
use crate::runnable::{Choice, Runnable};
use crate::task::TaskConfig;

/// Run a network's lifetimes on an emulated board
#[derive(Debug, Args)]
#[command(
    after_help = "JSON: board, numeric, lifetimes, steps, trials, correct, digest, equal_to_host, seconds; \
                        cue: late_accuracy, late_interval; maze: hits, hits_interval.\n\n\
                        Example: backpropamine emulate firmware/weights/cue-simple.bpam --board microbit"
)]
pub struct EmulateCommand {
    /// The network, a safetensors model or a .bpam image
    model: PathBuf,
    #[command(flatten)]
    choice: Choice,
    /// The board
    #[arg(long, default_value = Board::DEFAULT.name, value_parser = Board::parser(Board::is_emulated))]
    board: &'static Board,
    /// Number of lifetimes
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    lifetimes: u32,
    /// Change a key of the task, such as task.steps=480
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Put the network into the image slot of the firmware `slot` rather than into a program of its own
    #[arg(long, value_name = "1", value_parser = clap::value_parser!(u32).range(1..=1))]
    slot: Option<u32>,
    #[command(flatten)]
    setup: SetupArgs,
    /// Folder of the firmware workspace [default: the one of the checkout around the current folder]
    #[arg(long, value_name = "DIR")]
    firmware: Option<PathBuf>,
}

impl EmulateCommand {
    /// Builds, runs, reports every trial, and compares with the host.
    ///
    /// # Errors
    /// When the model is bad, a tool is missing, or the run fails.
    pub fn run(&self, console: &Console) -> Result<Report> {
        let network = self.choice.open(&self.model, None)?;
        let task = eval::task_of(&network, &self.model, &self.settings)?;
        let toolchain = self.setup.prepare(console, &[self.board.target])?;
        let firmware = Firmware::locate(self.firmware.as_deref(), toolchain)?;
        console.note(format_args!("building firmware for {} ({})", self.board.name, self.board.cpu));
        let run = Run {
            network: &network,
            task,
            lifetimes: self.lifetimes,
        };
        let start = Instant::now();
        let see = |record: &Record| match record {
            Record::Trial(trial) => console.say(trial_line(trial, task)),
            Record::Picture(rows) => console.say(rows.replace('/', "\n") + "\n"),
            _ => {}
        };
        let records = match self.slot {
            Some(_) => run.in_slot(&firmware, self.board, see),
            None => run.on_board(&firmware, self.board, see),
        }?;
        let equal = record::first_difference(&records, &run.on_host()?).is_none();
        let evaluation = record::evaluation(&records)?;
        let (text, measured) = match task {
            TaskConfig::Cue(_) => (curve(&evaluation), accuracy_of(&evaluation)),
            TaskConfig::Maze(_) => (hits(&evaluation), hits_of(&evaluation)),
        };
        console.say(text);
        console.say(comparison(equal));
        let summary = record::summary(&records)?;
        let shared = json!({
            "board": self.board.name,
            "numeric": network.numeric.to_string(),
            "lifetimes": summary.lifetimes,
            "steps": summary.steps,
            "trials": summary.trials,
            "correct": summary.correct,
            "digest": summary.digest,
            "equal_to_host": equal,
            "seconds": start.elapsed().as_secs_f64(),
        });
        Report::with_success(cli::merged(shared, measured), equal)
    }
}

/// Whether the host's own run is equal, in words.
pub(super) fn comparison(equal: bool) -> &'static str {
    if equal {
        "the host computes the same, bit for bit"
    } else {
        "the host computes something else"
    }
}

fn accuracy_of(evaluation: &Evaluation) -> Value {
    let late = evaluation.late_accuracy();
    json!({ "late_accuracy": late.value, "late_interval": late.interval })
}

fn hits_of(evaluation: &Evaluation) -> Value {
    let hits = evaluation.successes();
    json!({ "hits": hits.value, "hits_interval": hits.interval })
}

/// Lifetimes of a network in a task of the core.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// The network.
    pub network: &'a Runnable,
    /// The task.
    pub task: TaskConfig,
    /// How many lifetimes.
    pub lifetimes: u32,
}

impl Run<'_> {
    /// Builds the task's firmware with this network and runs it on an emulated board; every record as it comes.
    ///
    /// # Errors
    /// When the network is in f64, the build or the run fails, or the report is incomplete.
    pub fn on_board(&self, firmware: &Firmware, board: &'static Board, mut see: impl FnMut(&Record)) -> Result<Vec<Record>> {
        let elf = self.build(firmware, board, None)?;
        self.follow(&elf, board, None, &mut see)
    }

    /// Puts this network into the image slot of the firmware `slot`, which is not built anew for it, and runs that on an emulated
    /// board; every record as it comes.
    ///
    /// # Errors
    /// [`ExitKind::Usage`] for a board without a slot or another task than the cue task; as [`Run::on_board`]; when another image
    /// lived.
    pub fn in_slot(&self, firmware: &Firmware, board: &'static Board, mut see: impl FnMut(&Record)) -> Result<Vec<Record>> {
        let slot = slot_of(board, &self.network.words)?;
        if self.task.name() != "cue" {
            return Err(ExitKind::Usage(format!("--slot: the firmware `slot` runs the task cue, not {}", self.task.name())).into());
        }
        let image = ImageForBuild::new(self.network)?;
        let recipe = Recipe {
            variables: self.variables(),
            ..Recipe::new("slot", board)
        };
        let elf = firmware.build(&recipe)?;
        let mut records = self.follow(&elf, board, Some((image.path(), slot.address)), &mut see)?;
        let lived = record::Image {
            slot: 1,
            checksum: self.network.header.checksum,
        };
        match records.first() {
            Some(Record::Image(image)) if *image == lived => {}
            other => bail!("expected to live: {lived:?}, found {other:?}"),
        }
        records.remove(0);
        Ok(records)
    }

    fn follow(&self, elf: &Elf, board: &Board, file: Option<(&Path, u32)>, see: &mut impl FnMut(&Record)) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        let options = Options {
            limit: self.limit(),
            file,
            ..Options::default()
        };
        emulator::run(elf, board, options, |line| {
            let record = Record::parse(line)?;
            see(&record);
            records.push(record);
            Ok(())
        })?;
        record::summary(&records)?;
        Ok(records)
    }

    /// The records of the host's own run.
    ///
    /// # Errors
    /// When the image or the task cannot be used.
    pub fn on_host(&self) -> Result<Vec<Record>> {
        record::on_host(self.network, self.task, self.lifetimes)
    }

    /// Builds the task's firmware, or a real board's own, with this network and these cargo features.
    ///
    /// # Errors
    /// When the network is in f64, or the build fails.
    pub fn build(&self, firmware: &Firmware, board: &'static Board, features: Option<&str>) -> Result<Elf> {
        let image = ImageForBuild::new(self.network)?;
        let binary = if board.is_emulated() { self.task.name() } else { board.name };
        let recipe = Recipe {
            image: Some(image.path()),
            variables: self.variables(),
            features,
            ..Recipe::new(binary, board)
        };
        firmware.build(&recipe)
    }

    /// A minute, and a generous 50 ms for each of the 120 steps times 10 of an ordinary lifetime.
    pub fn limit(&self) -> Duration {
        Duration::from_secs(60) + Duration::from_millis(500) * self.lifetimes * self.task.steps().div_ceil(120)
    }

    /// The task as `firmware/build.rs` reads it.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = match self.task {
            TaskConfig::Cue(task) => cue_variables(task),
            TaskConfig::Maze(task) => maze_variables(task),
        };
        variables.push(("BPAM_LIFETIMES", self.lifetimes.to_string()));
        variables.push(("BPAM_STEPS", self.task.steps().to_string()));
        variables
    }
}

fn cue_variables(task: cue::Config) -> Vec<(&'static str, String)> {
    let paper = task.variant == cue::Variant::Paper;
    vec![
        ("BPAM_VARIANT", variant_word(paper)),
        ("BPAM_CUES", task.cues.to_string()),
        ("BPAM_BITS", task.bits.to_string()),
        ("BPAM_LONGEST_TRIAL", task.longest_trial.to_string()),
        ("BPAM_FIXED", task.fixed.to_string()),
        ("BPAM_FLIP", task.flip.to_string()),
        ("BPAM_TIME_INPUT", task.time_input.to_string()),
    ]
}

fn maze_variables(task: maze::Config) -> Vec<(&'static str, String)> {
    let paper = task.variant == maze::Variant::Paper;
    vec![
        ("BPAM_VARIANT", variant_word(paper)),
        ("BPAM_SIZE", task.size.to_string()),
        ("BPAM_REWARD", task.reward.to_string()),
        ("BPAM_WALL_PENALTY", task.wall_penalty.to_string()),
        ("BPAM_RANDOM_START", (task.start == maze::Start::Random).to_string()),
        ("BPAM_GOAL_MOVES_EVERY", task.goal_moves_every.to_string()),
        ("BPAM_TIME_INPUT", task.time_input.to_string()),
    ]
}

fn variant_word(paper: bool) -> String {
    if paper { "paper" } else { "code" }.into()
}

/// The image slot of a board that has one, with room for this image.
///
/// # Errors
/// [`ExitKind::Usage`] when there is none, or it is too small.
pub(super) fn slot_of(board: &Board, image: &[u32]) -> Result<Slot, ExitKind> {
    let bytes = 4 * image.len();
    match board.slot {
        Some(slot) if bytes <= slot.bytes as usize => Ok(slot),
        Some(slot) => Err(ExitKind::Usage(format!(
            "--slot: the image has {bytes} bytes, the slot of {} {}; use another --numeric",
            board.name, slot.bytes
        ))),
        None => {
            let names: Vec<_> = BOARDS.iter().filter(|board| board.slot.is_some()).map(|board| board.name).collect();
            let message = format!("--slot: {} has no image slot; these have one: {}", board.name, names.join(", "));
            Err(ExitKind::Usage(message))
        }
    }
}

/// A network as a file that a build can embed. Its name follows from its content, so an equal image builds nothing anew.
pub struct ImageForBuild(PathBuf);

impl ImageForBuild {
    /// Writes the image into the folder for temporary files.
    ///
    /// # Errors
    /// [`ExitKind::Usage`] for a network in f64; when the file cannot be written.
    pub fn new(network: &Runnable) -> Result<Self> {
        if matches!(network.numeric, NumericArg::F64 | NumericArg::Micromath) {
            let message = format!(
                "--numeric {}: this firmware computes in f32, q15 or q7; use one of these",
                network.numeric
            );
            return Err(ExitKind::Usage(message).into());
        }
        let bytes: Vec<u8> = network.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        // The header's checksum, its fourth word.
        let path = std::env::temp_dir().join(format!("backpropamine-{:08x}.bpam", network.words[3]));
        files::write_atomically(&path, &bytes)?;
        Ok(Self(path))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// A trial that ended, in words.
pub(super) fn trial_line(trial: &record::Trial, task: TaskConfig) -> String {
    match task {
        TaskConfig::Cue(_) => response_line(trial),
        TaskConfig::Maze(_) => hit_line(trial),
    }
}

fn hit_line(trial: &record::Trial) -> String {
    let record::Trial {
        lifetime, trial, step, m, ..
    } = trial;
    format!("lifetime {lifetime:4}  hit {:3}  step {step:4}  M {m:+.3}", trial + 1)
}

fn response_line(trial: &record::Trial) -> String {
    let record::Trial {
        lifetime,
        trial,
        step,
        response,
        correct,
        m,
        ..
    } = trial;
    let mark = if *correct { "right" } else { "WRONG" };
    format!(
        "lifetime {lifetime:4}  trial {:3}  step {step:4}  response {response}  {mark}  M {m:+.3}",
        trial + 1
    )
}

/// Mean hits of a lifetime.
fn hits(evaluation: &Evaluation) -> String {
    let hits = evaluation.successes();
    format!(
        "{:.2} hits in a lifetime ({:.2} … {:.2})",
        hits.value, hits.interval[0], hits.interval[1]
    )
}

/// Accuracy by trial as bars.
pub fn curve(evaluation: &Evaluation) -> String {
    let mut text = String::from("trial  right\n");
    for trial in evaluation.by_trial() {
        let [low, high] = trial.interval.map(|share| format!("{:3.0}", 100.0 * share));
        text += &format!(
            "{:5}  {} {:3.0}% ({low} …{high}%)\n",
            trial.trial,
            bar(trial.accuracy),
            100.0 * trial.accuracy
        );
    }
    let late = evaluation.late_accuracy();
    let [low, high] = late.interval.map(|share| format!("{:.1}%", 100.0 * share));
    text + &format!("second half of the lifetimes: {:.1}% right ({low} … {high})", 100.0 * late.value)
}

/// A share of 1 as a bar of 32 columns, in eighths.
pub fn bar(share: f64) -> String {
    const COLUMNS: usize = 32;
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * (8 * COLUMNS) as f64).round() as usize;
    let drawn = "█".repeat(eighths / 8) + PARTS[eighths % 8];
    let padding = COLUMNS - drawn.chars().count();
    drawn + &" ".repeat(padding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_fill_their_columns() {
        for share in [0.0, 0.013, 0.5, 0.999, 1.0, 7.0] {
            assert_eq!(bar(share).chars().count(), 32, "{share}");
        }
        assert_eq!(bar(0.5).trim_end(), "█".repeat(16));
    }
}
