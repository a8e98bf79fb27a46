//! Meta-training on a GPU: whole batches of lifetimes, tasks included, in a few launches of `kernels.cu`.
//!
//! A [`Machine`] runs the kernels. The feature `cuda` brings the one that matters, `gpu`; the tests bring another, which runs the
//! same file as host code. The loss between the two passes, the optimiser and the curriculum are those of training on the
//! processor: [`play`] and [`gradients`] stand in for [`rollout`](crate::rollout) and [`a2c::gradients`].

pub mod compare;
#[cfg(feature = "cuda")]
pub mod gpu;
mod layout;

use std::fmt;
use std::str::FromStr;

use anyhow::Result;
use backpropamine::task::{cue, maze};
use serde::{Deserialize, Serialize};

use crate::a2c::{self, Loss};
use crate::config::TrainingOptions;
use crate::model::Model;
use crate::optim::Gradients;
use crate::recurrence::Trajectory;
use crate::rollout::{Episode, Softmax, Trial};
use crate::task::TaskConfig;

pub use layout::{Shape, pack, unpack};

/// CUDA C of all kernels.
pub const KERNELS: &str = include_str!("kernels.cu");

/// Where training computes: `cpu`, or `cuda:n` for the n-th GPU, `cuda` for the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// This GPU.
    Cuda(usize),
}

impl Device {
    /// Whether it is the processor.
    pub fn is_cpu(&self) -> bool {
        *self == Self::Cpu
    }

    /// What runs the kernels there; nothing for the processor.
    ///
    /// # Errors
    /// [`MissingTool`](crate::cli::ExitKind::MissingTool) when this program was built without the feature `cuda`, or this machine lacks driver, compiler or GPU.
    pub fn machine(self) -> Result<Option<Box<dyn Machine>>> {
        match self {
            Self::Cpu => Ok(None),
            Self::Cuda(ordinal) => open(ordinal).map(Some),
        }
    }
}

#[cfg(feature = "cuda")]
fn open(ordinal: usize) -> Result<Box<dyn Machine>> {
    Ok(Box::new(gpu::Stream::new(ordinal)?))
}

#[cfg(not(feature = "cuda"))]
fn open(_: usize) -> Result<Box<dyn Machine>> {
    Err(crate::cli::ExitKind::MissingTool(
        "this program was built for the processor only: build it for GPUs with \
         `cargo build --package backpropamine-train --features cuda`, which needs no CUDA installation; or use --device cpu"
            .into(),
    )
    .into())
}

impl FromStr for Device {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let ordinal = match word.split_once(':') {
            None if word == "cpu" => return Ok(Self::Cpu),
            None if word == "cuda" => Some(0),
            Some(("cuda", number)) => number.parse().ok(),
            _ => None,
        };
        ordinal.map(Self::Cuda).ok_or_else(|| format!("`{word}`: expected cpu or cuda[:n]"))
    }
}

impl TryFrom<String> for Device {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        word.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

/// `struct World` of the kernels: the task, and where its random numbers begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct World {
    task: TaskConfig,
    seed: u64,
    first: u32,
}

impl World {
    /// The lifetimes from number `first` on of a run with this seed, in this task.
    pub fn new(task: TaskConfig, seed: u64, first: u32) -> Self {
        Self { task, seed, first }
    }

    /// The struct's words.
    pub fn words(&self) -> [u32; 17] {
        let mut words = [0; 17];
        words[..3].copy_from_slice(&[self.seed as u32, (self.seed >> 32) as u32, self.first]);
        match self.task {
            TaskConfig::Cue(cue) => {
                let variant = u32::from(cue.variant == cue::Variant::Paper);
                words[3..6].copy_from_slice(&[0, variant, cue.time_input.into()]);
                let (shortest, longest) = cue.trial_steps();
                words[6..12].copy_from_slice(&[cue.cues, cue.bits, shortest, longest, cue.fixed.into(), cue.flip.to_bits()]);
            }
            TaskConfig::Maze(maze) => {
                let (variant, start) = (maze.variant == maze::Variant::Paper, maze.start == maze::Start::Random);
                words[3..6].copy_from_slice(&[1, variant.into(), maze.time_input.into()]);
                words[12..15].copy_from_slice(&[maze.size, start.into(), maze.goal_moves_every]);
                words[15..].copy_from_slice(&[maze.reward.to_bits(), maze.wall_penalty.to_bits()]);
            }
        }
        words
    }
}

/// A batch of lifetimes to be lived.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Sizes and rule.
    pub shape: Shape,
    /// Task and random numbers.
    pub world: World,
    /// The network, by [`pack`].
    pub parameters: Vec<f32>,
}

/// What lifetimes leave for the loss, time first: entry `t·B + b` is step `t` of lifetime `b`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lives {
    /// Policy logits and value, `[T, B, A + 1]`.
    pub heads: Vec<f32>,
    /// `[T, B]`
    pub actions: Vec<i32>,
    /// `[T, B]`
    pub rewards: Vec<f32>,
    /// `[T, B]`: 1 or 0 where a trial ended, successfully or not; else -1.
    pub trials: Vec<i32>,
}

/// The rest of what a machine recorded, for comparisons.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// `x`, `[T, B, I]`.
    pub inputs: Vec<f32>,
    /// `h`, `[T, B, N]`.
    pub hidden: Vec<f32>,
    /// `m`, `[T, B, K]`.
    pub modulator: Vec<f32>,
}

/// Something that runs the kernels. It keeps what a pass leaves for the next one.
pub trait Machine: Send {
    /// What it is.
    ///
    /// # Errors
    /// When the machine fails.
    fn name(&self) -> Result<String>;

    /// Runs `live`.
    ///
    /// # Errors
    /// When the machine fails, such as for lack of memory.
    fn live(&mut self, job: &Job) -> Result<Lives>;

    /// What the lifetimes of the last [`live`](Self::live) saw and did inside.
    ///
    /// # Errors
    /// When the machine fails.
    fn record(&mut self) -> Result<Record>;

    /// Runs `learn` and `total` on the last [`live`](Self::live): the gradient in the layout of [`pack`], from the loss's derivatives by
    /// its heads.
    ///
    /// # Errors
    /// When the machine fails.
    fn learn(&mut self, by_heads: &[f32]) -> Result<Vec<f32>>;
}

/// A batch of lifetimes of `model`.
///
/// # Errors
/// When the kernels do not know the network, or the machine fails.
pub fn play(machine: &mut dyn Machine, model: &Model, world: World, lifetimes: u32) -> Result<Lives> {
    let shape = Shape::new(model, world.task.steps(), lifetimes)?;
    let parameters = pack(model);
    machine.live(&Job { shape, world, parameters })
}

impl Lives {
    /// The lifetimes one by one, without what the machine keeps: inputs and trajectories are empty.
    pub fn episodes(&self, lifetimes: usize) -> Vec<Episode> {
        let width = self.heads.len() / self.actions.len();
        let episode = |b: usize| {
            let trials = (0..).zip(self.trials.iter().skip(b).step_by(lifetimes));
            let mut softmax = Softmax::default();
            let (mut log_chosen, mut policy, mut values) = (Vec::new(), Vec::new(), Vec::new());
            for (heads, &action) in self.heads.chunks_exact(width).zip(&self.actions).skip(b).step_by(lifetimes) {
                let (logits, value) = heads.split_at(width - 1);
                softmax.take(logits);
                log_chosen.push(softmax.log(logits[action as usize]));
                policy.extend(softmax.probabilities());
                values.extend_from_slice(value);
            }
            Episode {
                inputs: Vec::new(),
                trajectory: Trajectory::default(),
                log_chosen,
                policy,
                values,
                actions: self.actions.iter().skip(b).step_by(lifetimes).map(|&a| a as u32).collect(),
                rewards: self.rewards.iter().skip(b).step_by(lifetimes).copied().collect(),
                trials: trials
                    .filter(|(_, end)| **end >= 0)
                    .map(|(step, &end)| Trial { step, success: end == 1 })
                    .collect(),
            }
        };
        (0..lifetimes).map(episode).collect()
    }
}

/// The loss of the lifetimes that `machine` has just lived, as [`Lives::episodes`] gave them, and its gradients by every parameter of `model`.
///
/// # Errors
/// When the machine fails.
pub fn gradients(machine: &mut dyn Machine, model: &Model, episodes: &[Episode], options: &TrainingOptions) -> Result<(Loss, Gradients)> {
    let (loss, by_heads) = a2c::loss(episodes, options);
    Ok((loss, unpack(model, &machine.learn(&by_heads)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        for (word, device) in [("cpu", Device::Cpu), ("cuda", Device::Cuda(0)), ("cuda:3", Device::Cuda(3))] {
            assert_eq!(word.parse(), Ok(device));
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        for wrong in ["", "gpu", "cpu:1", "cuda:", "cuda:-1", "cuda:x"] {
            assert!(wrong.parse::<Device>().is_err(), "{wrong}");
        }
    }
}
