//! `reproduce`: a figure of the paper by one command. It trains what the figure compares, measures every network on fresh
//! lifetimes, draws the picture, and tests the differences that the paper's claim is about.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use backpropamine::lifetime::EVALUATION_SEED;
use backpropamine::rule::Rule;
use backpropamine::task::maze::players::Player;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::activity::Part;
use crate::cli::{Console, ExitKind, Report};
use crate::cuda::Device;
use crate::device::recording::Recording;
use crate::eval::{self, Estimate};
use crate::interrupt;
use crate::model::{RULES, rule_word};
use crate::plot::{self, seed_folders, write_lines};
use crate::run::MODEL;
use crate::runnable::{Choice, Runnable};
use crate::task::{TaskConfig, mean_hits};
use crate::train_command::{Seeds, TaskName, TrainCommand};

/// Reproduce a figure of the paper: train, measure, draw, test
#[derive(Debug, Args)]
#[command(after_help = "\
fig1: the cue task by four rules. fig2: the maze by four rules. fig3: M(t) and reward in a lifetime of the cue task. fig4: the cue
task with four fixed cues, hard and soft clip. table1, the language model, is not built yet.

The budget quick takes small networks and recipes of our own, three seeds and minutes; paper takes the paper's sizes and, as far as it
is known, its recipe, its number of seeds and days. Every run is a run folder, OUT/ARM/seed-N; after an interrupt, --resume goes on. The
picture is OUT/FIGURE.svg; the numbers beside it are what is drawn; FIGURE.results.jsonl has what every seed reached.

Scores are means over lifetimes that training never saw, actions sampled: late accuracy, in the maze hits. Their 95% intervals are
Student's over seeds, over lifetimes for a single one; p is that of the two-sided rank-sum test (Mann and Whitney) against the Hebbian arm,
which with three seeds each is never below 0.1.

JSON: figure, budget, claim (the paper's), picture, numbers, results, arms [{name, preset, settings, rule, score (late_accuracy or
hits), value, interval, against, p, runs [{folder, value, interval}]}], in the maze searcher and random.

Example: backpropamine reproduce fig1
Example: backpropamine reproduce fig2 --budget paper --seed 1-9 --out fig2")]
pub struct ReproduceCommand {
    /// The figure, or the table
    figure: Figure,
    /// How much it may cost
    #[arg(long, value_enum, default_value = "quick")]
    budget: Budget,
    /// Seeds, such as 1,2,5-9 [default: 1-3; with the budget paper the paper's number of runs]
    #[arg(long, value_name = "SEEDS")]
    seed: Option<Seeds>,
    /// Where to train: cpu or cuda[:n] [default: the preset's, cpu]
    #[arg(long, value_name = "DEVICE")]
    device: Option<Device>,
    /// Lifetimes that every network is measured on
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(2..=10_000_000))]
    episodes: u32,
    /// Where runs, picture and numbers go [default: runs/FIGURE-BUDGET]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on where an interrupted reproduction stopped
    #[arg(long)]
    resume: bool,
    /// Change a key of the presets in every arm, as often as wanted
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

/// What of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Figure {
    /// Cue-reward association, four rules
    Fig1,
    /// The maze, four rules
    Fig2,
    /// The modulator at work
    Fig3,
    /// Fixed cues, hard and soft clip
    Fig4,
    /// The language model
    Table1,
}

/// How much a reproduction may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Budget {
    /// Minutes on two cores: small networks, our recipes
    Quick,
    /// Days: the paper's sizes, recipe and number of runs
    Paper,
}

fn word(value: impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

/// What is trained with several seeds and compared with others.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Arm {
    /// Its folder, and its name in the picture.
    name: String,
    preset: &'static str,
    rule: Rule,
    settings: Vec<String>,
    /// The name of the arm that it is tested against.
    against: Option<String>,
}

impl Arm {
    fn new(preset: &'static str, rule: Rule) -> Self {
        let against = rule.is_modulated().then(|| rule_word(Rule::Hebbian).to_owned());
        Self {
            name: rule_word(rule).to_owned(),
            preset,
            rule,
            settings: Vec::new(),
            against,
        }
    }

    fn with(mut self, settings: &[&str]) -> Self {
        self.settings.extend(settings.iter().map(|&setting| setting.to_owned()));
        self
    }

    /// The same with the soft clip.
    fn soft(self) -> Self {
        let soft = |name: String| format!("{name}-soft");
        let arm = self.with(&["network.clip=soft"]);
        Self {
            name: soft(arm.name),
            against: arm.against.map(soft),
            ..arm
        }
    }
}

impl Figure {
    /// What the paper says of it.
    fn claim(self) -> &'static str {
        match self {
            Self::Fig1 => "networks with neuromodulated plasticity learn the cue task; Hebbian and non-plastic ones fail",
            Self::Fig2 => "in the maze, networks with neuromodulated plasticity beat Hebbian ones (p < 0.05)",
            Self::Fig3 => "the modulator has rich dynamics that depend on reward",
            Self::Fig4 => "with fixed cues, Hebbian networks learn too, more slowly than modulated ones",
            Self::Table1 => "modulated plastic LSTMs have a lower perplexity on Penn Treebank",
        }
    }

    fn task(self) -> TaskName {
        if self == Self::Fig2 { TaskName::Maze } else { TaskName::Cue }
    }

    /// Runs of each arm in the paper.
    fn runs(self) -> u64 {
        if self == Self::Fig2 { 9 } else { 10 }
    }

    fn preset(self, budget: Budget) -> &'static str {
        match (self, budget) {
            (Self::Fig2, Budget::Quick) => "maze-small",
            (Self::Fig2, Budget::Paper) => "maze-paper",
            (Self::Fig4, Budget::Quick) => "cue-fixed",
            (_, Budget::Quick) => "cue-small",
            (_, Budget::Paper) => "cue-code",
        }
    }

    /// What is compared.
    ///
    /// # Errors
    /// [`ExitKind::Usage`] for what is not built.
    fn arms(self, budget: Budget) -> Result<Vec<Arm>, ExitKind> {
        let arm = |rule| {
            let arm = Arm::new(self.preset(budget), rule);
            match (self, budget, rule) {
                // Larger steps are too large for it; see BENCHMARKS.
                (Self::Fig2, Budget::Quick, Rule::Retroactive) => arm.with(&["training.learning_rate=1e-3"]),
                (Self::Fig4, Budget::Paper, _) => arm.with(&["task.bits=4", "task.fixed=true"]),
                _ => arm,
            }
        };
        let arms = RULES.map(|(_, rule)| arm(rule)).into_iter();
        match self {
            Self::Fig1 | Self::Fig2 => Ok(arms.collect()),
            Self::Fig3 => Ok(arms.filter(|arm| arm.rule.is_modulated()).collect()),
            Self::Fig4 => {
                let soft = arms.clone().filter(|arm| arm.rule.is_plastic()).map(Arm::soft);
                Ok(arms.chain(soft).collect())
            }
            Self::Table1 => Err(ExitKind::Usage(
                "table1: the plastic LSTM and the language model are not built yet; fig1 to fig4 are".into(),
            )),
        }
    }
}

/// What an arm's networks reached.
struct Outcome {
    arm: Arm,
    /// Run folder and score of each.
    runs: Vec<(PathBuf, Estimate)>,
}

impl Outcome {
    fn values(&self) -> Vec<f64> {
        self.runs.iter().map(|(_, score)| score.value).collect()
    }

    /// Over seeds; over lifetimes if there is one seed only.
    fn score(&self) -> Estimate {
        match &*self.runs {
            [(_, score)] => *score,
            _ => eval::over_models(&self.values()),
        }
    }

    /// The rank-sum test against the arm that it is to be tested against.
    fn p(&self, outcomes: &[Self]) -> Option<f64> {
        let against = self.arm.against.as_ref()?;
        rank_sum(
            &self.values(),
            &outcomes.iter().find(|outcome| outcome.arm.name == *against)?.values(),
        )
    }

    fn report(&self, outcomes: &[Self], score: &str) -> Value {
        let run = |(folder, score): &(PathBuf, Estimate)| json!({ "folder": folder, "value": score.value, "interval": score.interval });
        let Estimate { value, interval } = self.score();
        json!({
            "name": self.arm.name,
            "preset": self.arm.preset,
            "settings": self.arm.settings,
            "rule": rule_word(self.arm.rule),
            "score": score,
            "value": value,
            "interval": interval,
            "against": self.arm.against,
            "p": self.p(outcomes),
            "runs": self.runs.iter().map(run).collect::<Vec<_>>(),
        })
    }
}

/// The p of the two-sided rank-sum test: the share of all ways to deal the values to two such groups that part them as far or
/// farther. Exact, with ties too; `None` where there is nothing to test.
// Not statrs' `mannwhitneyu`: for groups of one size, its exact p (0.19.1) is that of the other side.
fn rank_sum(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() < 2 || b.len() < 2 {
        return None;
    }
    let all = || a.iter().chain(b);
    // Twice the rank, which is whole for ties, too.
    let rank = |value: &f64| 2 * all().filter(|other| *other < value).count() + all().filter(|other| *other == value).count() + 1;
    let observed: usize = a.iter().map(rank).sum();
    let highest: usize = all().map(rank).sum();
    // Ways to choose so many of the values with this sum of ranks.
    let mut ways = vec![vec![0.0; highest + 1]; a.len() + 1];
    ways[0][0] = 1.0;
    for rank in all().map(rank) {
        for count in (0..a.len()).rev() {
            for sum in 0..=highest - rank {
                ways[count + 1][sum + rank] += ways[count][sum];
            }
        }
    }
    let middle = a.len() * (a.len() + b.len() + 1);
    let deals = &ways[a.len()];
    let far = deals
        .iter()
        .enumerate()
        .filter(|(sum, _)| sum.abs_diff(middle) >= observed.abs_diff(middle));
    Some(far.map(|(_, ways)| ways).sum::<f64>() / deals.iter().sum::<f64>())
}

/// The outcomes as a table.
struct Table<'a> {
    outcomes: &'a [Outcome],
    task: TaskName,
}

impl Table<'_> {
    /// The score's name, unit and factor.
    fn score(&self) -> (&'static str, &'static str, f64) {
        match self.task {
            TaskName::Cue => ("late_accuracy", "late accuracy, %", 100.0),
            TaskName::Maze => ("hits", "hits", 1.0),
        }
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (_, unit, factor) = self.score();
        writeln!(f, "{:<18} {unit:>16}   95% interval     every seed", "")?;
        for outcome in self.outcomes {
            let Estimate { value, interval } = outcome.score();
            let [low, high] = interval.map(|end| factor * end);
            let interval = format!("{low:.1} … {high:.1}");
            let seeds: Vec<String> = outcome.values().iter().map(|value| format!("{:.1}", factor * value)).collect();
            write!(
                f,
                "{:<18} {:>16.1}   {interval:<15}  {}",
                outcome.arm.name,
                factor * value,
                seeds.join(" ")
            )?;
            if let (Some(against), Some(p)) = (&outcome.arm.against, outcome.p(self.outcomes)) {
                write!(f, "   p = {p:.3} against {against}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl ReproduceCommand {
    /// Trains the arms one after another, their seeds side by side, and sums up.
    ///
    /// # Errors
    /// Those of `train`; [`interrupt::Interrupted`] after Ctrl-C.
    pub fn run(&self, console: &Console) -> Result<Report> {
        let mut arms = self.figure.arms(self.budget)?;
        for arm in &mut arms {
            arm.settings.extend(self.settings.iter().cloned());
        }
        let out = self.folder();
        let count = arms.len();
        for (number, arm) in arms.iter().enumerate() {
            console.note(format_args!("{} ({} of {count})", arm.name, number + 1));
            self.training(arm, &out).run(console)?;
        }
        let outcomes = arms
            .into_iter()
            .map(|arm| self.measure(arm, &out, console))
            .collect::<Result<Vec<_>>>()?;
        self.report(&outcomes, &out, console)
    }

    fn folder(&self) -> PathBuf {
        let default = || Path::new("runs").join(format!("{}-{}", word(self.figure), word(self.budget)));
        self.out.clone().unwrap_or_else(default)
    }

    fn training(&self, arm: &Arm, out: &Path) -> TrainCommand {
        let runs = match self.budget {
            Budget::Quick => 3,
            Budget::Paper => self.figure.runs(),
        };
        TrainCommand {
            task: self.figure.task(),
            preset: Some(arm.preset.into()),
            rule: Some(arm.rule),
            seed: Some(self.seed.clone().unwrap_or_else(|| Seeds::up_to(runs))),
            device: self.device,
            out: out.join(&arm.name),
            resume: self.resume,
            settings: arm.settings.clone(),
        }
    }

    fn measure(&self, arm: Arm, out: &Path, console: &Console) -> Result<Outcome> {
        console.note(format_args!("{}: {} fresh lifetimes of each network", arm.name, self.episodes));
        let score = |folder: PathBuf| {
            interrupt::check()?;
            let score = eval::sampled_score(&folder.join(MODEL), self.episodes)?;
            Ok((folder, score))
        };
        let runs = seed_folders(&out.join(&arm.name)).into_iter().map(score).collect::<Result<_>>()?;
        Ok(Outcome { arm, runs })
    }

    fn report(&self, outcomes: &[Outcome], out: &Path, console: &Console) -> Result<Report> {
        let (picture, numbers) = self.draw(outcomes, out)?;
        let table = Table {
            outcomes,
            task: self.figure.task(),
        };
        let results = picture.with_extension("results.jsonl");
        let arms: Vec<Value> = outcomes.iter().map(|outcome| outcome.report(outcomes, table.score().0)).collect();
        write_lines(&results, arms.iter().cloned())?;
        console.say(format_args!("\n{table}"));
        let levels = self.levels(outcomes)?;
        if let Some([searcher, random]) = levels {
            console.say(format_args!("in the same lifetimes: searcher {searcher:.1}, random {random:.1}"));
        }
        console.say(format_args!("the paper: {}", self.figure.claim()));
        console.say(format_args!("{}, {}, {}", picture.display(), numbers.display(), results.display()));
        Report::done(json!({
            "figure": word(self.figure),
            "budget": word(self.budget),
            "claim": self.figure.claim(),
            "picture": picture,
            "numbers": numbers,
            "results": results,
            "arms": arms,
            "searcher": levels.map(|[searcher, _]| searcher),
            "random": levels.map(|[_, random]| random),
        }))
    }

    /// Hits of the maze's reference players in the lifetimes of the measurement.
    fn levels(&self, outcomes: &[Outcome]) -> Result<Option<[f64; 2]>> {
        let Some((folder, _)) = outcomes.iter().flat_map(|outcome| &outcome.runs).next() else {
            return Ok(None);
        };
        let model = folder.join(MODEL);
        let TaskConfig::Maze(options) = eval::task_of(&open(&model)?, &model, &[])? else {
            return Ok(None);
        };
        let maze = eval::maze_task(options)?;
        let level = |player| mean_hits(player, &maze, EVALUATION_SEED, self.episodes);
        Ok(Some([level(Player::Searcher), level(Player::Random)]))
    }

    /// The picture, and the file with what is drawn in it.
    fn draw(&self, outcomes: &[Outcome], out: &Path) -> Result<(PathBuf, PathBuf)> {
        let picture = out.join(word(self.figure)).with_extension("svg");
        let numbers = picture.with_extension("jsonl");
        if self.figure == Figure::Fig3 {
            let recordings = outcomes.iter().flat_map(|outcome| &outcome.runs).map(|(folder, _)| record(folder));
            let part = Part { lifetime: 0, trial: None };
            plot::draw_activity(&recordings.collect::<Result<Vec<_>>>()?, part, &picture, &numbers)?;
        } else {
            let folders: Vec<PathBuf> = outcomes.iter().map(|outcome| out.join(&outcome.arm.name)).collect();
            plot::draw_curves(&folders, &picture, &numbers)?;
        }
        Ok((picture, numbers))
    }
}

fn open(model: &Path) -> Result<Runnable> {
    Choice::default().open(model, None)
}

/// Records the first evaluation lifetime of a run's network beside it, under the names of both: `ARM-seed-N.jsonl`.
fn record(folder: &Path) -> Result<PathBuf> {
    let model = folder.join(MODEL);
    let network = open(&model)?;
    let config = eval::config_of(&network, &model, &[])?;
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let title = match folder.parent() {
        Some(arm) if name(folder).starts_with("seed-") => format!("{}-{}", name(arm), name(folder)),
        _ => name(folder),
    };
    let file = folder.join(title).with_extension("jsonl");
    Recording::on_host(&network, toml::to_string(&config.task)?, config.task()?, &model)?.save(&file)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_arm_is_tested_against_the_hebbian_one_with_its_clip() {
        for figure in [Figure::Fig1, Figure::Fig2, Figure::Fig4] {
            for budget in [Budget::Quick, Budget::Paper] {
                let arms = figure.arms(budget).unwrap();
                for arm in arms.iter().filter(|arm| arm.rule.is_modulated()) {
                    let against = arms.iter().find(|other| Some(&other.name) == arm.against.as_ref()).unwrap();
                    let clip = |arm: &Arm| arm.settings.iter().any(|setting| setting == "network.clip=soft");
                    assert_eq!((against.rule, clip(against)), (Rule::Hebbian, clip(arm)), "{figure:?} {budget:?}");
                }
                let mut names: Vec<_> = arms.iter().map(|arm| &arm.name).collect();
                names.sort();
                names.dedup();
                assert_eq!(names.len(), arms.len());
            }
        }
        assert_eq!(Figure::Fig4.arms(Budget::Quick).unwrap().len(), 7);
        assert!(Figure::Table1.arms(Budget::Quick).is_err());
    }

    #[test]
    fn the_rank_sum_test_is_exact() {
        // Three above three: 2 of the 20 orders are as extreme.
        assert!((rank_sum(&[4.0, 5.0, 6.0], &[1.0, 2.0, 3.0]).unwrap() - 0.1).abs() < 1e-12);
        // Five above five: 2 of 252.
        let (high, low) = ([6.0, 7.0, 8.0, 9.0, 10.0], [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!((rank_sum(&high, &low).unwrap() - 2.0 / 252.0).abs() < 1e-12);
        // R: wilcox.test(c(19, 22, 16, 29, 24), c(20, 11, 17, 12)), p = 0.1111.
        let p = rank_sum(&[19.0, 22.0, 16.0, 29.0, 24.0], &[20.0, 11.0, 17.0, 12.0]).unwrap();
        assert!((p - 1.0 / 9.0).abs() < 1e-12);
        // Ties share their ranks: 1 and 2.5 against 2.5 and 4 is as far apart as four of six deals.
        assert!((rank_sum(&[1.0, 2.0], &[2.0, 3.0]).unwrap() - 4.0 / 6.0).abs() < 1e-12);
        assert_eq!(rank_sum(&[2.0, 2.0], &[2.0, 2.0]), Some(1.0));
        assert_eq!(rank_sum(&[1.0], &[2.0, 3.0]), None);
    }
}
