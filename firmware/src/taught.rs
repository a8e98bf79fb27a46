//! The cue task on a real board, with a person as the paymaster: what all boards share.
//!
//! The cues are shown to the network only. When it answers, one LED shows its answer (lit: "the target was there") and another
//! the truth. The person has two seconds: a press pays -1, no press +1.

#[cfg(all(target_os = "none", not(feature = "telemetry")))]
use backpropamine::lifetime::Lifetime;
#[cfg(target_os = "none")]
use backpropamine::network::{Living, Source};
#[cfg(all(target_os = "none", not(feature = "telemetry")))]
use backpropamine::policy::Policy;
use backpropamine::rng;
#[cfg(target_os = "none")]
use backpropamine::scalar::Scalar;
use backpropamine::task::cue::Cue;
use backpropamine::task::{Outcome, Task};
use embedded_hal::delay::DelayNs;
use embedded_hal::digital::{InputPin, OutputPin};

use crate::button::respond;

/// Which input of the cue task is the reward of the step before: after 20 bits, Go, bias and time.
const REWARD_INPUT: usize = 23;

/// The cue task with a person as the paymaster.
pub struct Taught<A, T, B, D> {
    cue: Cue,
    reward: f32,
    answer: A,
    truth: T,
    button: B,
    delay: D,
}

impl<A, T, B, D> Taught<A, T, B, D> {
    /// A task whose LEDs, lit by a high level, show the answer and the truth, and whose button, active low, is the verdict.
    pub fn new(cue: Cue, answer: A, truth: T, button: B, delay: D) -> Self {
        Self {
            cue,
            reward: 0.0,
            answer,
            truth,
            button,
            delay,
        }
    }
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

/// Lives one lifetime after the other, each from the next of `seeds`, and logs every answer; with the feature `telemetry`, every
/// step.
#[cfg(target_os = "none")]
pub fn teach<N: Source>(task: &mut impl Task, agent: &mut Living<N>, mut seeds: impl FnMut() -> u64) -> !
where
    N::Scalar: Scalar<Real = f32>,
{
    let mut number = 0u32;
    loop {
        live(number, seeds(), task, agent);
        number = number.wrapping_add(1);
    }
}

#[cfg(all(target_os = "none", feature = "telemetry"))]
use crate::telemetry::live;

#[cfg(all(target_os = "none", not(feature = "telemetry")))]
fn live<N: Source>(_: u32, seed: u64, task: &mut impl Task, agent: &mut Living<N>)
where
    N::Scalar: Scalar<Real = f32>,
{
    defmt::println!("a new life: nothing learned yet");
    for event in Lifetime::new(task, agent, Policy::Sample, seed) {
        if let Some(right) = event.outcome.trial {
            defmt::println!("step {=u32}: right {=bool}, paid {=f32}", event.step, right, event.outcome.reward);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backpropamine::task::cue::Config;
    use embedded_hal_mock::eh1::delay::NoopDelay;
    use embedded_hal_mock::eh1::digital::{Mock, State, Transaction};

    /// What the task pays for its first answer, 1, when the button reads `level`; and the reward that the next step sees.
    fn first_pay(level: State) -> (f32, f32) {
        let mut cue = Cue::new(Config::default()).unwrap();
        cue.reset(rng::Rng::new(1).lifetime(rng::Stream::Task, 0));
        let truth = loop {
            let truth = if cue.correct_response() == 1 { State::High } else { State::Low };
            if cue.act(1).trial.is_some() {
                break truth;
            }
        };
        let mut answer_led = Mock::new(&[Transaction::set(State::High), Transaction::set(State::Low)]);
        let mut truth_led = Mock::new(&[Transaction::set(truth), Transaction::set(State::Low)]);
        let mut button = Mock::new(&vec![Transaction::get(level); 200]);
        let cue = Cue::new(Config::default()).unwrap();
        let mut task = Taught::new(cue, answer_led.clone(), truth_led.clone(), button.clone(), NoopDelay);
        task.reset(rng::Rng::new(1).lifetime(rng::Stream::Task, 0));
        let outcome = loop {
            let outcome = task.act(1);
            if outcome.trial.is_some() {
                break outcome;
            }
            assert_eq!(outcome.reward, 0.0, "nothing is paid within a trial");
        };
        let mut x = vec![0.0; task.inputs()];
        task.observe(&mut x);
        for pin in [&mut answer_led, &mut truth_led, &mut button] {
            pin.done();
        }
        (outcome.reward, x[REWARD_INPUT])
    }

    #[test]
    fn the_person_pays_and_the_network_sees_it() {
        assert_eq!(first_pay(State::High), (1.0, 1.0));
        assert_eq!(first_pay(State::Low), (-1.0, -1.0));
    }
}
