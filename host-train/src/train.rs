//! Meta-training: rollout, backward pass, Adam and curriculum, one iteration after another.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use backpropamine_train::{config::Config, task::CueCourse, train::meta_train};
//! let config = Config::load("cue-small", &["run.seed=7".into()])?;
//! let course = CueCourse::new(&config)?;
//! let trained = meta_train(config, course, |metrics| {
//!     println!("{} {:?}", metrics.iteration, metrics.score);
//!     ControlFlow::Continue(())
//! })?;
//! trained.model.save("model.safetensors".as_ref())?;
//! # anyhow::Ok(())
//! ```

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path as FilePath;

use anyhow::{Context, Result, ensure};
use backpropamine::rng::{Lifetime, Rng, Stream};
use backpropamine::rule::Rule;
use backpropamine::task::Task;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::a2c::{self, Loss};
use crate::archive::{Archive, Tensor};
use crate::cli::ExitKind;
use crate::config::{Config, TrainingOptions};
use crate::cuda::{self, Machine, World};
use crate::curriculum::{Curriculum, Next};
use crate::files::FileError;
use crate::model::{FORMAT, Model, Parameter, SQUASHES, clip_word, rule_word};
use crate::optim::{self, Adam, Gradients, Moments};
use crate::recurrence::Path;
use crate::rollback::{GoodCopy, Rollback};
use crate::rollout::{Course, Episode, Player};

/// So many updates left out in a row are a network that has blown up.
const SKIPS_IN_A_ROW: u32 = 100;

const STATE_FORMAT: &str = "backpropamine-state/3";

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Metrics {
    /// Iterations before this one, restarts included.
    pub iteration: u32,
    /// Restarts before this iteration.
    pub attempt: u32,
    /// Stage of the curriculum, 0 first.
    pub stage: usize,
    /// Whether that is the full task.
    pub full: bool,
    /// What the episodes reached: correct responses in their second halves; in the maze, hits.
    pub reached: u32,
    /// What they could have reached: all responses in their second halves; in the maze, the searcher's hits.
    pub reachable: u32,
    /// The ratio of the two over the curriculum's window.
    pub score: Option<f64>,
    /// Mean reward of an episode.
    pub reward: f64,
    /// The parts of the loss.
    #[serde(flatten)]
    pub loss: Loss,
    /// Norm of the gradient before it was cut.
    pub norm: f64,
    /// Adam's rate.
    pub learning_rate: f64,
    /// Whether the update was left out because of its norm.
    pub skipped: bool,
    /// Roll-backs so far, the one after this iteration included.
    pub rolled_back: u32,
}

/// A finished run.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The network.
    pub model: Model,
    /// One entry per iteration.
    pub metrics: Vec<Metrics>,
}

/// Meta-trains a network on a task, in memory. `progress` sees every iteration and may end the run early.
///
/// # Errors
/// When the configuration cannot be trained, or training diverges.
pub fn meta_train<C: Course>(config: Config, course: C, mut progress: impl FnMut(&Metrics) -> ControlFlow<()>) -> Result<Trained> {
    let mut trainer = Trainer::new(config, course)?;
    let mut all = Vec::new();
    while !trainer.finished() {
        let metrics = trainer.iterate()?;
        let flow = progress(&metrics);
        all.push(metrics);
        if flow.is_break() {
            break;
        }
    }
    Ok(Trained {
        model: trainer.model().clone(),
        metrics: all,
    })
}

/// A run in progress: everything that the next iteration depends on.
pub struct Trainer<C> {
    config: Config,
    course: C,
    path: Path,
    /// What runs the kernels of [`cuda`]; without it, the processor trains.
    machine: Option<Box<dyn Machine>>,
    model: Model,
    adam: Adam,
    curriculum: Curriculum,
    iteration: u32,
    skips_in_a_row: u32,
    rollback: Rollback,
    /// The best attempt whose probation failed.
    shelf: Option<GoodCopy>,
}

impl<C: Course> Trainer<C> {
    /// A run at its beginning. The kernel `auto` is resolved, see [`config`](Self::config).
    ///
    /// # Errors
    /// [`ExitKind::Usage`] when the configuration names a kernel that this machine does not have or a task of no use;
    /// [`ExitKind::MissingTool`] when it names a GPU that cannot be used.
    pub fn new(config: Config, course: C) -> Result<Self> {
        let machine = config.run.device.machine()?;
        Self::with_machine(config, course, machine)
    }

    /// As [`new`](Self::new), with this machine instead of the configuration's device.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_machine(mut config: Config, course: C, machine: Option<Box<dyn Machine>>) -> Result<Self> {
        let path = resolve_kernel(&mut config)?;
        let model = initial_model(&config, &course, 0)?;
        check_course(&course)?;
        Player::new(&model, path).map_err(|error| ExitKind::Usage(format!("[network]: {error}")))?;
        if machine.is_some() {
            check_twin(&course, &model)?;
        }
        Ok(Self {
            config,
            course,
            path,
            machine,
            model,
            adam: Adam::default(),
            curriculum: Curriculum::default(),
            iteration: 0,
            skips_in_a_row: 0,
            rollback: Rollback::default(),
            shelf: None,
        })
    }

    /// The configuration, with the kernel path that is used.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The network as it is now.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Iterations made, restarts included.
    pub fn iteration(&self) -> u32 {
        self.iteration
    }

    /// Stage, attempt and score.
    pub fn curriculum(&self) -> &Curriculum {
        &self.curriculum
    }

    /// How often network and optimiser went back to an earlier copy.
    pub fn rolled_back(&self) -> u32 {
        self.rollback.count
    }

    /// Whether all iterations of the full task are made.
    pub fn finished(&self) -> bool {
        self.curriculum.full_iterations >= self.config.training.iterations
    }

    /// One batch of lifetimes and one update.
    ///
    /// # Errors
    /// When the gradient is not finite or its norm stays too large with no restart left; the network is then as it was before.
    pub fn iterate(&mut self) -> Result<Metrics> {
        let training = &self.config.training;
        let stages = self.course.stages();
        let rate = self.curriculum.learning_rate(stages, training, &self.config.curriculum) * self.rollback.rate_factor();
        let count = self.curriculum.batch(stages, training, &self.config.curriculum) as u32;
        let first = self.iteration.wrapping_mul(training.batch.max(self.config.curriculum.batch) as u32);
        let turn = Turn {
            config: &self.config,
            course: &self.course,
            model: &self.model,
            stage: self.curriculum.stage,
            first,
            count,
            training: TrainingOptions {
                entropy_weight: self.curriculum.entropy_weight(training),
                ..training.clone()
            },
        };
        let Lesson {
            score,
            reward,
            loss,
            gradients,
        } = match &mut self.machine {
            None => turn.on_processor(self.path)?,
            Some(machine) => turn.on_machine(machine.as_mut())?,
        };
        let norm = optim::norm(&gradients);
        ensure!(
            norm.is_finite(),
            "the gradient of iteration {} is not finite: training has diverged; lower training.learning_rate",
            self.iteration
        );
        let skipped = training.norm_skip > 0.0 && norm > training.norm_skip;
        if skipped {
            if let Some(good) = self.rollback.skip(training) {
                self.model.parameters = good.parameters.clone();
                self.adam = good.adam.clone();
            }
        } else {
            self.rollback.keep(&self.model.parameters, &self.adam, training);
            self.update(&gradients, norm, rate);
        }
        let mut metrics = Metrics {
            iteration: self.iteration,
            attempt: self.curriculum.attempt,
            stage: self.curriculum.stage,
            full: self.curriculum.stage + 1 == stages,
            reached: score.0,
            reachable: score.1,
            score: None,
            reward,
            loss,
            norm,
            learning_rate: rate,
            skipped,
            rolled_back: self.rollback.count,
        };
        self.iteration += 1;
        let next = self.curriculum.record(score, stages, &self.config.curriculum);
        metrics.score = self.curriculum.score();
        self.skips_in_a_row = if skipped { self.skips_in_a_row + 1 } else { 0 };
        match next {
            Next::Shelve => {
                self.shelf = Some(GoodCopy {
                    parameters: self.model.parameters.clone(),
                    adam: self.adam.clone(),
                });
                self.begin_again()?;
            }
            Next::Restart => self.begin_again()?,
            Next::Recall => self.recall(),
            Next::Continue | Next::Advance => {}
        }
        if self.skips_in_a_row == SKIPS_IN_A_ROW {
            ensure!(
                self.curriculum.may_restart(&self.config.curriculum),
                "{SKIPS_IN_A_ROW} gradients in a row have a norm above training.norm_skip: training has diverged; \
                 lower training.learning_rate"
            );
            self.curriculum.restart();
            self.begin_again()?;
        }
        Ok(metrics)
    }

    fn update(&mut self, gradients: &Gradients, norm: f64, rate: f64) {
        let training = &self.config.training;
        let scale = optim::clip_factor(norm, training.norm_clip);
        self.adam.update(&mut self.model.parameters, gradients, scale, rate, training);
        if training.clamp_eta
            && self.model.rule == Rule::Retroactive
            && let Some(eta) = self.model.parameters.get_mut("recurrent.eta")
        {
            eta.values.iter_mut().for_each(|eta| *eta = eta.clamp(0.0, 1.0));
        }
    }

    fn begin_again(&mut self) -> Result<()> {
        self.model = initial_model(&self.config, &self.course, self.curriculum.attempt)?;
        self.adam = Adam::default();
        self.skips_in_a_row = 0;
        self.rollback.begin_again();
        Ok(())
    }

    fn recall(&mut self) {
        if let Some(shelf) = self.shelf.take() {
            (self.model.parameters, self.adam) = (shelf.parameters, shelf.adam);
            self.skips_in_a_row = 0;
            self.rollback.begin_again();
        }
    }

    /// Everything that resuming needs. Random numbers are a function of seed and iteration.
    ///
    /// # Errors
    /// When the curriculum cannot be written as JSON.
    pub fn state(&self) -> Result<Archive> {
        let words = [
            ("format", STATE_FORMAT.to_owned()),
            ("config", self.config.to_toml()),
            ("iteration", self.iteration.to_string()),
            ("skips_in_a_row", self.skips_in_a_row.to_string()),
            ("rollback", serde_json::to_string(&self.rollback)?),
            ("curriculum", serde_json::to_string(&self.curriculum)?),
        ];
        let mut archive = Archive {
            metadata: words.map(|(key, word)| (key.to_owned(), word)).into(),
            ..Archive::default()
        };
        put_network(&mut archive, "", &self.model.parameters, &self.adam);
        for (prefix, copy) in [(GOOD, &self.rollback.good), (SHELF, &self.shelf)] {
            if let Some(copy) = copy {
                put_network(&mut archive, prefix, &copy.parameters, &copy.adam);
            }
        }
        Ok(archive)
    }

    /// The run as [`state`](Self::state) left it; `file` is for messages.
    ///
    /// # Errors
    /// [`FileError`] for a state that is not of this format or of another configuration; [`ExitKind::Usage`] for a kernel
    /// that this machine does not have.
    pub fn restore(config: Config, course: C, state: &Archive, file: &FilePath) -> Result<Self> {
        let mut trainer = Self::new(config, course)?;
        let state = State { archive: state, file };
        state.expect("format", STATE_FORMAT, "it was not written by this version")?;
        state.expect(
            "config",
            &trainer.config.to_toml(),
            "it belongs to another run: restore config.toml",
        )?;
        trainer.iteration = state.parse("iteration")?;
        trainer.skips_in_a_row = state.parse("skips_in_a_row")?;
        trainer.curriculum = state.json("curriculum")?;
        trainer.rollback = state.json("rollback")?;
        let mut known = state.network("", &mut trainer.model.parameters, &mut trainer.adam)?;
        for (prefix, slot) in [(GOOD, &mut trainer.rollback.good), (SHELF, &mut trainer.shelf)] {
            if state.archive.metadata.contains_key(&format!("{prefix}{UPDATES}")) {
                let copy = slot.insert(GoodCopy {
                    parameters: trainer.model.parameters.clone(),
                    adam: Adam::default(),
                });
                known += state.network(prefix, &mut copy.parameters, &mut copy.adam)?;
            }
        }
        let found = state.archive.tensors.len();
        if found != known {
            return Err(state.error("tensors", format!("{known} tensors"), format!("{found}")).into());
        }
        Ok(trainer)
    }
}

/// What the good copy's names in a state begin with.
const GOOD: &str = "good.";
/// The same of the attempt on the shelf.
const SHELF: &str = "shelf.";
/// The optimiser's count of updates.
const UPDATES: &str = "adam_updates";

/// Adds a network and its optimiser to a state, under names that begin with `prefix`.
fn put_network(archive: &mut Archive, prefix: &str, parameters: &BTreeMap<String, Parameter>, adam: &Adam) {
    let updates = (format!("{prefix}{UPDATES}"), adam.updates.to_string());
    archive.metadata.extend([updates]);
    for (name, parameter) in parameters {
        let mut put = |kind: &str, values: &[f32]| {
            let tensor = Tensor::from_f32(&parameter.shape, values);
            archive.tensors.insert(format!("{prefix}{kind}.{name}"), tensor);
        };
        put("model", &parameter.values);
        if let Some(moments) = adam.moments.get(name) {
            put("adam.first", &moments.first);
            put("adam.second", &moments.second);
        }
    }
}

/// A state file being read.
struct State<'a> {
    archive: &'a Archive,
    file: &'a FilePath,
}

impl State<'_> {
    fn error(&self, field: &str, expected: impl ToString, found: impl ToString) -> FileError {
        let hint = "the checkpoint is damaged: start the run anew in another folder";
        FileError::new(self.file, field, expected.to_string(), found.to_string(), hint)
    }

    fn word(&self, key: &str) -> Result<&str, FileError> {
        let word = self.archive.metadata.get(key).map(String::as_str);
        word.ok_or_else(|| self.error(&format!("metadata {key}"), "a word", "none"))
    }

    fn expect(&self, key: &str, expected: &str, hint: &str) -> Result<(), FileError> {
        let found = self.word(key)?;
        if found == expected {
            return Ok(());
        }
        let difference = |a: &str, b: &str| {
            let lines = a.lines().zip(b.lines()).find(|(a, b)| a != b);
            lines.map_or(a.lines().last().unwrap_or_default().to_owned(), |(a, _)| a.to_owned())
        };
        let field = format!("metadata {key}");
        Err(FileError::new(
            self.file,
            field,
            difference(expected, found),
            difference(found, expected),
            hint,
        ))
    }

    fn json<T: DeserializeOwned>(&self, key: &str) -> Result<T, FileError> {
        let text = self.word(key)?;
        serde_json::from_str(text).map_err(|error| self.error(&format!("metadata {key}"), format_args!("the {key}'s state"), error))
    }

    fn parse(&self, key: &str) -> Result<u32, FileError> {
        let word = self.word(key)?;
        word.parse()
            .map_err(|_| self.error(&format!("metadata {key}"), "a whole number", word))
    }

    /// What [`put_network`] put there, into parameters of the shapes they must have; returns the number of tensors.
    fn network(&self, prefix: &str, parameters: &mut BTreeMap<String, Parameter>, adam: &mut Adam) -> Result<usize, FileError> {
        adam.updates = self.parse(&format!("{prefix}{UPDATES}"))?;
        let mut known = 0;
        for (name, parameter) in parameters {
            let tensor = |kind: &str| self.tensor(format!("{prefix}{kind}.{name}"), &parameter.shape);
            let values = tensor("model")?;
            known += 1;
            if self.archive.tensors.contains_key(&format!("{prefix}adam.first.{name}")) {
                let [first, second] = [tensor("adam.first")?, tensor("adam.second")?];
                adam.moments.insert(name.clone(), Moments { first, second });
                known += 2;
            }
            parameter.values = values;
        }
        Ok(known)
    }

    fn tensor(&self, name: String, shape: &[usize]) -> Result<Vec<f32>, FileError> {
        let expected = format!("an F32 tensor of shape {shape:?}");
        let tensor = self.archive.tensors.get(&name);
        let tensor = tensor.ok_or_else(|| self.error(&name, &expected, "none"))?;
        let values = tensor.to_f32().filter(|_| tensor.shape == shape);
        let found = || format!("{:?} of shape {:?}", tensor.dtype, tensor.shape);
        let values = values.ok_or_else(|| self.error(&name, &expected, found()))?;
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(self.error(&name, "finite values", value)),
            None => Ok(values),
        }
    }
}

/// A batch of lifetimes to learn from.
struct Turn<'a, C> {
    config: &'a Config,
    course: &'a C,
    model: &'a Model,
    stage: usize,
    /// The number of the first lifetime.
    first: u32,
    count: u32,
    /// With the weights that the loss has now.
    training: TrainingOptions,
}

/// What they teach.
struct Lesson {
    /// Reached and reachable.
    score: (u32, u32),
    /// Mean reward of an episode.
    reward: f64,
    loss: Loss,
    gradients: Gradients,
}

impl<C: Course> Turn<'_, C> {
    fn on_processor(&self, path: Path) -> Result<Lesson> {
        let player = Player::new(self.model, path)?;
        let rng = Rng::new(self.config.run.seed);
        // Within the pool as a whole: from outside, every parallel loop is handed over and waited for, which costs a small
        // network more than its arithmetic.
        Ok(rayon::scope(|_| {
            let episodes = player.play_batch(self.course, self.stage, rng, self.first, self.count);
            let (score, reward) = (self.score(&episodes), mean_reward(&episodes));
            let (loss, gradients) = a2c::gradients(&player, &episodes, &self.training);
            Lesson {
                score,
                reward,
                loss,
                gradients,
            }
        }))
    }

    /// The same lifetimes by the CUDA kernels.
    fn on_machine(&self, machine: &mut dyn Machine) -> Result<Lesson> {
        let task = self.course.options(self.stage).context(NO_TWIN)?;
        let world = World::new(task, self.config.run.seed, self.first);
        let lives = cuda::play(machine, self.model, world, self.count)?;
        let episodes = lives.episodes(self.count as usize);
        let (score, reward) = (self.score(&episodes), mean_reward(&episodes));
        let (loss, gradients) = cuda::gradients(machine, self.model, &episodes, &self.training)?;
        Ok(Lesson {
            score,
            reward,
            loss,
            gradients,
        })
    }

    fn score(&self, episodes: &[Episode]) -> (u32, u32) {
        let scores = episodes.iter().map(|episode| self.course.score(self.stage, episode));
        scores.fold((0, 0), |(reached, reachable), (r, of)| (reached + r, reachable + of))
    }
}

const NO_TWIN: &str = "this task has no twin on a GPU, only cue and maze have: use --device cpu";

/// Whether a GPU knows the task and the network.
fn check_twin(course: &impl Course, model: &Model) -> Result<()> {
    ensure!(course.options(0).is_some(), ExitKind::Usage(NO_TWIN.into()));
    cuda::Shape::new(model, 1, 1).map(|_| ())
}

fn resolve_kernel(config: &mut Config) -> Result<Path> {
    let path = config
        .run
        .kernel
        .resolve()
        .map_err(|error| ExitKind::Usage(format!("run.kernel: {error}")))?;
    config.run.kernel = path.kernel();
    Ok(path)
}

/// Every stage has the same inputs, actions and at least one step.
fn check_course(course: &impl Course) -> Result<()> {
    let shape = |stage| {
        let task = course.task(stage);
        (task.inputs(), task.actions())
    };
    for stage in 0..course.stages() {
        let same = shape(stage) == shape(0) && course.task(stage).steps() > 0;
        ensure!(
            same,
            ExitKind::Usage(format!("stage {stage}: other inputs or actions than stage 0, or no steps"))
        );
    }
    Ok(())
}

fn mean_reward(episodes: &[Episode]) -> f64 {
    let rewards = episodes.iter().flat_map(|episode| &episode.rewards);
    rewards.map(|&reward| f64::from(reward)).sum::<f64>() / episodes.len() as f64
}

/// The untrained network of an attempt.
fn initial_model(config: &Config, course: &impl Course, attempt: u32) -> Result<Model> {
    let task = course.task(course.stages() - 1);
    let mut draws = Draws::new(Rng::new(config.run.seed).lifetime(Stream::Init, attempt));
    let mut archive = Archive::default();
    for (name, shape, initial) in layout(config, task.inputs(), task.actions()) {
        let count = shape.iter().product();
        archive
            .tensors
            .insert(name.to_owned(), Tensor::from_f32(&shape, &draws.fill(count, initial)));
    }
    archive.metadata = metadata(config, course.name());
    Model::from_archive(&archive, FilePath::new("[network]")).context("the configured network cannot be made")
}

fn metadata(config: &Config, task: &str) -> BTreeMap<String, String> {
    let squash = SQUASHES.iter().find(|(_, squash)| *squash == config.network.squash);
    let words = [
        ("format", FORMAT.to_owned()),
        ("cell", "rnn".to_owned()),
        ("rule", rule_word(config.network.rule).to_owned()),
        ("clip", clip_word(config.network.clip.kind(), config.network.clip.limit())),
        ("modulator", squash.map_or("tanh", |(word, _)| word).to_owned()),
        ("task", task.to_owned()),
        ("seed", config.run.seed.to_string()),
        ("config", config.to_toml()),
    ];
    words.map(|(key, word)| (key.to_owned(), word)).into()
}

/// How a tensor's elements begin.
#[derive(Clone, Copy)]
enum Initial {
    /// All the same.
    Constant(f32),
    /// 1 for so many, then 0.
    First(usize),
    /// Uniform in an interval.
    Uniform(f32, f32),
    /// A normal number of this deviation plus a uniform one.
    Mixed(f32, [f32; 2]),
}

/// Name, shape and initial elements of every tensor of the configured network.
fn layout(config: &Config, inputs: usize, actions: usize) -> Vec<(&'static str, Vec<usize>, Initial)> {
    use backpropamine::rule::Granularity;
    let (network, init) = (&config.network, &config.init);
    let (hidden, rule) = (network.hidden, network.rule);
    let scaled = |scale: f32, fan_in: usize| {
        let bound = scale / (fan_in as f32).sqrt();
        Initial::Uniform(-bound, bound)
    };
    let spread = |fan_in| scaled(1.0, fan_in);
    let shape = |granularity| match granularity {
        Granularity::PerConnection => vec![hidden, hidden],
        Granularity::PerNeuron => vec![hidden],
        _ => vec![1],
    };
    let deviation = init.weight_normal / (hidden as f32).sqrt();
    let mut tensors = vec![
        ("input.weight", vec![hidden, inputs], scaled(init.input_scale, inputs)),
        ("input.bias", vec![hidden], spread(inputs)),
        (
            "recurrent.weight",
            vec![hidden, hidden],
            Initial::Mixed(deviation, init.weight_uniform),
        ),
        ("policy.weight", vec![actions, hidden], spread(hidden)),
        ("policy.bias", vec![actions], spread(hidden)),
        ("value.weight", vec![1, hidden], spread(hidden)),
        ("value.bias", vec![1], spread(hidden)),
    ];
    if rule.is_plastic() {
        let [from, to] = init.alpha;
        tensors.push(("recurrent.alpha", shape(network.alpha), Initial::Uniform(from, to)));
    }
    if rule.has_eta() {
        let eta = if rule == Rule::Hebbian {
            init.eta_hebbian
        } else {
            init.eta_eligibility
        };
        tensors.push(("recurrent.eta", shape(network.eta), Initial::Constant(eta)));
    }
    if rule.is_modulated() {
        let modulators = network.modulators;
        tensors.push(("modulator.weight", vec![modulators, hidden], scaled(init.modulator_scale, hidden)));
        tensors.push(("modulator.bias", vec![modulators], spread(hidden)));
        if network.fan_out {
            let share = Initial::Constant(1.0 / modulators as f32);
            tensors.push(("modulator.fan_out.weight", vec![hidden, modulators], share));
            tensors.push(("modulator.fan_out.bias", vec![hidden], Initial::Constant(0.0)));
        }
        if let Some(count) = network.modulated_neurons() {
            tensors.push(("modulator.mask", vec![hidden], Initial::First(count)));
            tensors.push(("recurrent.hebbian_eta", shape(network.eta), Initial::Constant(init.eta_hebbian)));
        }
    }
    tensors
}

/// Random numbers for the tensors, one stream step per tensor.
struct Draws {
    stream: Lifetime,
    tensor: u32,
}

impl Draws {
    fn new(stream: Lifetime) -> Self {
        Self { stream, tensor: 0 }
    }

    fn fill(&mut self, count: usize, initial: Initial) -> Vec<f32> {
        let tensor = self.tensor;
        self.tensor += 1;
        // Three draws per element: two for a normal number, one for a uniform one.
        let unit = |element: usize, draw: u32| self.stream.unit(tensor, 3 * element as u32 + draw);
        let uniform = |element, from, to| from + (to - from) * unit(element, 2);
        let number = |element| match initial {
            Initial::Constant(value) => value,
            Initial::First(count) => f32::from(u8::from(element < count)),
            Initial::Uniform(from, to) => uniform(element, from, to),
            Initial::Mixed(deviation, [from, to]) => deviation * normal(unit(element, 0), unit(element, 1)) + uniform(element, from, to),
        };
        (0..count).map(number).collect()
    }
}

/// A standard normal number from two uniform ones in [0, 1) (Box and Muller, 1958).
fn normal(u: f32, v: f32) -> f32 {
    let radius = libm::sqrt(-2.0 * libm::log(1.0 - f64::from(u)));
    (radius * libm::cos(std::f64::consts::TAU * f64::from(v))) as f32
}
