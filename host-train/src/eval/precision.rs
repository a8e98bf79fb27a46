//! `eval --numeric all`: what networks lose in the arithmetics of a device, and in one that rounds what they learn in another way.
//!
//! The rounding rows run in f32 and round every Hebbian trace between steps to 16 or 8 bits of its range, which is what storing
//! it does. They exist on the host only, to show what core's choice, to the nearest, is worth.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use backpropamine::image::Header;
use backpropamine::network::Agent;
use backpropamine::rng::{Rng, Stream};
use backpropamine::task::Task;
use serde_json::{Value, json};
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::{Estimate, EvalCommand, check_fit, cue_task, evaluate, evaluate_stored, maze_task, task_of};
use crate::cli::{Console, NumericArg, Report};
use crate::export::memory_bytes;
use crate::model::rule_word;
use crate::runnable::{Choice, Runnable};
use crate::task::TaskConfig;

/// How a number between two that can be stored becomes one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// The nearer one.
    Nearest,
    /// The lower one, as a plain shift gives it.
    Floor,
    /// The upper one with a probability that leaves the mean as it is.
    Stochastic,
}

/// How Hebbian traces are stored between steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Bits of a trace, whose range is that of its clip.
    pub bits: u32,
    /// What happens to the rest.
    pub rounding: Rounding,
}

impl Storage {
    /// A trace within `±limit` as it comes back; `draw` is 32 random bits.
    fn store(self, trace: f32, limit: f32, draw: impl FnOnce() -> u32) -> f32 {
        let largest = f64::from(1u32 << (self.bits - 1));
        let real = |whole: f64| (whole / largest * f64::from(limit)) as f32;
        let exact = f64::from(trace) / f64::from(limit) * largest;
        let nearest = exact.round();
        let whole = match self.rounding {
            // What was stored before comes back as it is, whatever the rounding of the limit.
            _ if real(nearest) == trace => nearest,
            Rounding::Nearest => nearest,
            Rounding::Floor => exact.floor(),
            Rounding::Stochastic => (exact + f64::from(draw()) / 32f64.exp2()).floor(),
        };
        real(whole.clamp(-largest, largest - 1.0))
    }

    /// Stores every Hebbian trace of an agent after a step of the lifetime of this seed.
    pub(super) fn store_all(self, agent: &mut Agent<'_, '_, f32>, seed: u64, step: u32) {
        let limit = agent.network().header().clip;
        // The agent is not born at random, so nothing else draws from this stream.
        let draws = Rng::new(seed).lifetime(Stream::Init, 0);
        let mut index = 0;
        agent.map_hebb(|trace| {
            index += 1;
            self.store(trace, limit, || draws.draw(step, index))
        });
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arithmetic {
    Numeric(NumericArg),
    Stored(Storage),
}

impl Arithmetic {
    /// The rows for a network: the first is what the others are held against.
    fn rows(header: &Header) -> Vec<Self> {
        let numerics = [NumericArg::F32, NumericArg::Micromath, NumericArg::Q15, NumericArg::Q7].map(Self::Numeric);
        let roundings = [Rounding::Nearest, Rounding::Floor, Rounding::Stochastic];
        let stored = [16, 8]
            .into_iter()
            .flat_map(|bits| roundings.map(|rounding| Self::Stored(Storage { bits, rounding })));
        let stored = stored.filter(|_| header.rule.is_plastic());
        numerics.into_iter().chain(stored).collect()
    }

    fn numeric(self) -> NumericArg {
        match self {
            Self::Numeric(numeric) => numeric,
            Self::Stored(_) => NumericArg::F32,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Numeric(numeric) => numeric.to_string(),
            Self::Stored(Storage { bits, rounding }) => {
                let word = match rounding {
                    Rounding::Nearest => "nearest",
                    Rounding::Floor => "floor",
                    Rounding::Stochastic => "stochastic",
                };
                format!("h{bits}-{word}")
            }
        }
    }
}

/// One model in one arithmetic.
struct Measurement {
    estimate: Estimate,
    memory_bytes: usize,
    saturated_inputs: u64,
}

/// One model in all of them.
struct Member {
    path: PathBuf,
    measurements: Vec<Measurement>,
}

/// Models of one task and rule, which have one table.
struct Group {
    task: TaskConfig,
    header: Header,
    members: Vec<Member>,
}

impl EvalCommand {
    /// One line per arithmetic, over the same lifetimes, and one table per task and rule.
    pub(super) fn compare(&self, console: &Console) -> Result<Report> {
        let mut groups: Vec<Group> = Vec::new();
        for path in &self.models {
            let f32_network = self.open(path, NumericArg::F32)?;
            let (task, header) = (task_of(&f32_network, path, &self.settings)?, f32_network.header);
            let member = self.member(path, &header, console)?;
            match groups
                .iter_mut()
                .find(|group| (group.task, group.header.rule) == (task, header.rule))
            {
                Some(group) => group.members.push(member),
                None => groups.push(Group {
                    task,
                    header,
                    members: vec![member],
                }),
            }
        }
        for group in &groups {
            console.say(group.table());
        }
        Report::done(json!({
            "policy": self.policy_word(),
            "lifetimes": self.episodes,
            "seed": self.seed,
            "groups": groups.iter().map(Group::report).collect::<Vec<_>>(),
        }))
    }

    fn open(&self, path: &Path, numeric: NumericArg) -> Result<Runnable> {
        let choice = Choice {
            numeric: Some(numeric),
            input_range: self.input_range.filter(|_| numeric.is_fixed()),
        };
        choice.open(path, None)
    }

    fn member(&self, path: &Path, header: &Header, console: &Console) -> Result<Member> {
        let measure = |arithmetic: Arithmetic| {
            console.note(format_args!("{}: {}", path.display(), arithmetic.name()));
            let network = self.open(path, arithmetic.numeric())?;
            match task_of(&network, path, &self.settings)? {
                TaskConfig::Cue(task) => self.measure(arithmetic, &network, path, &cue_task(task)?, |all| all.late_accuracy()),
                TaskConfig::Maze(task) => self.measure(arithmetic, &network, path, &maze_task(task)?, |all| all.successes()),
            }
        };
        let measurements: Result<_> = Arithmetic::rows(header).into_iter().map(measure).collect();
        Ok(Member {
            path: path.to_owned(),
            measurements: measurements?,
        })
    }

    fn measure<T: Task + Clone + Sync>(
        &self,
        arithmetic: Arithmetic,
        network: &Runnable,
        path: &Path,
        task: &T,
        score: impl Fn(&super::Evaluation) -> Estimate,
    ) -> Result<Measurement> {
        check_fit(network, task, path)?;
        let (make, policy) = (|| task.clone(), self.policy.into());
        let evaluation = match arithmetic {
            Arithmetic::Numeric(_) => evaluate(network, make, policy, self.seed, self.episodes),
            Arithmetic::Stored(storage) => evaluate_stored(network, storage, make, policy, self.seed, self.episodes),
        }?;
        Ok(Measurement {
            estimate: score(&evaluation),
            memory_bytes: memory_bytes(&network.header),
            saturated_inputs: evaluation.saturated_inputs,
        })
    }
}

/// One line of a group's table.
struct Row {
    arithmetic: Arithmetic,
    estimate: Estimate,
    /// From the first row, by model; there is no interval for a single one.
    difference: Estimate,
    memory_bytes: usize,
    saturated_inputs: u64,
    values: Vec<f64>,
}

impl Group {
    fn score(&self) -> &'static str {
        match self.task {
            TaskConfig::Cue(_) => "late_accuracy",
            TaskConfig::Maze(_) => "hits",
        }
    }

    fn rows(&self) -> impl Iterator<Item = Row> {
        Arithmetic::rows(&self.header).into_iter().enumerate().map(|(index, arithmetic)| {
            let column = |index: usize| self.members.iter().map(move |member| &member.measurements[index]);
            let values: Vec<f64> = column(index).map(|one| one.estimate.value).collect();
            let pairs = column(index).zip(column(0));
            let differences: Vec<f64> = pairs.map(|(one, first)| one.estimate.value - first.estimate.value).collect();
            Row {
                arithmetic,
                estimate: match &*self.members {
                    [only] => only.measurements[index].estimate,
                    _ => over_models(&values),
                },
                difference: over_models(&differences),
                memory_bytes: column(index).map(|one| one.memory_bytes).max().unwrap_or(0),
                saturated_inputs: column(index).map(|one| one.saturated_inputs).sum(),
                values,
            }
        })
    }

    fn report(&self) -> Value {
        let row = |row: Row| {
            json!({
                "arithmetic": row.arithmetic.name(),
                "value": row.estimate.value,
                "interval": row.estimate.interval,
                "difference": row.difference.value,
                "difference_interval": (self.members.len() > 1).then_some(row.difference.interval),
                "memory_bytes": row.memory_bytes,
                "saturated_inputs": row.saturated_inputs,
                "values": row.values,
            })
        };
        json!({
            "task": self.task.name(),
            "rule": rule_word(self.header.rule),
            "steps": self.task.steps(),
            "score": self.score(),
            "models": self.members.iter().map(|member| &member.path).collect::<Vec<_>>(),
            "rows": self.rows().map(row).collect::<Vec<_>>(),
        })
    }

    /// As Markdown: accuracies in percent, hits as they are.
    fn table(&self) -> String {
        let (unit, factor) = match self.task {
            TaskConfig::Cue(_) => ("late accuracy, %", 100.0),
            TaskConfig::Maze(_) => ("hits", 1.0),
        };
        let (models, over) = match self.members.len() {
            1 => ("1 model".to_owned(), "lifetimes"),
            count => (format!("{count} models"), "models"),
        };
        let mut text = format!(
            "{}, {}, {} steps, {models}\n\n| | {unit} | 95% interval over {over} | less f32 | bytes of memory |\n|---|---|---|---|---|\n",
            self.task.name(),
            rule_word(self.header.rule),
            self.task.steps(),
        );
        for row in self.rows() {
            let [low, high] = row.estimate.interval.map(|end| factor * end);
            let (value, difference) = (factor * row.estimate.value, factor * row.difference.value);
            let [_, most] = row.difference.interval.map(|end| factor * end);
            let spread = match self.members.len() {
                1 => String::new(),
                _ => format!(" ± {:.2}", most - difference),
            };
            let (name, memory) = (row.arithmetic.name(), row.memory_bytes);
            let _ = writeln!(
                text,
                "| {name} | {value:.2} | {low:.2} … {high:.2} | {difference:+.2}{spread} | {memory} |"
            );
        }
        text
    }
}

/// The mean of independent models with Student's 95% interval, which is the mean itself for a single one.
pub(crate) fn over_models(values: &[f64]) -> Estimate {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let half =
        StudentsT::new(0.0, 1.0, count - 1.0).map_or(0.0, |student| student.inverse_cdf(0.975) * (squares / (count - 1.0) / count).sqrt());
    Estimate {
        value: mean,
        interval: [mean - half, mean + half],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_over_models_is_students() {
        // Five values of deviation sqrt(2.5): 3 ± 2.776 · sqrt(2.5 / 5).
        let Estimate { value, interval } = over_models(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(value, 3.0);
        assert!((interval[1] - 3.0 - 2.776_445 * 0.5f64.sqrt()).abs() < 1e-5, "{interval:?}");
        assert_eq!(over_models(&[0.25]).interval, [0.25, 0.25]);
    }

    #[test]
    fn a_trace_comes_back_as_its_storage_says() {
        let store = |rounding, trace| Storage { bits: 8, rounding }.store(trace, 2.0, || 0x4000_0000);
        let unit = 2.0 / 128.0;
        for (rounding, below, above) in [
            (Rounding::Nearest, 1.0, 2.0),
            (Rounding::Floor, 1.0, 1.0),
            // With a draw of a quarter, what lies three quarters above a number becomes the next.
            (Rounding::Stochastic, 1.0, 2.0),
        ] {
            assert_eq!(store(rounding, 1.4 * unit), below * unit, "{rounding:?}");
            assert_eq!(store(rounding, 1.8 * unit), above * unit, "{rounding:?}");
            assert_eq!(store(rounding, 5.0 * unit), 5.0 * unit, "{rounding:?}");
            assert_eq!((store(rounding, 2.0), store(rounding, -2.0)), (2.0 - unit, -2.0), "{rounding:?}");
        }
        assert_eq!(
            (store(Rounding::Floor, -1.2 * unit), store(Rounding::Nearest, -1.2 * unit)),
            (-2.0 * unit, -unit)
        );
    }

    #[test]
    fn what_is_stored_does_not_drift_at_any_limit() {
        for limit in [0.3, 0.7, 1.0] {
            for whole in -32_768..32_768 {
                let trace = (f64::from(whole) / 32_768.0 * f64::from(limit)) as f32;
                let storage = Storage {
                    bits: 16,
                    rounding: Rounding::Floor,
                };
                assert_eq!(storage.store(trace, limit, || 0), trace);
            }
        }
    }
}
