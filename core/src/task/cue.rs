//! Cue-reward association (Miconi et al., ICLR 2019, section 4.1 and A.5).
//!
//! Every episode has a few random cues, all different; one of them is the target. A trial shows two different cues among
//! blank steps, in half of the trials one is the target, then the response cue ("Go"). The action of the Go step is the response: 1 if the target was shown, else 0.
//! A correct response pays +1, a wrong one -1. Which cue is the target, only trial and reward can tell.
//!
//! ```
//! use backpropamine::rng::{Rng, Stream};
//! use backpropamine::task::{Task, cue::{Config, Cue}};
//! let mut task = Cue::new(Config::default())?;
//! task.reset(Rng::new(1_000_000).lifetime(Stream::Task, 0));
//! let mut x = [0.0; 27];
//! task.observe(&mut x);
//! assert_eq!(x[21], 1.0); // the bias
//! # Ok::<(), backpropamine::task::cue::ConfigError>(())
//! ```

pub use super::ConfigError;
use super::{Outcome, Task, check};
use crate::rng::Lifetime;
use heapless::Vec;

/// Largest number of cues.
pub const MAX_CUES: usize = 16;
/// Largest number of bits of a cue.
pub const MAX_BITS: usize = 32;
/// Shortest trial: blank, two cues, Go, blank.
const MIN_TRIAL: u32 = 5;
/// Longest trial: the paper variant's 16 steps.
const MAX_TRIAL: usize = 16;

/// Which of the two descriptions of the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Variant {
    /// The published code: bits ±1, trials of 5 to 8 steps, a Go channel, a bias.
    Code,
    /// The paper's text: bits 0 or 1, 24 inputs. It names no Go channel and no trial lengths; our choices are Go = all bits
    /// one (cues equal to all zeros or all ones are drawn again) and 10 to 16 steps.
    Paper,
}

/// Every option of the task.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Config {
    /// Which description.
    pub variant: Variant,
    /// Number of cues, 2 to [`MAX_CUES`]. With two, a trial shows only one of them.
    pub cues: u32,
    /// Bits of a cue, 1 to [`MAX_BITS`].
    pub bits: u32,
    /// Steps of a lifetime.
    pub steps: u32,
    /// Longest trial, 5 to 16 steps, or 0 for the variant's. Where it is below the variant's shortest trial, all trials are that long.
    pub longest_trial: u32,
    /// Fixed one-hot cues (A.5, Figure 4) instead of random ones; needs as many bits as cues, or more.
    pub fixed: bool,
    /// Probability that the sign of a reward is flipped.
    pub flip: f32,
    /// Whether the input t/T is given; without it, lifetimes have no end that the network could see.
    pub time_input: bool,
}

impl Default for Config {
    /// The code variant: 4 cues of 20 bits, 120 steps.
    fn default() -> Self {
        Self {
            variant: Variant::Code,
            cues: 4,
            bits: 20,
            steps: 120,
            longest_trial: 0,
            fixed: false,
            flip: 0.0,
            time_input: true,
        }
    }
}

impl Config {
    /// The paper variant: 4 cues of 20 bits, 200 steps.
    pub fn paper() -> Self {
        Self {
            variant: Variant::Paper,
            steps: 200,
            ..Self::default()
        }
    }

    /// Whether there are fewer cues than in `other`, or as many and shorter trials.
    pub fn is_easier(&self, other: &Self) -> bool {
        (self.cues, self.trial_steps()) < (other.cues, other.trial_steps())
    }

    /// Steps of the shortest and the longest trial.
    pub fn trial_steps(&self) -> (u32, u32) {
        let (shortest, longest) = match self.variant {
            Variant::Code => (MIN_TRIAL, 8),
            Variant::Paper => (10, MAX_TRIAL as u32),
        };
        match self.longest_trial {
            0 => (shortest, longest),
            steps => (shortest.min(steps), steps),
        }
    }
}

/// What is shown in one step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Symbol {
    Blank,
    Cue(u8),
    Go,
}

/// The task.
#[derive(Clone)]
pub struct Cue {
    config: Config,
    rng: Lifetime,
    /// The cues' bits, lowest first.
    cues: Vec<u32, MAX_CUES>,
    target: u8,
    step: u32,
    trial: Vec<Symbol, MAX_TRIAL>,
    /// Position in the trial.
    position: usize,
    target_shown: bool,
    previous_action: Option<usize>,
    previous_reward: f32,
}

/// Where a step's draws go: each purpose has indices of its own.
mod draw {
    pub const LENGTH: u32 = 0;
    pub const FIRST: u32 = 1;
    pub const SECOND: u32 = 2;
    pub const FLIP: u32 = 3;
    pub const SHOWN: u32 = 4;
    pub const SHUFFLE: u32 = 8;
    pub const TARGET: u32 = 64;
    pub const CUES: u32 = 128;
}

impl Cue {
    /// The task with these options, before its first episode.
    ///
    /// # Errors
    /// [`ConfigError`] names the option that is out of range.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        check((2..=MAX_CUES as u32).contains(&config.cues), "cues", "2 to 16")?;
        check((1..=MAX_BITS as u32).contains(&config.bits), "bits", "1 to 32")?;
        check(config.steps > 0, "steps", "at least 1")?;
        let fits = config.longest_trial == 0 || (MIN_TRIAL..=MAX_TRIAL as u32).contains(&config.longest_trial);
        check(fits, "longest_trial", "5 to 16, or 0 for the variant's")?;
        check((0.0..=1.0).contains(&config.flip), "flip", "a probability, 0 to 1")?;
        check(
            !config.fixed || config.bits >= config.cues,
            "fixed",
            "at least as many bits as cues",
        )?;
        check(
            config.fixed || enough_patterns(&config),
            "bits",
            "enough bits for that many different cues",
        )?;
        let mut task = Self {
            config,
            rng: crate::rng::Rng::new(0).lifetime(crate::rng::Stream::Task, 0),
            cues: Vec::new(),
            target: 0,
            step: 0,
            trial: Vec::new(),
            position: 0,
            target_shown: false,
            previous_action: None,
            previous_reward: 0.0,
        };
        task.reset(task.rng);
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

    /// Whether the response cue is on.
    pub fn is_go(&self) -> bool {
        self.symbol() == Symbol::Go
    }

    /// The cue that is on, by number; `None` on blank and Go steps.
    pub fn shown(&self) -> Option<usize> {
        match self.symbol() {
            Symbol::Cue(cue) => Some(cue.into()),
            _ => None,
        }
    }

    /// The number of this episode's target.
    pub fn target(&self) -> usize {
        self.target.into()
    }

    /// The response that the current trial asks for: 1 if it shows the target, else 0.
    pub fn correct_response(&self) -> usize {
        self.target_shown.into()
    }

    fn symbol(&self) -> Symbol {
        self.trial.get(self.position).copied().unwrap_or(Symbol::Blank)
    }

    /// Draws the episode's cues, all different.
    fn draw_cues(&mut self) {
        self.cues.clear();
        let mask = ones(self.config.bits);
        let mut index = draw::CUES;
        while self.cues.len() < self.config.cues as usize {
            let bits = if self.config.fixed {
                1 << self.cues.len()
            } else {
                self.rng.draw(0, index) & mask
            };
            index += 1;
            let taken = self.cues.contains(&bits) || !allowed(self.config, bits);
            if (self.config.fixed || !taken) && self.cues.push(bits).is_err() {
                return;
            }
        }
    }

    /// The two different cues of a trial, the target among them in half of all trials. With only two cues there is no pair
    /// without the target, so a trial shows one of them and a blank.
    fn draw_pair(&mut self) -> (Symbol, Symbol) {
        let step = self.step;
        let others = self.config.cues - 1;
        // The number of a cue that is not the target, from its rank among those.
        let other = |rank: u32| Symbol::Cue(rank as u8 + u8::from(rank >= u32::from(self.target)));
        let first = self.rng.below(step, draw::FIRST, others);
        self.target_shown = self.rng.below(step, draw::SHOWN, 2) == 1;
        match (self.target_shown, others) {
            (true, 1) => (Symbol::Cue(self.target), Symbol::Blank),
            (true, _) => (Symbol::Cue(self.target), other(first)),
            (false, 1) => (other(first), Symbol::Blank),
            (false, _) => {
                let rank = self.rng.below(step, draw::SECOND, others - 1);
                (other(first), other(rank + u32::from(rank >= first)))
            }
        }
    }

    /// Lays out the next trial: blank, two different cues and blanks in random order, Go, blank.
    fn begin_trial(&mut self) {
        let (shortest, longest) = self.config.trial_steps();
        let step = self.step;
        let length = shortest + self.rng.below(step, draw::LENGTH, longest - shortest + 1);
        let (first, second) = self.draw_pair();
        self.position = 0;
        self.trial.clear();
        let middle = length.saturating_sub(3) as usize;
        let symbols = [first, second].into_iter().chain(core::iter::repeat(Symbol::Blank));
        let mut order: Vec<Symbol, MAX_TRIAL> = Vec::new();
        symbols.take(middle).for_each(|symbol| push(&mut order, symbol));
        for last in (1..middle).rev() {
            let other = self.rng.below(step, draw::SHUFFLE + last as u32, last as u32 + 1) as usize;
            swap(&mut order, last, other);
        }
        push(&mut self.trial, Symbol::Blank);
        order.iter().for_each(|symbol| push(&mut self.trial, *symbol));
        push(&mut self.trial, Symbol::Go);
        push(&mut self.trial, Symbol::Blank);
    }
}

/// A trial never exceeds the queue: [`MAX_TRIAL`] is the longest of both variants.
fn push(trial: &mut Vec<Symbol, MAX_TRIAL>, symbol: Symbol) {
    let fits = trial.push(symbol).is_ok();
    debug_assert!(fits);
}

/// Swaps two symbols without a panic path.
fn swap(symbols: &mut [Symbol], i: usize, j: usize) {
    if let (Some(a), Some(b)) = (symbols.get(i).copied(), symbols.get(j).copied()) {
        symbols.get_mut(i).into_iter().for_each(|slot| *slot = b);
        symbols.get_mut(j).into_iter().for_each(|slot| *slot = a);
    }
}

/// The lowest `count` bits set.
const fn ones(count: u32) -> u32 {
    u32::MAX >> (32 - count)
}

/// In the paper variant all zeros is a blank and all ones is Go, so no cue may look like them.
fn allowed(config: Config, bits: u32) -> bool {
    config.variant == Variant::Code || (bits != 0 && bits != ones(config.bits))
}

fn enough_patterns(config: &Config) -> bool {
    let reserved = if config.variant == Variant::Paper { 2 } else { 0 };
    (1u64 << config.bits) >= u64::from(config.cues) + reserved
}

impl Task for Cue {
    fn inputs(&self) -> usize {
        let others = match self.config.variant {
            Variant::Code => 7,
            Variant::Paper => 4,
        };
        self.config.bits as usize + others
    }

    fn actions(&self) -> usize {
        2
    }

    fn steps(&self) -> u32 {
        self.config.steps
    }

    fn input_range(&self) -> f32 {
        1.0
    }

    fn reset(&mut self, rng: Lifetime) {
        self.rng = rng;
        self.step = 0;
        self.draw_cues();
        self.target = rng.below(0, draw::TARGET, self.config.cues) as u8;
        self.previous_action = None;
        self.previous_reward = 0.0;
        self.begin_trial();
    }

    /// Code variant: bits, Go, 1, t/T, previous reward, 0, previous action (2). Paper: bits, t/T, previous action (2), previous reward.
    fn observe(&self, x: &mut [f32]) {
        let code = self.config.variant == Variant::Code;
        let go = self.is_go();
        // The pattern, and what stands for its zeros: the published one-hot cues are 0 or 1, random ones ±1.
        let (pattern, zero) = match self.shown().and_then(|cue| self.cues.get(cue).copied()) {
            Some(bits) => (bits, if code && !self.config.fixed { -1.0 } else { 0.0 }),
            None if go && !code => (u32::MAX, 0.0),
            None => (0, 0.0),
        };
        let time = if self.config.time_input {
            self.step as f32 / self.config.steps as f32
        } else {
            0.0
        };
        let was = |action| if self.previous_action == Some(action) { 1.0 } else { 0.0 };
        let code_channels = [f32::from(u8::from(go)), 1.0, time, self.previous_reward, 0.0, was(0), was(1)];
        let paper_channels = [time, was(0), was(1), self.previous_reward];
        let channels = if code { &code_channels[..] } else { &paper_channels[..] };
        let mut x = x.iter_mut();
        for (index, x) in x.by_ref().take(self.config.bits as usize).enumerate() {
            *x = if pattern >> index & 1 == 1 { 1.0 } else { zero };
        }
        for (x, channel) in x.zip(channels) {
            *x = *channel;
        }
    }

    fn act(&mut self, action: usize) -> Outcome {
        let mut outcome = Outcome::default();
        if self.is_go() {
            let correct = (action == 1) == self.target_shown;
            let flipped = self.rng.unit(self.step, draw::FLIP) < self.config.flip;
            outcome.reward = if correct != flipped { 1.0 } else { -1.0 };
            outcome.trial = Some(correct);
        }
        self.previous_action = Some(action);
        self.previous_reward = outcome.reward;
        self.step += 1;
        self.position += 1;
        if self.position >= self.trial.len() {
            self.begin_trial();
        }
        outcome
    }
}
