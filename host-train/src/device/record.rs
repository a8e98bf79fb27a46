//! What the firmware `cue` and `maze` report, one JSON object a line. The host's own run makes the same records, those of
//! telemetry excepted.

use anyhow::{Context, Result, anyhow, bail};
use backpropamine::digest::Digest;
use backpropamine::health::BINS;
use backpropamine::lifetime::{EVALUATION_SEED, Lifetime};
use backpropamine::network::{Agent, Network};
use backpropamine::policy::Policy;
use backpropamine::scalar::{Q7, Q15, Scalar};
use backpropamine::task::Task;
use backpropamine::task::cue::Cue;
use backpropamine::task::maze::Maze;
use serde::{Deserialize, Serialize};

use crate::cli::NumericArg;
use crate::eval::{Evaluation, Life};
use crate::runnable::Runnable;
use crate::task::TaskConfig;

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Record {
    /// The maze at the beginning of the first lifetime and after each of its hits: rows divided by slashes; `#` wall, `G` goal, `A` agent.
    Picture(String),
    /// One step: of the first lifetime; with telemetry, of every lifetime.
    Step(Step),
    /// One trial that ended.
    Trial(Trial),
    /// With telemetry: a lifetime begins.
    Birth(Birth),
    /// With telemetry: how the network feels, at the end of each trial and now and then between.
    Health(Health),
    /// Of the firmware `slot`: which image lives.
    Image(Image),
    /// The last line: the run is complete.
    Summary(Summary),
}

/// An image of the firmware `slot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// 1 for the second slot, 0 for the program's own.
    pub slot: u32,
    /// Its checksum.
    pub checksum: u32,
}

/// The beginning of a lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Birth {
    /// Number of the lifetime.
    pub lifetime: u32,
    /// Its seed: the task's course follows from it and from the actions.
    pub seed: u64,
}

/// What `backpropamine::health::Monitor` finds in a lifetime so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Number of the lifetime.
    pub lifetime: u32,
    /// The last step it knows of.
    pub step: u32,
    /// Share of Hebbian traces at the clip limit.
    pub saturation: f32,
    /// Mean of |H|.
    pub trace_mean: f32,
    /// How many Hebbian traces lie in each of equal parts of the range from the negative to the positive clip limit.
    pub histogram: [u32; BINS],
    /// Neurons that were silent in every step.
    pub dead_units: u32,
    /// Mean of |m|.
    pub modulator_mean: f32,
    /// Largest |m|.
    pub modulator_max: f32,
    /// Exponential average of the reward, with a time constant of 64 steps.
    pub reward_average: f32,
    /// Inputs that were clamped.
    pub saturated_inputs: u32,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Number of the lifetime.
    pub lifetime: u32,
    /// Step within the lifetime, from 0.
    pub step: u32,
    /// The action.
    pub action: u32,
    /// Reward of this step.
    pub reward: f32,
    /// The first modulator m(t); 0 without one.
    pub m: f32,
    /// With telemetry: ticks of the processor's clock that the network and the choice of the action took; 0 if a look
    /// at the health had carried out what was left to be learned before, so that this was no whole step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticks: Option<u32>,
}

/// One trial.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Number of the lifetime: it has the evaluation seed 1,000,000 + this.
    pub lifetime: u32,
    /// Trial within the lifetime, from 0.
    pub trial: u32,
    /// Step at which it ended.
    pub step: u32,
    /// The action: in the cue task, 1 says that the target was shown.
    pub response: u32,
    /// Whether the response was right; a hit always is.
    pub correct: bool,
    /// Reward of this step.
    pub reward: f32,
    /// The first modulator m(t) at this step; 0 without one.
    pub m: f32,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Lifetimes that ran.
    pub lifetimes: u32,
    /// Steps of each.
    pub steps: u32,
    /// Trials of all lifetimes.
    pub trials: u32,
    /// Right responses among them.
    pub correct: u32,
    /// Digest over everything that every lifetime computed, as 16 hexadecimal digits.
    pub digest: String,
}

impl Record {
    /// Reads one line of a report.
    ///
    /// # Errors
    /// When the line is no record.
    pub fn parse(line: &str) -> Result<Self> {
        serde_json::from_str(line).with_context(|| format!("the firmware reported what is no record: {line}"))
    }
}

/// The records of the host's own run: lifetimes 0 to `lifetimes` of the network in the task, as the firmware runs them.
///
/// # Errors
/// When the image or the task cannot be used.
pub fn on_host(network: &Runnable, task: TaskConfig, lifetimes: u32) -> Result<Vec<Record>> {
    match task {
        TaskConfig::Cue(config) => {
            let cue = Cue::new(config).map_err(|error| anyhow!("task.{error}"))?;
            host_run(network, cue, lifetimes, |_| None)
        }
        TaskConfig::Maze(config) => {
            let maze = Maze::new(config).map_err(|error| anyhow!("task.{error}"))?;
            host_run(network, maze, lifetimes, |maze| {
                Some(Record::Picture(maze.to_string().replace('\n', "/")))
            })
        }
    }
}

fn host_run<T: Task>(network: &Runnable, task: T, lifetimes: u32, show: impl Fn(&T) -> Option<Record>) -> Result<Vec<Record>> {
    match network.numeric {
        NumericArg::Q15 => live::<Q15, T>(&network.words, task, lifetimes, show),
        NumericArg::Q7 => live::<Q7, T>(&network.words, task, lifetimes, show),
        NumericArg::F32 => live::<f32, T>(&network.words, task, lifetimes, show),
        NumericArg::F64 | NumericArg::Micromath => bail!("this firmware does not compute in {}", network.numeric),
    }
}

fn live<S: Scalar<Real = f32>, T: Task>(
    words: &[u32],
    mut task: T,
    lifetimes: u32,
    show: impl Fn(&T) -> Option<Record>,
) -> Result<Vec<Record>> {
    let network = Network::<S>::new(words).map_err(|error| anyhow!("{error}"))?;
    let mut memory = vec![0; network.memory_words()];
    let mut agent = Agent::new(&network, &mut memory).map_err(|error| anyhow!("{error}"))?;
    let mut digest = Digest::new();
    let mut records = Vec::new();
    for lifetime in 0..lifetimes {
        let seed = EVALUATION_SEED + u64::from(lifetime);
        let mut life = Lifetime::new(&mut task, &mut agent, Policy::Sample, seed);
        if lifetime == 0 {
            records.extend(show(life.task()));
        }
        let mut trial = 0;
        while let Some(event) = life.next() {
            let m = life.agent().modulator().first().map_or(0.0, |m| S::output_to_real(*m));
            let (step, action, reward) = (event.step, event.action as u32, event.outcome.reward);
            if lifetime == 0 {
                records.push(Record::Step(Step {
                    lifetime,
                    step,
                    action,
                    reward,
                    m,
                    ticks: None,
                }));
            }
            if let Some(correct) = event.outcome.trial {
                records.push(Record::Trial(Trial {
                    lifetime,
                    trial,
                    step,
                    response: action,
                    correct,
                    reward,
                    m,
                }));
                trial += 1;
                if lifetime == 0 {
                    records.extend(show(life.task()));
                }
            }
        }
        let value = life.digest();
        digest.word(value as u32);
        digest.word((value >> 32) as u32);
    }
    let summary = Summary::of(&records, lifetimes, task.steps(), digest.value());
    records.push(Record::Summary(summary));
    Ok(records)
}

impl Summary {
    fn of(records: &[Record], lifetimes: u32, steps: u32, digest: u64) -> Self {
        let outcomes = trials(records).map(|trial| u32::from(trial.correct));
        let (trials, correct) = outcomes.fold((0, 0), |(trials, correct), one| (trials + 1, correct + one));
        Self {
            lifetimes,
            steps,
            trials,
            correct,
            digest: format!("{digest:016x}"),
        }
    }
}

/// The trials among records.
pub fn trials(records: &[Record]) -> impl Iterator<Item = &Trial> {
    records.iter().filter_map(|record| match record {
        Record::Trial(trial) => Some(trial),
        _ => None,
    })
}

/// The steps among records: those of the first lifetime.
pub fn steps(records: &[Record]) -> impl Iterator<Item = &Step> {
    records.iter().filter_map(|record| match record {
        Record::Step(step) => Some(step),
        _ => None,
    })
}

/// The last line of a complete run.
///
/// # Errors
/// When the last record is no summary.
pub fn summary(records: &[Record]) -> Result<&Summary> {
    match records.last() {
        Some(Record::Summary(summary)) => Ok(summary),
        _ => bail!("the firmware ended without its last line"),
    }
}

/// The statistics of a report.
///
/// # Errors
/// When the last record is no summary.
pub fn evaluation(records: &[Record]) -> Result<Evaluation> {
    let Summary { lifetimes, steps, .. } = *summary(records)?;
    let mut lives = vec![Life::default(); lifetimes as usize];
    for trial in trials(records) {
        let life = lives
            .get_mut(trial.lifetime as usize)
            .context("the firmware reported a lifetime too many")?;
        life.trials.push(trial.correct);
        life.reward += f64::from(trial.reward);
        if trial.step >= steps.div_ceil(2) {
            life.late_correct += u32::from(trial.correct);
            life.late_trials += 1;
        }
    }
    Ok(Evaluation {
        lives,
        saturated_inputs: 0,
    })
}

/// Where two reports differ first, in words; `None` if they are equal.
pub fn first_difference(device: &[Record], host: &[Record]) -> Option<String> {
    if let Some((device, host)) = device.iter().zip(host).find(|(device, host)| device != host) {
        return Some(format!("the device reports {device:?}, the host computes {host:?}"));
    }
    (device.len() != host.len()).then(|| format!("the device reports {} records, the host {}", device.len(), host.len()))
}
