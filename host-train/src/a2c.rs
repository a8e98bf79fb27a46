//! Advantage actor-critic over whole lifetimes: returns, advantages, loss and its gradients.
//!
//! ```text
//! R(t) = r(t) + gamma·R(t+1), nothing after the last step
//! loss = mean over steps and episodes of  -log pi(a(t))·A(t) + value_weight·(R(t) - V(t))² + entropy_weight·Σ_a pi_a(t)²
//! ```
//! with `A = R - V` held constant, and every episode its own baseline `V`. Actions and rewards are constants; the gradient
//! runs back through the whole lifetime, traces and modulator included. Candle holds parameters, input projection and heads,
//! each one product over all steps and episodes; the recurrence is [`RecurrenceOp`].

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use candle_core::{Device, Tensor, Var};
use serde::Serialize;

use crate::config::TrainingOptions;
use crate::layer::affine;
use crate::model::Model;
use crate::optim::Gradients;
use crate::recurrence::{Path, RecurrenceOp, TENSORS, Trajectory, Weights};
use crate::rollout::Episode;

/// The parts of the loss, averaged over steps and episodes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Loss {
    /// `-log pi(a)·A`.
    pub policy: f32,
    /// `(R - V)²`.
    pub value: f32,
    /// `Σ pi²`: 1 for a certain policy, 1/actions for an undecided one.
    pub concentration: f32,
}

/// The loss of a batch and its gradients by every parameter of `model`. All episodes have the same number of steps.
///
/// # Errors
/// When Candle refuses an operation.
pub fn gradients(
    model: &Model,
    weights: &Arc<Weights<f32>>,
    episodes: Vec<Episode>,
    options: &TrainingOptions,
    path: Path,
) -> Result<(Loss, Gradients)> {
    let batch = Batch::new(episodes, model.sizes.inputs)?;
    let mut variables = BTreeMap::new();
    for (name, parameter) in &model.parameters {
        let tensor = Tensor::from_slice(&parameter.values, parameter.shape.as_slice(), &Device::Cpu)?;
        variables.insert(name.as_str(), Var::from_tensor(&tensor)?);
    }
    let outputs = Outputs::new(&variables, weights, &batch, path)?;
    let (loss, tangent) = outputs.loss(&batch, options)?;
    let store = tangent.backward()?;
    let mut gradients = Gradients::new();
    for (name, variable) in &variables {
        if let Some(gradient) = store.get(variable) {
            gradients.insert((*name).to_owned(), gradient.flatten_all()?.to_vec1()?);
        }
    }
    Ok((loss, gradients))
}

/// Episodes side by side, time first: row `t·B + b` is step `t` of episode `b`.
struct Batch {
    steps: usize,
    episodes: usize,
    /// `[T·B, I]`
    inputs: Tensor,
    /// `[T·B]`
    actions: Vec<u32>,
    /// One `[T]` per episode.
    rewards: Vec<Vec<f32>>,
    trajectories: Arc<Vec<Trajectory<f32>>>,
}

impl Batch {
    fn new(episodes: Vec<Episode>, inputs: usize) -> Result<Self> {
        let (count, steps) = (episodes.len(), episodes[0].rewards.len());
        let mut x = Vec::with_capacity(steps * count * inputs);
        let mut actions = Vec::with_capacity(steps * count);
        for t in 0..steps {
            for episode in &episodes {
                x.extend_from_slice(&episode.inputs[t * inputs..(t + 1) * inputs]);
                actions.push(episode.actions[t]);
            }
        }
        let (rewards, trajectories) = episodes.into_iter().map(|e| (e.rewards, e.trajectory)).unzip();
        Ok(Self {
            steps,
            episodes: count,
            inputs: Tensor::from_vec(x, (steps * count, inputs), &Device::Cpu)?,
            actions,
            rewards,
            trajectories: Arc::new(trajectories),
        })
    }
}

/// What the network says at every step.
struct Outputs {
    /// `[T·B, A]`
    logits: Tensor,
    /// `V`, `[T·B]`
    value: Tensor,
}

impl Outputs {
    fn new(variables: &BTreeMap<&str, Var>, weights: &Arc<Weights<f32>>, batch: &Batch, path: Path) -> Result<Self> {
        let affine = |x: &Tensor, layer: &str| {
            let (weight, bias) = (format!("{layer}.weight"), format!("{layer}.bias"));
            affine(x, &variables[weight.as_str()], &variables[bias.as_str()], path)
        };
        let recurrent = TENSORS.iter().filter_map(|name| variables.get(name));
        let packed: Vec<Tensor> = recurrent.map(|variable| variable.flatten_all()).collect::<Result<_, _>>()?;
        let hidden = weights.spec().hidden;
        let drive = affine(&batch.inputs, "input")?.reshape((batch.steps, batch.episodes, hidden))?;
        let recurrence = RecurrenceOp::new(Arc::clone(weights), Arc::clone(&batch.trajectories));
        let h = recurrence.apply(&drive, &Tensor::cat(&packed, 0)?)?;
        let h = h.reshape((batch.steps * batch.episodes, hidden))?;
        Ok(Self {
            logits: affine(&h, "policy")?,
            value: affine(&h, "value")?.flatten_all()?,
        })
    }

    /// The loss, and a scalar with the gradients of the weighted loss by every variable.
    fn loss(&self, batch: &Batch, options: &TrainingOptions) -> Result<(Loss, Tensor)> {
        let (logits, values) = (self.logits.flatten_all()?.to_vec1()?, self.value.to_vec1()?);
        let (returns, mut advantages) = targets(&batch.rewards, &values, options);
        if options.normalise_advantages {
            normalise(&mut advantages);
        }
        let (loss, by_logits, by_value) = objective(&logits, &values, &batch.actions, &returns, &advantages, options);
        // Linear in both with the derivatives as factors: what flows back through it is the loss's own gradient.
        let by_logits = Tensor::from_vec(by_logits, self.logits.shape(), &Device::Cpu)?;
        let by_value = Tensor::from_vec(by_value, self.value.shape(), &Device::Cpu)?;
        let tangent = ((&self.logits * by_logits)?.sum_all()? + (&self.value * by_value)?.sum_all()?)?;
        Ok((loss, tangent))
    }
}

/// The loss and its derivatives by logits `[T·B, A]` and values `[T·B]`. With `S = Σ_a pi_a²` and `n = T·B`:
///
/// ```text
/// n·dL/dlogit_k = -A·([k = a] - pi_k) + entropy_weight·2·pi_k·(pi_k - S)        n·dL/dV = -value_weight·2·(R - V)
/// ```
fn objective(
    logits: &[f32],
    values: &[f32],
    actions: &[u32],
    returns: &[f32],
    advantages: &[f32],
    options: &TrainingOptions,
) -> (Loss, Vec<f32>, Vec<f32>) {
    let share = 1.0 / values.len() as f32;
    let mut sums = [0.0f64; 3];
    let mut by_logits = Vec::with_capacity(logits.len());
    let mut by_value = Vec::with_capacity(values.len());
    let rows = logits.chunks_exact(logits.len() / values.len());
    for (row, logits) in rows.enumerate() {
        let (action, advantage, error) = (actions[row] as usize, advantages[row], returns[row] - values[row]);
        let log_policy = log_softmax(logits);
        let policy: Vec<f32> = log_policy.iter().map(|&log| libm::expf(log)).collect();
        let squares: f32 = policy.iter().map(|pi| pi * pi).sum();
        for (k, &pi) in policy.iter().enumerate() {
            let chosen = if k == action { 1.0 } else { 0.0 };
            let slope = advantage * (pi - chosen) + options.entropy_weight * 2.0 * pi * (pi - squares);
            by_logits.push(share * slope);
        }
        by_value.push(share * options.value_weight * -2.0 * error);
        for (sum, term) in sums.iter_mut().zip([-log_policy[action] * advantage, error * error, squares]) {
            *sum += f64::from(term);
        }
    }
    let [policy, value, concentration] = sums.map(|sum| (sum / values.len() as f64) as f32);
    (
        Loss {
            policy,
            value,
            concentration,
        },
        by_logits,
        by_value,
    )
}

fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f32 = logits.iter().map(|logit| libm::expf(logit - largest)).sum();
    let log_total = largest + libm::logf(total);
    logits.iter().map(|logit| logit - log_total).collect()
}

/// Value targets and advantages, both `[T·B]`, from rewards (one `[T]` per episode) and values `[T·B]`.
///
/// Generalised advantage estimation; at `gae_lambda = 1` the target is the Monte-Carlo return and `A = R - V`.
fn targets(rewards: &[Vec<f32>], values: &[f32], options: &TrainingOptions) -> (Vec<f32>, Vec<f32>) {
    let episodes = rewards.len();
    let mut returns = vec![0.0; values.len()];
    let mut advantages = vec![0.0; values.len()];
    for (episode, rewards) in rewards.iter().enumerate() {
        let (mut advantage, mut next_value) = (0.0, 0.0);
        for (t, reward) in rewards.iter().enumerate().rev() {
            let row = t * episodes + episode;
            let surprise = reward + options.gamma * next_value - values[row];
            advantage = surprise + options.gamma * options.gae_lambda * advantage;
            next_value = values[row];
            advantages[row] = advantage;
            returns[row] = advantage + values[row];
        }
    }
    (returns, advantages)
}

/// To mean 0 and standard deviation 1.
fn normalise(numbers: &mut [f32]) {
    let count = numbers.len() as f64;
    let mean = numbers.iter().map(|&a| f64::from(a)).sum::<f64>() / count;
    let variance = numbers.iter().map(|&a| (f64::from(a) - mean).powi(2)).sum::<f64>() / count;
    let scale = 1.0 / (variance.sqrt() + 1e-8);
    for number in numbers {
        *number = ((f64::from(*number) - mean) * scale) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn monte_carlo_returns_are_discounted_sums() {
        let options = TrainingOptions {
            gamma: 0.5,
            gae_lambda: 1.0,
            ..Config::default().training
        };
        let rewards = [vec![0.0, 1.0, 0.0, 4.0], vec![1.0; 4]];
        let values: Vec<f32> = (0..8).map(|v| v as f32 * 0.1).collect();
        let (returns, advantages) = targets(&rewards, &values, &options);
        let expected = [1.0, 1.875, 2.0, 1.75, 2.0, 1.5, 4.0, 1.0];
        for row in 0..8 {
            assert!((returns[row] - expected[row]).abs() < 1e-6);
            assert!((advantages[row] - (expected[row] - values[row])).abs() < 1e-6);
        }
    }

    #[test]
    fn lambda_zero_looks_one_step_ahead() {
        let options = TrainingOptions {
            gamma: 0.5,
            gae_lambda: 0.0,
            ..Config::default().training
        };
        let (_, advantages) = targets(&[vec![1.0, 2.0]], &[0.3, 0.8], &options);
        assert!((advantages[0] - (1.0 + 0.4 - 0.3)).abs() < 1e-6);
        assert!((advantages[1] - (2.0 - 0.8)).abs() < 1e-6);
    }

    #[test]
    fn derivatives_of_the_loss_agree_with_differences() {
        let options = TrainingOptions {
            value_weight: 0.3,
            entropy_weight: 0.2,
            ..Config::default().training
        };
        let (logits, values) = (vec![0.3, -0.5, 1.2, 0.1, 0.0, -0.9], vec![0.4, -0.2]);
        let (actions, returns, advantages) = ([2, 0], [1.0, -0.5], [0.7, -1.3]);
        let total = |logits: &[f32], values: &[f32]| {
            let (loss, ..) = objective(logits, values, &actions, &returns, &advantages, &options);
            loss.policy + options.value_weight * loss.value + options.entropy_weight * loss.concentration
        };
        let (_, by_logits, by_value) = objective(&logits, &values, &actions, &returns, &advantages, &options);
        let step = 1e-2;
        let nudged = |numbers: &[f32], index: usize, step: f32| {
            let mut numbers = numbers.to_vec();
            numbers[index] += step;
            numbers
        };
        for (index, slope) in by_logits.iter().enumerate() {
            let ends = [step, -step].map(|step| total(&nudged(&logits, index, step), &values));
            assert!((slope - (ends[0] - ends[1]) / (2.0 * step)).abs() < 1e-4);
        }
        for (index, slope) in by_value.iter().enumerate() {
            let ends = [step, -step].map(|step| total(&logits, &nudged(&values, index, step)));
            assert!((slope - (ends[0] - ends[1]) / (2.0 * step)).abs() < 1e-4);
        }
    }

    #[test]
    fn normalised_advantages_have_mean_0_and_deviation_1() {
        let mut numbers = [1.0, 2.0, 3.0, 6.0];
        normalise(&mut numbers);
        assert!(numbers.iter().sum::<f32>().abs() < 1e-6);
        assert!((numbers.iter().map(|n| n * n).sum::<f32>() - 4.0).abs() < 1e-5);
    }
}
