//! `demo`: the whole story. A network is meta-trained here, then learns on an emulated Cortex-M4, trial by trial, beside
//! a twin that was trained in the same way but has no plasticity.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use backpropamine::rule::Rule;
use backpropamine::task::Task;
use backpropamine::task::cue::{Config as CueConfig, Cue};
use backpropamine::{lifetime::EVALUATION_SEED, rng::Rng, rng::Stream};
use clap::Args;
use serde_json::{Value, json};

use super::board::Board;
use super::emulate::{Run, bar};
use super::firmware::Firmware;
use super::record::{self, Record, Step};
use super::setup::SetupArgs;
use super::world;
use crate::cli::{Console, NumericArg, Report};
use crate::config::Config;
use crate::eval::Evaluation;
use crate::model::rule_word;
use crate::plot::{self, Band};
use crate::runnable::{Choice, Runnable};
use crate::task::{CueCourse, TaskConfig};
use crate::train_command::Display;
use crate::{files, run};

/// Lifetimes on the emulated board.
const LIFETIMES: u32 = 200;

/// The network counts as one that learns if its late accuracy is above this with 97.5% confidence. Chance is 0.5.
const LEARNED: f64 = 0.8;

/// The whole story: meta-train, export, run on an emulated Cortex-M4, watch it learn
#[derive(Debug, Args)]
#[command(
    after_help = "The folder --out gets both models and images, every record of both runs (JSON Lines) and the curve (SVG).\n\n\
                        JSON: learned, equal_to_host, board, numeric, lifetimes, seconds; learner and twin, each: rule, late_accuracy, \
                        late_interval, trials (trial, accuracy, interval, count), digest, training_seconds, iterations, restarts.\n\n\
                        Example: cargo demo --yes"
)]
pub struct DemoCommand {
    #[command(flatten)]
    setup: SetupArgs,
    /// Seed of the meta-training
    #[arg(long, value_name = "S", default_value = "1")]
    seed: u64,
    /// The arithmetic on the board
    #[arg(long, value_enum, default_value = "q15")]
    numeric: NumericArg,
    /// Folder for the results
    #[arg(long, value_name = "DIR", default_value = "runs/demo")]
    out: PathBuf,
    /// Folder of the firmware workspace [default: the one of the checkout around the current folder]
    #[arg(long, value_name = "DIR")]
    firmware: Option<PathBuf>,
}

impl DemoCommand {
    /// Trains, exports, emulates, compares and draws.
    ///
    /// # Errors
    /// When a tool is missing or a part of the story fails. A network that did not learn is no error but exit code 1.
    pub fn run(&self, console: &Console) -> Result<Report> {
        let start = Instant::now();
        let board = Board::DEFAULT;
        let toolchain = self.setup.prepare(console, &[board.target])?;
        let firmware = Firmware::locate(self.firmware.as_deref(), toolchain)?;
        std::fs::create_dir_all(&self.out).with_context(|| format!("making the folder {}", self.out.display()))?;

        let learner = Contender::meet(self, Rule::Modulated, &firmware, console)?;
        let twin = Contender::meet(self, Rule::NonPlastic, &firmware, console)?;

        written_out(&learner, console)?;
        console.say(side_by_side(&learner.evaluation, &twin.evaluation));
        let curve = self.out.join("curve.svg");
        draw(&learner, &twin, &curve)?;

        let equal = learner.differs.is_none() && twin.differs.is_none();
        for difference in [&learner.differs, &twin.differs].into_iter().flatten() {
            console.say(format_args!("NOT EQUAL: {difference}"));
        }
        let learned = learner.has_learned_beyond(&twin);
        console.say(verdict(learned, equal, &learner, &self.out));
        let value = json!({
            "learned": learned,
            "equal_to_host": equal,
            "board": board.name,
            "numeric": self.numeric.to_string(),
            "lifetimes": LIFETIMES,
            "seconds": start.elapsed().as_secs_f64(),
            "learner": learner.summary()?,
            "twin": twin.summary()?,
        });
        Report::with_success(value, learned && equal)
    }

    fn file(&self, rule: Rule, extension: &str) -> PathBuf {
        self.out.join(rule_word(rule)).with_extension(extension)
    }
}

/// A network from its birth on the host to its lifetimes on the board.
struct Contender {
    rule: Rule,
    task: CueConfig,
    training: Value,
    records: Vec<Record>,
    evaluation: Evaluation,
    /// Where the host's own run differs from the board's.
    differs: Option<String>,
}

impl Contender {
    fn meet(demo: &DemoCommand, rule: Rule, firmware: &Firmware, console: &Console) -> Result<Self> {
        let board = Board::DEFAULT;
        let (network, task, training) = train(demo, rule, console)?;
        files::write_atomically(&demo.file(rule, "bpam"), &bytes(&network))?;
        console.note(format_args!(
            "Running {LIFETIMES} lifetimes on {} ({}), {}",
            board.name, board.cpu, demo.numeric
        ));
        let run = Run {
            network: &network,
            task: TaskConfig::Cue(task),
            lifetimes: LIFETIMES,
        };
        let records = run.on_board(firmware, board, |_| {})?;
        let lines = records.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        files::write_atomically(&demo.file(rule, "jsonl"), (lines.join("\n") + "\n").as_bytes())?;
        let differs = record::first_difference(&records, &record::on_host(&network, run.task, LIFETIMES)?);
        let evaluation = record::evaluation(&records)?;
        Ok(Self {
            rule,
            task,
            training,
            records,
            evaluation,
            differs,
        })
    }

    fn has_learned_beyond(&self, twin: &Self) -> bool {
        let [low, _] = self.evaluation.late_accuracy().interval;
        let [_, high] = twin.evaluation.late_accuracy().interval;
        low > LEARNED && low > high
    }

    fn summary(&self) -> Result<Value> {
        let late = self.evaluation.late_accuracy();
        Ok(json!({
            "rule": rule_word(self.rule),
            "late_accuracy": late.value,
            "late_interval": late.interval,
            "trials": self.evaluation.by_trial(),
            "digest": record::summary(&self.records)?.digest,
            "training": self.training,
        }))
    }
}

/// Meta-trains a network by the recipe `cue-small` and exports it.
fn train(demo: &DemoCommand, rule: Rule, console: &Console) -> Result<(Runnable, CueConfig, Value)> {
    // The portable kernel gives the same network, and so the same demo, on every machine.
    let mut settings = vec![
        format!("run.seed={}", demo.seed),
        format!("network.rule={}", rule_word(rule)),
        "run.kernel=portable".into(),
    ];
    if !rule.is_plastic() {
        // It never leaves the first stage; further attempts at it would only leave less for the full task.
        settings.push("curriculum.restarts=0".into());
    }
    let config = Config::load("cue-small", &settings)?;
    let task = config.cue()?;
    let plasticity = if rule.is_plastic() {
        "with neuromodulated plasticity"
    } else {
        "its twin without plasticity, by the same recipe"
    };
    console.note(format_args!("Meta-training {} neurons: {plasticity}", config.network.hidden));
    let start = Instant::now();
    let folder = tempfile::tempdir()?;
    let course = CueCourse::new(&config)?;
    let mut display = Display::new(&config, &course, console);
    let trainer = run::train_in(&folder.path().join("run"), config, course, false, |progress| {
        display.show(&progress)
    })?;
    display.finish();
    let model = demo.file(rule, "safetensors");
    trainer.model().save(&model)?;
    let choice = Choice {
        numeric: Some(demo.numeric),
        input_range: None,
    };
    let training = json!({
        "seconds": start.elapsed().as_secs_f64(),
        "iterations": trainer.iteration(),
        "restarts": trainer.curriculum().attempt,
    });
    Ok((choice.open(&model, None)?, task, training))
}

fn bytes(network: &Runnable) -> Vec<u8> {
    network.words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The first lifetime, one line a step. What was on show follows from the task, whose seed and actions we know.
fn written_out(learner: &Contender, console: &Console) -> Result<()> {
    let mut task = Cue::new(learner.task).map_err(|error| anyhow!("task.{error}"))?;
    task.reset(Rng::new(EVALUATION_SEED).lifetime(Stream::Task, 0));
    console.say("\nThe first lifetime on the board, step by step. * marks the cue that pays; nobody tells the network which it is.\n");
    console.say("step  shown   answer         reward      M");
    for step in record::steps(&learner.records) {
        console.say(step_line(&task, step));
        task.act(step.action as usize);
    }
    Ok(())
}

fn step_line(task: &Cue, step: &Step) -> String {
    let Step {
        step: number,
        action,
        reward,
        m,
        ..
    } = *step;
    let shown = world::shown(task);
    let answer = match (task.is_go(), action) {
        (false, _) => "",
        (true, 1) => "it was there",
        (true, _) => "it was not",
    };
    let paid = if task.is_go() { format!("{reward:+}") } else { String::new() };
    format!("{number:4}  {shown:6}  {answer:13}  {paid:>6}  {m:+.3}")
}

/// Accuracy by trial, the learner's bars beside the twin's numbers.
fn side_by_side(learner: &Evaluation, twin: &Evaluation) -> String {
    let mut text = format!("\nRight answers by trial, {LIFETIMES} lifetimes on the board (95% intervals)\n\n");
    text += &format!("trial  {:32}  learning      without plasticity\n", "");
    for (learner, twin) in learner.by_trial().iter().zip(twin.by_trial()) {
        let row = |accuracy: f64, [low, high]: [f64; 2]| {
            let [accuracy, low, high] = [accuracy, low, high].map(|share| (100.0 * share).round());
            format!("{accuracy:3}% {low:3}…{high}%")
        };
        let (learned, without) = (row(learner.accuracy, learner.interval), row(twin.accuracy, twin.interval));
        text += &format!("{:5}  {}  {learned:14}{without}\n", learner.trial, bar(learner.accuracy));
    }
    text
}

fn verdict(learned: bool, equal: bool, learner: &Contender, out: &Path) -> String {
    let late = learner.evaluation.late_accuracy();
    let [value, low, high] = [late.value, late.interval[0], late.interval[1]].map(|share| format!("{:.1}%", 100.0 * share));
    let conclusion = if learned { "It learns" } else { "It did NOT learn" };
    let replay = if equal {
        "replays both runs bit for bit"
    } else {
        "computes something else: NOT EQUAL"
    };
    format!(
        "{conclusion}: {value} right in the second half of a lifetime ({low} … {high}). The weights never changed.\n\
         The host {replay}. Files: {}",
        out.display()
    )
}

fn draw(learner: &Contender, twin: &Contender, out: &Path) -> Result<()> {
    let band = |contender: &Contender, name: &str| Band {
        name: name.to_owned(),
        points: contender
            .evaluation
            .by_trial()
            .iter()
            .map(|trial| (trial.trial as f64, [trial.interval[0], trial.accuracy, trial.interval[1]]))
            .collect(),
    };
    let bands = [band(learner, "with plasticity"), band(twin, "without")];
    plot::draw_bands(&bands, "trial", "right answers", out)
}
