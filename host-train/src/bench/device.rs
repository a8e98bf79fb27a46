//! Instructions per synapse and step on an emulated Cortex-M: what the recurrence costs where it has to run.
//!
//! The emulator counts instructions, not cycles: it has no pipeline and no memory wait states. The recurrence's own share is
//! the measured step less its heads and inputs. A head, one row of N products, is measured alone; an input counts as one,
//! for its N products. `tanh` and everything once per row stay in the recurrence.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use backpropamine::image::Header;
use serde::{Deserialize, Serialize};

use crate::cli::NumericArg;
use crate::config::Config;
use crate::device::board::{Board, Kind};
use crate::device::emulate::ImageForBuild;
use crate::device::emulator::{self, Options};
use crate::device::firmware::{Firmware, Recipe};
use crate::export;
use crate::runnable::Runnable;
use crate::task::CueCourse;
use crate::train::Trainer;

/// Every instruction advances the emulated clock by 2^6 ns.
const SHIFT: u8 = 6;

/// One tick of the boards' 25 MHz timer, in ns.
const TICK: f64 = 40.0;

/// The kinds of recurrence, in the order of the table: the rule, and whether the modulator is held at zero.
const KINDS: [(&str, &str, bool); 4] = [
    ("static", "none", false),
    ("plastic, M = 0", "simple", true),
    ("simple", "simple", false),
    ("retroactive", "retroactive", false),
];

/// A Cortex-M0, whose emulated board has no timer that counts instructions. A Cortex-M3 runs all of its instructions.
pub static CORTEX_M0: Board = Board {
    name: "mps2-an385",
    cpu: "Cortex-M0",
    target: "thumbv6m-none-eabi",
    memory: "mps2",
    flash: 4 << 20,
    ram: 4 << 20,
    kind: Kind::Emulated("mps2-an385"),
    clock: 25_000_000,
    slot: None,
};

/// The measurements, and on what.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The emulated board.
    pub board: &'static str,
    /// The processor core that the program is for.
    pub cpu: &'static str,
    /// Instructions of one `tanh`, called as a function.
    pub tanh: Tanh,
    /// One entry per arithmetic, size and kind.
    pub measurements: Vec<Measurement>,
}

/// One network.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// `f32`, `q15` or `q7`.
    pub numeric: String,
    /// Neurons N.
    pub hidden: usize,
    /// What the recurrence does.
    pub kind: &'static str,
    /// Instructions of the recurrence, with trace update and tanh, divided by N².
    pub recurrence: f64,
    /// Instructions of the whole step with 27 inputs, two logits and the modulator, divided by N².
    pub step: f64,
}

/// Instructions of one `tanh` in either arithmetic, the mean of a few arguments.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Tanh {
    /// `math::tanh_f32`.
    pub f32: f64,
    /// `math::tanh_q15`, which q7 uses too.
    pub q15: f64,
}

/// What `firmware/src/bin/bench.rs` prints: ticks of all repeats.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ticks {
    repeats: u32,
    step: u32,
    head: u32,
    tanh_f32: u32,
    tanh_q15: u32,
}

/// Instructions of a step, of one head and of `tanh`.
struct Instructions {
    step: f64,
    head: f64,
    tanh: Tanh,
}

/// Counts that are kept, so that a test notices when they grow.
#[derive(Debug, Serialize, Deserialize)]
pub struct Counts {
    /// All of them.
    pub count: Vec<Count>,
}

/// Instructions of one network's whole step.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Count {
    /// The processor core.
    pub cpu: String,
    /// The arithmetic.
    pub numeric: String,
    /// Neurons N.
    pub hidden: usize,
    /// What the recurrence does.
    pub kind: String,
    /// Instructions of the whole step, divided by N².
    pub step: f64,
}

impl Counts {
    /// Measures what is kept: networks of 100 neurons, every kernel of the Cortex-M4, and q15's portable loops.
    ///
    /// # Errors
    /// As [`bench_device`].
    pub fn measure(firmware: &Firmware) -> Result<Self> {
        let m3 = Board::named("mps2-an385").context("the table has a Cortex-M3")?;
        let mut count = Vec::new();
        for (board, numerics) in [
            (Board::DEFAULT, &ALL[..]),
            (m3, &[NumericArg::Q15]),
            (&CORTEX_M0, &[NumericArg::Q15]),
        ] {
            let report = bench_device(firmware, board, numerics, &[100])?;
            count.extend(report.measurements.into_iter().map(|measurement| Count {
                cpu: report.cpu.to_owned(),
                numeric: measurement.numeric,
                hidden: measurement.hidden,
                kind: measurement.kind.to_owned(),
                step: measurement.step,
            }));
        }
        Ok(Self { count })
    }

    /// The file that keeps them.
    pub fn path(firmware: &Firmware) -> PathBuf {
        firmware.folder().join("counts.toml")
    }
}

/// The arithmetics that a device runs.
pub const ALL: [NumericArg; 3] = [NumericArg::F32, NumericArg::Q15, NumericArg::Q7];

/// Measures random networks of these arithmetics and sizes.
///
/// # Errors
/// When the board has no such timer, or a build or run fails.
pub fn bench_device(firmware: &Firmware, board: &'static Board, numerics: &[NumericArg], sizes: &[usize]) -> Result<Report> {
    let mut measurements = Vec::new();
    let mut tanh = Tanh::default();
    for &numeric in numerics {
        for &hidden in sizes {
            let synapses = (hidden * hidden) as f64;
            for (kind, rule, silent) in KINDS {
                let network = network(numeric, hidden, rule, silent)?;
                let Instructions { step, head, tanh: each } = instructions(firmware, board, &network)?;
                tanh = each;
                let Header {
                    inputs,
                    outputs,
                    modulators,
                    ..
                } = network.header;
                let rest = head * (inputs + outputs + modulators) as f64;
                measurements.push(Measurement {
                    numeric: numeric.to_string(),
                    hidden,
                    kind,
                    recurrence: (step - rest) / synapses,
                    step: step / synapses,
                });
            }
        }
    }
    Ok(Report {
        board: board.name,
        cpu: board.cpu,
        tanh,
        measurements,
    })
}

/// A network at its random beginning. `silent` cuts the modulator off, so that M = 0.
fn network(numeric: NumericArg, hidden: usize, rule: &str, silent: bool) -> Result<Runnable> {
    // In f32 the clip's cost depends on the numbers: they stay what they were whatever becomes of the preset.
    let settings = [
        format!("network.rule={rule}"),
        format!("network.hidden={hidden}"),
        "init.input_scale=3.0".to_owned(),
    ];
    let config = Config::load("cue-small", &settings)?;
    let mut model = Trainer::new(config.clone(), CueCourse::new(&config)?)?.model().clone();
    for name in ["modulator.weight", "modulator.bias"] {
        if let Some(parameter) = model.parameters.get_mut(name).filter(|_| silent) {
            parameter.values.fill(0.0);
        }
    }
    let words = match numeric {
        NumericArg::Q15 | NumericArg::Q7 => export::fixed_image(&model, numeric.image(), "bench".as_ref(), 1.0)?.words,
        _ => export::f32_image(&model),
    };
    let header = Header::parse(&words)?;
    Ok(Runnable {
        words,
        header,
        numeric,
        metadata: model.metadata,
    })
}

fn instructions(firmware: &Firmware, board: &'static Board, network: &Runnable) -> Result<Instructions> {
    let image = ImageForBuild::new(network)?;
    let elf = firmware.build(&Recipe {
        image: Some(image.path()),
        ..Recipe::new("bench", board)
    })?;
    let mut report = None;
    let options = Options {
        icount_shift: Some(SHIFT),
        ..Options::default()
    };
    emulator::run(&elf, board, options, |line| {
        report = Some(serde_json::from_str(line)?);
        Ok(())
    })?;
    let ticks: Ticks = report.context("the firmware reported nothing")?;
    if ticks.step == 0 {
        bail!("{} has no timer that counts instructions", board.name);
    }
    let each = |number: u32| f64::from(number) * TICK / f64::from(1 << SHIFT) / f64::from(ticks.repeats);
    Ok(Instructions {
        step: each(ticks.step),
        head: each(ticks.head),
        tanh: Tanh {
            f32: each(ticks.tanh_f32),
            q15: each(ticks.tanh_q15),
        },
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Instructions per synapse and step for {}, on an emulated {}: the recurrence / the whole step",
            self.cpu, self.board
        )?;
        write!(f, "network   ")?;
        KINDS.iter().try_for_each(|(kind, ..)| write!(f, "{kind:>18}"))?;
        for row in self.measurements.chunks(KINDS.len()) {
            write!(f, "\n{:4} N={:<4}", row[0].numeric, row[0].hidden)?;
            row.iter()
                .try_for_each(|cell| write!(f, "{:>10.2} / {:5.2}", cell.recurrence, cell.step))?;
        }
        write!(
            f,
            "\nInstructions of one tanh as a function: f32 {:.1}, q15 {:.1}",
            self.tanh.f32, self.tanh.q15
        )
    }
}
