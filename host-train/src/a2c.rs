//! Advantage actor-critic over whole lifetimes: returns, advantages, loss and its gradients.
//!
//! ```text
//! R(t) = r(t) + gamma·R(t+1), nothing after the last step
//! loss = mean over steps and episodes of  -log pi(a(t))·A(t) + value_weight·(R(t) - V(t))² + entropy_weight·Σ_a pi_a(t)²
//! ```
//! with `A = R - V` held constant, and every episode its own baseline `V`. Actions and rewards are constants; the gradient
//! runs back through the whole lifetime, traces and modulator included. It is written out by hand, layer by layer
//! ([`Affine`], [`backward`]), as the graph, the element-wise copies and the thread hand-over of automatic differentiation
//! cost small networks more than the arithmetic; a test holds it against Candle's.

use serde::Serialize;

use crate::config::TrainingOptions;
use crate::model::Model;
use crate::optim::Gradients;
use crate::recurrence::{self, Affine, AffineGradient, Path, Trajectory, Weights, backward};
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
pub fn gradients(
    model: &Model,
    weights: &Weights<f32>,
    episodes: Vec<Episode>,
    options: &TrainingOptions,
    path: Path,
) -> (Loss, Gradients) {
    let batch = Batch::new(episodes, model.sizes.inputs);
    let [input, policy, value] = ["input", "policy", "value"].map(|name| layer(model, name, path));
    let hidden = batch.hidden(weights.spec().hidden);
    let (loss, by_logits, by_value) = batch.loss(&policy.apply_rows(&hidden), &value.apply_rows(&hidden), options);
    let mut policy = policy.gradient(&hidden, &by_logits, true);
    let value = value.gradient(&hidden, &by_value, true);
    let mut by_hidden = std::mem::take(&mut policy.inputs);
    for (sum, term) in by_hidden.iter_mut().zip(&value.inputs) {
        *sum += term;
    }
    let recurrent = backward(weights, &batch.trajectories, &by_hidden);
    let input = input.gradient(&batch.inputs, &recurrent.drive, false);
    (
        loss,
        collect(recurrent.parameters, [("input", input), ("policy", policy), ("value", value)]),
    )
}

/// The layer `name` of `model`, ready for rows.
fn layer(model: &Model, name: &str, path: Path) -> Affine<f32> {
    let values = |part: &str| model.values(&format!("{name}.{part}")).unwrap_or_default();
    Affine::new(values("weight"), values("bias"), path)
}

/// All gradients by the parameters' names.
fn collect(mut recurrent: recurrence::Gradients<f32>, layers: [(&str, AffineGradient<f32>); 3]) -> Gradients {
    let mut gradients = Gradients::new();
    for (name, layer) in layers {
        gradients.insert(format!("{name}.weight"), layer.weight);
        gradients.insert(format!("{name}.bias"), layer.bias);
    }
    for (name, values) in recurrent.tensors_mut() {
        if !values.is_empty() {
            gradients.insert(name.to_owned(), std::mem::take(values));
        }
    }
    gradients
}

/// Episodes side by side, time first: row `t·B + b` is step `t` of episode `b`.
struct Batch {
    steps: usize,
    /// `[T·B, I]`
    inputs: Vec<f32>,
    /// `[T·B]`
    actions: Vec<u32>,
    /// One `[T]` per episode.
    rewards: Vec<Vec<f32>>,
    trajectories: Vec<Trajectory<f32>>,
}

impl Batch {
    fn new(episodes: Vec<Episode>, inputs: usize) -> Self {
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
        Self {
            steps,
            inputs: x,
            actions,
            rewards,
            trajectories,
        }
    }

    /// The recorded `h`, `[T·B, H]`.
    fn hidden(&self, neurons: usize) -> Vec<f32> {
        let mut hidden = Vec::with_capacity(self.actions.len() * neurons);
        for t in 0..self.steps {
            for trajectory in &self.trajectories {
                hidden.extend_from_slice(trajectory.hidden(t));
            }
        }
        hidden
    }

    fn loss(&self, logits: &[f32], values: &[f32], options: &TrainingOptions) -> (Loss, Vec<f32>, Vec<f32>) {
        loss(&self.rewards, &self.actions, logits, values, options)
    }
}

/// The loss of rewards (one `[T]` per episode) and actions `[T·B]`, and its derivatives by logits `[T·B, A]` and values `[T·B]`.
pub(crate) fn loss(
    rewards: &[Vec<f32>],
    actions: &[u32],
    logits: &[f32],
    values: &[f32],
    options: &TrainingOptions,
) -> (Loss, Vec<f32>, Vec<f32>) {
    let (returns, mut advantages) = targets(rewards, values, options);
    if options.normalise_advantages {
        normalise(&mut advantages);
    }
    objective(logits, values, actions, &returns, &advantages, options)
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
    let (mut log_policy, mut policy) = (Vec::new(), Vec::new());
    let rows = logits.chunks_exact(logits.len() / values.len());
    for (row, logits) in rows.enumerate() {
        let (action, advantage, error) = (actions[row] as usize, advantages[row], returns[row] - values[row]);
        log_softmax(logits, &mut log_policy);
        policy.clear();
        policy.extend(log_policy.iter().map(|&log| libm::expf(log)));
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

/// The logarithms of the softmax, into a buffer that serves one row after another.
fn log_softmax(logits: &[f32], logs: &mut Vec<f32>) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f32 = logits.iter().map(|logit| libm::expf(logit - largest)).sum();
    let log_total = largest + libm::logf(total);
    logs.clear();
    logs.extend(logits.iter().map(|logit| logit - log_total));
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
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use backpropamine::rng::Rng;
    use candle_core::{Device, Tensor, Var};

    use super::*;
    use crate::config::Config;
    use crate::recurrence::{RecurrenceOp, TENSORS};
    use crate::rollout::Player;
    use crate::task::CueCourse;
    use crate::train::Trainer;

    fn tensor(values: Vec<f32>, shape: &[usize]) -> Tensor {
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// The gradients by Candle's automatic differentiation, with its own layers around [`RecurrenceOp`].
    fn differentiated(model: &Model, weights: &Arc<Weights<f32>>, episodes: Vec<Episode>, options: &TrainingOptions) -> Gradients {
        let batch = Batch::new(episodes, model.sizes.inputs);
        let (rows, neurons) = (batch.actions.len(), model.sizes.hidden);
        let variables: BTreeMap<&str, Var> = model
            .parameters
            .iter()
            .map(|(name, p)| (name.as_str(), Var::from_tensor(&tensor(p.values.clone(), &p.shape)).unwrap()))
            .collect();
        let affine = |x: &Tensor, layer: &str| {
            let [weight, bias] = ["weight", "bias"].map(|part| &variables[format!("{layer}.{part}").as_str()]);
            x.matmul(&weight.t().unwrap()).unwrap().broadcast_add(bias).unwrap()
        };
        let recurrent = TENSORS.iter().filter_map(|name| variables.get(name));
        let packed: Vec<Tensor> = recurrent.map(|variable| variable.flatten_all().unwrap()).collect();
        let drive = affine(&tensor(batch.inputs.clone(), &[rows, model.sizes.inputs]), "input");
        let drive = drive.reshape((batch.steps, rows / batch.steps, neurons)).unwrap();
        let recurrence = RecurrenceOp::new(Arc::clone(weights), Arc::new(batch.trajectories.clone()));
        let h = recurrence.apply(&drive, &Tensor::cat(&packed, 0).unwrap()).unwrap();
        let h = h.reshape((rows, neurons)).unwrap();
        let outputs = [affine(&h, "policy"), affine(&h, "value")];
        let [logits, values] = outputs.each_ref().map(|y| y.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        let (_, by_logits, by_value) = batch.loss(&logits, &values, options);
        // Linear in both with the derivatives as factors: what flows back through it is the loss's own gradient.
        let tangents = outputs.iter().zip([by_logits, by_value]).map(|(y, by_y)| {
            let by_y = tensor(by_y, y.dims());
            (y * by_y).unwrap().sum_all().unwrap()
        });
        let store = tangents.reduce(|a, b| (a + b).unwrap()).unwrap().backward().unwrap();
        let gradient = |variable: &Var| store.get(variable).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        variables
            .iter()
            .map(|(name, variable)| ((*name).to_owned(), gradient(variable)))
            .collect()
    }

    #[test]
    fn gradients_agree_with_automatic_differentiation() {
        let fan_out = ["network.modulators=2", "network.fan_out=true"];
        for (rule, more) in [
            ("none", [].as_slice()),
            ("hebbian", &[]),
            ("simple", &fan_out),
            ("retroactive", &[]),
        ] {
            let mut settings = vec![format!("network.rule={rule}"), "network.hidden=19".into(), "task.steps=40".into()];
            settings.extend(more.iter().map(|&setting| setting.to_owned()));
            let config = Config::load("cue-small", &settings).unwrap();
            let course = CueCourse::new(&config).unwrap();
            let trainer = Trainer::new(config, course.clone()).unwrap();
            let (model, path) = (trainer.model(), trainer.config().run.kernel.resolve().unwrap());
            let player = Player::new(model, path).unwrap();
            let play = || player.play_batch(&course, 0, Rng::new(3), 0, 10);
            let options = &trainer.config().training;
            let (_, ours) = gradients(model, player.weights(), play(), options, path);
            let theirs = differentiated(model, player.weights(), play(), options);
            assert!(ours.keys().eq(theirs.keys()), "{rule}: {:?} {:?}", ours.keys(), theirs.keys());
            for (name, ours) in &ours {
                let largest = theirs[name].iter().fold(0.0f32, |largest, g| largest.max(g.abs()));
                assert_eq!(ours.len(), theirs[name].len());
                for (a, b) in ours.iter().zip(&theirs[name]) {
                    assert!((a - b).abs() <= 1e-5 * largest.max(1e-3), "{rule} {name}: {a} {b}");
                }
            }
        }
    }

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
