//! The command line: subcommands, global flags, messages and exit codes.
//!
//! A subcommand is one clap type with `run(&self, console) -> anyhow::Result<Report>` in its own module, one variant
//! of [`Command`] and one line in its `run`.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Result;
use backpropamine::image::Numeric;
use backpropamine::rule::Rule;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};

use crate::files::FileError;
use crate::interrupt::{self, Interrupted};
use crate::{bench, device, eval, export, import, model, plot, replay, reproduce, size, snapshot_command, train_command};

/// Exit code: the command ran, and what it was to show did not hold, or the machine refused something.
pub const EXIT_FAILED: u8 = 1;
/// Exit code: the command line asks for something that does not exist or contradicts itself.
pub const EXIT_USAGE: u8 = 2;
/// Exit code: an input file is not what it should be.
pub const EXIT_BAD_INPUT: u8 = 3;
/// Exit code: a tool is missing; the message has the line that installs it.
pub const EXIT_MISSING_TOOL: u8 = 4;
/// Exit code: ended by Ctrl-C.
pub const EXIT_INTERRUPTED: u8 = 130;

/// Meta-train networks that go on learning, and put them on microcontrollers.
#[derive(Debug, Parser)]
#[command(
    name = "backpropamine",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 bad input file, 4 missing tool, 130 interrupted.\n\
                  With --json, a command that fails prints {\"error\": MESSAGE, \"exit_code\": N}.\n\n\
                  Example: backpropamine replay model.safetensors --inputs in.safetensors --out out.safetensors"
)]
pub struct Cli {
    /// Print nothing but errors
    #[arg(long, global = true)]
    pub quiet: bool,
    /// Print one JSON object on stdout instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Every subcommand.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure what a meta-training iteration costs here, or a synapse on the board.
    Bench(bench::BenchCommand),
    /// The whole story: meta-train, export, run on an emulated Cortex-M4, watch it learn.
    Demo(device::demo::DemoCommand),
    /// Run a network's lifetimes on an emulated board.
    Emulate(device::emulate::EmulateCommand),
    /// Measure how well a network learns, on fresh lifetimes.
    Eval(eval::EvalCommand),
    /// Turn a model into an image for a microcontroller.
    Export(export::ExportCommand),
    /// Put a network on a real board with a debug probe.
    Flash(device::flash::FlashCommand),
    /// Make a model file of weights from elsewhere, such as PyTorch's.
    Import(import::ImportCommand),
    /// Watch a network live on an emulated or real board, step by step.
    Monitor(device::monitor::MonitorCommand),
    /// Draw learning curves, or the modulator's course in a recording of `monitor`.
    Plot(plot::PlotCommand),
    /// Run a network on given inputs, with the core's own arithmetic.
    Replay(replay::ReplayCommand),
    /// Reproduce a figure of the paper: train, measure, draw, test.
    Reproduce(reproduce::ReproduceCommand),
    /// Install the compilers for microcontrollers and the emulator.
    Setup(device::setup::SetupCommand),
    /// Predict flash, memory and stack on a board, without building.
    Size(size::SizeCommand),
    /// Look at what a lifetime has learned, and carry it from one board to another.
    #[command(
        subcommand,
        after_help = "JSON: in the help of each subcommand.\n\nExample: backpropamine snapshot show board.bin"
    )]
    Snapshot(snapshot_command::SnapshotCommand),
    /// Meta-train a network: find out how it should learn.
    Train(train_command::TrainCommand),
    /// Run the whole test suite, emulated boards included.
    Verify(device::verify::VerifyCommand),
}

impl Command {
    fn run(&self, console: &Console) -> Result<Report> {
        match self {
            Self::Bench(command) => command.run(console),
            Self::Demo(command) => command.run(console),
            Self::Emulate(command) => command.run(console),
            Self::Eval(command) => command.run(console),
            Self::Export(command) => command.run(console),
            Self::Flash(command) => command.run(console),
            Self::Import(command) => command.run(console),
            Self::Monitor(command) => command.run(console),
            Self::Plot(command) => command.run(console),
            Self::Replay(command) => command.run(console),
            Self::Reproduce(command) => command.run(console),
            Self::Setup(command) => command.run(console),
            Self::Size(command) => command.run(console),
            Self::Snapshot(command) => command.run(console),
            Self::Train(command) => command.run(console),
            Self::Verify(command) => command.run(console),
        }
    }
}

/// The arithmetic of a command: `--numeric f64|f32|micromath|q15|q7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NumericArg {
    /// Double precision, on the host only
    F64,
    /// Single precision
    F32,
    /// Single precision with micromath's coarser tanh, on the host and in firmware of one's own
    Micromath,
    /// 16-bit fixed point
    Q15,
    /// 8-bit fixed point, in half of q15's memory
    Q7,
}

impl NumericArg {
    /// The arithmetic of the images that it runs.
    pub fn image(self) -> Numeric {
        match self {
            Self::F64 | Self::F32 | Self::Micromath => Numeric::F32,
            Self::Q15 => Numeric::Q15,
            Self::Q7 => Numeric::Q7,
        }
    }

    /// Whether it is fixed point: inputs have a range then.
    pub fn is_fixed(self) -> bool {
        self.image() != Numeric::F32
    }
}

impl From<Numeric> for NumericArg {
    fn from(numeric: Numeric) -> Self {
        match numeric {
            Numeric::F32 => Self::F32,
            Numeric::Q15 => Self::Q15,
            Numeric::Q7 => Self::Q7,
        }
    }
}

impl Display for NumericArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::Micromath => "micromath",
            Self::Q15 => "q15",
            Self::Q7 => "q7",
        })
    }
}

/// Parses `--rule none|hebbian|simple|retroactive`.
pub fn rule_parser() -> impl TypedValueParser<Value = Rule> {
    PossibleValuesParser::new(model::RULES.map(|(word, _)| word))
        .try_map(|word| model::rule_from_word(&word).ok_or_else(|| format!("{word} is no rule")))
}

/// Where a command's text goes: silent under `--quiet`, and under `--json`, whose object is the only output.
#[derive(Debug, Clone, Copy, Default)]
pub struct Console {
    quiet: bool,
    json: bool,
}

impl Console {
    /// A console with these global flags.
    pub fn new(quiet: bool, json: bool) -> Self {
        Self { quiet, json }
    }

    /// One line of the command's result, on stdout.
    pub fn say(&self, line: impl Display) {
        if self.is_verbose() {
            // A reader that has gone away (`| head`) is no reason to fail.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }

    /// One line about what is going on, on stderr; also under `--json`.
    pub fn note(&self, line: impl Display) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    /// Whether a live view is wanted and stdout is a terminal that can show one.
    pub fn is_live(&self) -> bool {
        self.is_verbose() && std::io::stdout().is_terminal()
    }

    /// Whether text and progress bars are wanted at all.
    pub fn is_verbose(&self) -> bool {
        !self.quiet && !self.json
    }

    fn finish(&self, report: &Value) {
        if self.json {
            let _ = writeln!(std::io::stdout(), "{report}");
        }
    }
}

/// Both objects' keys in one.
pub fn merged(mut object: Value, more: Value) -> Value {
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    object
}

/// What a command hands back: the object that `--json` prints, and whether what it was to show holds.
#[derive(Debug)]
pub struct Report {
    value: Value,
    success: bool,
}

impl Report {
    /// The command did what it was asked for.
    ///
    /// # Errors
    /// When `value` cannot be written as JSON.
    pub fn done(value: impl Serialize) -> Result<Self> {
        Self::with_success(value, true)
    }

    /// The command ran; `success` says whether its claim holds (exit code 1 if not).
    ///
    /// # Errors
    /// When `value` cannot be written as JSON.
    pub fn with_success(value: impl Serialize, success: bool) -> Result<Self> {
        Ok(Self {
            value: serde_json::to_value(value)?,
            success,
        })
    }
}

/// Errors that have an exit code of their own; everything else ends with 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExitKind {
    /// The command line contradicts itself or asks for what does not exist (exit code 2).
    #[error("{0}")]
    Usage(String),
    /// A tool is missing; the text has the line that installs it (exit code 4).
    #[error("{0}")]
    MissingTool(String),
    /// An input is bad in a way that no single field explains (exit code 3).
    #[error("{0}")]
    BadInput(String),
}

impl ExitKind {
    fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => EXIT_USAGE,
            Self::MissingTool(_) => EXIT_MISSING_TOOL,
            Self::BadInput(_) => EXIT_BAD_INPUT,
        }
    }
}

/// The exit code that belongs to an error, by the first error of its chain that has one.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    error
        .chain()
        .find_map(|cause| {
            if let Some(kind) = cause.downcast_ref::<ExitKind>() {
                Some(kind.code())
            } else if cause.is::<FileError>() {
                Some(EXIT_BAD_INPUT)
            } else if cause.is::<Interrupted>() {
                Some(EXIT_INTERRUPTED)
            } else {
                None
            }
        })
        .unwrap_or(EXIT_FAILED)
}

/// Parses the command line, runs the command, prints its result or error, and returns the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| refuse(&error));
    let console = Console::new(cli.quiet, cli.json);
    let result = interrupt::install().and_then(|()| cli.command.run(&console));
    match result {
        Ok(report) => {
            console.finish(&report.value);
            ExitCode::from(if report.success { 0 } else { EXIT_FAILED })
        }
        Err(error) => {
            let code = exit_code(&error);
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            console.finish(&failure(&format!("{error:#}"), code));
            ExitCode::from(code)
        }
    }
}

/// What `--json` prints for a command that fails.
fn failure(message: &str, code: u8) -> Value {
    json!({ "error": message, "exit_code": code })
}

/// Ends the process for a command line that is none, or that asks for help.
fn refuse(error: &clap::Error) -> ! {
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let message = error.render().to_string();
        let message = message.trim().trim_start_matches("error: ");
        Console::new(true, true).finish(&failure(message, EXIT_USAGE));
    }
    error.exit()
}
