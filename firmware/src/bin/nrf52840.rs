//! A network that learns from a person, on an nRF52840-DK: `cargo bpam flash MODEL`, or
//! `cargo run --release --no-default-features --features nrf52840 --bin nrf52840` with probe-rs installed.
//!
//! The cues are shown to the network only. When it answers, LED 1 shows its answer (lit: "the target was there") and
//! LED 2 the truth. You have two seconds: press button 1 if they differ, and the network is paid -1; else it is paid +1.
//! Or press by a rule of your own: it will learn that.
#![no_std]
#![no_main]

use backpropamine::lifetime::Lifetime;
use backpropamine::policy::Policy;
use backpropamine::rng;
use backpropamine::task::cue::{Config, Cue};
use backpropamine::task::{Outcome, Task};
use cortex_m_rt::entry;
use embedded_hal::delay::DelayNs;
use embedded_hal::digital::{InputPin, OutputPin};
use firmware::button::{ActiveLow, respond};
use nrf52840_hal::gpio::{Level, p0};
use nrf52840_hal::{Rng, Timer, pac};

include!(concat!(env!("OUT_DIR"), "/image.rs"));

/// Which input of the cue task is the reward of the step before: after 20 bits, Go, bias and time.
const REWARD_INPUT: usize = 23;

#[entry]
fn main() -> ! {
    static mut MEMORY: image::Memory = image::Memory::new();
    let Some(board) = pac::Peripherals::take() else { firmware::exit(1) };
    let pins = p0::Parts::new(board.P0);
    let Ok(cue) = Cue::new(Config::default()) else { firmware::exit(2) };
    let mut task = Taught {
        cue,
        reward: 0.0,
        answer: ActiveLow(pins.p0_13.into_push_pull_output(Level::High)),
        truth: ActiveLow(pins.p0_14.into_push_pull_output(Level::High)),
        button: pins.p0_11.into_pullup_input(),
        delay: Timer::new(board.TIMER0),
    };
    let mut agent = image::Agent::new(MEMORY);
    let mut seeds = Rng::new(board.RNG);
    loop {
        defmt::println!("a new life: nothing learned yet");
        for event in Lifetime::new(&mut task, &mut agent, Policy::Sample, seeds.random_u64()) {
            if let Some(right) = event.outcome.trial {
                defmt::println!("step {=u32}: right {=bool}, paid {=f32}", event.step, right, event.outcome.reward);
            }
        }
    }
}

/// The cue task with a person as the paymaster.
struct Taught<A, T, B, D> {
    cue: Cue,
    reward: f32,
    answer: A,
    truth: T,
    button: B,
    delay: D,
}

impl<E, A, T, B, D> Task for Taught<A, T, B, D>
where
    A: OutputPin<Error = E>,
    T: OutputPin<Error = E>,
    B: InputPin<Error = E>,
    D: DelayNs,
{
    fn inputs(&self) -> usize {
        self.cue.inputs()
    }

    fn actions(&self) -> usize {
        self.cue.actions()
    }

    fn steps(&self) -> u32 {
        self.cue.steps()
    }

    fn input_range(&self) -> f32 {
        self.cue.input_range()
    }

    fn reset(&mut self, rng: rng::Lifetime) {
        self.cue.reset(rng);
        self.reward = 0.0;
    }

    fn observe(&self, x: &mut [f32]) {
        self.cue.observe(x);
        if let Some(x) = x.get_mut(REWARD_INPUT) {
            *x = self.reward;
        }
    }

    fn act(&mut self, action: usize) -> Outcome {
        let truth = self.cue.correct_response() == 1;
        let trial = self.cue.act(action).trial;
        self.reward = match trial {
            Some(_) => self.ask(action == 1, truth).unwrap_or(0.0),
            None => 0.0,
        };
        Outcome {
            reward: self.reward,
            trial,
        }
    }
}

impl<E, A, T, B, D> Taught<A, T, B, D>
where
    A: OutputPin<Error = E>,
    T: OutputPin<Error = E>,
    B: InputPin<Error = E>,
    D: DelayNs,
{
    /// Shows answer and truth and waits for the verdict.
    fn ask(&mut self, answer: bool, truth: bool) -> Result<f32, E> {
        self.truth.set_state(truth.into())?;
        let reward = respond(answer, &mut self.answer, &mut self.button, &mut self.delay)?;
        self.truth.set_low()?;
        Ok(reward)
    }
}
