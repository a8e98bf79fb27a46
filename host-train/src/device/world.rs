//! A device's task, lived again on the host: it follows from the seed and the actions, so that nobody has to send pictures.

use anyhow::{Result, anyhow};
use backpropamine::rng::{Rng, Stream};
use backpropamine::task::Task;
use backpropamine::task::cue::Cue;
use backpropamine::task::maze::Maze;

use crate::task::TaskConfig;

/// The task of a lifetime as it stands.
#[derive(Clone)]
pub enum World {
    /// Cue-reward association.
    Cue(Cue),
    /// The maze.
    Maze(Maze),
}

impl World {
    /// The task with these options, in no particular lifetime.
    ///
    /// # Errors
    /// When the options cannot be.
    pub fn new(task: TaskConfig) -> Result<Self> {
        match task {
            TaskConfig::Cue(config) => Cue::new(config).map(Self::Cue),
            TaskConfig::Maze(config) => Maze::new(config).map(Self::Maze),
        }
        .map_err(|error| anyhow!("task.{error}"))
    }

    fn task(&mut self) -> &mut dyn Task {
        match self {
            Self::Cue(cue) => cue,
            Self::Maze(maze) => maze,
        }
    }

    /// Begins the lifetime of this seed.
    pub fn birth(&mut self, seed: u64) {
        self.task().reset(Rng::new(seed).lifetime(Stream::Task, 0));
    }

    /// Takes the device's action.
    pub fn act(&mut self, action: u32) {
        self.task().act(action as usize);
    }

    /// The cue task, if it is one.
    pub fn cue(&self) -> Option<&Cue> {
        match self {
            Self::Cue(cue) => Some(cue),
            Self::Maze(_) => None,
        }
    }

    /// What is to be seen now: the cue, or the maze.
    pub fn picture(&self) -> String {
        match self {
            Self::Cue(cue) => shown(cue),
            Self::Maze(maze) => maze.to_string(),
        }
    }
}

/// The cue on show, with a star if it is the one that pays.
pub fn shown(cue: &Cue) -> String {
    match cue.shown() {
        Some(number) => format!("cue {}{}", number + 1, if number == cue.target() { "*" } else { "" }),
        None if cue.is_go() => "GO".into(),
        None => "·".into(),
    }
}
