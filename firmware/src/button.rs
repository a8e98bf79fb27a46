//! A person as the teacher: the network's answer on an LED, the reward on a push button.

use embedded_hal::delay::DelayNs;
use embedded_hal::digital::{ErrorType, InputPin, OutputPin};

/// How long the teacher has, in steps of [`POLL_MS`].
const POLLS: u32 = 200;
/// Time between two looks at the button, in milliseconds.
const POLL_MS: u32 = 10;

/// Shows `answer` on the LED for two seconds and returns the reward: -1 if the button was pressed meanwhile, else +1.
///
/// The button is active low, as with a pull-up and a switch to ground; the LED is lit by a high level.
///
/// # Errors
/// What the pins report.
pub fn respond<E>(
    answer: bool,
    led: &mut impl OutputPin<Error = E>,
    button: &mut impl InputPin<Error = E>,
    delay: &mut impl DelayNs,
) -> Result<f32, E> {
    led.set_state(answer.into())?;
    let mut reward = 1.0;
    for _ in 0..POLLS {
        if button.is_low()? {
            reward = -1.0;
        }
        delay.delay_ms(POLL_MS);
    }
    led.set_low()?;
    Ok(reward)
}

/// An output that is on when its pin is low, such as the LEDs of many development boards.
pub struct ActiveLow<P>(pub P);

impl<P: ErrorType> ErrorType for ActiveLow<P> {
    type Error = P::Error;
}

impl<P: OutputPin> OutputPin for ActiveLow<P> {
    fn set_low(&mut self) -> Result<(), P::Error> {
        self.0.set_high()
    }

    fn set_high(&mut self) -> Result<(), P::Error> {
        self.0.set_low()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_hal_mock::eh1::delay::NoopDelay;
    use embedded_hal_mock::eh1::digital::{Mock, State, Transaction};

    /// The reward when the button reads `levels`, one after the other; the LED must show `answer`, then go dark.
    fn reward(answer: State, levels: impl IntoIterator<Item = State>) -> f32 {
        let mut led = Mock::new(&[Transaction::set(answer), Transaction::set(State::Low)]);
        let mut button = Mock::new(&levels.into_iter().map(Transaction::get).collect::<Vec<_>>());
        let reward = respond(answer == State::High, &mut led, &mut button, &mut NoopDelay);
        led.done();
        button.done();
        reward.unwrap()
    }

    #[test]
    fn silence_is_praise() {
        assert_eq!(reward(State::High, [State::High; 200]), 1.0);
        assert_eq!(reward(State::Low, [State::High; 200]), 1.0);
    }

    #[test]
    fn one_press_is_blame() {
        let mut levels = [State::High; 200];
        levels[137] = State::Low;
        assert_eq!(reward(State::High, levels), -1.0);
    }

    #[test]
    fn active_low_turns_levels_over() {
        let mut pin = Mock::new(&[Transaction::set(State::Low), Transaction::set(State::High)]);
        let mut led = ActiveLow(pin.clone());
        led.set_high().unwrap();
        led.set_low().unwrap();
        pin.done();
    }
}
