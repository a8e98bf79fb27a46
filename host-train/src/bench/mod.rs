//! `bench`: what training and the device cost, measured.

pub mod cuda;
pub mod device;
pub mod train;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::cli::{Console, ExitKind, NumericArg, Report};
use crate::cuda::Device;
use crate::device::board::Board;
use crate::device::firmware::Firmware;
use crate::device::setup::SetupArgs;
use crate::recurrence::Kernel;

/// Measure what a meta-training iteration costs here, or a synapse on the board
#[derive(Debug, Args)]
#[command(
    after_help = "JSON of `bench train`: kernel, threads, peaks (of each kernel here: kernel, operations, l1_bytes, l2_bytes, all per second \
                        and core), shapes (task, rule, hidden, steps, batch, seconds of CPU time, per_second, operations and bytes of an \
                        iteration, operations_share and bytes_share of the kernel's peaks, level of memory, l1 or l2, two_threads: wall \
                        time of one thread over that of two, oracle_seconds, oracle_lifetimes, ratio), peak_memory_mib.\n\
                        JSON of `bench device`: board, cpu, tanh (f32, q15), measurements (numeric, hidden, kind, recurrence, step); with\n\
                        --record: count (cpu, numeric, hidden, kind, step).\n\
                        JSON of `bench cuda`: machine, networks (rule, trained, hidden, modulator, gradient, other_actions, steps), curve \
                        (iterations, first, quarter), speed (hidden, steps, lifetimes, seeds, iterations, seconds, env_steps_per_second), \
                        agrees.\n\n\
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
        /// Pairs of runs with one and with two threads, whose median ratio of wall times counts; 0 leaves them out
        #[arg(long, value_name = "N", default_value = "5")]
        pairs: usize,
        /// Leave out networks with more neurons
        #[arg(long, value_name = "N", default_value = "1024")]
        largest: usize,
    },
    /// Check training on a GPU against the processor, and measure its steps per second
    ///
    /// Tasks must agree bit for bit; forward passes, gradients and a training curve in the maze within tolerances. Exit code 1
    /// if they do not, 4 where there is no GPU, driver or compiler, or in a build without the feature cuda.
    Cuda {
        /// The GPU: cuda or cuda:n
        #[arg(long, default_value = "cuda")]
        device: Device,
        #[command(flatten)]
        options: cuda::Options,
    },
    /// Instructions per synapse on an emulated Cortex-M
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
                pairs,
                largest,
            } => {
                let report = train::bench_train(&train::Options {
                    kernel: *kernel,
                    threads: *threads,
                    iterations: *iterations,
                    oracle: !no_oracle,
                    pairs: *pairs,
                    largest: *largest,
                })?;
                console.say(&report);
                Report::done(report)
            }
            What::Cuda { device, options } => {
                let no_gpu = || ExitKind::Usage("--device cpu: expected a GPU, cuda or cuda:n".into()).into();
                let open = || device.machine()?.ok_or_else(no_gpu);
                let report = cuda::bench_cuda(options, open)?;
                console.say(&report);
                let agrees = report.agrees;
                Report::with_success(report, agrees)
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
