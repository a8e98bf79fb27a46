//! Every step of a lifetime, its time, and how the network feels: what `cargo bpam monitor` shows and records.
//!
//! Steps are held in memory and reported when a trial ends or the room is full, so that reporting seldom comes between two steps.

use core::cell::Cell;

use backpropamine::health::{Health, Monitor};
use backpropamine::lifetime::{Event, Lifetime};
use backpropamine::network::{Living, Source};
use backpropamine::policy::Policy;
use backpropamine::rng;
use backpropamine::scalar::Scalar;
use backpropamine::task::{Outcome, Task};
use cortex_m::Peripherals;
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;

use crate::report::{Lived, first_modulator};

/// Neurons that are watched for silence; those of a larger network beyond it are not.
const UNITS: usize = 256;
/// Steps that are held.
const HELD: usize = 16;

/// One step, until it is reported.
struct Step {
    event: Event,
    m: f32,
    /// 0 after a look at the health: that carries out what the step before had left to be learned, so the step is no whole one.
    ticks: u32,
}

/// Lives one lifetime of this seed, from birth to its last step, and reports all of it.
pub(crate) fn live<T: Task, N: Source>(number: u32, seed: u64, task: &mut T, agent: &mut Living<N>) -> Lived
where
    N::Scalar: Scalar<Real = f32>,
{
    defmt::println!("{{\"birth\":{{\"lifetime\":{=u32},\"seed\":{=u64}}}}}", number, seed);
    let mut task = Timed::new(task);
    let steps = task.steps();
    let mut lifetime = Lifetime::new(&mut task, agent, Policy::Sample, seed);
    let mut monitor = Monitor::<UNITS>::new();
    let mut held = heapless::Vec::<Step, HELD>::new();
    let mut lived = Lived::default();
    let mut looked = false;
    while let Some(event) = lifetime.next() {
        let m = first_modulator(lifetime.agent());
        monitor.observe(lifetime.agent(), event.outcome.reward);
        let ticks = if looked { 0 } else { lifetime.task().ticks };
        // There is room: it is emptied below as soon as it is full.
        let _ = held.push(Step { event, m, ticks });
        let trial = event.outcome.trial;
        looked = held.is_full() || trial.is_some() || event.step + 1 == steps;
        if looked {
            held.iter().for_each(|step| report_step(number, step));
            held.clear();
            report_health(number, event.step, &monitor.report(lifetime.agent_mut()));
        }
        if let Some(correct) = trial {
            lived.trial(number, &event, correct, m);
        }
    }
    lived.digest = lifetime.digest();
    lived
}

/// A task that takes the time from its `observe` to its `act`: the network's step and the choice of an action.
struct Timed<'t, T> {
    task: &'t mut T,
    start: Cell<u32>,
    /// Ticks of the last step.
    ticks: u32,
}

impl<'t, T> Timed<'t, T> {
    /// The largest number of the processor's own timer, which has 24 bits and counts down.
    const RELOAD: u32 = 0xff_ffff;

    fn new(task: &'t mut T) -> Self {
        // The first lifetime starts the timer; nothing else uses it.
        if let Some(Peripherals { mut SYST, .. }) = Peripherals::take() {
            SYST.set_clock_source(SystClkSource::Core);
            SYST.set_reload(Self::RELOAD);
            SYST.clear_current();
            SYST.enable_counter();
        }
        Self {
            task,
            start: Cell::new(0),
            ticks: 0,
        }
    }
}

impl<T: Task> Task for Timed<'_, T> {
    fn inputs(&self) -> usize {
        self.task.inputs()
    }

    fn actions(&self) -> usize {
        self.task.actions()
    }

    fn steps(&self) -> u32 {
        self.task.steps()
    }

    fn input_range(&self) -> f32 {
        self.task.input_range()
    }

    fn reset(&mut self, rng: rng::Lifetime) {
        self.task.reset(rng);
    }

    fn observe(&self, x: &mut [f32]) {
        self.task.observe(x);
        self.start.set(SYST::get_current());
    }

    fn act(&mut self, action: usize) -> Outcome {
        self.ticks = self.start.get().wrapping_sub(SYST::get_current()) & Self::RELOAD;
        self.task.act(action)
    }
}

fn report_step(lifetime: u32, Step { event, m, ticks }: &Step) {
    defmt::println!(
        "{{\"step\":{{\"lifetime\":{=u32},\"step\":{=u32},\"action\":{=u32},\"reward\":{=f32},\"m\":{=f32},\"ticks\":{=u32}}}}}",
        lifetime,
        event.step,
        event.action as u32,
        event.outcome.reward,
        m,
        ticks
    );
}

fn report_health(lifetime: u32, step: u32, health: &Health) {
    defmt::println!(
        "{{\"health\":{{\"lifetime\":{=u32},\"step\":{=u32},\"saturation\":{=f32},\"trace_mean\":{=f32},\"histogram\":{=[?; 16]},\"dead_units\":{=u32},\"modulator_mean\":{=f32},\"modulator_max\":{=f32},\"reward_average\":{=f32},\"saturated_inputs\":{=u32}}}}}",
        lifetime,
        step,
        health.saturation,
        health.trace_mean,
        health.histogram,
        health.dead_units,
        health.modulator_mean,
        health.modulator_max,
        health.reward_average,
        health.saturated_inputs
    );
}
