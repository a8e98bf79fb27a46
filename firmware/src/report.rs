//! What `cue` and `maze` report: every trial, every step of the first lifetime, and a last line that sums up, one JSON object a
//! line. The host reads it, and makes the same report from its own run. With the feature `telemetry`, `firmware::telemetry` reports the
//! lifetimes.

use backpropamine::digest::Digest;
#[cfg(not(feature = "telemetry"))]
use backpropamine::lifetime::Lifetime;
use backpropamine::lifetime::{EVALUATION_SEED, Event};
use backpropamine::network::{Living, Source};
#[cfg(not(feature = "telemetry"))]
use backpropamine::policy::Policy;
use backpropamine::scalar::Scalar;
use backpropamine::task::maze::Maze;
use backpropamine::task::{ConfigError, Task};

/// Says that the task cannot be, and ends.
pub fn refuse(error: ConfigError) -> ! {
    defmt::error!("the task cannot be: {}", error);
    crate::exit(2)
}

/// Runs lifetimes of the evaluation seeds and ends. `show` sees the task at the beginning of the first lifetime and after each
/// of its trials.
pub fn lives<T: Task, N: Source>(task: &mut T, agent: &mut Living<N>, lifetimes: u32, show: impl Fn(&T)) -> !
where
    N::Scalar: Scalar<Real = f32>,
{
    let mut total = Total {
        trials: 0,
        correct: 0,
        digest: Digest::new(),
    };
    for number in 0..lifetimes {
        let seed = EVALUATION_SEED + u64::from(number);
        #[cfg(not(feature = "telemetry"))]
        let lived = live(number, Lifetime::new(task, agent, Policy::Sample, seed), &show);
        #[cfg(feature = "telemetry")]
        let lived = {
            // The monitor draws the task itself, from the actions.
            let _ = &show;
            crate::telemetry::live(number, seed, task, agent)
        };
        total.add(&lived);
    }
    total.report(lifetimes, task.steps());
    crate::exit(0)
}

/// What one lifetime came to.
#[derive(Default)]
pub(crate) struct Lived {
    trials: u32,
    correct: u32,
    /// [`Lifetime::digest`] at its end.
    pub(crate) digest: u64,
}

impl Lived {
    /// Reports and counts a trial that ended.
    pub(crate) fn trial(&mut self, lifetime: u32, event: &Event, correct: bool, m: f32) {
        report_trial(lifetime, self.trials, event, correct, m);
        self.trials += 1;
        self.correct += u32::from(correct);
    }
}

/// One lifetime, from birth to its last step.
#[cfg(not(feature = "telemetry"))]
fn live<T: Task, N: Source>(number: u32, mut lifetime: Lifetime<T, N>, show: &impl Fn(&T)) -> Lived
where
    N::Scalar: Scalar<Real = f32>,
{
    if number == 0 {
        show(lifetime.task());
    }
    let mut lived = Lived::default();
    while let Some(event) = lifetime.next() {
        let m = first_modulator(lifetime.agent());
        if number == 0 {
            report_step(number, &event, m);
        }
        if let Some(correct) = event.outcome.trial {
            lived.trial(number, &event, correct, m);
            if number == 0 {
                show(lifetime.task());
            }
        }
    }
    lived.digest = lifetime.digest();
    lived
}

/// The first modulator m(t); 0 for a network without one.
pub(crate) fn first_modulator<N: Source>(agent: &Living<N>) -> f32
where
    N::Scalar: Scalar<Real = f32>,
{
    agent.modulator().first().map_or(0.0, |m| N::Scalar::output_to_real(*m))
}

/// The maze as one line, its rows divided by slashes.
pub fn picture(maze: &Maze) {
    let mut rows = Rows(heapless::String::new());
    // The largest maze fits.
    let _ = core::fmt::write(&mut rows, format_args!("{maze}"));
    defmt::println!("{{\"picture\":\"{=str}\"}}", rows.0.as_str());
}

/// Text whose lines are divided by slashes.
struct Rows(heapless::String<1024>);

impl core::fmt::Write for Rows {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        text.chars().try_for_each(|c| self.write_char(c))
    }

    fn write_char(&mut self, c: char) -> core::fmt::Result {
        self.0.push(if c == '\n' { '/' } else { c }).map_err(|_| core::fmt::Error)
    }
}

pub(crate) fn report_step(lifetime: u32, event: &Event, m: f32) {
    defmt::println!(
        "{{\"step\":{{\"lifetime\":{=u32},\"step\":{=u32},\"action\":{=u32},\"reward\":{=f32},\"m\":{=f32}}}}}",
        lifetime,
        event.step,
        event.action as u32,
        event.outcome.reward,
        m
    );
}

fn report_trial(lifetime: u32, trial: u32, event: &Event, correct: bool, m: f32) {
    defmt::println!(
        "{{\"trial\":{{\"lifetime\":{=u32},\"trial\":{=u32},\"step\":{=u32},\"response\":{=u32},\"correct\":{=bool},\"reward\":{=f32},\"m\":{=f32}}}}}",
        lifetime,
        trial,
        event.step,
        event.action as u32,
        correct,
        event.outcome.reward,
        m
    );
}

/// What all lifetimes came to.
struct Total {
    trials: u32,
    correct: u32,
    digest: Digest,
}

impl Total {
    fn add(&mut self, lived: &Lived) {
        self.trials += lived.trials;
        self.correct += lived.correct;
        self.digest.word(lived.digest as u32);
        self.digest.word((lived.digest >> 32) as u32);
    }

    fn report(&self, lifetimes: u32, steps: u32) {
        defmt::println!(
            "{{\"summary\":{{\"lifetimes\":{=u32},\"steps\":{=u32},\"trials\":{=u32},\"correct\":{=u32},\"digest\":\"{=u64:016x}\"}}}}",
            lifetimes,
            steps,
            self.trials,
            self.correct,
            self.digest.value()
        );
    }
}
