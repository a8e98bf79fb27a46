//! Tasks: the worlds in which agents live. One implementation serves the trainer, the tests and the firmware.
//!
//! Per step: observe, act, the world moves and pays. To bring a task of your own, implement [`Task`] in one file;
//! training, evaluation and firmware are generic over it.

pub mod cue;
pub mod maze;

use crate::rng::Lifetime;

/// What the world made of an action.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Outcome {
    /// The reward r(t); the agent sees it as an input at t+1, if the task shows it.
    pub reward: f32,
    /// Whether a trial ended at this step, and successfully.
    pub trial: Option<bool>,
}

/// A world with discrete actions and episodes of fixed length.
pub trait Task {
    /// Number of inputs, at most [`MAX_INPUTS`](crate::lifetime::MAX_INPUTS).
    fn inputs(&self) -> usize;
    /// Number of actions.
    fn actions(&self) -> usize;
    /// Steps of an episode (= lifetime).
    fn steps(&self) -> u32;
    /// No input is ever larger than this in magnitude: the fixed-point input scale follows from it.
    fn input_range(&self) -> f32;
    /// Begins a new episode, all of whose randomness comes from `rng`.
    fn reset(&mut self, rng: Lifetime);
    /// Writes the inputs of this step.
    fn observe(&self, x: &mut [f32]);
    /// Takes the agent's action and moves on to the next step.
    fn act(&mut self, action: usize) -> Outcome;
}

/// An option out of range.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ConfigError {
    /// The option.
    pub option: &'static str,
    /// What it must be.
    pub expected: &'static str,
}

impl core::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: expected {}", self.option, self.expected)
    }
}

impl core::error::Error for ConfigError {}

/// Refuses an option by name.
fn check(ok: bool, option: &'static str, expected: &'static str) -> Result<(), ConfigError> {
    if ok { Ok(()) } else { Err(ConfigError { option, expected }) }
}
