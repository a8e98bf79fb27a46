//! Advantage actor-critic over whole lifetimes: returns, advantages, loss and its gradients.
//!
//! ```text
//! R(t) = r(t) + gamma·R(t+1), nothing after the last step
//! loss = mean over steps and episodes of  -log pi(a(t))·A(t) + value_weight·(R(t) - V(t))² + entropy_weight·Σ_a pi_a(t)²
//! ```
//! with `A = R - V` held constant, and every episode its own baseline `V`. Actions and rewards are constants; the gradient
//! runs back through the whole lifetime, traces and modulator included. It is written out by hand, layer by layer
//! ([`LayerSums`], [`backward_lifetimes`]), as the graph, the element-wise copies and the thread hand-over of automatic differentiation
//! cost small networks more than the arithmetic; a test holds it against Candle's.

use std::sync::OnceLock;

use serde::Serialize;

use crate::config::TrainingOptions;
use crate::optim::Gradients;
use crate::recurrence::{self, LayerGradients, LayerRow, LayerSums, backward_lifetimes};
use crate::rollout::{Episode, Player};

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

/// The loss of a batch that `player` played, and its gradients by every parameter. All episodes have the same number of steps.
pub fn gradients(player: &Player, episodes: &[Episode], options: &TrainingOptions) -> (Loss, Gradients) {
    let batch = Batch { episodes };
    let (loss, by_outputs) = loss(episodes, options);
    let width = by_outputs.len() / batch.rows();
    let by_outputs = |row: usize| &by_outputs[row * width..][..width];
    let trajectories: Vec<_> = episodes.iter().map(|episode| &episode.trajectory).collect();
    let sums: Vec<OnceLock<LayerSums<f32>>> = episodes.iter().map(|_| OnceLock::new()).collect();
    let (path, weights) = (player.path(), player.weights());
    let recurrent = backward_lifetimes(
        weights,
        &trajectories,
        &|episode, by_hidden| player.heads().by_hidden(|t| by_outputs(batch.row(t, episode)), by_hidden),
        &|episode, by_drive| {
            let rows: Vec<_> = (by_drive.chunks_exact(by_drive.len() / batch.steps()).enumerate())
                .map(|(t, by_drive)| LayerRow {
                    x: episodes[episode].inputs(t),
                    by_drive,
                    hidden: trajectories[episode].after(t),
                    by_outputs: by_outputs(batch.row(t, episode)),
                })
                .collect();
            sums[episode].get_or_init(|| LayerSums::of(path, &rows));
        },
    );
    let layers = sums.into_iter().filter_map(OnceLock::into_inner).reduce(|mut sum, next| {
        sum.add(path, &next);
        sum
    });
    let layers = layers.expect("a batch has episodes").finish(weights.spec().hidden);
    (loss, collect(recurrent, layers))
}

/// The loss of a batch and its derivatives by logits and value, `[T·B, A + 1]`, time first.
pub fn loss(episodes: &[Episode], options: &TrainingOptions) -> (Loss, Vec<f32>) {
    let batch = Batch { episodes };
    let (returns, mut advantages) = targets(&batch, options);
    if options.normalise_advantages {
        normalise(&mut advantages);
    }
    objective(&batch, &returns, &advantages, options)
}

/// All gradients by the parameters' names.
fn collect(mut recurrent: recurrence::Gradients<f32>, layers: LayerGradients<f32>) -> Gradients {
    let LayerGradients { input, heads } = layers;
    let value_inputs = heads.weight.len() / heads.bias.len();
    let (policy_weight, value_weight) = heads.weight.split_at(heads.weight.len() - value_inputs);
    let (policy_bias, value_bias) = heads.bias.split_at(heads.bias.len() - 1);
    let mut gradients = Gradients::from(
        [
            ("input.weight", input.weight),
            ("input.bias", input.bias),
            ("policy.weight", policy_weight.to_vec()),
            ("policy.bias", policy_bias.to_vec()),
            ("value.weight", value_weight.to_vec()),
            ("value.bias", value_bias.to_vec()),
        ]
        .map(|(name, values)| (name.to_owned(), values)),
    );
    for (name, values) in recurrent.tensors_mut() {
        if !values.is_empty() {
            gradients.insert(name.to_owned(), std::mem::take(values));
        }
    }
    gradients
}

/// Episodes side by side, time first: row `t·B + b` is step `t` of episode `b`.
struct Batch<'a> {
    episodes: &'a [Episode],
}

impl Batch<'_> {
    fn steps(&self) -> usize {
        self.episodes[0].rewards.len()
    }

    fn rows(&self) -> usize {
        self.steps() * self.episodes.len()
    }

    fn row(&self, t: usize, episode: usize) -> usize {
        t * self.episodes.len() + episode
    }

    /// Step and episode of a row.
    fn place(&self, row: usize) -> (usize, usize) {
        (row / self.episodes.len(), row % self.episodes.len())
    }
}

/// The loss and its derivatives by logits and value, `[T·B, A + 1]`. With `S = Σ_a pi_a²` and `n = T·B`:
///
/// ```text
/// n·dL/dlogit_k = -A·([k = a] - pi_k) + entropy_weight·2·pi_k·(pi_k - S)        n·dL/dV = -value_weight·2·(R - V)
/// ```
fn objective(batch: &Batch, returns: &[f32], advantages: &[f32], options: &TrainingOptions) -> (Loss, Vec<f32>) {
    let share = 1.0 / batch.rows() as f32;
    let mut sums = [0.0f64; 3];
    let mut by_outputs = Vec::with_capacity(batch.rows() * (batch.episodes[0].policy(0).len() + 1));
    for (row, (&advantage, &target)) in advantages.iter().zip(returns).enumerate() {
        let (t, episode) = batch.place(row);
        let episode = &batch.episodes[episode];
        let (policy, action) = (episode.policy(t), episode.actions[t] as usize);
        let error = target - episode.values[t];
        let squares: f32 = policy.iter().map(|pi| pi * pi).sum();
        by_outputs.extend(policy.iter().enumerate().map(|(k, &pi)| {
            let chosen = if k == action { 1.0 } else { 0.0 };
            let slope = advantage * (pi - chosen) + options.entropy_weight * 2.0 * pi * (pi - squares);
            share * slope
        }));
        by_outputs.push(share * options.value_weight * -2.0 * error);
        for (sum, term) in sums.iter_mut().zip([-episode.log_chosen[t] * advantage, error * error, squares]) {
            *sum += f64::from(term);
        }
    }
    let [policy, value, concentration] = sums.map(|sum| (sum / batch.rows() as f64) as f32);
    let loss = Loss {
        policy,
        value,
        concentration,
    };
    (loss, by_outputs)
}

/// Value targets and advantages, both `[T·B]`.
///
/// Generalised advantage estimation; at `gae_lambda = 1` the target is the Monte-Carlo return and `A = R - V`.
fn targets(batch: &Batch, options: &TrainingOptions) -> (Vec<f32>, Vec<f32>) {
    let mut returns = vec![0.0; batch.rows()];
    let mut advantages = vec![0.0; batch.rows()];
    for (at, episode) in batch.episodes.iter().enumerate() {
        let (mut advantage, mut next_value) = (0.0, 0.0);
        for (t, (reward, value)) in episode.rewards.iter().zip(&episode.values).enumerate().rev() {
            let surprise = reward + options.gamma * next_value - value;
            advantage = surprise + options.gamma * options.gae_lambda * advantage;
            next_value = *value;
            advantages[batch.row(t, at)] = advantage;
            returns[batch.row(t, at)] = advantage + value;
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
    use backpropamine::rule::Rule;
    use candle_core::{Device, Tensor, Var};

    use super::*;
    use crate::config::Config;
    use crate::model::Model;
    use crate::recurrence::{Forward, Kernel, Parameters, RecurrenceOp, Spec, TENSORS, Trajectory, Weights};
    use crate::rollout::Softmax;
    use crate::task::CueCourse;
    use crate::train::Trainer;

    fn tensor(values: Vec<f32>, shape: &[usize]) -> Tensor {
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// A parameter-less episode: what loss and targets look at.
    fn episode(logits: &[f32], actions: &[u32], values: &[f32], rewards: &[f32], trajectory: &Trajectory<f32>) -> Episode {
        let mut softmax = Softmax::default();
        let (mut policy, mut log_chosen) = (Vec::new(), Vec::new());
        for (logits, &action) in logits.chunks_exact(logits.len() / actions.len()).zip(actions) {
            softmax.take(logits);
            policy.extend(softmax.probabilities());
            log_chosen.push(softmax.log(logits[action as usize]));
        }
        Episode {
            inputs: Vec::new(),
            trajectory: trajectory.clone(),
            actions: actions.to_vec(),
            log_chosen,
            policy,
            values: values.to_vec(),
            rewards: rewards.to_vec(),
            trials: Vec::new(),
        }
    }

    /// A recurrence's record of no steps.
    fn no_trajectory() -> Trajectory<f32> {
        let spec = Spec::new(1, Rule::NonPlastic);
        let path = Kernel::Portable.resolve().unwrap();
        let weights = Weights::new(&spec, &Parameters::zeros(&spec), path).unwrap();
        Forward::new(&weights, 0).finish()
    }

    /// The gradients by Candle's automatic differentiation, with its own layers around [`RecurrenceOp`].
    fn differentiated(model: &Model, weights: &Arc<Weights<f32>>, episodes: &[Episode], options: &TrainingOptions) -> Gradients {
        let batch = Batch { episodes };
        let (rows, neurons) = (batch.rows(), model.sizes.hidden);
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
        let inputs = (0..rows).flat_map(|row| {
            let (t, episode) = batch.place(row);
            episodes[episode].inputs(t).to_vec()
        });
        let drive = affine(&tensor(inputs.collect(), &[rows, model.sizes.inputs]), "input");
        let drive = drive.reshape((batch.steps(), episodes.len(), neurons)).unwrap();
        let trajectories = episodes.iter().map(|episode| episode.trajectory.clone()).collect();
        let recurrence = RecurrenceOp::new(Arc::clone(weights), Arc::new(trajectories));
        let h = recurrence.apply(&drive, &Tensor::cat(&packed, 0).unwrap()).unwrap();
        let h = h.reshape((rows, neurons)).unwrap();
        let outputs = Tensor::cat(&[affine(&h, "policy"), affine(&h, "value")], 1).unwrap();
        let (returns, mut advantages) = targets(&batch, options);
        normalise(&mut advantages);
        let (_, by_outputs) = objective(&batch, &returns, &advantages, options);
        // Linear in the outputs with the derivatives as factors: what flows back through it is the loss's own gradient.
        let tangents = (&outputs * tensor(by_outputs, outputs.dims())).unwrap();
        let store = tangents.sum_all().unwrap().backward().unwrap();
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
            let episodes = player.play_batch(&course, 0, Rng::new(3), 0, 10);
            let options = &trainer.config().training;
            let (_, ours) = gradients(&player, &episodes, options);
            let theirs = differentiated(model, player.weights(), &episodes, options);
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
        let rewards = [[0.0, 1.0, 0.0, 4.0], [1.0; 4]];
        let values: Vec<f32> = (0..8).map(|v| v as f32 * 0.1).collect();
        let episodes = [0, 1].map(|b| {
            let values: Vec<f32> = values.iter().skip(b).step_by(2).copied().collect();
            episode(&[0.0; 8], &[0; 4], &values, &rewards[b], &no_trajectory())
        });
        let (returns, advantages) = targets(&Batch { episodes: &episodes }, &options);
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
        let episodes = [episode(&[0.0; 2], &[0; 2], &[0.3, 0.8], &[1.0, 2.0], &no_trajectory())];
        let (_, advantages) = targets(&Batch { episodes: &episodes }, &options);
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
        let trajectory = no_trajectory();
        let at = |logits: &[f32], values: &[f32]| {
            let episodes = [episode(logits, &actions, values, &[0.0; 2], &trajectory)];
            objective(&Batch { episodes: &episodes }, &returns, &advantages, &options)
        };
        let total = |logits: &[f32], values: &[f32]| {
            let (loss, _) = at(logits, values);
            loss.policy + options.value_weight * loss.value + options.entropy_weight * loss.concentration
        };
        let (_, by_outputs) = at(&logits, &values);
        let by_logits = [&by_outputs[..3], &by_outputs[4..7]].concat();
        let by_value = [by_outputs[3], by_outputs[7]];
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
