//! Rollouts: whole lifetimes of a network in a task, one after another in time, side by side in threads.
//!
//! One parallel job is one whole episode with random streams of its own, so the traces stay in a core's cache, no step
//! waits for another episode, and the result is the same for any number of threads.

use std::sync::Arc;

use backpropamine::policy::sample_weights;
use backpropamine::rng::{Rng, Stream};
use backpropamine::task::Task;
use rayon::prelude::*;

use crate::model::Model;
use crate::recurrence::{Clip, Forward, Heads, Input, Mask, Parameters, Path, Spec, Trajectory, Weights};
use crate::task::TaskConfig;

/// Tasks of growing difficulty, all with the same inputs and actions; the last is the one that is meant.
///
/// A task of one's own is a course of one stage: [`Single`].
pub trait Course: Sync {
    /// The environment.
    type Task: Task;

    /// The word for it in the model's metadata.
    fn name(&self) -> &str;

    /// Number of stages, at least 1.
    fn stages(&self) -> usize;

    /// A new environment of this stage (`0..stages`).
    fn task(&self, stage: usize) -> Self::Task;

    /// The options of a stage's task, if it is one of the core's: only those have a twin on the GPU.
    fn options(&self, _stage: usize) -> Option<TaskConfig> {
        None
    }

    /// What [`score`](Self::score) is, in words.
    fn score_name(&self) -> &str {
        "late accuracy"
    }

    /// What an episode reached and could have reached. Their ratio over many episodes ends a stage; unless the task knows
    /// better, it is the late accuracy.
    fn score(&self, _stage: usize, episode: &Episode) -> (u32, u32) {
        episode.late()
    }
}

/// A course of one stage: a task that needs no easier one before it.
#[derive(Clone, Debug)]
pub struct Single<F> {
    /// The word for the task in the model's metadata.
    pub name: String,
    /// Makes a new environment.
    pub make: F,
}

impl<T: Task, F: Fn() -> T + Sync> Course for Single<F> {
    type Task = T;

    fn name(&self) -> &str {
        &self.name
    }

    fn stages(&self) -> usize {
        1
    }

    fn task(&self, _stage: usize) -> T {
        (self.make)()
    }
}

/// A trial that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The step at which it ended.
    pub step: u32,
    /// Whether it succeeded.
    pub success: bool,
}

/// What one lifetime leaves for the backward pass.
#[derive(Clone, Debug)]
pub struct Episode {
    /// `x(t)`, `[T, I]`; empty where a GPU keeps them.
    pub inputs: Vec<f32>,
    /// `h(t)` and `m(t)`; empty where a GPU keeps them.
    pub trajectory: Trajectory<f32>,
    /// The sampled action of each step.
    pub actions: Vec<u32>,
    /// Its logarithmic probability.
    pub log_chosen: Vec<f32>,
    /// `pi(t)`, `[T, A]`.
    pub policy: Vec<f32>,
    /// `V(t)`
    pub values: Vec<f32>,
    /// The reward of each step.
    pub rewards: Vec<f32>,
    /// The trials in the order of their ends.
    pub trials: Vec<Trial>,
}

impl Episode {
    /// `x(t)`
    pub fn inputs(&self, t: usize) -> &[f32] {
        nth(&self.inputs, t, self.rewards.len())
    }

    /// `pi(t)`
    pub fn policy(&self, t: usize) -> &[f32] {
        nth(&self.policy, t, self.rewards.len())
    }

    /// Correct and all responses in the second half of the lifetime: the *late accuracy* (core's `task` has the definition).
    pub fn late(&self) -> (u32, u32) {
        let half = self.rewards.len().div_ceil(2) as u32;
        let late = self.trials.iter().filter(|trial| trial.step >= half);
        late.fold((0, 0), |(correct, all), trial| (correct + u32::from(trial.success), all + 1))
    }
}

/// The `t`-th of `steps` rows.
fn nth(rows: &[f32], t: usize, steps: usize) -> &[f32] {
    let width = rows.len() / steps;
    &rows[t * width..][..width]
}

/// The softmax of one row of logits after another, each exponential computed once.
#[derive(Clone, Debug, Default)]
pub struct Softmax {
    /// `exp(logit - largest)`
    weights: Vec<f32>,
    total: f32,
    /// Of the exponentials of the logits themselves.
    log_total: f32,
}

impl Softmax {
    /// Takes the next row.
    pub fn take(&mut self, logits: &[f32]) {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        self.weights.clear();
        self.weights.extend(logits.iter().map(|logit| libm::expf(logit - largest)));
        self.total = self.weights.iter().sum();
        self.log_total = largest + libm::logf(self.total);
    }

    /// The logarithm of the probability that goes with this logit of the row.
    pub fn log(&self, logit: f32) -> f32 {
        logit - self.log_total
    }

    /// The row's probabilities.
    pub fn probabilities(&self) -> impl Iterator<Item = f32> {
        self.weights.iter().map(|weight| weight / self.total)
    }

    /// One draw.
    pub fn sample(&self, draw: u32) -> usize {
        sample_weights(self.weights.iter().copied(), draw)
    }
}

/// A model made ready for rollouts and for the way back: prepared once for a batch, shared by all its lifetimes.
pub struct Player {
    path: Path,
    input: Input<f32>,
    heads: Heads<f32>,
    weights: Arc<Weights<f32>>,
}

impl Player {
    /// Prepares `model` for the kernels of `path`.
    ///
    /// # Errors
    /// When the model's recurrence is one that cannot be trained.
    pub fn new(model: &Model, path: Path) -> anyhow::Result<Self> {
        let values = |name: &str| model.values(name).unwrap_or_default();
        let spec = spec_of(model);
        let mut parameters = Parameters::zeros(&spec);
        for (name, slot) in parameters.tensors_mut() {
            values(name).clone_into(slot);
        }
        let heads = |part: &str| [values(&format!("policy.{part}")), values(&format!("value.{part}"))].concat();
        Ok(Self {
            path,
            input: Input::new(values("input.weight"), values("input.bias"), path),
            heads: Heads::new(&heads("weight"), &heads("bias"), path),
            weights: Arc::new(Weights::new(&spec, &parameters, path)?),
        })
    }

    /// The kernels.
    pub fn path(&self) -> Path {
        self.path
    }

    /// Policy and value.
    pub fn heads(&self) -> &Heads<f32> {
        &self.heads
    }

    /// The recurrence's prepared weights.
    pub fn weights(&self) -> &Arc<Weights<f32>> {
        &self.weights
    }

    /// One lifetime, actions sampled. `episode` numbers the random streams of `rng`.
    pub fn play(&self, task: &mut impl Task, rng: Rng, episode: u32) -> Episode {
        let draws = rng.lifetime(Stream::TrainAction, episode);
        task.reset(rng.lifetime(Stream::TrainTask, episode));
        let (steps, count) = (task.steps() as usize, task.actions());
        let mut forward = Forward::new(&self.weights, steps);
        let mut input = self.input.clone();
        let (mut outputs, mut softmax) = (vec![0.0; count + 1], Softmax::default());
        let mut inputs = vec![0.0; steps * task.inputs()];
        let (mut actions, mut log_chosen) = (Vec::with_capacity(steps), Vec::with_capacity(steps));
        let (mut policy, mut values) = (Vec::with_capacity(steps * count), Vec::with_capacity(steps));
        let (mut rewards, mut trials) = (Vec::with_capacity(steps), Vec::new());
        for (step, x) in (0..).zip(inputs.chunks_exact_mut(task.inputs())) {
            task.observe(x);
            forward.step(input.apply(x));
            self.heads.apply(forward.hidden(), &mut outputs);
            let (logits, value) = outputs.split_at(count);
            softmax.take(logits);
            let action = softmax.sample(draws.draw(step, 0));
            actions.push(action as u32);
            log_chosen.push(softmax.log(logits[action]));
            policy.extend(softmax.probabilities());
            values.extend_from_slice(value);
            let outcome = task.act(action);
            rewards.push(outcome.reward);
            trials.extend(outcome.trial.map(|success| Trial { step, success }));
        }
        Episode {
            inputs,
            trajectory: forward.finish(),
            actions,
            log_chosen,
            policy,
            values,
            rewards,
            trials,
        }
    }

    /// A batch of lifetimes in parallel, in the order of their numbers `first..first + count`.
    pub fn play_batch<C: Course>(&self, course: &C, stage: usize, rng: Rng, first: u32, count: u32) -> Vec<Episode> {
        let episodes = (first..first + count).into_par_iter().with_max_len(1);
        episodes.map(|episode| self.play(&mut course.task(stage), rng, episode)).collect()
    }
}

/// The shape of a model's recurrence.
fn spec_of(model: &Model) -> Spec {
    Spec {
        hidden: model.sizes.hidden,
        rule: model.rule,
        clip: Clip::new(model.clip_kind, model.clip as f32),
        modulators: model.sizes.modulators,
        squash: model.squash,
        alpha: model.granularity("recurrent.alpha"),
        eta: model.granularity("recurrent.eta"),
        fan_out: model.values("modulator.fan_out.weight").is_some(),
        mask: model.values("modulator.mask").map(|mask| Mask {
            modulated: mask.iter().map(|&modulated| modulated == 1.0).collect(),
            eta: model.granularity("recurrent.hebbian_eta"),
        }),
    }
}
