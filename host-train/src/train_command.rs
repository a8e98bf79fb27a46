//! `train`: meta-trains one or several seeds into run folders.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use backpropamine::rule::Rule;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::{Console, ExitKind, Report, rule_parser};
use crate::config::Config;
use crate::cuda::Device;
use crate::interrupt;
use crate::model::rule_word;
use crate::rollout::Course;
use crate::run::{self, Progress};
use crate::task::{CueCourse, MazeCourse};
use crate::train::Metrics;

/// Meta-train a network: find out how it should learn
#[derive(Debug, Args)]
#[command(after_help = "\
Every key of a preset (host-train/presets/defaults.toml has them all) can be set with --set, for example
--set network.hidden=48. A preset is a built-in name (cue-small, cue-long, cue-large, cue-code, cue-paper,
cue-fixed, maze-small, maze-large, maze-paper, maze-code, maze-fanout) or a TOML file.
The folder gets config.toml, metrics.jsonl, model.safetensors, state.safetensors, curve.svg and env.json.

JSON: runs, one object per seed: seed, folder, rule, iterations, restarts, rolled_back (how often the network went back
to an earlier copy), score (in training: late accuracy; in the maze, hits as a share of the searcher's), seconds.

Example: backpropamine train cue --rule simple --seed 1,2,5-9 --out runs/simple")]
pub struct TrainCommand {
    /// The task
    pub(crate) task: TaskName,
    /// A built-in preset or a TOML file [default: cue-small or maze-small]
    #[arg(long, value_name = "PRESET")]
    pub(crate) preset: Option<String>,
    /// The learning rule: none, hebbian, simple or retroactive
    #[arg(long, value_parser = rule_parser())]
    pub(crate) rule: Option<Rule>,
    /// Seeds, such as 1,2,5-9; several train side by side, each in OUT/seed-N
    #[arg(long, value_name = "SEEDS")]
    pub(crate) seed: Option<Seeds>,
    /// Where to compute: cpu or cuda[:n] [default: the preset's, cpu]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<Device>,
    /// The run folder
    #[arg(long, value_name = "DIR", default_value = "run")]
    pub(crate) out: PathBuf,
    /// Go on from the last checkpoint in the run folder
    #[arg(long)]
    pub(crate) resume: bool,
    /// Change a key of the preset, as often as wanted
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
}

/// Most seeds that share a GPU at the same time.
const STREAMS: usize = 32;

/// A task that `train` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TaskName {
    /// Cue-reward association (paper 4.1)
    Cue,
    /// The maze (paper 4.2)
    Maze,
}

impl TaskName {
    fn default_preset(self) -> &'static str {
        match self {
            Self::Cue => "cue-small",
            Self::Maze => "maze-small",
        }
    }
}

/// A list of seeds: numbers and ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seeds(Vec<u64>);

impl Seeds {
    /// The seeds 1 to `last`.
    pub(crate) fn up_to(last: u64) -> Self {
        Self((1..=last).collect())
    }
}

impl std::str::FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |word: &str| word.trim().parse::<u64>().map_err(|_| format!("`{word}` is no seed"));
        let mut seeds = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if last < first || last - first >= 10_000 {
                return Err(format!("`{part}` is no range of at most 10000 seeds"));
            }
            seeds.extend(first..=last);
        }
        let mut sorted = seeds.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() < seeds.len() {
            return Err("a seed is there twice".into());
        }
        Ok(Self(seeds))
    }
}

impl TrainCommand {
    /// Trains every seed.
    ///
    /// # Errors
    /// See [`run::train_in`]. A seed that fails does not stop the others; the first failure is returned when all have ended.
    pub fn run(&self, console: &Console) -> Result<Report> {
        if self.out.is_file() {
            return Err(ExitKind::Usage(format!("--out {}: a file is in the way", self.out.display())).into());
        }
        let runs = match &self.seed {
            Some(Seeds(seeds)) if seeds.len() > 1 => self.side_by_side(seeds, console)?,
            Some(Seeds(seeds)) => vec![self.train_one(&self.out, seeds.first().copied(), console)?],
            None => vec![self.train_one(&self.out, None, console)?],
        };
        Report::done(json!({ "runs": runs }))
    }

    /// Trains several seeds at once, as many as there are threads, which they share evenly; on a GPU up to [`STREAMS`], whose
    /// batches fill it together. A run's bits do not depend on its threads, and one on a thread of its own waits for no other.
    fn side_by_side(&self, seeds: &[u64], console: &Console) -> Result<Vec<Value>> {
        let threads = rayon::current_num_threads();
        let on_gpu = self.device.is_some_and(|device| !device.is_cpu());
        let workers = seeds.len().min(if on_gpu { STREAMS } else { threads });
        let (next, ended) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
        let work = &|share: usize| -> Result<()> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(share).build()?;
            pool.install(|| {
                while !interrupt::requested()
                    && let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let outcome = self.train_one(&self.out.join(format!("seed-{seed}")), Some(seed), console);
                    let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                    ended.insert(seed, outcome);
                }
            });
            Ok(())
        };
        std::thread::scope(|scope| {
            let share = |worker: usize| (threads / workers + usize::from(worker < threads % workers)).max(1);
            let handles: Vec<_> = (0..workers).map(|worker| scope.spawn(move || work(share(worker)))).collect();
            handles.into_iter().try_for_each(|handle| match handle.join() {
                Ok(outcome) => outcome,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })?;
        let mut ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
        let outcomes: Vec<_> = seeds
            .iter()
            .filter_map(|seed| ended.remove(seed).map(|outcome| (*seed, outcome)))
            .collect();
        summarise(&outcomes, console);
        interrupt::check()?;
        outcomes
            .into_iter()
            .map(|(seed, outcome)| outcome.with_context(|| format!("seed {seed}")))
            .collect()
    }

    fn train_one(&self, folder: &Path, seed: Option<u64>, console: &Console) -> Result<Value> {
        let config = self.config(folder, seed)?;
        // Before anything is made in the folder.
        config.run.device.machine()?;
        match self.task {
            TaskName::Cue => self.train_course(folder, CueCourse::new(&config)?, config, console),
            TaskName::Maze => self.train_course(folder, MazeCourse::new(&config)?, config, console),
        }
    }

    fn train_course<C: Course>(&self, folder: &Path, course: C, config: Config, console: &Console) -> Result<Value> {
        warn(&config, console);
        let started = Instant::now();
        let several = self.seed.as_ref().is_some_and(|Seeds(seeds)| seeds.len() > 1);
        let mut display = Display::new(&config, &course, console);
        if several {
            display = display.beside_others(config.run.seed);
        }
        let trainer = run::train_in(folder, config, course, self.resume, |progress| display.show(&progress))?;
        display.finish();
        let curriculum = trainer.curriculum();
        let seconds = started.elapsed().as_secs_f64();
        let score = curriculum.score();
        console.say(format_args!(
            "{}: {} iterations, {} restarts, {} {} in training, {seconds:.1} s",
            folder.display(),
            trainer.iteration(),
            curriculum.attempt,
            percent(score),
            display.score_name,
        ));
        Ok(json!({
            "seed": trainer.config().run.seed,
            "folder": folder,
            "rule": rule_word(trainer.config().network.rule),
            "iterations": trainer.iteration(),
            "restarts": curriculum.attempt,
            "rolled_back": trainer.rolled_back(),
            "score": score,
            "seconds": seconds,
        }))
    }

    /// What the command line asks for; resuming without settings takes what the folder has.
    fn config(&self, folder: &Path, seed: Option<u64>) -> Result<Config> {
        let mut settings = self.settings.clone();
        settings.extend(self.rule.map(|rule| format!("network.rule={}", rule_word(rule))));
        settings.extend(self.device.map(|device| format!("run.device={device}")));
        settings.extend(seed.map(|seed| format!("run.seed={seed}")));
        match run::folder_config(folder)? {
            Some(saved) if self.resume && self.preset.is_none() => saved.with_settings(&settings),
            _ => Config::load(self.preset.as_deref().unwrap_or(self.task.default_preset()), &settings),
        }
    }
}

/// One line per seed, and how they did together.
fn summarise(outcomes: &[(u64, Result<Value>)], console: &Console) {
    let mut scores = Vec::new();
    for (seed, outcome) in outcomes {
        match outcome {
            Ok(run) => {
                let score = run["score"].as_f64();
                scores.extend(score);
                console.say(format_args!(
                    "seed {seed}: {}, {} iterations, {} restarts",
                    percent(score),
                    run["iterations"],
                    run["restarts"]
                ));
            }
            Err(error) => console.say(format_args!("seed {seed}: {error:#}")),
        }
    }
    scores.sort_by(f64::total_cmp);
    if let (Some(&least), Some(&most)) = (scores.first(), scores.last()) {
        let middle = (scores[(scores.len() - 1) / 2] + scores[scores.len() / 2]) / 2.0;
        console.say(format_args!(
            "{} of {} seeds trained; score: median {}, from {} to {}",
            scores.len(),
            outcomes.len(),
            percent(Some(middle)),
            percent(Some(least)),
            percent(Some(most))
        ));
    }
}

fn warn(config: &Config, console: &Console) {
    if config.network.rule.has_eligibility() && !config.training.clamp_eta {
        console.note("warning: training.clamp_eta is off: the rate of the eligibility trace may leave [0, 1]");
    }
    if config.run.checkpoint_every > config.training.iterations {
        console.note("warning: run.checkpoint_every is more than training.iterations: a killed run starts anew");
    }
}

fn percent(score: Option<f64>) -> String {
    score.map_or("unknown".into(), |score| format!("{:.1}%", 100.0 * score))
}

/// A progress bar on a terminal, a line now and then elsewhere.
pub(crate) struct Display {
    bar: Option<ProgressBar>,
    console: Console,
    score_name: String,
    every: u32,
    full: bool,
    /// Restarts and roll-backs at the last iteration seen.
    seen: Option<(u32, u32)>,
    /// What its lines begin with.
    prefix: String,
}

impl Display {
    pub(crate) fn new(config: &Config, course: &impl Course, console: &Console) -> Self {
        let bar = (std::io::stderr().is_terminal() && console.is_verbose()).then(|| {
            let bar = ProgressBar::new(config.training.iterations.into());
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} ETA {eta} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self {
            bar,
            console: *console,
            score_name: course.score_name().to_owned(),
            every: config.run.checkpoint_every,
            full: false,
            seen: None,
            prefix: String::new(),
        }
    }

    /// Lines that name their seed rather than a bar, where several runs share the terminal.
    fn beside_others(self, seed: u64) -> Self {
        self.finish();
        Self {
            bar: None,
            prefix: format!("seed {seed}: "),
            ..self
        }
    }

    pub(crate) fn show(&mut self, progress: &Progress) {
        let metrics = progress.metrics;
        let (made, all) = progress.full_iterations;
        self.tell_setbacks(metrics);
        let stage = if metrics.full {
            "full task".into()
        } else {
            format!("stage {}", metrics.stage + 1)
        };
        let score = format!("{} {}", percent(metrics.score), self.score_name);
        match &self.bar {
            Some(bar) => {
                if metrics.full && !self.full {
                    self.full = true;
                    bar.reset_eta();
                }
                bar.set_position(made.into());
                bar.set_message(format!("{stage}, attempt {}, {score}", metrics.attempt + 1));
            }
            None if (metrics.iteration + 1).is_multiple_of(self.every) && self.console.is_verbose() => self.console.note(format_args!(
                "{}iteration {} ({made}/{all} of the full task), attempt {}, {stage}: {score}, \
                     reward {:.2}, gradient norm {:.2}",
                self.prefix,
                metrics.iteration + 1,
                metrics.attempt + 1,
                metrics.reward,
                metrics.norm,
            )),
            None => {}
        }
    }

    /// A line for every restart and every roll-back.
    fn tell_setbacks(&mut self, metrics: &Metrics) {
        let now = (metrics.attempt, metrics.rolled_back);
        let Some((attempt, rolled_back)) = self.seen.replace(now).filter(|seen| *seen != now) else {
            return;
        };
        let iteration = metrics.iteration + 1;
        if metrics.attempt > attempt {
            self.line(format_args!(
                "iteration {iteration}: attempt {}, with new weights",
                metrics.attempt + 1
            ));
        }
        if metrics.rolled_back > rolled_back {
            self.line(format_args!(
                "iteration {iteration}: gradients too large (norm {:.0}): back to the last good copy, at half the rate; roll-back {}",
                metrics.norm, metrics.rolled_back
            ));
        }
    }

    /// A line above the bar, or among the others.
    fn line(&self, text: std::fmt::Arguments) {
        let note = || self.console.note(format_args!("{}{text}", self.prefix));
        match &self.bar {
            Some(bar) => bar.suspend(note),
            None if self.console.is_verbose() => note(),
            None => {}
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_numbers_and_ranges() {
        let seeds = |text: &str| text.parse::<Seeds>().map(|seeds| seeds.0);
        assert_eq!(seeds("1,2,5-7").unwrap(), [1, 2, 5, 6, 7]);
        for wrong in ["", "a", "3-1", "1,1", "2,1-3", "0-1000000000000"] {
            assert!(seeds(wrong).is_err(), "{wrong}");
        }
    }
}
