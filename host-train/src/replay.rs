//! `replay`: the core runs a network on given inputs and writes down everything it did.
//!
//! Inputs: `x [T, I]` in F32 or F64 and, optionally, `reset [T]` of any number type; a non-zero entry clears `h`, `H` and
//! `E` before that step. Outputs: `hidden [T, H]`, `policy [T, A]` (logits), `value [T]`, `modulator [T, K]` (before
//! fan-out), and `hebb [H, H]`, `eligibility [H, H]` after the last step's update; in real units whatever the arithmetic,
//! F64 for f64 and F32 for the others; what a network has not is absent.

use std::path::{Path, PathBuf};

use anyhow::Result;
use backpropamine::image::Header;
use backpropamine::network::{Agent, InputError, Network};
use backpropamine::scalar::{FastF32, Q7, Q15, Scalar};
use backpropamine::snapshot::Life;
use clap::Args;
use safetensors::Dtype;
use serde_json::json;

use crate::archive::{Archive, Tensor, elements};
use crate::cli::{Console, NumericArg, Report};
use crate::files::{self, FileError};
use crate::interrupt;
use crate::model::Position;
use crate::runnable::Choice;
use crate::snapshot_file::{self, SnapshotFile};

/// Run a network on given inputs, with the core's own arithmetic
#[derive(Debug, Args)]
#[command(after_help = "\
Inputs:  x [T, I] in F32 or F64; optional reset [T]: non-zero clears h, H and E before that step.
Outputs: hidden [T, H], policy [T, A] (logits), value [T], modulator [T, K] (before fan-out),
         hebb [H, H], eligibility [H, H] after the last step's update; real units,
         F64 for --numeric f64, else F32; what the network has not is absent.

JSON: out, numeric, steps, inputs, hidden, actions, saturated_inputs, snapshot, input_range (q15 and q7 only).

Example: backpropamine replay model.safetensors --inputs in.safetensors --out out.safetensors --numeric q15")]
pub struct ReplayCommand {
    /// The network, a safetensors model or a .bpam image
    model: PathBuf,
    /// The inputs, a safetensors file
    #[arg(long, value_name = "IN.safetensors")]
    inputs: PathBuf,
    /// The file to write
    #[arg(long, value_name = "OUT.safetensors")]
    out: PathBuf,
    /// A snapshot to go on from, instead of from birth
    #[arg(long, value_name = "FILE.bpsn")]
    restore: Option<PathBuf>,
    /// Where to keep what was learned, as a snapshot
    #[arg(long, value_name = "FILE.bpsn")]
    snapshot: Option<PathBuf>,
    #[command(flatten)]
    choice: Choice,
}

impl ReplayCommand {
    /// Reads, runs and writes.
    ///
    /// # Errors
    /// [`FileError`] when the model, the image or the inputs are bad; a usage error when `--numeric` contradicts an image.
    pub fn run(&self, console: &Console) -> Result<Report> {
        let inputs = Inputs::read(&self.inputs)?;
        let network = self.choice.open(&self.model, Some(inputs.largest()))?;
        inputs.check_width(network.header.inputs)?;
        inputs.check_magnitude(network.numeric)?;
        let before = self.restore.as_deref().map(SnapshotFile::load).transpose()?;
        let before = before.as_ref();
        let Replay {
            archive,
            saturated,
            snapshot,
        } = match network.numeric {
            NumericArg::F64 => run::<f64>(&network.words, &inputs, before)?,
            NumericArg::F32 => run::<f32>(&network.words, &inputs, before)?,
            NumericArg::Micromath => run::<FastF32>(&network.words, &inputs, before)?,
            NumericArg::Q15 => run::<Q15>(&network.words, &inputs, before)?,
            NumericArg::Q7 => run::<Q7>(&network.words, &inputs, before)?,
        };
        archive.write(&self.out)?;
        if let Some(path) = &self.snapshot {
            files::write_atomically(path, &snapshot)?;
        }
        if saturated > 0 {
            console.note(format_args!(
                "note: {saturated} inputs lay outside the input range and were clamped; see --input-range"
            ));
        }
        console.say(format_args!(
            "{}: {} steps in {}",
            self.out.display(),
            inputs.steps,
            network.numeric
        ));
        let header = &network.header;
        Report::done(json!({
            "out": self.out,
            "numeric": network.numeric.to_string(),
            "steps": inputs.steps,
            "inputs": header.inputs,
            "hidden": header.hidden,
            "actions": header.outputs,
            "saturated_inputs": saturated,
            "snapshot": self.snapshot,
            "input_range": network.numeric.is_fixed().then(|| f64::from(header.formats.input_scale).exp2()),
        }))
    }
}

/// The inputs of a replay.
struct Inputs {
    path: PathBuf,
    steps: usize,
    width: usize,
    /// `[steps, width]`, row by row.
    x: Vec<f64>,
    /// One entry per step.
    reset: Vec<bool>,
}

impl Inputs {
    fn read(path: &Path) -> Result<Self, FileError> {
        let archive = Archive::read(path)?;
        if let Some(name) = archive.tensors.keys().find(|name| !matches!(name.as_str(), "x" | "reset")) {
            return Err(FileError::new(
                path,
                name,
                "x and, optionally, reset",
                "such a tensor",
                "leave it out",
            ));
        }
        let tensor = archive
            .tensors
            .get("x")
            .ok_or_else(|| FileError::new(path, "x", "a tensor [T, I]", "none", "name the inputs x"))?;
        let x = to_f64(tensor).ok_or_else(|| {
            FileError::new(
                path,
                "x",
                "type F32 or F64",
                format_args!("{:?}", tensor.dtype),
                "convert the inputs to F32",
            )
        })?;
        let &[steps, width] = tensor.shape.as_slice() else {
            return Err(FileError::new(
                path,
                "x",
                "shape [T, I]",
                format_args!("shape {:?}", tensor.shape),
                "give one row of inputs per step",
            ));
        };
        if let Some(index) = x.iter().position(|value| !value.is_finite()) {
            let found = format!(
                "{} at {}",
                x[index],
                Position {
                    index,
                    shape: &tensor.shape
                }
            );
            return Err(FileError::new(path, "x", "finite values", found, "correct the inputs"));
        }
        let reset = archive
            .tensors
            .get("reset")
            .map(|reset| read_reset(reset, steps, path))
            .transpose()?;
        Ok(Self {
            path: path.to_owned(),
            steps,
            width,
            x,
            reset: reset.unwrap_or_else(|| vec![false; steps]),
        })
    }

    /// Largest magnitude of all inputs.
    fn largest(&self) -> f64 {
        self.x.iter().fold(0.0, |largest, value| value.abs().max(largest))
    }

    fn check_width(&self, expected: usize) -> Result<(), FileError> {
        if self.width == expected {
            return Ok(());
        }
        let found = format!("shape [{}, {}]", self.steps, self.width);
        let expected = format!("shape [T, {expected}], the network's inputs");
        Err(FileError::new(
            &self.path,
            "x",
            expected,
            found,
            "give as many inputs per step as the network has",
        ))
    }

    fn check_magnitude(&self, numeric: NumericArg) -> Result<(), FileError> {
        let largest = self.largest();
        if numeric == NumericArg::F64 || largest <= f64::from(f32::MAX) {
            return Ok(());
        }
        Err(FileError::new(
            &self.path,
            "x",
            "numbers within the range of f32",
            format_args!("{largest:e}"),
            "scale the inputs or use --numeric f64",
        ))
    }

    fn row(&self, step: usize) -> &[f64] {
        &self.x[step * self.width..][..self.width]
    }
}

fn to_f64(tensor: &Tensor) -> Option<Vec<f64>> {
    tensor
        .to_f64()
        .or_else(|| Some(tensor.to_f32()?.into_iter().map(f64::from).collect()))
}

fn read_reset(tensor: &Tensor, steps: usize, path: &Path) -> Result<Vec<bool>, FileError> {
    if tensor.shape != [steps] {
        let expected = format!("shape [{steps}], one entry per row of x");
        return Err(FileError::new(
            path,
            "reset",
            expected,
            format_args!("shape {:?}", tensor.shape),
            "give one number per step",
        ));
    }
    let bytes = &tensor.bytes;
    let flags = match tensor.dtype {
        Dtype::F64 => elements(bytes, |number| f64::from_le_bytes(number) != 0.0),
        Dtype::F32 => elements(bytes, |number| f32::from_le_bytes(number) != 0.0),
        Dtype::F16 | Dtype::BF16 => elements(bytes, |number| u16::from_le_bytes(number) & 0x7fff != 0),
        Dtype::I64 | Dtype::U64 => elements(bytes, |number| number != [0; 8]),
        Dtype::I32 | Dtype::U32 => elements(bytes, |number| number != [0; 4]),
        Dtype::I16 | Dtype::U16 => elements(bytes, |number| number != [0; 2]),
        Dtype::I8 | Dtype::U8 | Dtype::BOOL => elements(bytes, |number| number != [0; 1]),
        other => {
            return Err(FileError::new(
                path,
                "reset",
                "a number type",
                format_args!("{other:?}"),
                "use F32, I64 or BOOL",
            ));
        }
    };
    Ok(flags)
}

/// What the arithmetics do differently in a replay.
pub(crate) trait Replayed: Scalar {
    /// One step on a row of real numbers; returns the logits.
    fn feed<'a>(agent: &'a mut Agent<'_, '_, Self>, row: &[f64]) -> Result<&'a [Self::Output], InputError>;
    /// A tensor of real numbers.
    fn tensor(shape: &[usize], values: &[Self::Real]) -> Tensor;
}

impl Replayed for f64 {
    fn feed<'a>(agent: &'a mut Agent<'_, '_, f64>, row: &[f64]) -> Result<&'a [f64], InputError> {
        agent.step(row)
    }

    fn tensor(shape: &[usize], values: &[f64]) -> Tensor {
        Tensor::from_f64(shape, values)
    }
}

impl Replayed for f32 {
    fn feed<'a>(agent: &'a mut Agent<'_, '_, f32>, row: &[f64]) -> Result<&'a [f32], InputError> {
        agent.step(&to_f32(row))
    }

    fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::from_f32(shape, values)
    }
}

/// Arithmetics that take real inputs and show them in f32.
macro_rules! replayed_in_f32 {
    ($($scalar:ty),+) => {
        $(impl Replayed for $scalar {
            fn feed<'a>(agent: &'a mut Agent<'_, '_, $scalar>, row: &[f64]) -> Result<&'a [Self::Output], InputError> {
                agent.step_real(&to_f32(row))
            }

            fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
                Tensor::from_f32(shape, values)
            }
        })+
    };
}

replayed_in_f32!(FastF32, Q15, Q7);

fn to_f32(row: &[f64]) -> Vec<f32> {
    row.iter().map(|&value| value as f32).collect()
}

/// What a replay leaves behind.
struct Replay {
    /// The outputs.
    archive: Archive,
    /// The number of clamped inputs.
    saturated: u32,
    /// The agent at the end.
    snapshot: Vec<u8>,
}

/// Runs the network on the inputs, from birth or from a snapshot.
fn run<S: Replayed>(words: &[u32], inputs: &Inputs, before: Option<&SnapshotFile>) -> Result<Replay> {
    let network = Network::<S>::new(words)?;
    let mut memory = vec![0; network.memory_words()];
    let mut agent = Agent::new(&network, &mut memory)?;
    let mut record = Record::<S>::new();
    let mut saturated = 0;
    let mut life = match before {
        Some(snapshot) => snapshot.restore(&mut agent)?,
        None => Life::default(),
    };
    for step in 0..inputs.steps {
        interrupt::check()?;
        if inputs.reset[step] {
            saturated += agent.saturated_inputs();
            agent.reset();
            life = Life::default();
        }
        life.step = life.step.saturating_add(1);
        record.step(&mut agent, inputs.row(step))?;
    }
    saturated += agent.saturated_inputs();
    let sequence = before.map_or(1, |snapshot| snapshot.head.sequence.wrapping_add(1));
    Ok(Replay {
        snapshot: snapshot_file::write(&mut agent, &life, sequence),
        archive: record.finish(&agent, network.header(), inputs.steps),
        saturated,
    })
}

/// Everything that an agent did, step after step.
struct Record<S: Scalar> {
    hidden: Vec<S::Real>,
    policy: Vec<S::Real>,
    value: Vec<S::Real>,
    modulator: Vec<S::Real>,
}

impl<S: Replayed> Record<S> {
    fn new() -> Self {
        Self {
            hidden: Vec::new(),
            policy: Vec::new(),
            value: Vec::new(),
            modulator: Vec::new(),
        }
    }

    fn step(&mut self, agent: &mut Agent<'_, '_, S>, row: &[f64]) -> Result<(), InputError> {
        self.policy
            .extend(S::feed(agent, row)?.iter().map(|&logit| S::output_to_real(logit)));
        self.hidden.extend(agent.hidden().iter().map(|h| h.to_real()));
        self.value.extend(agent.value().map(S::output_to_real));
        self.modulator.extend(agent.modulator().iter().map(|&m| S::output_to_real(m)));
        Ok(())
    }

    fn finish(self, agent: &Agent<'_, '_, S>, header: &Header, steps: usize) -> Archive {
        let hidden = header.hidden;
        let mut archive = Archive::default();
        let mut add = |name: &str, shape: &[usize], values: &[S::Real]| {
            archive.tensors.insert(name.to_owned(), S::tensor(shape, values));
        };
        add("hidden", &[steps, hidden], &self.hidden);
        add("policy", &[steps, header.outputs], &self.policy);
        if header.value {
            add("value", &[steps], &self.value);
        }
        if header.rule.is_modulated() {
            add("modulator", &[steps, header.modulators], &self.modulator);
        }
        if header.rule.is_plastic() {
            add("hebb", &[hidden, hidden], &matrix(hidden, |post, pre| agent.hebb(post, pre)));
        }
        if header.rule.has_eligibility() {
            add(
                "eligibility",
                &[hidden, hidden],
                &matrix(hidden, |post, pre| agent.eligibility(post, pre)),
            );
        }
        archive
    }
}

/// A square matrix, row by row.
pub(crate) fn matrix<R>(size: usize, element: impl Fn(usize, usize) -> Option<R>) -> Vec<R> {
    (0..size)
        .flat_map(|post| (0..size).map(move |pre| (post, pre)))
        .filter_map(|(post, pre)| element(post, pre))
        .collect()
}
