//! Is the network well? Cheap measures of a life as it is lived: saturated traces, silent neurons, modulator, reward.
//!
//! ```
//! # use backpropamine::embed;
//! use backpropamine::health::Monitor;
//! embed!(pub tiny: f32 = concat!(env!("CARGO_MANIFEST_DIR"), "/doc/tiny.bpam"));
//! let mut memory = tiny::Memory::new();
//! let mut agent = tiny::Agent::new(&mut memory);
//! let mut monitor = Monitor::<64>::new(); // up to 64 neurons
//! for _ in 0..10 {
//!     agent.step(&[0.5; tiny::INPUTS]);
//!     monitor.observe(&agent, 1.0);
//! }
//! let health = monitor.report(&mut agent);
//! assert_eq!((health.steps, health.saturated_inputs), (10, 0));
//! assert!(health.saturation <= 1.0 && health.reward_average > 0.0);
//! ```

use crate::network::{Living, Source};
use crate::scalar::Scalar;

/// A neuron is silent while |h| stays below this.
pub const SILENT: f64 = 0.01;
/// A trace is saturated from this share of the clip limit on.
pub const SATURATED: f64 = 0.99;
/// Parts of the traces' range in [`Health::histogram`].
pub const BINS: usize = 16;
/// Weight of the newest reward in the reward average.
const NEWEST: f32 = 1.0 / 64.0;

/// What a [`Monitor`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Health {
    /// Steps observed.
    pub steps: u32,
    /// Share of Hebbian traces at the clip limit, now; 0 without plasticity.
    pub saturation: f32,
    /// Mean of |H| over the Hebbian traces, now.
    pub trace_mean: f32,
    /// How many Hebbian traces lie in each of equal parts of the range from the negative to the positive clip limit, now.
    pub histogram: [u32; BINS],
    /// Neurons that were silent in every step observed.
    pub dead_units: u32,
    /// Mean of |m| over steps and modulators.
    pub modulator_mean: f32,
    /// Largest |m|.
    pub modulator_max: f32,
    /// Exponential average of the reward, with a time constant of 64 steps.
    pub reward_average: f32,
    /// Inputs that lay outside the range or were not a number, since birth; they were clamped.
    pub saturated_inputs: u32,
}

/// Observes a life, for networks of at most `UNITS` neurons; more are not looked at.
#[derive(Clone, Debug)]
pub struct Monitor<const UNITS: usize> {
    lively: [bool; UNITS],
    steps: u32,
    modulator_sum: f64,
    modulator_count: u32,
    modulator_max: f32,
    reward_average: f32,
}

impl<const UNITS: usize> Monitor<UNITS> {
    /// A monitor that has not seen anything.
    pub const fn new() -> Self {
        Self {
            lively: [false; UNITS],
            steps: 0,
            modulator_sum: 0.0,
            modulator_count: 0,
            modulator_max: 0.0,
            reward_average: 0.0,
        }
    }

    /// Takes in one step: call it after [`step`](Living::step), with the reward that the step was paid.
    pub fn observe<N: Source>(&mut self, agent: &Living<'_, N>, reward: f32) {
        self.steps = self.steps.saturating_add(1);
        for (lively, h) in self.lively.iter_mut().zip(agent.hidden()) {
            *lively |= magnitude(h.to_real().into()) >= SILENT;
        }
        for m in agent.modulator() {
            let m = magnitude(N::Scalar::output_to_real(*m).into());
            self.modulator_sum += m;
            self.modulator_count = self.modulator_count.saturating_add(1);
            self.modulator_max = self.modulator_max.max(m as f32);
        }
        if reward.is_finite() {
            self.reward_average += (reward - self.reward_average) * NEWEST;
        }
    }

    /// The reward average alone, which is at hand.
    pub const fn reward_average(&self) -> f32 {
        self.reward_average
    }

    /// Everything, which takes a look at every trace.
    pub fn report<N: Source>(&self, agent: &mut Living<'_, N>) -> Health {
        let header = *agent.network().header();
        let traces = if header.rule.is_plastic() {
            header.hidden * header.hidden
        } else {
            0
        };
        let mut census = Census::default();
        let mut seen = 0;
        // Hebbian traces come first; eligibilities have no limit to be at.
        agent.for_each_trace(|trace| {
            if seen < traces {
                census.take(trace.trace_to_real(&header).into(), header.clip.into());
            }
            seen += 1;
        });
        let silent = self.lively.iter().take(header.hidden).filter(|lively| !**lively);
        Health {
            steps: self.steps,
            saturation: share(f64::from(census.saturated), traces as u32),
            trace_mean: share(census.sum, traces as u32),
            histogram: census.bins,
            dead_units: if self.steps == 0 { 0 } else { silent.count() as u32 },
            modulator_mean: share(self.modulator_sum, self.modulator_count),
            modulator_max: self.modulator_max,
            reward_average: self.reward_average,
            saturated_inputs: agent.saturated_inputs(),
        }
    }
}

impl<const UNITS: usize> Default for Monitor<UNITS> {
    fn default() -> Self {
        Self::new()
    }
}

/// The Hebbian traces, one by one.
#[derive(Default)]
struct Census {
    saturated: u32,
    sum: f64,
    bins: [u32; BINS],
}

impl Census {
    fn take(&mut self, trace: f64, limit: f64) {
        let size = magnitude(trace);
        self.saturated += u32::from(size >= limit * SATURATED);
        self.sum += size;
        // The conversion saturates: what lies at the limit or beyond counts in the last bin of its side.
        let bin = ((trace / limit + 1.0) * (BINS / 2) as f64) as usize;
        if let Some(count) = self.bins.get_mut(bin.min(BINS - 1)) {
            *count += 1;
        }
    }
}

fn magnitude(value: f64) -> f64 {
    if value < 0.0 { -value } else { value }
}

fn share(sum: f64, count: u32) -> f32 {
    if count == 0 { 0.0 } else { (sum / f64::from(count)) as f32 }
}
