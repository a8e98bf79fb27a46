//! The maze (Miconi et al., ICLR 2019, section 4.2).
//!
//! A square room whose inside has a pillar on every other square in both directions. One free square is the goal, the
//! same for the whole episode and invisible. Stepping on it pays, and at once teleports the agent to a random free square,
//! so the goal has to be found by exploring, remembered, and found again from anywhere. Actions: 0 up, 1 down, 2 left,
//! 3 right; into a wall the agent stays.
//!
//! A trial is the way to the goal: a hit reports `trial: Some(true)`, all other steps `None`. So the successful trials of an
//! episode are its hits.
//!
//! ```
//! use backpropamine::rng::{Rng, Stream};
//! use backpropamine::task::{Task, maze::{Config, Maze}};
//! let mut maze = Maze::new(Config { size: 7, ..Config::default() })?;
//! maze.reset(Rng::new(1_000_000).lifetime(Stream::Task, 0));
//! let picture = maze.to_string();
//! assert_eq!(picture.lines().nth(3).unwrap().chars().nth(3), Some('A')); // the agent starts in the centre
//! assert_eq!(picture.matches('G').count(), 1);
//! assert_eq!(picture.matches('#').count(), 24 + 4); // the border and 4 pillars
//!
//! let mut x = [0.0; 17];
//! maze.observe(&mut x);
//! assert_eq!(x[..9], [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0]); // pillars at all four corners
//! while maze.act(3).trial.is_none() && maze.step() < 200 {}
//! # Ok::<(), backpropamine::task::maze::ConfigError>(())
//! ```

pub mod players;

pub use super::ConfigError;
use super::{Outcome, Task, check};
use crate::rng::Lifetime;
use core::fmt::Write;

/// Smallest maze, border included.
pub const MIN_SIZE: u32 = 5;
/// Largest maze, border included: a row of squares fits the bits of a word.
pub const MAX_SIZE: u32 = 31;
/// Up, down, left, right.
pub const ACTIONS: usize = 4;

/// Which of the two descriptions of the task: they differ in what the agent sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Variant {
    /// The published code, 17 inputs: 3×3 walls row by row (1 = wall), 0, bias 1, t/T, previous reward, one-hot previous
    /// action ("up" in the first step).
    Code,
    /// The paper's text, 14 inputs: 3×3 walls, one-hot previous action (zeros in the first step), previous reward.
    Paper,
}

/// Where an episode starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Start {
    /// In the centre, which is then never the first goal.
    Centre,
    /// On a random free square that is not the goal.
    Random,
}

/// Every option of the task.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Config {
    /// Which description.
    pub variant: Variant,
    /// Rows and columns, border included: odd, [`MIN_SIZE`] to [`MAX_SIZE`]. The paper's is 11, the published script's 13.
    pub size: u32,
    /// Steps of an episode.
    pub steps: u32,
    /// What a hit pays; the next input shows it as it is.
    pub reward: f32,
    /// What running into a wall costs.
    pub wall_penalty: f32,
    /// Where an episode starts.
    pub start: Start,
    /// The goal moves to another free square after each so many steps; 0: never. Counted in steps, not in hits, so that
    /// the world changes at the same times for a good agent and for a poor one.
    pub goal_moves_every: u32,
    /// Whether the code variant's input t/T is given; the paper variant has none.
    pub time_input: bool,
}

impl Default for Config {
    /// The code variant: the paper's maze of 11 × 11, 200 steps, reward 10.
    fn default() -> Self {
        Self {
            variant: Variant::Code,
            size: 11,
            steps: 200,
            reward: 10.0,
            wall_penalty: 0.0,
            start: Start::Centre,
            goal_moves_every: 0,
            time_input: true,
        }
    }
}

impl Config {
    /// The paper variant. The paper names neither the size of the reward nor the start; both stay those of the code.
    pub fn paper() -> Self {
        Self {
            variant: Variant::Paper,
            ..Self::default()
        }
    }

    fn centre(&self) -> Square {
        let middle = self.size / 2;
        Square {
            row: middle,
            column: middle,
        }
    }

    /// A border around pillars on every other square in both directions; the centre is free.
    fn is_wall(&self, square: Square) -> bool {
        let inside = 1..self.size.wrapping_sub(1);
        let pillar = square.row.is_multiple_of(2) && square.column.is_multiple_of(2) && square != self.centre();
        pillar || !inside.contains(&square.row) || !inside.contains(&square.column)
    }

    /// The free squares, row by row.
    fn free(&self) -> impl Iterator<Item = Square> {
        let config = *self;
        let squares = (0..config.size).flat_map(move |row| (0..config.size).map(move |column| Square { row, column }));
        squares.filter(move |square| !config.is_wall(*square))
    }
}

/// A place in the maze, counted from the upper left corner of the border.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Square {
    /// The row, downwards.
    pub row: u32,
    /// The column, to the right.
    pub column: u32,
}

impl Square {
    /// The next square in the direction of an action; the same square, if there is no such action. Across an edge of the
    /// map the number wraps to one far outside, which is a wall.
    fn towards(self, action: usize) -> Self {
        let Self { row, column } = self;
        let (row, column) = match action {
            0 => (row.wrapping_sub(1), column),
            1 => (row.wrapping_add(1), column),
            2 => (row, column.wrapping_sub(1)),
            3 => (row, column.wrapping_add(1)),
            _ => (row, column),
        };
        Self { row, column }
    }
}

/// The task.
#[derive(Clone, Debug)]
pub struct Maze {
    config: Config,
    rng: Lifetime,
    position: Square,
    goal: Square,
    step: u32,
    hits: u32,
    previous_action: Option<usize>,
    previous_reward: f32,
}

/// Where a step's draws go: each purpose has an index of its own.
mod draw {
    pub const GOAL: u32 = 0;
    pub const START: u32 = 1;
    pub const TELEPORT: u32 = 2;
    pub const MOVE: u32 = 3;
}

impl Maze {
    /// The task with these options, in the first episode of seed 0.
    ///
    /// # Errors
    /// [`ConfigError`] names the option that is out of range.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let sizes = MIN_SIZE..=MAX_SIZE;
        check(
            sizes.contains(&config.size) && config.size % 2 == 1,
            "size",
            "an odd number, 5 to 31",
        )?;
        check(config.steps > 0, "steps", "at least 1")?;
        check(
            config.reward.is_finite() && config.reward > 0.0,
            "reward",
            "a finite number above 0",
        )?;
        let penalty = config.wall_penalty;
        check(penalty.is_finite() && penalty >= 0.0, "wall_penalty", "a finite number, 0 or more")?;
        let rng = crate::rng::Rng::new(0).lifetime(crate::rng::Stream::Task, 0);
        let mut task = Self {
            config,
            rng,
            position: config.centre(),
            goal: config.centre(),
            step: 0,
            hits: 0,
            previous_action: None,
            previous_reward: 0.0,
        };
        task.reset(rng);
        Ok(task)
    }

    /// The options.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The step about to be taken.
    pub fn step(&self) -> u32 {
        self.step
    }

    /// Where the agent is.
    pub fn position(&self) -> Square {
        self.position
    }

    /// Where the goal is.
    pub fn goal(&self) -> Square {
        self.goal
    }

    /// How often the agent has hit the goal in this episode.
    pub fn hits(&self) -> u32 {
        self.hits
    }

    /// Whether there is a wall; everything outside the map is one.
    pub fn is_wall(&self, row: u32, column: u32) -> bool {
        self.config.is_wall(Square { row, column })
    }

    /// Where an action leads from here, before any teleport: here, if there is a wall.
    fn ahead(&self, action: usize) -> Square {
        let there = self.position.towards(action);
        if self.config.is_wall(there) { self.position } else { there }
    }

    /// A free square other than these, each equally likely.
    fn draw_square(&self, index: u32, others: &[Square]) -> Square {
        let squares = || self.config.free().filter(|square| !others.contains(square));
        let rank = self.rng.below(self.step, index, squares().count() as u32);
        // The smallest maze has nine free squares, so there always is such a square.
        squares().nth(rank as usize).unwrap_or(self.config.centre())
    }

    /// Whether the goal moves at the end of this step.
    fn goal_moves(&self) -> bool {
        let every = self.config.goal_moves_every;
        every > 0 && self.step.wrapping_add(1).checked_rem(every) == Some(0)
    }
}

impl Task for Maze {
    fn inputs(&self) -> usize {
        match self.config.variant {
            Variant::Code => 17,
            Variant::Paper => 14,
        }
    }

    fn actions(&self) -> usize {
        ACTIONS
    }

    fn steps(&self) -> u32 {
        self.config.steps
    }

    /// The largest of reward, wall penalty and 1.
    fn input_range(&self) -> f32 {
        self.config.reward.max(self.config.wall_penalty).max(1.0)
    }

    fn reset(&mut self, rng: Lifetime) {
        self.rng = rng;
        self.step = 0;
        self.hits = 0;
        self.previous_reward = 0.0;
        self.previous_action = match self.config.variant {
            Variant::Code => Some(0),
            Variant::Paper => None,
        };
        let centre = self.config.centre();
        (self.goal, self.position) = match self.config.start {
            Start::Centre => (self.draw_square(draw::GOAL, &[centre]), centre),
            Start::Random => {
                let goal = self.draw_square(draw::GOAL, &[]);
                (goal, self.draw_square(draw::START, &[goal]))
            }
        };
    }

    /// [`Variant`] lists the inputs.
    fn observe(&self, x: &mut [f32]) {
        let Square { row, column } = self.position;
        let walls = (0..9).map(|k| self.is_wall((row + k / 3).wrapping_sub(1), (column + k % 3).wrapping_sub(1)));
        let was = |action| f32::from(u8::from(self.previous_action == Some(action)));
        // After its end, an episode stays at its end.
        let time = if self.config.time_input {
            self.step.min(self.config.steps) as f32 / self.config.steps as f32
        } else {
            0.0
        };
        let reward = self.previous_reward;
        let code_channels = [0.0, 1.0, time, reward, was(0), was(1), was(2), was(3)];
        let paper_channels = [was(0), was(1), was(2), was(3), reward];
        let channels = match self.config.variant {
            Variant::Code => &code_channels[..],
            Variant::Paper => &paper_channels[..],
        };
        let values = walls.map(|wall| f32::from(u8::from(wall))).chain(channels.iter().copied());
        for (x, value) in x.iter_mut().zip(values) {
            *x = value;
        }
    }

    /// Moves, pays and teleports in one step. A number that is no action moves nothing and costs nothing.
    fn act(&mut self, action: usize) -> Outcome {
        let mut outcome = Outcome::default();
        if action < ACTIONS && self.ahead(action) == self.position {
            outcome.reward -= self.config.wall_penalty;
        }
        self.position = self.ahead(action);
        if self.position == self.goal {
            outcome.reward = self.config.reward;
            outcome.trial = Some(true);
            self.hits = self.hits.saturating_add(1);
            self.position = self.draw_square(draw::TELEPORT, &[self.goal]);
        }
        if self.goal_moves() {
            self.goal = self.draw_square(draw::MOVE, &[self.goal, self.position]);
        }
        self.previous_action = Some(action);
        self.previous_reward = outcome.reward;
        self.step = self.step.saturating_add(1);
        outcome
    }
}

/// A picture, one line per row: `#` wall, `.` free, `G` goal, `A` agent.
impl core::fmt::Display for Maze {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for row in 0..self.config.size {
            if row > 0 {
                f.write_char('\n')?;
            }
            for column in 0..self.config.size {
                f.write_char(match (Square { row, column }) {
                    square if square == self.position => 'A',
                    square if square == self.goal => 'G',
                    square if self.config.is_wall(square) => '#',
                    _ => '.',
                })?;
            }
        }
        Ok(())
    }
}
