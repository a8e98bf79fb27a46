//! Rollouts: whole lifetimes of a network in a task, one after another in time, side by side in threads.
//!
//! One parallel job is one whole episode with random streams of its own, so the traces stay in a core's cache, no step
//! waits for another episode, and the result is the same for any number of threads.

use std::sync::Arc;

use backpropamine::policy::Policy;
use backpropamine::rng::{Rng, Stream};
use backpropamine::task::Task;
use rayon::prelude::*;

use crate::model::Model;
use crate::recurrence::{Affine, Clip, Forward, Mask, Parameters, Path, Spec, Trajectory, Weights};
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
pub struct Episode {
    /// `x(t)`, `[T, I]`; empty where a GPU keeps them.
    pub inputs: Vec<f32>,
    /// `h(t)` and `m(t)`; empty where a GPU keeps them.
    pub trajectory: Trajectory<f32>,
    /// The sampled action of each step.
    pub actions: Vec<u32>,
    /// The reward of each step.
    pub rewards: Vec<f32>,
    /// The trials in the order of their ends.
    pub trials: Vec<Trial>,
}

impl Episode {
    /// Correct and all responses in the second half of the lifetime: the *late accuracy* (core's `task` has the definition).
    pub fn late(&self) -> (u32, u32) {
        let half = self.rewards.len().div_ceil(2) as u32;
        let late = self.trials.iter().filter(|trial| trial.step >= half);
        late.fold((0, 0), |(correct, all), trial| (correct + u32::from(trial.success), all + 1))
    }
}

/// A model made ready for rollouts: prepared once for a batch, shared by all its lifetimes.
pub struct Player {
    input: Affine<f32>,
    policy: Affine<f32>,
    weights: Arc<Weights<f32>>,
}

impl Player {
    /// Prepares `model` for the kernels of `path`.
    ///
    /// # Errors
    /// When the model's recurrence is one that cannot be trained.
    pub fn new(model: &Model, path: Path) -> anyhow::Result<Self> {
        let values = |name: &str| model.values(name).unwrap_or_default();
        let affine = |layer: &str| {
            let (weight, bias) = (format!("{layer}.weight"), format!("{layer}.bias"));
            Affine::new(values(&weight), values(&bias), path)
        };
        let spec = spec_of(model);
        let mut parameters = Parameters::zeros(&spec);
        for (name, slot) in parameters.tensors_mut() {
            values(name).clone_into(slot);
        }
        Ok(Self {
            input: affine("input"),
            policy: affine("policy"),
            weights: Arc::new(Weights::new(&spec, &parameters, path)?),
        })
    }

    /// The recurrence's prepared weights.
    pub fn weights(&self) -> &Arc<Weights<f32>> {
        &self.weights
    }

    /// One lifetime, actions sampled. `episode` numbers the random streams of `rng`.
    pub fn play(&self, task: &mut impl Task, rng: Rng, episode: u32) -> Episode {
        let draws = rng.lifetime(Stream::TrainAction, episode);
        task.reset(rng.lifetime(Stream::TrainTask, episode));
        let steps = task.steps();
        let mut forward = Forward::new(&self.weights, steps as usize);
        let mut inputs = vec![0.0; steps as usize * task.inputs()];
        let (mut input, mut policy) = (self.input.clone(), self.policy.clone());
        let (mut actions, mut rewards, mut trials) = (Vec::new(), Vec::new(), Vec::new());
        for (step, x) in (0..steps).zip(inputs.chunks_exact_mut(task.inputs())) {
            task.observe(x);
            let logits = policy.apply(forward.step(input.apply(x)));
            let action = Policy::Sample.choose::<f32>(logits, draws.draw(step, 0));
            let outcome = task.act(action);
            actions.push(action as u32);
            rewards.push(outcome.reward);
            trials.extend(outcome.trial.map(|success| Trial { step, success }));
        }
        Episode {
            inputs,
            trajectory: forward.finish(),
            actions,
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
