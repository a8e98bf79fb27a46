//! Players who need no learning: what an agent's hits are to be measured against.
//!
//! ```
//! use backpropamine::task::maze::{Config, Maze, players::Player};
//! let mut maze = Maze::new(Config::default())?;
//! let seed = 1_000_000;
//! let [oracle, searcher, random] = [Player::Oracle, Player::Searcher, Player::Random].map(|player| player.hits(&mut maze, seed));
//! assert!(oracle >= searcher && searcher > random);
//! # Ok::<(), backpropamine::task::maze::ConfigError>(())
//! ```

use super::{ACTIONS, MAX_SIZE, Maze, Square};
use crate::rng::{Rng, Stream};
use crate::task::Task;

/// Who plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Player {
    /// Knows the goal and takes a shortest path.
    Oracle,
    /// Knows the map and its own position. Takes a shortest path to the nearest free square where it has not been, with ties
    /// in the order up, down, left, right, until it hits the goal; from then on plays as the oracle does, until the goal
    /// is no longer there.
    Searcher,
    /// Each action with the same probability.
    Random,
}

impl Player {
    /// Plays the evaluation lifetime of this seed, the one that a network lives with the same seed, and counts the hits.
    pub fn hits(self, maze: &mut Maze, seed: u64) -> u32 {
        let rng = Rng::new(seed);
        maze.reset(rng.lifetime(Stream::Task, 0));
        let actions = rng.lifetime(Stream::Action, 0);
        let mut search = Search::new(maze);
        for step in 0..maze.steps() {
            let action = match self {
                Self::Oracle => search.towards(maze.position(), &Squares::one(maze.goal())),
                Self::Searcher => search.choose(maze.position()),
                Self::Random => actions.below(step, 0, ACTIONS as u32) as usize,
            };
            let there = maze.ahead(action);
            let hit = maze.act(action).trial.is_some();
            search.learn(there, hit);
        }
        maze.hits()
    }
}

/// What the searcher knows.
struct Search {
    free: Squares,
    unvisited: Squares,
    goal: Option<Square>,
}

impl Search {
    fn new(maze: &Maze) -> Self {
        let mut free = Squares::NONE;
        maze.config().free().for_each(|square| free.insert(square));
        let mut unvisited = free;
        unvisited.remove(maze.position());
        Self {
            free,
            unvisited,
            goal: None,
        }
    }

    fn choose(&self, position: Square) -> usize {
        self.towards(position, &self.goal.map_or(self.unvisited, Squares::one))
    }

    /// Takes note of what was found `there`.
    fn learn(&mut self, there: Square, hit: bool) {
        self.unvisited.remove(there);
        if hit {
            self.goal = Some(there);
        } else if self.goal.map_or(self.unvisited == Squares::NONE, |goal| goal == there) {
            // The goal has moved, from where it was known to be or to where it was not: everything has to be searched again.
            self.goal = None;
            self.unvisited = self.free;
            self.unvisited.remove(there);
        }
    }

    /// The first action of a shortest path to the nearest of the targets, which do not include the position.
    fn towards(&self, position: Square, targets: &Squares) -> usize {
        let mut near = *targets;
        // The targets' surroundings grow by one step at a time until they touch the position; every free square can be
        // reached in fewer steps than there are squares.
        for _ in 0..MAX_SIZE * MAX_SIZE {
            if let Some(action) = (0..ACTIONS).find(|&action| near.contains(position.towards(action))) {
                return action;
            }
            near = near.grown(&self.free);
        }
        0
    }
}

/// A set of squares: a word per row, a bit per column.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Squares([u32; MAX_SIZE as usize]);

impl Squares {
    const NONE: Self = Self([0; MAX_SIZE as usize]);

    fn one(square: Square) -> Self {
        let mut squares = Self::NONE;
        squares.insert(square);
        squares
    }

    fn row(&self, row: u32) -> u32 {
        self.0.get(row as usize).copied().unwrap_or(0)
    }

    fn contains(&self, square: Square) -> bool {
        self.row(square.row) & bit(square) != 0
    }

    fn insert(&mut self, square: Square) {
        self.0.get_mut(square.row as usize).into_iter().for_each(|row| *row |= bit(square));
    }

    fn remove(&mut self, square: Square) {
        self.0.get_mut(square.row as usize).into_iter().for_each(|row| *row &= !bit(square));
    }

    /// These squares and all free squares next to one of them.
    fn grown(&self, free: &Self) -> Self {
        Self(core::array::from_fn(|index| {
            let row = index as u32;
            let own = self.row(row);
            let beside = self.row(row.wrapping_sub(1)) | self.row(row + 1) | own << 1 | own >> 1;
            own | beside & free.row(row)
        }))
    }
}

/// The bit of a square's column; none outside every maze.
fn bit(square: Square) -> u32 {
    1u32.checked_shl(square.column).unwrap_or(0)
}
