//! `bench`: what training and the device cost, measured.

pub mod device;
pub mod train;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::cli::{Console, ExitKind, NumericArg, Report};
use crate::device::board::Board;
use crate::device::firmware::Firmware;
use crate::device::setup::SetupArgs;
use crate::recurrence::Kernel;

/// Measure what a meta-training iteration costs here, or a synapse on the board
#[derive(Debug, Args)]
#[command(
    after_help = "JSON of `bench train`: kernel, threads, shapes (rule, hidden, steps, batch, seconds, oracle_seconds, oracle_lifetimes, \
                        ratio), peak_memory_mib.\n\
                        JSON of `bench device`: board, cpu, tanh (f32, q15), measurements (numeric, hidden, kind, recurrence, step); with\n\
                        --record: count (cpu, numeric, hidden, kind, step).\n\n\
                        Example: backpropamine bench device --size 100,200"
)]
pub struct BenchCommand {
    #[command(subcommand)]
    what: What,
}

/// What to measure.
#[derive(Debug, Subcommand)]
enum What {
    /// CPU time of a training iteration, beside step-by-step automatic differentiation
    Train {
        /// Instructions to train with: auto, portable, avx2, avx512 or neon
        #[arg(long, default_value = "auto")]
        kernel: Kernel,
        /// Threads to train with; CPU time counts all of them
        #[arg(long, value_name = "N", default_value = "1")]
        threads: usize,
        /// Iterations per shape, whose median counts
        #[arg(long, value_name = "N", default_value = "30")]
        iterations: usize,
        /// Leave the automatic differentiation out, which takes minutes and gigabytes
        #[arg(long)]
        no_oracle: bool,
        /// Leave out networks with more neurons
        #[arg(long, value_name = "N", default_value = "1024")]
        largest: usize,
    },
    /// Instructions per synapse and step on an emulated Cortex-M
    Device {
        /// An emulated board with a timer that counts instructions
        #[arg(long, default_value = Board::DEFAULT.name, value_parser = Board::parser(|board| board.memory == "mps2"))]
        board: &'static Board,
        /// Compile for a Cortex-M0, whose emulated board has no such timer; a Cortex-M3 runs it
        #[arg(long, conflicts_with = "board")]
        m0: bool,
        /// Arithmetics: f32, q15 and q7
        #[arg(long = "numeric", value_name = "NUMERIC,…", value_delimiter = ',', default_values = ["f32", "q15", "q7"])]
        numerics: Vec<NumericArg>,
        /// Write firmware/counts.toml anew: the counts that a test keeps from growing by more than 2%
        #[arg(long, conflicts_with_all = ["board", "m0", "numerics", "sizes"])]
        record: bool,
        /// Numbers of neurons
        #[arg(long = "size", value_name = "N,…", value_delimiter = ',', default_values = ["100", "200"])]
        sizes: Vec<usize>,
        #[command(flatten)]
        setup: SetupArgs,
        /// Folder of the firmware workspace [default: the one of the checkout around the current folder]
        #[arg(long, value_name = "DIR")]
        firmware: Option<PathBuf>,
    },
}

impl BenchCommand {
    /// Measures and prints the table.
    ///
    /// # Errors
    /// When a kernel or a tool is missing, or a build or run fails.
    pub fn run(&self, console: &Console) -> Result<Report> {
        match &self.what {
            What::Train {
                kernel,
                threads,
                iterations,
                no_oracle,
                largest,
            } => {
                let (kernel, threads, iterations, oracle, largest) = (*kernel, *threads, *iterations, !no_oracle, *largest);
                let report = train::bench_train(&train::Options {
                    kernel,
                    threads,
                    iterations,
                    oracle,
                    largest,
                })?;
                console.say(&report);
                Report::done(report)
            }
            What::Device {
                board,
                m0,
                numerics,
                record,
                sizes,
                setup,
                firmware,
            } => {
                let board = if *m0 { &device::CORTEX_M0 } else { board };
                let targets = if *record { Board::targets() } else { vec![board.target] };
                let toolchain = setup.prepare(console, &targets)?;
                let firmware = Firmware::locate(firmware.as_deref(), toolchain)?;
                if *record {
                    return record_counts(console, &firmware);
                }
                if let Some(numeric) = numerics.iter().find(|numeric| !device::ALL.contains(numeric)) {
                    return Err(ExitKind::Usage(format!("--numeric {numeric}: expected f32, q15 or q7")).into());
                }
                let report = device::bench_device(&firmware, board, numerics, sizes)?;
                console.say(&report);
                Report::done(report)
            }
        }
    }
}

/// Measures the counts that are kept and writes their file.
fn record_counts(console: &Console, firmware: &Firmware) -> Result<Report> {
    let counts = device::Counts::measure(firmware)?;
    let path = device::Counts::path(firmware);
    let head =
        "# Instructions per synapse and step, made by `cargo bpam bench device --record`; `host-train/tests/counts.rs` holds them.\n\n";
    std::fs::write(&path, head.to_owned() + &toml::to_string(&counts)?).with_context(|| format!("writing {}", path.display()))?;
    console.say(format_args!("wrote {}", path.display()));
    Report::done(counts)
}
