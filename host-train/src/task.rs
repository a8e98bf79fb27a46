//! The tasks that commands know by name: what a configuration's `[task]` says, and how training grows up to it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::Result;
use backpropamine::task::cue::{self, Cue};
use backpropamine::task::maze::{self, Maze, players::Player};
use backpropamine::task::{ConfigError, Task};
use serde::{Deserialize, Serialize};
use toml::Table;

use crate::cli::ExitKind;
use crate::config::{Config, word_in_file};
use crate::rollout::{Course, Episode};

/// Options of a task of the core.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TaskConfig {
    /// Cue-reward association (paper 4.1).
    Cue(cue::Config),
    /// The maze (paper 4.2).
    Maze(maze::Config),
}

impl TaskConfig {
    /// What `[task]` says, whose `name` is the task's.
    ///
    /// # Errors
    /// When a key is missing, unknown or has a wrong type.
    pub fn parse(table: &Table) -> Result<Self, toml::de::Error> {
        Ok(match table.clone().try_into()? {
            Options::Cue(options) => Self::Cue(options.into()),
            Options::Maze(options) => Self::Maze(options.into()),
        })
    }

    /// The task's name, which is also its firmware's.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cue(_) => "cue",
            Self::Maze(_) => "maze",
        }
    }

    /// Steps of a lifetime.
    pub fn steps(&self) -> u32 {
        match self {
            Self::Cue(config) => config.steps,
            Self::Maze(config) => config.steps,
        }
    }

    /// The largest magnitude of an input; `None` for options that cannot be.
    pub fn input_range(&self) -> Option<f32> {
        match *self {
            Self::Cue(config) => Some(Cue::new(config).ok()?.input_range()),
            Self::Maze(config) => Some(Maze::new(config).ok()?.input_range()),
        }
    }
}

/// The configuration that a model with this metadata was trained with, or the small preset of its task if it has none;
/// `None` for a task that is none of the core's. `path` is for messages.
///
/// # Errors
/// [`FileError`](crate::files::FileError) when the configuration cannot be read.
pub fn trained_config(metadata: &BTreeMap<String, String>, path: &Path) -> Result<Option<Config>> {
    let preset = match metadata.get("task").map(String::as_str) {
        Some("cue") => "cue-small",
        Some("maze") => "maze-small",
        _ => return Ok(None),
    };
    Ok(Some(match metadata.get("config") {
        Some(text) => Config::parse(text, path)?,
        None => Config::load(preset, &[])?,
    }))
}

/// `[task]` as it is written.
#[derive(Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
enum Options {
    Cue(CueOptions),
    Maze(MazeOptions),
}

const CUE_VARIANTS: [(&str, cue::Variant); 2] = [("code", cue::Variant::Code), ("paper", cue::Variant::Paper)];
const MAZE_VARIANTS: [(&str, maze::Variant); 2] = [("code", maze::Variant::Code), ("paper", maze::Variant::Paper)];

word_in_file!(cue_variant, cue::Variant, CUE_VARIANTS);
word_in_file!(maze_variant, maze::Variant, MAZE_VARIANTS);

/// Keys of the cue task; `presets/defaults.toml` says what they mean.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CueOptions {
    #[serde(with = "cue_variant")]
    variant: cue::Variant,
    cues: u32,
    bits: u32,
    steps: u32,
    longest_trial: u32,
    fixed: bool,
    flip: f32,
    time_input: bool,
}

impl From<CueOptions> for cue::Config {
    fn from(options: CueOptions) -> Self {
        Self {
            variant: options.variant,
            cues: options.cues,
            bits: options.bits,
            steps: options.steps,
            longest_trial: options.longest_trial,
            fixed: options.fixed,
            flip: options.flip,
            time_input: options.time_input,
        }
    }
}

/// Keys of the maze; `presets/maze-small.toml` says what they mean.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MazeOptions {
    #[serde(with = "maze_variant")]
    variant: maze::Variant,
    size: u32,
    steps: u32,
    reward: f32,
    wall_penalty: f32,
    random_start: bool,
    goal_moves_every: u32,
    time_input: bool,
}

impl From<MazeOptions> for maze::Config {
    fn from(options: MazeOptions) -> Self {
        Self {
            variant: options.variant,
            size: options.size,
            steps: options.steps,
            reward: options.reward,
            wall_penalty: options.wall_penalty,
            start: if options.random_start {
                maze::Start::Random
            } else {
                maze::Start::Centre
            },
            goal_moves_every: options.goal_moves_every,
            time_input: options.time_input,
        }
    }
}

/// The cue-reward association task, with fewer cues and shorter trials before the full task.
#[derive(Clone)]
pub struct CueCourse {
    stages: Vec<Cue>,
}

impl CueCourse {
    /// The stages of `config.curriculum` that are easier than `config.task`, then the task itself.
    ///
    /// # Errors
    /// [`ExitKind::Usage`] when `[task]` is no cue task, or one that cannot be.
    pub fn new(config: &Config) -> Result<Self> {
        let full = config.cue()?;
        let longest_trials = config.curriculum.longest_trials.iter().copied();
        let trials = longest_trials.chain(std::iter::repeat(full.longest_trial));
        let stages = config.curriculum.cues.iter().zip(trials);
        let stages = stages.map(|(&cues, longest_trial)| cue::Config {
            cues,
            longest_trial,
            ..full
        });
        let stages = stages.filter(|stage| stage.is_easier(&full)).chain([full]);
        let listed = [
            ("cues", "cues", &config.curriculum.cues),
            ("longest_trial", "longest_trials", &config.curriculum.longest_trials),
        ];
        let stages = stages.map(|stage| {
            let listed: &[_] = if stage == full { &[] } else { &listed };
            Cue::new(stage).map_err(|error| impossible(error, listed, format_args!("{} cues", stage.cues)))
        });
        Ok(Self {
            stages: stages.collect::<Result<_, _>>()?,
        })
    }
}

impl Course for CueCourse {
    type Task = Cue;

    fn name(&self) -> &str {
        "cue"
    }

    fn stages(&self) -> usize {
        self.stages.len()
    }

    fn task(&self, stage: usize) -> Cue {
        self.stages[stage].clone()
    }

    fn options(&self, stage: usize) -> Option<TaskConfig> {
        Some(TaskConfig::Cue(*self.stages[stage].config()))
    }
}

/// The maze, with smaller ones before the full size. Its score is the hits, as a share of the searcher's.
#[derive(Clone)]
pub struct MazeCourse {
    stages: Vec<Maze>,
    /// The searcher's mean hits at each stage, rounded; found out once somebody asks.
    levels: Vec<OnceLock<u32>>,
}

impl MazeCourse {
    /// The stages of `config.curriculum.sizes` that are smaller than `config.task`, then the task itself.
    ///
    /// # Errors
    /// [`ExitKind::Usage`] when `[task]` is no maze, or one that cannot be.
    pub fn new(config: &Config) -> Result<Self> {
        let full = config.maze()?;
        let smaller = config.curriculum.sizes.iter().filter(|&&size| size < full.size);
        let stages = smaller.map(|&size| maze::Config { size, ..full }).chain([full]);
        let listed = [("size", "sizes", &config.curriculum.sizes)];
        let stages = stages.map(|stage| {
            let listed: &[_] = if stage == full { &[] } else { &listed };
            Maze::new(stage).map_err(|error| impossible(error, listed, format_args!("size {}", stage.size)))
        });
        let stages = stages.collect::<Result<Vec<_>, _>>()?;
        let levels = vec![OnceLock::new(); stages.len()];
        Ok(Self { stages, levels })
    }
}

impl Course for MazeCourse {
    type Task = Maze;

    fn name(&self) -> &str {
        "maze"
    }

    fn stages(&self) -> usize {
        self.stages.len()
    }

    fn task(&self, stage: usize) -> Maze {
        self.stages[stage].clone()
    }

    fn options(&self, stage: usize) -> Option<TaskConfig> {
        Some(TaskConfig::Maze(*self.stages[stage].config()))
    }

    fn score_name(&self) -> &str {
        "of the searcher's hits"
    }

    fn score(&self, stage: usize, episode: &Episode) -> (u32, u32) {
        let level = self.levels[stage].get_or_init(|| mean_hits(Player::Searcher, &self.stages[stage], 0, 300).round() as u32);
        (episode.trials.len() as u32, *level)
    }
}

/// A player's mean hits in the lifetimes `first_seed..first_seed + count`.
pub fn mean_hits(player: Player, maze: &Maze, first_seed: u64, count: u32) -> f64 {
    let mut maze = maze.clone();
    let hits = (0..u64::from(count)).map(|index| f64::from(player.hits(&mut maze, first_seed + index)));
    hits.sum::<f64>() / f64::from(count)
}

/// The error of a stage. `listed` are the options that a list of `[curriculum]` sets: their names there and here, and the lists.
fn impossible(error: ConfigError, listed: &[(&str, &str, &Vec<u32>)], stage: std::fmt::Arguments) -> ExitKind {
    ExitKind::Usage(match listed.iter().find(|(option, ..)| *option == error.option) {
        Some((_, list, found)) => format!("curriculum.{list}: expected {} in every place, found {found:?}", error.expected),
        None => format!("task.{error}, with {stage}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_easier_cue_tasks_come_before_the_full_one() {
        let settings = ["curriculum.cues=[2,4,4,9]", "curriculum.longest_trials=[5,6,0]"].map(String::from);
        let course = CueCourse::new(&Config::load("cue-small", &settings).unwrap()).unwrap();
        let stages = course
            .stages
            .iter()
            .map(|stage| (stage.config().cues, stage.config().longest_trial));
        assert_eq!(stages.collect::<Vec<_>>(), [(2, 5), (4, 6), (4, 0)]);
    }

    #[test]
    fn errors_name_the_list_that_an_option_comes_from() {
        let message = |settings: &[&str], preset: &str| {
            let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
            let config = Config::load(preset, &settings).unwrap();
            let error = match preset {
                "cue-small" => CueCourse::new(&config).err(),
                _ => MazeCourse::new(&config).err(),
            };
            error.unwrap().to_string()
        };
        for (settings, preset, begin) in [
            (
                &["curriculum.longest_trials=[3,5,6,7]"][..],
                "cue-small",
                "curriculum.longest_trials: expected 5 to 16",
            ),
            (&["curriculum.cues=[1,4]"], "cue-small", "curriculum.cues: expected 2 to 16"),
            (&["task.cues=17"], "cue-small", "task.cues: expected 2 to 16"),
            (&["curriculum.sizes=[4]"], "maze-small", "curriculum.sizes: expected an odd number"),
            (&["task.size=4"], "maze-small", "task.size: expected an odd number"),
        ] {
            let message = message(settings, preset);
            assert!(message.starts_with(begin), "{settings:?}: {message}");
        }
    }
}
