//! A machine that runs the CUDA kernels, held against training on the processor.

use anyhow::{Result, ensure};
use backpropamine::rng::{Lifetime, Rng};
use backpropamine::task::cue::Cue;
use backpropamine::task::maze::Maze;
use backpropamine::task::{Outcome, Task};
use serde::Serialize;

use super::{Machine, Record, World, gradients, play};
use crate::a2c;
use crate::config::{Config, TrainingOptions};
use crate::interrupt;
use crate::model::Model;
use crate::recurrence::Path;
use crate::rollout::{Course, Episode, Player};
use crate::task::TaskConfig;
use crate::train::{Metrics, Trainer};

/// How far a machine is from the processor: the largest distances in a batch of lifetimes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Distance {
    /// Of `h`.
    pub hidden: f32,
    /// Of `m`, of its largest value if that is above 1.
    pub modulator: f32,
    /// Of a parameter's gradient, of its largest element, or of a thousandth of the whole gradient's if that is larger.
    pub gradient: f32,
    /// Steps at which rounding made the processor draw another action; it then goes on with the machine's.
    pub other_actions: usize,
    /// Steps of all lifetimes.
    pub steps: usize,
}

/// Lives a batch of lifetimes on `machine`, and again on the processor with the machine's actions.
///
/// # Errors
/// When the machine fails, or its task differs from the core's in a single bit.
pub fn compare(
    machine: &mut dyn Machine,
    model: &Model,
    task: TaskConfig,
    seed: u64,
    lifetimes: u32,
    options: &TrainingOptions,
    path: Path,
) -> Result<Distance> {
    let lives = play(machine, model, World::new(task, seed, 0), lifetimes)?;
    let record = machine.record()?;
    let player = Player::new(model, path)?;
    let theirs = lives.episodes(lifetimes as usize);
    let mut distance = Distance {
        steps: lives.actions.len(),
        ..Distance::default()
    };
    let mut ours = Vec::new();
    for (b, theirs) in (0..lifetimes).zip(&theirs) {
        let episode = relive(&player, task, Rng::new(seed), b, theirs)?;
        let pairs = episode.actions.iter().zip(&theirs.actions);
        distance.other_actions += pairs.filter(|(ours, theirs)| ours != theirs).count();
        let column = Column {
            record: &record,
            lifetime: b as usize,
            lifetimes: lifetimes as usize,
        };
        column.check_task(&episode, theirs)?;
        column.measure(&episode, &mut distance);
        ours.push(Episode {
            actions: theirs.actions.clone(),
            ..episode
        });
    }
    let (_, theirs) = gradients(machine, model, &theirs, options)?;
    let (_, ours) = a2c::gradients(&player, &ours, options);
    ensure!(ours.keys().eq(theirs.keys()), "the machine has gradients by other parameters");
    let least = 1e-3 * largest(ours.values().flatten());
    for (ours, theirs) in ours.values().zip(theirs.values()) {
        distance.gradient = distance.gradient.max(apart(ours, theirs) / largest(ours).max(least));
    }
    Ok(distance)
}

/// How far two trainings from the same beginning are apart. Rounding makes them draw different actions sooner or later, and from then on
/// they are two samples of one distribution: only their means agree.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CurveDistance {
    /// Iterations compared.
    pub iterations: u32,
    /// Of the gradient's norm in the first [`FIRST`] iterations, relative.
    pub first: f64,
    /// Of the mean reward in a quarter of the curve, relative; the largest of four.
    pub quarter: f64,
}

/// Iterations before rounding can have made a difference that counts.
pub const FIRST: usize = 3;

/// Trains for all iterations of `config` on the processor and on `machine`; also returns the machine's network.
///
/// # Errors
/// As [`Trainer::iterate`].
pub fn compare_training<C: Course + Clone>(config: &Config, course: &C, machine: Box<dyn Machine>) -> Result<(CurveDistance, Model)> {
    let mut trainers = [None, Some(machine)]
        .map(|machine| Trainer::with_machine(config.clone(), course.clone(), machine))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let mut curves = Vec::new();
    for trainer in &mut trainers {
        let mut curve = Vec::new();
        while !trainer.finished() {
            interrupt::check()?;
            curve.push(trainer.iterate()?);
        }
        curves.push(curve);
    }
    let relative = |[a, b]: [f64; 2]| (a - b).abs() / a.abs().max(b.abs()).max(f64::MIN_POSITIVE);
    let mean = |part: &[Metrics]| part.iter().map(|metrics| metrics.reward).sum::<f64>() / part.len() as f64;
    let [ours, theirs] = [&curves[0], &curves[1]];
    let first = ours.iter().zip(theirs).take(FIRST).map(|(a, b)| relative([a.norm, b.norm]));
    let size = ours.len().div_ceil(4).max(1);
    let quarters = ours
        .chunks(size)
        .zip(theirs.chunks(size))
        .map(|(a, b)| relative([mean(a), mean(b)]));
    let distance = CurveDistance {
        iterations: ours.len() as u32,
        first: first.fold(0.0, f64::max),
        quarter: quarters.fold(0.0, f64::max),
    };
    Ok((distance, trainers[1].model().clone()))
}

/// A lifetime on the processor, with the actions of `other`.
fn relive(player: &Player, task: TaskConfig, rng: Rng, episode: u32, other: &Episode) -> Result<Episode> {
    let actions = other.actions.as_slice();
    Ok(match task {
        TaskConfig::Cue(options) => player.play(&mut Led::new(Cue::new(options)?, actions), rng, episode),
        TaskConfig::Maze(options) => player.play(&mut Led::new(Maze::new(options)?, actions), rng, episode),
    })
}

/// A task that takes these actions, whatever the agent does.
struct Led<'a, T> {
    task: T,
    actions: std::slice::Iter<'a, u32>,
}

impl<'a, T> Led<'a, T> {
    fn new(task: T, actions: &'a [u32]) -> Self {
        Self {
            task,
            actions: actions.iter(),
        }
    }
}

impl<T: Task> Task for Led<'_, T> {
    fn inputs(&self) -> usize {
        self.task.inputs()
    }

    fn actions(&self) -> usize {
        self.task.actions()
    }

    fn steps(&self) -> u32 {
        self.task.steps()
    }

    fn input_range(&self) -> f32 {
        self.task.input_range()
    }

    fn reset(&mut self, rng: Lifetime) {
        self.task.reset(rng);
    }

    fn observe(&self, x: &mut [f32]) {
        self.task.observe(x);
    }

    fn act(&mut self, action: usize) -> Outcome {
        let led = self.actions.next().map_or(action, |&action| action as usize);
        self.task.act(led)
    }
}

/// What a machine recorded of one lifetime.
struct Column<'a> {
    record: &'a Record,
    lifetime: usize,
    lifetimes: usize,
}

impl Column<'_> {
    /// The rows of this lifetime in `[T, B, width]`.
    fn rows<'r>(&self, all: &'r [f32], width: usize) -> impl Iterator<Item = &'r [f32]> {
        // No modulator is no row.
        all.chunks_exact(width.max(1)).skip(self.lifetime).step_by(self.lifetimes)
    }

    fn check_task(&self, ours: &Episode, theirs: &Episode) -> Result<()> {
        let width = ours.inputs.len() / ours.rewards.len();
        let bits = |numbers: &[f32]| -> Vec<u32> { numbers.iter().map(|x| x.to_bits()).collect() };
        let inputs: Vec<f32> = self.rows(&self.record.inputs, width).flatten().copied().collect();
        let first = bits(&ours.inputs).iter().zip(bits(&inputs)).position(|(a, b)| *a != b);
        let lifetime = self.lifetime;
        if let Some(at) = first {
            let (step, input) = (at / width, at % width);
            anyhow::bail!(
                "lifetime {lifetime}, step {step}, input {input}: the machine's task has {}, the core's {}",
                inputs[at],
                ours.inputs[at]
            );
        }
        ensure!(
            inputs.len() == ours.inputs.len(),
            "the machine's task has other inputs than the core's"
        );
        let paid = bits(&ours.rewards) == bits(&theirs.rewards);
        ensure!(paid, "lifetime {lifetime}: the machine's task pays otherwise than the core's");
        ensure!(
            ours.trials == theirs.trials,
            "lifetime {lifetime}: the machine's task ends other trials than the core's"
        );
        Ok(())
    }

    fn measure(&self, ours: &Episode, distance: &mut Distance) {
        let trajectory = &ours.trajectory;
        let (neurons, modulators) = (trajectory.hidden(0).len(), trajectory.modulator(0).len());
        for (t, theirs) in self.rows(&self.record.hidden, neurons).enumerate() {
            distance.hidden = distance.hidden.max(apart(trajectory.hidden(t), theirs));
        }
        for (t, theirs) in self.rows(&self.record.modulator, modulators).enumerate() {
            let ours = trajectory.modulator(t);
            distance.modulator = distance.modulator.max(apart(ours, theirs) / largest(ours).max(1.0));
        }
    }
}

fn largest<'a>(numbers: impl IntoIterator<Item = &'a f32>) -> f32 {
    numbers.into_iter().fold(0.0, |largest, x| largest.max(x.abs()))
}

/// The largest difference of two numbers; infinite where one is none or missing.
fn apart(ours: &[f32], theirs: &[f32]) -> f32 {
    let distance = |(a, b): (&f32, &f32)| if (a - b).is_finite() { (a - b).abs() } else { f32::INFINITY };
    let largest = ours.iter().zip(theirs).map(distance).fold(0.0, f32::max);
    if ours.len() == theirs.len() { largest } else { f32::INFINITY }
}
