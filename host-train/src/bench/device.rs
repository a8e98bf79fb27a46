//! Instructions per synapse and step on an emulated Cortex-M: what the recurrence costs where it has to run.
//!
//! The emulator counts instructions, not cycles: it has no pipeline and no memory wait states. The recurrence's own share is
//! the measured step less its heads and inputs. A head, one row of N products, is measured alone; an input counts as one,
//! for its N products. `tanh` and everything once per row stay in the recurrence.

use std::fmt;

use anyhow::{Context, Result, bail};
use backpropamine::image::Header;
use serde::{Deserialize, Serialize};

use crate::cli::NumericArg;
use crate::config::Config;
use crate::device::board::Board;
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

/// The measurements, and on what.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The emulated board.
    pub board: &'static str,
    /// Its processor core.
    pub cpu: &'static str,
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

/// What `firmware/src/bin/bench.rs` prints: ticks of all repeats.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ticks {
    repeats: u32,
    step: u32,
    head: u32,
}

/// Measures random networks of these sizes.
///
/// # Errors
/// When the board has no such timer, or a build or run fails.
pub fn bench_device(firmware: &Firmware, board: &'static Board, sizes: &[usize]) -> Result<Report> {
    let mut measurements = Vec::new();
    for numeric in [NumericArg::F32, NumericArg::Q15, NumericArg::Q7] {
        for &hidden in sizes {
            let synapses = (hidden * hidden) as f64;
            for (kind, rule, silent) in KINDS {
                let network = network(numeric, hidden, rule, silent)?;
                let (step, head) = instructions(firmware, board, &network)?;
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
        measurements,
    })
}

/// A network at its random beginning. `silent` cuts the modulator off, so that M = 0.
fn network(numeric: NumericArg, hidden: usize, rule: &str, silent: bool) -> Result<Runnable> {
    let settings = [format!("network.rule={rule}"), format!("network.hidden={hidden}")];
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

/// Instructions of a step and of one head.
fn instructions(firmware: &Firmware, board: &'static Board, network: &Runnable) -> Result<(f64, f64)> {
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
    let Ticks { repeats, step, head } = report.context("the firmware reported nothing")?;
    if step == 0 {
        bail!("{} has no timer that counts instructions", board.name);
    }
    let each = |ticks: u32| f64::from(ticks) * TICK / f64::from(1 << SHIFT) / f64::from(repeats);
    Ok((each(step), each(head)))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Instructions per synapse and step on {} ({}), emulated: the recurrence / the whole step",
            self.board, self.cpu
        )?;
        write!(f, "network   ")?;
        KINDS.iter().try_for_each(|(kind, ..)| write!(f, "{kind:>18}"))?;
        for row in self.measurements.chunks(KINDS.len()) {
            write!(f, "\n{:4} N={:<4}", row[0].numeric, row[0].hidden)?;
            row.iter()
                .try_for_each(|cell| write!(f, "{:>10.2} / {:5.2}", cell.recurrence, cell.step))?;
        }
        Ok(())
    }
}
