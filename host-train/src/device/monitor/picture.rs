//! What is known of a run so far: what a view shows and the report sums up.

use anyhow::Result;
use serde_json::{Value, json};

use crate::device::emulate::trial_line;
use crate::device::record::{Birth, Health, Record, Step, Summary};
use crate::device::recording::Head;
use crate::device::world::World;
use crate::task::TaskConfig;

/// The lifetime that runs, and what came of those before.
pub struct Picture {
    head: Head,
    task: TaskConfig,
    world: World,
    /// What was to be seen at the last step.
    pub seen: String,
    /// The lifetime.
    pub birth: Option<Birth>,
    /// Its steps.
    pub steps: Vec<Step>,
    /// Its reward averages: step and value.
    pub averages: Vec<(f64, f64)>,
    /// How the network felt last.
    pub health: Option<Health>,
    /// Trials of all lifetimes, and successes among them.
    pub trials: [u32; 2],
    /// Other things than records that the board said last.
    pub said: String,
    /// The end of the run.
    pub summary: Option<Summary>,
    lifetimes: u32,
    counted: u64,
    ticks: u64,
}

impl Picture {
    /// A run that is about to begin.
    ///
    /// # Errors
    /// When the task cannot be.
    pub fn new(head: Head, task: TaskConfig) -> Result<Self> {
        let world = World::new(task)?;
        Ok(Self {
            head,
            task,
            seen: world.picture(),
            world,
            birth: None,
            steps: Vec::new(),
            averages: Vec::new(),
            health: None,
            trials: [0; 2],
            said: String::new(),
            summary: None,
            lifetimes: 0,
            counted: 0,
            ticks: 0,
        })
    }

    /// What runs.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Steps of a lifetime.
    pub fn lifetime_steps(&self) -> u32 {
        self.task.steps()
    }

    /// Takes in a record; what there is to say about it, where only text is wanted.
    pub fn take(&mut self, record: &Record) -> Option<String> {
        match record {
            Record::Birth(birth) => return self.begin(*birth),
            Record::Step(step) => self.step(*step),
            Record::Trial(trial) => {
                self.trials[0] += 1;
                self.trials[1] += u32::from(trial.correct);
                return Some(trial_line(trial, self.task));
            }
            Record::Health(health) => {
                self.averages.push((health.step.into(), health.reward_average.into()));
                self.health = Some(*health);
            }
            Record::Summary(summary) => {
                self.summary = Some(summary.clone());
                return self.lifetime_line();
            }
            Record::Picture(_) | Record::Image(_) => {}
        }
        None
    }

    fn begin(&mut self, birth: Birth) -> Option<String> {
        let line = self.lifetime_line();
        self.world.birth(birth.seed);
        self.seen = self.world.picture();
        self.birth = Some(birth);
        self.lifetimes += 1;
        self.steps.clear();
        self.averages.clear();
        self.health = None;
        line
    }

    fn step(&mut self, step: Step) {
        self.seen = self.world.picture();
        self.world.act(step.action);
        self.steps.push(step);
        let ticks = step.ticks.unwrap_or(0);
        self.counted += u64::from(ticks > 0);
        self.ticks += u64::from(ticks);
    }

    /// The lifetime in one line.
    fn lifetime_line(&self) -> Option<String> {
        let health = self.health?;
        Some(format!(
            "lifetime {:4}  reward average {:+.3}  |M| {:.3}, at most {:.3}  traces {}  |H| {:.3}  saturated {:.1}%  silent {}  \
             {:.0} {} a step",
            health.lifetime,
            health.reward_average,
            health.modulator_mean,
            health.modulator_max,
            blocks(&health.histogram),
            health.trace_mean,
            100.0 * health.saturation,
            health.dead_units,
            self.per_step(),
            self.head.unit,
        ))
    }

    /// Mean instructions or cycles of a step.
    pub fn per_step(&self) -> f64 {
        self.ticks as f64 * self.head.per_tick / self.counted.max(1) as f64
    }

    /// The report's figures.
    pub fn figures(&self) -> Value {
        let health = |get: fn(&Health) -> Value| self.health.as_ref().map(get);
        json!({
            "lifetimes": self.lifetimes,
            "steps": self.task.steps(),
            "trials": self.trials[0],
            "correct": self.trials[1],
            "reward_average": health(|health| health.reward_average.into()),
            "saturation": health(|health| health.saturation.into()),
            "trace_mean": health(|health| health.trace_mean.into()),
            "dead_units": health(|health| health.dead_units.into()),
            "modulator_mean": health(|health| health.modulator_mean.into()),
            "modulator_max": health(|health| health.modulator_max.into()),
            "unit": self.head.unit,
            "per_step": self.per_step(),
        })
    }
}

/// Counts as a row of blocks; whatever is not zero has one.
fn blocks(counts: &[u32]) -> String {
    const BLOCKS: [char; 9] = ['·', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let top = counts.iter().max().map_or(1, |&top| u64::from(top.max(1)));
    let block = |&count: &u32| BLOCKS[(8 * u64::from(count)).div_ceil(top) as usize];
    counts.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_as_high_as_counts_are_large() {
        assert_eq!(blocks(&[0, 1, 500, u32::MAX / 2, u32::MAX]), "·▁▁▄█");
        assert_eq!(blocks(&[0, 0]), "··");
    }
}
