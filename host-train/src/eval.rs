//! `eval`: how well a network learns, on lifetimes that training never saw, with the core's own arithmetic.

mod precision;

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use backpropamine::lifetime::{EVALUATION_SEED, Lifetime};
use backpropamine::network::{Agent, Network};
use backpropamine::policy::Policy;
use backpropamine::scalar::{FastF32, Q7, Q15, Scalar};
use backpropamine::task::Task;
use backpropamine::task::cue::{self, Cue};
use backpropamine::task::maze::{self, Maze, players::Player};
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::{self, Console, ExitKind, NumericArg, Report};
use crate::config::Config;
use crate::files::FileError;
use crate::runnable::{Choice, Runnable, parse_range};
use crate::task::{TaskConfig, mean_hits, trained_config};

pub(crate) use precision::over_models;
pub use precision::{Rounding, Storage};

/// Measure how well a network learns, on fresh lifetimes
#[derive(Debug, Args)]
#[command(after_help = "\
Cue task: late accuracy is the share of correct responses among those in the second half of a lifetime. Its 95% interval is over
lifetimes, whose responses depend on each other; those by trial are Wilson's.

Maze: hits, beside those of three players in the same lifetimes: the oracle knows the goal, the searcher finds it by walking
to the nearest square not yet visited and then knows it, the random one knows nothing.

JSON: model, numeric, policy, lifetimes, seed, steps, reward, reward_interval, saturated_inputs; cue: late_accuracy,
late_interval, ideal_reward (null where no ideal learner is known), trials (trial, accuracy, interval, count); maze: size,
hits, hits_interval, oracle, searcher, random. With --numeric all: policy, lifetimes, seed and groups [{task, rule, steps, score
(late_accuracy or hits), models, rows [{arithmetic, value, interval, difference, difference_interval, memory_bytes,
saturated_inputs, values}]}], a group per task and rule. Its intervals are over lifetimes for one model, and Student's over models for
several; differences are from f32, model by model. Rows h16-… and h8-… are f32 with the Hebbian traces stored in 16 or 8 bits, rounded
to the nearest, down, or up and down at random.

Example: backpropamine eval run/model.safetensors --episodes 2000 --set task.steps=480
Example: backpropamine eval run/seed-*/model.safetensors --numeric all --episodes 500")]
pub struct EvalCommand {
    /// The network, a safetensors model or a .bpam image; several with --numeric all
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// The arithmetic, or all in one table; a .bpam image fixes it [default: f32]
    #[arg(long, value_enum)]
    numeric: Option<Numerics>,
    /// Largest magnitude of an input in q15 and q7 [default: the task's]
    #[arg(long, value_name = "R", value_parser = parse_range)]
    input_range: Option<f32>,
    /// How actions are chosen
    #[arg(long, value_enum, default_value = "sample")]
    policy: PolicyArg,
    /// Number of lifetimes
    #[arg(long, value_name = "N", default_value = "2000", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    episodes: u32,
    /// Seed of the first lifetime; the others follow it
    #[arg(long, value_name = "S", default_value_t = EVALUATION_SEED)]
    seed: u64,
    /// Change a key of the task, such as task.steps=480
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

/// One arithmetic or a comparison of all that devices have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numerics {
    One(NumericArg),
    All,
}

impl ValueEnum for Numerics {
    fn value_variants<'a>() -> &'a [Self] {
        const {
            &[
                Self::One(NumericArg::F64),
                Self::One(NumericArg::F32),
                Self::One(NumericArg::Micromath),
                Self::One(NumericArg::Q15),
                Self::One(NumericArg::Q7),
                Self::All,
            ]
        }
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::One(numeric) => numeric.to_possible_value(),
            Self::All => Some(PossibleValue::new("all").help("All but f64, and other roundings of what is learned, in one table")),
        }
    }
}

/// How actions are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PolicyArg {
    /// Drawn from the policy's probabilities
    Sample,
    /// The most probable one
    Greedy,
}

impl From<PolicyArg> for Policy {
    fn from(word: PolicyArg) -> Self {
        match word {
            PolicyArg::Sample => Policy::Sample,
            PolicyArg::Greedy => Policy::Greedy,
        }
    }
}

impl EvalCommand {
    /// Runs the lifetimes and prints the table.
    ///
    /// # Errors
    /// [`FileError`] for a bad model or one of another task; [`ExitKind::Usage`] for a wrong setting.
    pub fn run(&self, console: &Console) -> Result<Report> {
        if self.seed < EVALUATION_SEED {
            let message = format!("--seed {}: seeds below {EVALUATION_SEED} are for training", self.seed);
            return Err(ExitKind::Usage(message).into());
        }
        let numeric = match self.numeric {
            Some(Numerics::All) => return self.compare(console),
            Some(Numerics::One(numeric)) => Some(numeric),
            None => None,
        };
        let [model] = &*self.models else {
            let message = format!("{} models: one at a time, or --numeric all", self.models.len());
            return Err(ExitKind::Usage(message).into());
        };
        let input_range = self.input_range;
        let network = Choice { numeric, input_range }.open(model, None)?;
        let report = match task_of(&network, model, &self.settings)? {
            TaskConfig::Cue(task) => self.cue(&network, model, task, console)?,
            TaskConfig::Maze(task) => self.maze(&network, model, task, console)?,
        };
        Report::done(report)
    }

    fn cue(&self, network: &Runnable, model: &Path, task: cue::Config, console: &Console) -> Result<Value> {
        let cue = cue_task(task)?;
        let evaluation = self.evaluate(network, model, &cue)?;
        let ideal = (task.flip == 0.0).then(|| evaluation.reward_of(|trial| ideal_accuracy(task.cues, trial)));
        console.say(evaluation.table(ideal));
        let own = json!({
            "late_accuracy": evaluation.late_accuracy().value,
            "late_interval": evaluation.late_accuracy().interval,
            "ideal_reward": ideal,
            "trials": evaluation.by_trial(),
        });
        Ok(self.summary(network, model, &evaluation, &cue, own))
    }

    fn maze(&self, network: &Runnable, model: &Path, task: maze::Config, console: &Console) -> Result<Value> {
        let maze = maze_task(task)?;
        let evaluation = self.evaluate(network, model, &maze)?;
        let hits = evaluation.successes();
        let level = |player| mean_hits(player, &maze, self.seed, self.episodes);
        let (oracle, searcher, random) = (level(Player::Oracle), level(Player::Searcher), level(Player::Random));
        let [low, high] = hits.interval;
        console.say(format_args!(
            "{:.2} hits in {} steps ({low:.2} … {high:.2}), {:.1}% of the searcher's\n\
             in the same lifetimes: oracle {oracle:.2}, searcher {searcher:.2}, random {random:.2}",
            hits.value,
            task.steps,
            100.0 * hits.value / searcher,
        ));
        let own = json!({
            "size": task.size,
            "hits": hits.value,
            "hits_interval": hits.interval,
            "oracle": oracle,
            "searcher": searcher,
            "random": random,
        });
        Ok(self.summary(network, model, &evaluation, &maze, own))
    }

    fn evaluate<T: Task + Clone + Sync>(&self, network: &Runnable, model: &Path, task: &T) -> Result<Evaluation> {
        evaluate_in(task, network, model, self.policy.into(), self.seed, self.episodes)
    }

    fn policy_word(&self) -> Option<String> {
        self.policy.to_possible_value().map(|value| value.get_name().to_owned())
    }

    /// What every task reports, and its own figures.
    fn summary(&self, network: &Runnable, model: &Path, evaluation: &Evaluation, task: &impl Task, own: Value) -> Value {
        let shared = json!({
            "model": model,
            "numeric": network.numeric.to_string(),
            "policy": self.policy_word(),
            "lifetimes": self.episodes,
            "seed": self.seed,
            "steps": task.steps(),
            "reward": evaluation.reward().value,
            "reward_interval": evaluation.reward().interval,
            "saturated_inputs": evaluation.saturated_inputs,
        });
        cli::merged(shared, own)
    }
}

fn cue_task(task: cue::Config) -> Result<Cue, ExitKind> {
    Cue::new(task).map_err(|error| ExitKind::Usage(format!("task.{error}")))
}

pub(crate) fn maze_task(task: maze::Config) -> Result<Maze, ExitKind> {
    Maze::new(task).map_err(|error| ExitKind::Usage(format!("task.{error}")))
}

/// The task that a model was trained on, with settings on top; the cue task for a model that names none.
///
/// # Errors
/// [`FileError`] when the model names a task that is not of the core or its configuration cannot be read; [`ExitKind::Usage`]
/// for a wrong setting.
pub fn task_of(network: &Runnable, path: &Path, settings: &[String]) -> Result<TaskConfig> {
    Ok(config_of(network, path, settings)?.task()?)
}

/// The configuration that [`task_of`] is taken from.
///
/// # Errors
/// As [`task_of`].
pub fn config_of(network: &Runnable, path: &Path, settings: &[String]) -> Result<Config> {
    let mut metadata = network.metadata.clone();
    let name = metadata.entry("task".into()).or_insert_with(|| "cue".into()).clone();
    let config = trained_config(&metadata, path)?.ok_or_else(|| {
        let hint = "evaluate a task of your own with `eval::evaluate`, as examples/own_task.rs does";
        FileError::new(path, "metadata task", "cue or maze", name, hint)
    })?;
    config.with_settings(settings)
}

fn check_fit(network: &Runnable, task: &impl Task, path: &Path) -> Result<(), FileError> {
    let (inputs, actions) = (network.header.inputs, network.header.outputs);
    let expected = format!("{} inputs and {} actions, the task's", task.inputs(), task.actions());
    let fits = inputs == task.inputs() && actions == task.actions();
    let hint = "give the task the network was made for, with --set task.…";
    let found = format!("{inputs} inputs and {actions} actions");
    if fits {
        Ok(())
    } else {
        Err(FileError::new(path, "sizes", expected, found, hint))
    }
}

/// Late accuracy, in the maze hits, of a model in its own task: lifetimes from [`EVALUATION_SEED`] on, actions sampled, in f32.
///
/// # Errors
/// [`FileError`] for a bad model or one of another task.
pub fn sampled_score(path: &Path, lifetimes: u32) -> Result<Estimate> {
    let network = Choice::default().open(path, None)?;
    let (policy, first_seed) = (Policy::Sample, EVALUATION_SEED);
    match task_of(&network, path, &[])? {
        TaskConfig::Cue(task) => Ok(evaluate_in(&cue_task(task)?, &network, path, policy, first_seed, lifetimes)?.late_accuracy()),
        TaskConfig::Maze(task) => Ok(evaluate_in(&maze_task(task)?, &network, path, policy, first_seed, lifetimes)?.successes()),
    }
}

/// [`evaluate`] in a task that has to fit the network of the file `path`.
fn evaluate_in<T: Task + Clone + Sync>(
    task: &T,
    network: &Runnable,
    path: &Path,
    policy: Policy,
    first_seed: u64,
    count: u32,
) -> Result<Evaluation> {
    check_fit(network, task, path)?;
    evaluate(network, || task.clone(), policy, first_seed, count)
}

/// What happened in one lifetime.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Life {
    /// Whether each trial succeeded, in order.
    pub trials: Vec<bool>,
    /// Correct responses in the second half.
    pub late_correct: u32,
    /// Responses in the second half.
    pub late_trials: u32,
    /// Sum of the rewards.
    pub reward: f64,
    /// Witness of every action, reward, activity, modulator and last trace.
    pub digest: u64,
}

/// Lifetimes of one network.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// In the order of their seeds.
    pub lives: Vec<Life>,
    /// Inputs that lay outside the image's input range, in all lifetimes together.
    pub saturated_inputs: u64,
}

/// Runs lifetimes `first_seed..first_seed + count` in parallel; the result does not depend on the number of threads.
///
/// # Errors
/// When the image is none of that arithmetic.
pub fn evaluate<T: Task>(
    network: &Runnable,
    make: impl Fn() -> T + Sync,
    policy: Policy,
    first_seed: u64,
    count: u32,
) -> Result<Evaluation> {
    let seeds = first_seed..first_seed + u64::from(count);
    match network.numeric {
        NumericArg::F64 => run::<f64, T>(&network.words, &make, policy, seeds, &|_, _, _| ()),
        NumericArg::F32 => run::<f32, T>(&network.words, &make, policy, seeds, &|_, _, _| ()),
        NumericArg::Micromath => run::<FastF32, T>(&network.words, &make, policy, seeds, &|_, _, _| ()),
        NumericArg::Q15 => run::<Q15, T>(&network.words, &make, policy, seeds, &|_, _, _| ()),
        NumericArg::Q7 => run::<Q7, T>(&network.words, &make, policy, seeds, &|_, _, _| ()),
    }
}

/// [`evaluate`] in f32, with the Hebbian traces stored between steps.
///
/// # Errors
/// When the image is not in f32.
pub fn evaluate_stored<T: Task>(
    network: &Runnable,
    storage: Storage,
    make: impl Fn() -> T + Sync,
    policy: Policy,
    first_seed: u64,
    count: u32,
) -> Result<Evaluation> {
    let seeds = first_seed..first_seed + u64::from(count);
    run::<f32, T>(&network.words, &make, policy, seeds, &|agent, seed, step| {
        storage.store_all(agent, seed, step);
    })
}

/// Runs the lifetimes of these seeds. `after` gets the agent after every step, with seed and step.
fn run<S: Scalar, T: Task>(
    words: &[u32],
    make: &(impl Fn() -> T + Sync),
    policy: Policy,
    seeds: Range<u64>,
    after: &(impl Fn(&mut Agent<'_, '_, S>, u64, u32) + Sync),
) -> Result<Evaluation>
where
    S::Weight: Sync,
    S::Rate: Sync,
    S::Bias: Sync,
{
    let network = Network::<S>::new(words).map_err(|error| anyhow!("{error}"))?;
    let lives = seeds.into_par_iter().map(|seed| {
        let mut memory = vec![0; network.memory_words()];
        let mut agent = Agent::new(&network, &mut memory).map_err(|error| anyhow!("{error}"))?;
        let life = live(&mut agent, &mut make(), policy, seed, after);
        Ok((life, u64::from(agent.saturated_inputs())))
    });
    let (lives, saturated): (Vec<_>, Vec<u64>) = lives.collect::<Result<Vec<_>>>()?.into_iter().unzip();
    Ok(Evaluation {
        lives,
        saturated_inputs: saturated.iter().sum(),
    })
}

fn live<S: Scalar, T: Task>(
    agent: &mut Agent<'_, '_, S>,
    task: &mut T,
    policy: Policy,
    seed: u64,
    after: &impl Fn(&mut Agent<'_, '_, S>, u64, u32),
) -> Life {
    let half = task.steps().div_ceil(2);
    let mut life = Life::default();
    let mut lifetime = Lifetime::new(task, agent, policy, seed);
    while let Some(event) = lifetime.next() {
        after(lifetime.agent_mut(), seed, event.step);
        life.reward += f64::from(event.outcome.reward);
        let Some(success) = event.outcome.trial else { continue };
        life.trials.push(success);
        if event.step >= half {
            life.late_correct += u32::from(success);
            life.late_trials += 1;
        }
    }
    life.digest = lifetime.digest();
    life
}

/// A number and its 95% interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The best guess.
    pub value: f64,
    /// Lower and upper end.
    pub interval: [f64; 2],
}

/// The accuracy of one trial of a lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TrialAccuracy {
    /// Its number, from 1.
    pub trial: usize,
    /// Share of correct responses.
    pub accuracy: f64,
    /// Wilson's 95% interval.
    pub interval: [f64; 2],
    /// Lifetimes that had such a trial.
    pub count: u32,
}

/// The normal distribution's 97.5% point.
const Z: f64 = 1.959_963_984_540_054;

impl Evaluation {
    /// Share of correct responses in the second halves. Responses of one lifetime depend on each other, so the interval
    /// is that of a ratio of sums over lifetimes (linearised).
    pub fn late_accuracy(&self) -> Estimate {
        let responses = self.lives.iter();
        let mut share = ratio(responses.map(|life| (f64::from(life.late_correct), f64::from(life.late_trials))));
        share.interval = share.interval.map(|end| end.clamp(0.0, 1.0));
        share
    }

    /// Mean number of successful trials of a lifetime: in the maze, its hits.
    pub fn successes(&self) -> Estimate {
        let count = |life: &Life| life.trials.iter().filter(|success| **success).count() as f64;
        ratio(self.lives.iter().map(|life| (count(life), 1.0)))
    }

    /// Mean reward of a lifetime.
    pub fn reward(&self) -> Estimate {
        ratio(self.lives.iter().map(|life| (life.reward, 1.0)))
    }

    /// Accuracy by trial, as far as half of the lifetimes go.
    pub fn by_trial(&self) -> Vec<TrialAccuracy> {
        let longest = self.lives.iter().map(|life| life.trials.len()).max().unwrap_or(0);
        let accuracy = |index| {
            let outcomes = self.lives.iter().filter_map(|life| life.trials.get(index));
            let (correct, count) = outcomes.fold((0, 0), |(c, n), &success| (c + u32::from(success), n + 1));
            let accuracy = f64::from(correct) / f64::from(count);
            TrialAccuracy {
                trial: index + 1,
                accuracy,
                interval: wilson(accuracy, f64::from(count)),
                count,
            }
        };
        let trials = (0..longest).map(accuracy);
        trials.filter(|trial| 2 * trial.count as usize >= self.lives.len()).collect()
    }

    /// Mean reward of a lifetime for a learner with this accuracy at trial 1, 2, …, where a correct response pays 1
    /// and a wrong one -1.
    pub fn reward_of(&self, accuracy: impl Fn(usize) -> f64) -> f64 {
        let trials = self.lives.iter().flat_map(|life| 1..=life.trials.len());
        trials.map(|trial| 2.0 * accuracy(trial) - 1.0).sum::<f64>() / self.lives.len() as f64
    }

    /// Late accuracy of `self` minus that of `other` on the same lifetimes, with a paired interval.
    pub fn late_difference(&self, other: &Self) -> Estimate {
        let (a, b) = (self.late_accuracy().value, other.late_accuracy().value);
        let trials: f64 = self.lives.iter().map(|life| f64::from(life.late_trials)).sum();
        let residual = |life: &Life, rate: f64| f64::from(life.late_correct) - rate * f64::from(life.late_trials);
        let pairs = self.lives.iter().zip(&other.lives);
        let squares: f64 = pairs.map(|(x, y)| (residual(x, a) - residual(y, b)).powi(2)).sum();
        around(a - b, squares, self.lives.len(), trials)
    }

    fn table(&self, ideal: Option<f64>) -> String {
        let percent = |share: f64| format!("{:5.1}%", 100.0 * share);
        let mut text = String::from("trial  accuracy  95% interval     lifetimes\n");
        for trial in self.by_trial() {
            let [low, high] = trial.interval.map(percent);
            let (number, accuracy, count) = (trial.trial, percent(trial.accuracy), trial.count);
            text += &format!("{number:5}    {accuracy}  {low} … {high}  {count:8}\n");
        }
        let late = self.late_accuracy();
        let [low, high] = late.interval.map(|share| format!("{:.2}%", 100.0 * share));
        text += &format!("late accuracy {:.2}% ({low} … {high})\n", 100.0 * late.value);
        let reward = self.reward();
        text += &format!("reward {:.2} ({:.2} … {:.2})", reward.value, reward.interval[0], reward.interval[1]);
        if let Some(ideal) = ideal {
            text += &format!(", {:.1}% of an ideal learner's {ideal:.2}", 100.0 * reward.value / ideal);
        }
        text
    }
}

/// Sum over sum of independent pairs, with the interval of the linearised ratio.
fn ratio(pairs: impl Iterator<Item = (f64, f64)> + Clone) -> Estimate {
    let (above, below) = pairs.clone().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
    let value = above / below;
    let squares = pairs.clone().map(|(x, y)| (x - value * y).powi(2)).sum();
    around(value, squares, pairs.count(), below)
}

/// The interval of a ratio from its `count` squared residuals and its denominator.
fn around(value: f64, squares: f64, count: usize, below: f64) -> Estimate {
    let count = count as f64;
    let error = Z * (squares * count / (count - 1.0)).sqrt() / below;
    Estimate {
        value,
        interval: [value - error, value + error],
    }
}

/// Wilson's score interval of a share of `count` independent yes-or-no outcomes.
fn wilson(share: f64, count: f64) -> [f64; 2] {
    let square = Z * Z / count;
    let middle = (share + square / 2.0) / (1.0 + square);
    let half = Z / (1.0 + square) * (share * (1.0 - share) / count + square / (4.0 * count)).sqrt();
    [middle - half, middle + half]
}

/// The probability that an ideal learner of the cue task, told how many cues there are, answers trial 1, 2, … correctly.
///
/// It keeps the cues that may be the target. Every other trial on average shows the target and some other cue, the rest
/// two cues that are not it. Of a pair that has `k` of the `s` candidates it gives the more probable answer, and is left
/// with `k` or `s - k` of them. With only two cues, a trial shows a single one: after the first, it knows.
pub fn ideal_accuracy(cues: u32, trial: usize) -> f64 {
    if cues == 2 {
        return if trial == 1 { 0.5 } else { 1.0 };
    }
    let all = cues as usize;
    let mut candidates = vec![0.0; all + 1];
    candidates[all] = 1.0;
    let mut accuracy = 0.0;
    for _ in 0..trial {
        accuracy = 0.0;
        let mut next = vec![0.0; all + 1];
        for (s, &probability) in candidates.iter().enumerate().filter(|(_, p)| **p > 0.0) {
            let others = s - 1;
            for k in 0..=s.min(2) {
                let with_target = match k {
                    0 => 0.0,
                    1 => (all - s) as f64,
                    _ => others as f64,
                } / (all - 1) as f64;
                let without = pairs(others, k) * pairs(all - s, 2 - k) / pairs(all - 1, 2);
                accuracy += 0.5 * probability * with_target.max(without);
                next[k] += 0.5 * probability * with_target;
                next[s - k] += 0.5 * probability * without;
            }
        }
        candidates = next;
    }
    accuracy
}

/// Ways to choose `k` (at most 2) of `n`.
fn pairs(n: usize, k: usize) -> f64 {
    match k {
        0 => 1.0,
        1 => n as f64,
        _ => (n * n.saturating_sub(1)) as f64 / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ideal_learner_of_four_cues_makes_one_mistake_per_lifetime() {
        let accuracy: Vec<f64> = (1..=30).map(|trial| ideal_accuracy(4, trial)).collect();
        for (found, expected) in accuracy.iter().zip([1.0 / 2.0, 2.0 / 3.0, 8.0 / 9.0]) {
            assert!((found - expected).abs() < 1e-12, "{accuracy:?}");
        }
        let mistakes: f64 = accuracy.iter().map(|accuracy| 1.0 - accuracy).sum();
        assert!((mistakes - 1.0).abs() < 1e-9);
        // The first answer is a guess, with any number of cues: half of the trials show the target.
        assert!((ideal_accuracy(3, 1) - 0.5).abs() < 1e-12 && ideal_accuracy(3, 30) > 1.0 - 1e-6);
        assert_eq!((ideal_accuracy(2, 1), ideal_accuracy(2, 2)), (0.5, 1.0));
    }

    #[test]
    fn wilson_agrees_with_a_worked_example() {
        // 8 of 10: 0.4901625, 0.9433178.
        let [low, high] = wilson(0.8, 10.0);
        assert!((low - 0.490_162_5).abs() < 1e-6 && (high - 0.943_317_8).abs() < 1e-6);
        assert_eq!(wilson(0.0, 50.0)[0], 0.0);
    }

    fn lives(correct: &[u32]) -> Evaluation {
        let life = |&late_correct| Life {
            late_correct,
            late_trials: 10,
            ..Life::default()
        };
        Evaluation {
            lives: correct.iter().map(life).collect(),
            saturated_inputs: 0,
        }
    }

    #[test]
    fn the_late_interval_is_over_lifetimes() {
        // Equal lifetimes leave no doubt, whatever the responses inside them.
        assert_eq!(lives(&[9; 20]).late_accuracy().interval, [0.9, 0.9]);
        let spread = lives(&[4, 6]).late_accuracy();
        assert!((spread.value - 0.5).abs() < 1e-12);
        assert!((spread.interval[1] - spread.interval[0] - 2.0 * Z * 0.1).abs() < 1e-12);
        // No share is above 1.
        assert_eq!(lives(&[8, 10]).late_accuracy().interval[1], 1.0);
    }

    #[test]
    fn paired_differences_cancel_what_both_share() {
        let difference = lives(&[9, 5, 10]).late_difference(&lives(&[8, 4, 9]));
        assert!((difference.value - 0.1).abs() < 1e-12);
        assert!((difference.interval[1] - difference.interval[0]).abs() < 1e-12);
    }
}
