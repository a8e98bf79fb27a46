//! Configuration of a meta-training run: presets, files and `--set key=value`, all checked against one list of keys.
//!
//! `presets/defaults.toml` has every key with its meaning and is the base of all presets. A key that is not in it is
//! an error that names the nearest one, so a misspelt option never trains the wrong network.

use std::path::Path;

use anyhow::Result;
use backpropamine::lifetime::EVALUATION_SEED;
use backpropamine::rule::{Granularity, Rule, Squash};
use backpropamine::task::{cue, maze};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::cli::ExitKind;
use crate::cuda::Device;
use crate::files::{self, FileError};
use crate::model::{CLIP_WORDS, RULES, SQUASHES, clip_from_word, clip_word, rule_word};
use crate::recurrence::{Clip, Kernel};
use crate::task::TaskConfig;

/// Every key, with its default.
const BASE: &str = include_str!("../presets/defaults.toml");
/// Has every key of the maze.
const MAZE: &str = include_str!("../presets/maze-small.toml");

/// The built-in presets: name and text.
pub const PRESETS: [(&str, &str); 11] = [
    ("cue-small", include_str!("../presets/cue-small.toml")),
    ("cue-long", include_str!("../presets/cue-long.toml")),
    ("cue-large", include_str!("../presets/cue-large.toml")),
    ("cue-code", include_str!("../presets/cue-code.toml")),
    ("cue-paper", include_str!("../presets/cue-paper.toml")),
    ("cue-fixed", include_str!("../presets/cue-fixed.toml")),
    ("maze-small", MAZE),
    ("maze-large", include_str!("../presets/maze-large.toml")),
    ("maze-paper", include_str!("../presets/maze-paper.toml")),
    ("maze-code", include_str!("../presets/maze-code.toml")),
    ("maze-fanout", include_str!("../presets/maze-fanout.toml")),
];

/// Everything that decides the outcome of a run. `presets/defaults.toml` documents each key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The task's name and own options, see [`TaskConfig`]; empty for a task that has none.
    pub task: Table,
    /// Size and learning rule of the network.
    pub network: NetworkOptions,
    /// Initial parameters.
    pub init: InitOptions,
    /// Loss and optimiser (A2C over whole episodes).
    pub training: TrainingOptions,
    /// Stages before the full task, and restarts.
    pub curriculum: CurriculumOptions,
    /// Seed, kernel and checkpoints.
    pub run: RunOptions,
}

/// Size and learning rule of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkOptions {
    /// The learning rule.
    #[serde(with = "rule_in_file")]
    pub rule: Rule,
    /// Neurons.
    pub hidden: usize,
    /// What bounds the Hebbian traces.
    #[serde(with = "clip_in_file")]
    pub clip: Clip,
    /// Share of the neurons whose incoming traces are modulated, see [`modulated_neurons`](Self::modulated_neurons).
    pub modulated: f32,
    /// Nonlinearity of the modulator.
    #[serde(with = "squash_word")]
    pub squash: Squash,
    /// Modulator neurons.
    pub modulators: usize,
    /// A weight and a bias per neuron between modulator and trace.
    pub fan_out: bool,
    /// How many plasticity coefficients there are.
    #[serde(with = "granularity_word")]
    pub alpha: Granularity,
    /// How many rates there are.
    #[serde(with = "granularity_word")]
    pub eta: Granularity,
}

impl NetworkOptions {
    fn check_modulated(&self) -> Result<(), Problem> {
        let (key, share) = ("network.modulated", self.modulated);
        check(key, share, "more than 0, at most 1", share > 0.0 && share <= 1.0)?;
        let Some(count) = self.modulated_neurons() else {
            return Ok(());
        };
        let found = format!("{share} with rule {}", rule_word(self.rule));
        check(key, found, "1, or a rule with a modulator", self.rule.is_modulated())?;
        let found = format!("{share}, {count} of {} neurons", self.hidden);
        check(
            key,
            found,
            "1, or a share that leaves some neurons of both kinds",
            count > 0 && count < self.hidden,
        )
    }

    /// How many neurons of a partly modulated network are modulated: the first so many, as no neuron differs from another
    /// before training, and the kernels like neighbours alike. `None` if all are.
    pub fn modulated_neurons(&self) -> Option<usize> {
        (self.modulated < 1.0).then(|| (self.modulated * self.hidden as f32).round() as usize)
    }
}

/// Initial parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitOptions {
    /// Recurrent weights: the standard deviation times the square root of the number of neurons.
    pub weight_normal: f32,
    /// Recurrent weights: the interval of a uniform number added to the normal one.
    pub weight_uniform: [f32; 2],
    /// Input weights: U(±this/√inputs).
    pub input_scale: f32,
    /// Modulator weights: U(±this/√hidden).
    pub modulator_scale: f32,
    /// The interval of alpha.
    pub alpha: [f32; 2],
    /// Rate of the Hebbian trace, also of the unmodulated neurons of a partly modulated network.
    pub eta_hebbian: f32,
    /// Rate of the eligibility trace.
    pub eta_eligibility: f32,
}

/// Loss and optimiser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingOptions {
    /// Updates on the full task.
    pub iterations: u32,
    /// Episodes of one update.
    pub batch: usize,
    /// Adam's rate at the start of the full task.
    pub learning_rate: f64,
    /// Adam's rate at the end.
    pub learning_rate_end: f64,
    /// Decay of Adam's first moment.
    pub adam_beta1: f64,
    /// Decay of Adam's second moment.
    pub adam_beta2: f64,
    /// Adam's epsilon.
    pub adam_epsilon: f64,
    /// Discount of the return.
    pub gamma: f32,
    /// 1 for the Monte-Carlo return, below 1 for generalised advantage estimation.
    pub gae_lambda: f32,
    /// Whether advantages are normalised over the batch.
    pub normalise_advantages: bool,
    /// Weight of the squared value error.
    pub value_weight: f32,
    /// Weight of the sum of squared action probabilities, at the start of the full task.
    pub entropy_weight: f32,
    /// The same at its end; absent for a constant weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entropy_weight_end: Option<f32>,
    /// The gradient's norm is cut to this.
    pub norm_clip: f64,
    /// An update with a larger norm is left out; 0 for never.
    pub norm_skip: f64,
    /// So many updates left out, and not paid off, take network and optimiser back to the last good copy; 0 for never.
    pub rollback_after: u32,
    /// A good copy is made after so many updates without one left out. They pay off `rollback_after` that were.
    pub rollback_every: u32,
    /// Whether the rate of the eligibility trace is kept within [0, 1].
    pub clamp_eta: bool,
}

/// Stages before the full task, and restarts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurriculumOptions {
    /// Numbers of cues before the full task.
    pub cues: Vec<u32>,
    /// Longest trials of the first of these stages; the others have the full task's.
    pub longest_trials: Vec<u32>,
    /// Sizes of the maze before the full task.
    pub sizes: Vec<u32>,
    /// Score that ends a stage.
    pub threshold: f64,
    /// Iterations the score is taken over.
    pub window: usize,
    /// Episodes of one update before the full task.
    pub batch: usize,
    /// Factor of the learning rate before the full task.
    pub learning_rate_factor: f64,
    /// Iterations of an attempt before the full task.
    pub patience: u32,
    /// Updates on the full task after which an attempt needs `probation_score`, or starts anew; 0 for never.
    pub probation: u32,
    /// Score, over the window, that ends the probation well.
    pub probation_score: f64,
    /// How often a run starts anew when its patience ends or its probation fails.
    pub restarts: u32,
}

/// Seed, kernel, device and checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunOptions {
    /// The run's seed, below [`EVALUATION_SEED`].
    pub seed: u64,
    /// The instructions that training uses.
    pub kernel: Kernel,
    /// Where training computes. Not written for the processor, so that such runs are the same files as ever.
    #[serde(default, skip_serializing_if = "Device::is_cpu")]
    pub device: Device,
    /// Iterations between two checkpoints.
    pub checkpoint_every: u32,
}

const GRANULARITIES: [(&str, Granularity); 3] = [
    ("single", Granularity::Single),
    ("neuron", Granularity::PerNeuron),
    ("connection", Granularity::PerConnection),
];

/// Makes a module for `#[serde(with = "…")]`: a value in a file is its word in a table of words.
macro_rules! word_in_file {
    ($module:ident, $type:ty, $table:expr) => {
        mod $module {
            use serde::{Deserialize, Deserializer, Serializer, de::Error};

            use super::*;

            pub fn serialize<S: Serializer>(value: &$type, serializer: S) -> Result<S::Ok, S::Error> {
                let word = $table
                    .iter()
                    .find(|(_, other)| other == value)
                    .map_or("none", |(word, _)| word);
                serializer.serialize_str(word)
            }

            pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                let word = String::deserialize(deserializer)?;
                let entry = $table.iter().find(|(other, _)| *other == word);
                entry.map(|(_, value)| *value).ok_or_else(|| {
                    let words = $table.map(|(word, _)| format!("`{word}`")).join(", ");
                    D::Error::custom(format!("`{word}` is none of {words}"))
                })
            }
        }
    };
}

/// A clip in a file: its metadata word, or a number, which is the limit of a hard one.
mod clip_in_file {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::*;

    pub fn serialize<S: Serializer>(clip: &Clip, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&clip_word(clip.kind(), clip.limit()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Clip, D::Error> {
        let word = String::deserialize(deserializer)?;
        let clip = clip_from_word(&word).or_else(|| clip_from_word(&format!("hard:{word}")));
        let clip = clip.map(|(kind, limit)| Clip::new(kind, limit as f32));
        clip.ok_or_else(|| D::Error::custom(format!("`{word}` is not {CLIP_WORDS}")))
    }
}

word_in_file!(rule_in_file, Rule, RULES);
word_in_file!(squash_word, Squash, SQUASHES);
word_in_file!(granularity_word, Granularity, GRANULARITIES);

pub(crate) use word_in_file;

impl Default for Config {
    /// The preset `cue-small`.
    fn default() -> Self {
        Self::load("cue-small", &[]).expect("a test reads the embedded presets")
    }
}

impl Config {
    /// A preset, by its name or by the path of a TOML file, with `key=value` settings on top.
    ///
    /// ```
    /// use backpropamine_train::config::Config;
    /// let config = Config::load("cue-small", &["network.hidden=48".into()])?;
    /// assert_eq!(config.network.hidden, 48);
    /// # anyhow::Ok(())
    /// ```
    ///
    /// # Errors
    /// [`FileError`] for a file with an unknown key or a wrong value; [`ExitKind::Usage`] for a wrong setting.
    pub fn load(preset: &str, settings: &[String]) -> Result<Self> {
        let path = Path::new(preset);
        let text = match PRESETS.iter().find(|(name, _)| *name == preset) {
            Some((_, text)) => (*text).to_owned(),
            None if path.exists() => files::read_text(path)?,
            None => {
                let names = PRESETS.map(|(name, _)| name).join(", ");
                return Err(ExitKind::Usage(format!("--preset {preset}: no such preset or file; the presets are {names}")).into());
            }
        };
        Self::parse(&text, path)?.with_settings(settings)
    }

    /// The resolved configuration of a run (`config.toml`, or the `config` metadata of a model); `path` is for messages.
    ///
    /// # Errors
    /// [`FileError`] for text that is no TOML, an unknown key or a wrong value.
    pub fn parse(text: &str, path: &Path) -> Result<Self, FileError> {
        Self::from_table(complete(text, path)?).map_err(|problem| problem.in_file(path))
    }

    /// The configuration with `key=value` settings on top, as `--set` gives them.
    ///
    /// # Errors
    /// [`ExitKind::Usage`] for an unknown key or a wrong value.
    pub fn with_settings(&self, settings: &[String]) -> Result<Self> {
        let mut table = Table::try_from(self)?;
        for setting in settings {
            apply_setting(&mut table, setting)?;
        }
        Ok(Self::from_table(table).map_err(Problem::in_settings)?)
    }

    /// The whole configuration as TOML: the `config.toml` of a run folder.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("plain tables of numbers, words and lists")
    }

    /// The task this configuration describes.
    ///
    /// # Errors
    /// [`ExitKind::Usage`] when `[task]` is none of the core's.
    pub fn task(&self) -> Result<TaskConfig, ExitKind> {
        TaskConfig::parse(&self.task).map_err(|error| ExitKind::Usage(format!("[task]: {}", error.message())))
    }

    /// The cue task this configuration describes.
    ///
    /// # Errors
    /// [`ExitKind::Usage`] when `[task]` is another task's.
    pub fn cue(&self) -> Result<cue::Config, ExitKind> {
        match self.task()? {
            TaskConfig::Cue(config) => Ok(config),
            TaskConfig::Maze(_) => Err(self.other_task("cue")),
        }
    }

    /// The maze this configuration describes.
    ///
    /// # Errors
    /// [`ExitKind::Usage`] when `[task]` is another task's.
    pub fn maze(&self) -> Result<maze::Config, ExitKind> {
        match self.task()? {
            TaskConfig::Maze(config) => Ok(config),
            TaskConfig::Cue(_) => Err(self.other_task("maze")),
        }
    }

    fn other_task(&self, expected: &str) -> ExitKind {
        let found = task_name(&self.task).unwrap_or("none");
        ExitKind::Usage(format!(
            "task.name: expected {expected}, found {found}: choose a preset of that task"
        ))
    }

    fn from_table(table: Table) -> Result<Self, Problem> {
        let config: Self = table.try_into().map_err(|error: toml::de::Error| {
            let text = error.to_string();
            let key = text.lines().find_map(|line| line.trim().strip_prefix("in `"));
            Problem {
                key: key.map_or("configuration", |key| key.trim_end_matches('`')).to_owned(),
                expected: "a valid value".into(),
                found: error.message().to_owned(),
            }
        })?;
        if let Err(error) = TaskConfig::parse(&config.task)
            && !config.task.is_empty()
        {
            return Err(Problem {
                key: "task".into(),
                expected: "the keys of a task".into(),
                found: error.message().to_owned(),
            });
        }
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), Problem> {
        let Self {
            network,
            init,
            training,
            curriculum,
            run,
            ..
        } = self;
        check("network.hidden", network.hidden, "1 … 1024", (1..=1024).contains(&network.hidden))?;
        let clip = network.clip.kind().suits(network.rule);
        let found = clip_word(network.clip.kind(), network.clip.limit());
        check("network.clip", found, "hard:C or soft with the retroactive rule", clip)?;
        network.check_modulated()?;
        check(
            "network.modulators",
            network.modulators,
            "1 … 64",
            (1..=64).contains(&network.modulators),
        )?;
        let channels = network.modulators == 1 || network.fan_out;
        check("network.modulators", network.modulators, "1, or fan_out = true", channels)?;
        check("init.weight_normal", init.weight_normal, "0 or more", init.weight_normal >= 0.0)?;
        check("init.input_scale", init.input_scale, "more than 0", positive(init.input_scale))?;
        check(
            "init.modulator_scale",
            init.modulator_scale,
            "more than 0",
            positive(init.modulator_scale),
        )?;
        for (key, [from, to]) in [("init.weight_uniform", init.weight_uniform), ("init.alpha", init.alpha)] {
            let found = format!("[{from}, {to}]");
            check(key, found, "[from, to] with from <= to", from <= to && (to - from).is_finite())?;
        }
        for (key, rate) in [
            ("init.eta_hebbian", init.eta_hebbian),
            ("init.eta_eligibility", init.eta_eligibility),
            ("training.gamma", training.gamma),
            ("training.gae_lambda", training.gae_lambda),
        ] {
            check(key, rate, "0 … 1", (0.0..=1.0).contains(&rate))?;
        }
        for (key, number) in [
            ("training.learning_rate", training.learning_rate),
            ("training.learning_rate_end", training.learning_rate_end),
            ("training.adam_epsilon", training.adam_epsilon),
            ("training.norm_clip", training.norm_clip),
            ("curriculum.learning_rate_factor", curriculum.learning_rate_factor),
        ] {
            check(key, number, "more than 0", number > 0.0 && number.is_finite())?;
        }
        for (key, decay) in [
            ("training.adam_beta1", training.adam_beta1),
            ("training.adam_beta2", training.adam_beta2),
        ] {
            check(key, decay, "0 or more and less than 1", (0.0..1.0).contains(&decay))?;
        }
        for (key, weight) in [
            ("training.value_weight", f64::from(training.value_weight)),
            ("training.entropy_weight", f64::from(training.entropy_weight)),
            ("training.entropy_weight_end", f64::from(training.entropy_weight_end.unwrap_or(0.0))),
            ("training.norm_skip", training.norm_skip),
        ] {
            check(key, weight, "0 or more", weight >= 0.0 && weight.is_finite())?;
        }
        for (key, count) in [
            ("training.iterations", training.iterations),
            ("training.rollback_every", training.rollback_every),
        ] {
            check(key, count, "1 or more", count > 0)?;
        }
        for (key, batch) in [("training.batch", training.batch), ("curriculum.batch", curriculum.batch)] {
            check(key, batch, "1 … 65536", (1..=65536).contains(&batch))?;
        }
        let share = (0.0..=1.0).contains(&curriculum.probation_score);
        check("curriculum.probation_score", curriculum.probation_score, "0 … 1", share)?;
        check("curriculum.window", curriculum.window, "1 or more", curriculum.window > 0)?;
        check("run.checkpoint_every", run.checkpoint_every, "1 or more", run.checkpoint_every > 0)?;
        let reserved = format!("less than {EVALUATION_SEED}, where evaluation begins");
        check("run.seed", run.seed, &reserved, run.seed < EVALUATION_SEED)
    }
}

fn positive(number: f32) -> bool {
    number > 0.0 && number.is_finite()
}

/// A key with a value that is not allowed.
struct Problem {
    key: String,
    expected: String,
    found: String,
}

impl Problem {
    fn in_file(self, path: &Path) -> FileError {
        FileError::new(path, self.key, self.expected, self.found, "correct the value")
    }

    fn in_settings(self) -> ExitKind {
        ExitKind::Usage(format!("{}: expected {}, found {}", self.key, self.expected, self.found))
    }
}

fn check(key: &str, found: impl ToString, expected: &str, holds: bool) -> Result<(), Problem> {
    if holds {
        return Ok(());
    }
    Err(Problem {
        key: key.to_owned(),
        expected: expected.to_owned(),
        found: found.to_string(),
    })
}

/// Every key there is for a task of this name, with its default.
fn base_table(task: &str) -> Table {
    let read = |text: &str| -> Table { text.parse().expect("a test reads the embedded presets") };
    let mut base = read(BASE);
    if task == "maze" {
        base.insert("task".into(), read(MAZE)["task"].clone());
    }
    base
}

fn task_name(task: &Table) -> Option<&str> {
    task.get("name")?.as_str()
}

/// The name in the `[task]` of a whole configuration; without one it is the cue task's.
fn task_of(table: &Table) -> &str {
    table.get("task").and_then(Value::as_table).and_then(task_name).unwrap_or("cue")
}

/// A configuration's text, with the defaults of its task for what it does not say.
fn complete(text: &str, path: &Path) -> Result<Table, FileError> {
    let over: Table = text
        .parse()
        .map_err(|error: toml::de::Error| FileError::new(path, "text", "TOML", error.to_string().trim_end(), "correct the line"))?;
    let schema = base_table(task_of(&over));
    let mut table = schema.clone();
    overlay(&mut table, over, &schema, "").map_err(|problem| problem.in_file(path))?;
    Ok(table)
}

/// Lays `over` on `base`. `schema` has every key there is and a value of its type.
fn overlay(base: &mut Table, over: Table, schema: &Table, prefix: &str) -> Result<(), Problem> {
    for (name, value) in over {
        let key = format!("{prefix}{name}");
        let like = schema.get(&name).ok_or_else(|| Problem {
            expected: format!("a known key, perhaps `{}`", nearest(&key, schema, prefix)),
            found: "an unknown key".into(),
            key: key.clone(),
        })?;
        match (like, base.get_mut(&name), value) {
            (Value::Table(schema), Some(Value::Table(inner)), Value::Table(value)) => {
                overlay(inner, value, schema, &format!("{key}."))?;
            }
            (like, _, value) => {
                let value = convert(like, value.clone()).ok_or_else(|| Problem {
                    expected: type_name(like),
                    found: value.to_string(),
                    key,
                })?;
                base.insert(name, value);
            }
        }
    }
    Ok(())
}

/// `value` as the type that `like` has; a whole number will do where a fraction is wanted, and a number where a word is.
fn convert(like: &Value, value: Value) -> Option<Value> {
    match (like, value) {
        (Value::Float(_), Value::Integer(number)) => Some(Value::Float(number as f64)),
        (Value::String(_), number @ (Value::Integer(_) | Value::Float(_))) => Some(Value::String(number.to_string())),
        (Value::Array(like), Value::Array(values)) => {
            let element = like.first()?;
            let values = values.into_iter().map(|value| convert(element, value));
            values.collect::<Option<_>>().map(Value::Array)
        }
        (like, value) => like.same_type(&value).then_some(value),
    }
}

fn type_name(like: &Value) -> String {
    match like {
        Value::Array(values) => match values.first() {
            Some(element) => format!("an array, each element {}", type_name(element)),
            None => "an array".into(),
        },
        Value::Integer(_) => "a whole number".into(),
        Value::Float(_) => "a number".into(),
        Value::Boolean(_) => "true or false".into(),
        Value::String(_) => "a word".into(),
        Value::Table(_) => "a table".into(),
        Value::Datetime(_) => "a date".into(),
    }
}

/// `key=value`, as a preset's line of that key would be.
fn apply_setting(table: &mut Table, setting: &str) -> Result<()> {
    let (key, text) = setting
        .split_once('=')
        .ok_or_else(|| ExitKind::Usage(format!("--set {setting}: expected key=value, for example training.batch=30")))?;
    let mut value = parse_value(text.trim());
    let names: Vec<&str> = key.trim().split('.').collect();
    for name in names.iter().skip(1).rev() {
        value = Value::Table(Table::from_iter([((*name).to_owned(), value)]));
    }
    let over = Table::from_iter([(names[0].to_owned(), value)]);
    let schema = base_table(task_of(table));
    overlay(table, over, &schema, "").map_err(|problem| {
        ExitKind::Usage(format!(
            "--set {}: expected {}, found {}",
            problem.key, problem.expected, problem.found
        ))
    })?;
    Ok(())
}

/// A TOML value; what is none is a word, so that no shell quotes are needed around one.
fn parse_value(text: &str) -> Value {
    let line: Result<Table, _> = format!("value = {text}").parse();
    line.ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn keys(table: &Table, prefix: &str) -> Vec<String> {
    let mut all = Vec::new();
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        match value {
            Value::Table(inner) => all.extend(keys(inner, &format!("{key}."))),
            _ => all.push(key),
        }
    }
    all
}

/// The known key most like `key`, compared whole and by its last name.
fn nearest(key: &str, schema: &Table, prefix: &str) -> String {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let likeness = |candidate: &String| {
        let whole = strsim::jaro_winkler(key, candidate);
        whole + strsim::jaro_winkler(&last(key), &last(candidate))
    };
    let known = keys(schema, prefix).into_iter();
    known.max_by(|a, b| likeness(a).total_cmp(&likeness(b))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_loads_and_survives_its_own_text() {
        for (name, _) in PRESETS {
            let config = Config::load(name, &[]).unwrap();
            let again = Config::parse(&config.to_toml(), Path::new("config.toml")).unwrap();
            assert_eq!(config, again, "{name}");
            config.task().unwrap();
        }
    }

    #[test]
    fn settings_reach_every_type_of_value() {
        let settings = [
            "training.batch=10",
            "training.norm_clip=7",
            "network.rule=retroactive",
            "task.fixed=true",
            "curriculum.cues=[]",
        ];
        let config = Config::load("cue-small", &settings.map(String::from)).unwrap();
        assert_eq!(config.training.batch, 10);
        assert_eq!(config.training.norm_clip, 7.0);
        assert_eq!(config.network.rule, Rule::Retroactive);
        assert!(config.cue().unwrap().fixed);
        assert!(config.curriculum.cues.is_empty());
        let again = config.with_settings(&["curriculum.cues=[3]".into()]).unwrap();
        assert_eq!(again.curriculum.cues, [3]);
    }

    fn file_error(text: &str) -> String {
        Config::parse(text, Path::new("mine.toml")).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_file_key_and_nearest_known_key() {
        let unknown = file_error("[training]\nlearning_rat = 0.1\n");
        for part in ["mine.toml", "training.learning_rat:", "`training.learning_rate`"] {
            assert!(unknown.contains(part), "{unknown}");
        }
        assert!(file_error("[training]\nbatch = \"many\"").contains("training.batch: expected a whole number"));
        assert!(file_error("[network]\nhidden = 0").contains("network.hidden"));
        assert!(file_error("[network]\nrule = \"magic\"").contains("network.rule"));
        assert!(file_error("[run]\nseed = 1000000").contains("run.seed"));
        assert!(file_error("[training\n").contains("TOML"));
    }

    #[test]
    fn a_wrong_setting_is_a_usage_error() {
        for setting in ["training.batch", "bach=3", "training.batch=0", "network.rule=magic"] {
            let error = Config::load("cue-small", &[setting.into()]).unwrap_err();
            assert_eq!(crate::cli::exit_code(&error), crate::cli::EXIT_USAGE, "{setting}: {error}");
        }
    }
}
