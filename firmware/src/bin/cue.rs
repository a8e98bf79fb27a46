//! Runs the embedded network for several lifetimes of the cue-reward association task and reports every trial,
//! every step of the first lifetime, and a last line that sums up, one JSON object a line.
//!
//! The traces do the learning: the image in flash never changes, and every lifetime begins with empty traces.
#![no_std]
#![no_main]

use backpropamine::digest::Digest;
use backpropamine::lifetime::{EVALUATION_SEED, Event, Lifetime};
use backpropamine::policy::Policy;
use backpropamine::scalar::Scalar;
use backpropamine::task::cue::{Config as CueConfig, Cue, Variant};
use cortex_m_rt::entry;

include!(concat!(env!("OUT_DIR"), "/image.rs"));
include!(concat!(env!("OUT_DIR"), "/task.rs"));

#[entry]
fn main() -> ! {
    static mut MEMORY: image::Memory = image::Memory::new();
    let mut agent = image::Agent::new(MEMORY);
    let mut task = match Cue::new(TASK) {
        Ok(task) => task,
        Err(error) => {
            defmt::error!("the task cannot be: {}", error);
            firmware::exit(2)
        }
    };
    let mut total = Total {
        trials: 0,
        correct: 0,
        digest: Digest::new(),
    };
    for number in 0..LIFETIMES {
        let seed = EVALUATION_SEED + u64::from(number);
        live(number, Lifetime::new(&mut task, &mut agent, Policy::Sample, seed), &mut total);
    }
    total.report();
    firmware::exit(0)
}

/// One lifetime, from birth to its last step.
fn live(number: u32, mut lifetime: Lifetime<Cue, image::Source>, total: &mut Total) {
    let mut trial = 0;
    while let Some(event) = lifetime.next() {
        let m = first_modulator(&lifetime);
        if number == 0 {
            report_step(number, &event, m);
        }
        if let Some(correct) = event.outcome.trial {
            report_trial(number, trial, &event, correct, m);
            trial += 1;
            total.correct += u32::from(correct);
        }
    }
    total.trials += trial;
    let digest = lifetime.digest();
    total.digest.word(digest as u32);
    total.digest.word((digest >> 32) as u32);
}

/// The first modulator m(t); 0 for a network without one.
fn first_modulator(lifetime: &Lifetime<Cue, image::Source>) -> f32 {
    let m = lifetime.agent().modulator().first();
    m.map_or(0.0, |m| image::Scalar::output_to_real(*m))
}

fn report_step(lifetime: u32, event: &Event, m: f32) {
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
    fn report(&self) {
        defmt::println!(
            "{{\"summary\":{{\"lifetimes\":{=u32},\"steps\":{=u32},\"trials\":{=u32},\"correct\":{=u32},\"digest\":\"{=u64:016x}\"}}}}",
            LIFETIMES,
            TASK.steps,
            self.trials,
            self.correct,
            self.digest.value()
        );
    }
}
