//! `monitor`: a network as it lives on a board, emulated or real: modulator, rewards, traces, time, and the task itself.

mod feed;
mod picture;
mod screen;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use backpropamine::task::cue;
use clap::{Args, ValueEnum};
use serde_json::json;

use self::feed::Feed;
use self::picture::Picture;
use self::screen::Screen;
use super::board::Board;
use super::emulate::{self, Run};
use super::firmware::Firmware;
use super::flash;
use super::record::{self, Record};
use super::recording::{self, Head};
use super::setup::SetupArgs;
use super::toolchain::Toolchain;
use crate::cli::{self, Console, ExitKind, Report};
use crate::eval;
use crate::files::{self, WriteError};
use crate::interrupt::{self, Interrupted};
use crate::runnable::{Choice, Runnable};
use crate::task::TaskConfig;

/// Watch a network live on an emulated or real board, step by step
#[derive(Debug, Args)]
#[command(after_help = "\
On a terminal, a live view: M(t), reward average, traces, saturation, the time of a step, and the task: the maze as it is
walked. Ctrl-C or q ends it. Elsewhere, a line for every trial and for every lifetime. A step's time is in instructions on an
emulated board, in cycles on a real one, which runs until Ctrl-C, taught by a person (see `flash --help`).

--out records everything, one JSON object a line; after Ctrl-C, what came so far. `plot` draws it.
  monitor  the first line: format, model, image, rule, numeric, board, task, unit, per_tick (units of a tick), clock (Hz)
  birth    lifetime, seed
  step     lifetime, step, action, reward, m, ticks (0: not a whole step, as a look at the health came before)
  trial    lifetime, trial, step, response, correct, reward, m
  health   lifetime, step, saturation, trace_mean (of |H|), histogram (16 parts of -limit to limit), dead_units,
           modulator_mean, modulator_max (of |m|), reward_average, saturated_inputs
  summary  the last line of a complete run: lifetimes, steps, trials, correct, digest

JSON: board, numeric, task, lifetimes, steps, trials, correct, reward_average, saturation, trace_mean, dead_units, modulator_mean,
modulator_max (of the last lifetime), unit, per_step, out, equal_to_host.

Example: backpropamine monitor maze --out maze.jsonl")]
pub struct MonitorCommand {
    /// The task
    #[arg(value_enum)]
    task: TaskName,
    /// The network, a safetensors model or a .bpam image [default: the firmware's own]
    #[arg(long)]
    model: Option<PathBuf>,
    #[command(flatten)]
    choice: Choice,
    /// The board
    #[arg(long, default_value = Board::DEFAULT.name, value_parser = Board::parser(|_| true))]
    board: &'static Board,
    /// Number of lifetimes, on an emulated board
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    lifetimes: u32,
    /// Change a key of the task, such as task.steps=480
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Steps that the live view shows in a second, on an emulated board
    #[arg(long, value_name = "STEPS", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    speed: u32,
    /// Records everything as JSON Lines
    #[arg(long, value_name = "FILE.jsonl")]
    out: Option<PathBuf>,
    #[command(flatten)]
    setup: SetupArgs,
    /// Folder of the firmware workspace [default: the one of the checkout around the current folder]
    #[arg(long, value_name = "DIR")]
    firmware: Option<PathBuf>,
}

/// The tasks of the firmware.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum TaskName {
    Cue,
    Maze,
}

impl TaskName {
    fn word(self) -> &'static str {
        match self {
            Self::Cue => "cue",
            Self::Maze => "maze",
        }
    }
}

impl MonitorCommand {
    /// Builds the firmware with telemetry, runs it, shows and records what it reports.
    ///
    /// # Errors
    /// When the model is bad, a tool is missing or the run fails; [`Interrupted`] after Ctrl-C.
    pub fn run(&self, console: &Console) -> Result<Report> {
        let toolchain = self.toolchain(console)?;
        let firmware = Firmware::locate(self.firmware.as_deref(), toolchain)?;
        let own = firmware.folder().join(format!("weights/{}-simple.bpam", self.task.word()));
        let model = self.model.as_deref().unwrap_or(&own);
        let network = self.choice.open(model, None)?;
        let config = eval::config_of(&network, model, &self.settings)?;
        let run = Run {
            network: &network,
            task: config.task()?,
            lifetimes: self.lifetimes,
        };
        self.check(run.task, model)?;
        console.note(format_args!("building firmware for {} ({})", self.board.name, self.board.cpu));
        let feed = Feed::new(&run, &firmware, self.board)?;
        let head = head(&network, toml::to_string(&config.task)?, model, self.board);
        let mut picture = Picture::new(head, run.task)?;
        self.recorded(|file| watch(&feed, Session::begin(&mut picture, file)?, self.speed, console))?;
        self.report(&run, &picture, console)
    }

    fn toolchain(&self, console: &Console) -> Result<Toolchain> {
        if self.board.is_emulated() {
            return self.setup.prepare(console, &[self.board.target]);
        }
        flash::probe(self.board)?;
        self.setup.compiler(console, &[self.board.target])
    }

    fn check(&self, task: TaskConfig, model: &Path) -> Result<(), ExitKind> {
        let (wanted, board) = (self.task.word(), self.board.name);
        if task.name() != wanted {
            let message = format!("monitor {wanted}: {} was trained for the task {}", model.display(), task.name());
            return Err(ExitKind::Usage(message));
        }
        if !self.board.is_emulated() && task != TaskConfig::Cue(cue::Config::default()) {
            let message = format!(
                "--board {board}: a person teaches the cue task with 120 steps there, whatever the network was trained on; \
                 give --set task.steps=120, or use an emulated board"
            );
            return Err(ExitKind::Usage(message));
        }
        Ok(())
    }

    /// Calls `watch` with the file to record to. After Ctrl-C the file has what came so far; after a failure it is as before.
    fn recorded(&self, watch: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        let Some(out) = &self.out else {
            return watch(&mut io::sink());
        };
        let mut watched = Ok(());
        let written = files::replace_file(out, |file| {
            let mut file = BufWriter::new(file);
            watched = watch(&mut file);
            if is_whole(&watched) {
                file.flush()
            } else {
                Err(io::Error::other("there is nothing to record"))
            }
        });
        if is_whole(&watched) {
            let file = out.clone();
            written.map_err(|source| WriteError { file, source })?;
        }
        watched
    }

    /// Sums up, and compares an emulated board with the host.
    fn report(&self, run: &Run, picture: &Picture, console: &Console) -> Result<Report> {
        let equal = match &picture.summary {
            Some(summary) if self.board.is_emulated() => Some(summary == record::summary(&run.on_host()?)?),
            _ => None,
        };
        if let Some(equal) = equal {
            console.say(emulate::comparison(equal));
        }
        if let Some(out) = &self.out {
            console.say(out.display());
        }
        let shared = json!({
            "board": self.board.name,
            "numeric": run.network.numeric.to_string(),
            "task": self.task.word(),
            "out": self.out,
            "equal_to_host": equal,
        });
        Report::with_success(cli::merged(shared, picture.figures()), equal != Some(false))
    }
}

/// Whether what a run reported is to be kept.
fn is_whole(watched: &Result<()>) -> bool {
    watched.as_ref().err().is_none_or(|error| error.is::<Interrupted>())
}

/// What the first line of the recording says.
fn head(network: &Runnable, task: String, model: &Path, board: &Board) -> Head {
    let (unit, per_tick) = feed::tick(board);
    Head {
        board: board.name.into(),
        unit: unit.into(),
        per_tick,
        clock: board.clock,
        ..Head::on_host(network, task, model)
    }
}

/// A run as it is watched: everything the board says goes to the picture and to the file.
struct Session<'p> {
    picture: &'p mut Picture,
    file: &'p mut dyn Write,
}

impl<'p> Session<'p> {
    fn begin(picture: &'p mut Picture, file: &'p mut dyn Write) -> Result<Self> {
        recording::write_head(file, picture.head())?;
        Ok(Self { picture, file })
    }

    /// Takes one line of the board's report; what there is to say about it, where only text is wanted.
    fn take(&mut self, line: &str) -> Result<Option<String>> {
        // A board may say other things than records.
        if !line.starts_with('{') {
            self.picture.said = line.to_owned();
            return Ok(Some(line.to_owned()));
        }
        let record = Record::parse(line)?;
        recording::write_record(self.file, &record).context("the recording cannot be written")?;
        Ok(self.picture.take(&record))
    }
}

/// Follows the board's report: live on a terminal, in lines elsewhere.
fn watch(feed: &Feed, mut session: Session, speed: u32, console: &Console) -> Result<()> {
    if console.is_live() {
        return watch_live(feed, session, speed);
    }
    feed.run(None, |line| {
        if let Some(text) = session.take(line)? {
            console.say(text);
        }
        Ok(())
    })
}

/// How long a picture stays.
const FRAME: Duration = Duration::from_millis(40);

/// The board reports in a thread of its own, `speed` steps in a second, so that the view answers to keys meanwhile.
fn watch_live(feed: &Feed, mut session: Session, speed: u32) -> Result<()> {
    thread::scope(|scope| {
        let (sender, lines) = mpsc::sync_channel::<String>(64);
        let feeding = scope.spawn(move || {
            feed.run(Some(speed), |line| {
                // Nobody listens any more: the view has ended, and says why itself.
                sender.send(line.to_owned()).map_err(|_| Interrupted.into())
            })
        });
        let shown = show(&lines, &mut session);
        drop(lines);
        let fed = feeding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        shown.and(fed)
    })
}

/// Draws until the report ends.
fn show(lines: &Receiver<String>, session: &mut Session) -> Result<()> {
    let mut screen = Screen::open()?;
    loop {
        screen.draw(session.picture)?;
        screen.obey_keys()?;
        interrupt::check()?;
        let end = Instant::now() + FRAME;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            match lines.recv_timeout(left) {
                Ok(line) => {
                    session.take(&line)?;
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }
}
