//! A task of one's own, in one file: the host trains on it (`main.rs` beside it), `firmware/src/bin/own_task.rs` runs it.
//!
//! A panel shows one of three symbols, the agent presses one of two buttons. For each symbol one button is right, and in
//! every lifetime another. A right press pays +1, a wrong one -1, and the next symbol appears at once.

use backpropamine::rng::Lifetime;
use backpropamine::task::{Outcome, Task};

/// Number of symbols.
const SYMBOLS: usize = 3;

/// The panel.
pub struct Panel {
    rng: Lifetime,
    step: u32,
    symbol: usize,
    pressed: Option<usize>,
    reward: f32,
}

impl Panel {
    /// A panel in the lifetime of these draws.
    pub fn new(rng: Lifetime) -> Self {
        let mut panel = Self {
            rng,
            step: 0,
            symbol: 0,
            pressed: None,
            reward: 0.0,
        };
        panel.reset(rng);
        panel
    }

    /// The right button for a symbol: drawn at step 0 with an index of its own, so it is the same for the whole lifetime.
    fn right_button(&self, symbol: usize) -> usize {
        self.rng.below(0, 1 + symbol as u32, 2) as usize
    }

    fn draw_symbol(&self) -> usize {
        self.rng.below(self.step, 0, SYMBOLS as u32) as usize
    }
}

impl Task for Panel {
    /// The symbols, two buttons, the reward and a constant.
    fn inputs(&self) -> usize {
        SYMBOLS + 4
    }

    fn actions(&self) -> usize {
        2
    }

    fn steps(&self) -> u32 {
        40
    }

    fn input_range(&self) -> f32 {
        1.0
    }

    fn reset(&mut self, rng: Lifetime) {
        self.rng = rng;
        self.step = 0;
        self.symbol = self.draw_symbol();
        self.pressed = None;
        self.reward = 0.0;
    }

    fn observe(&self, x: &mut [f32]) {
        let is = |condition: bool| f32::from(u8::from(condition));
        let symbols = (0..SYMBOLS).map(|symbol| is(symbol == self.symbol));
        let buttons = (0..2).map(|button| is(self.pressed == Some(button)));
        for (x, value) in x.iter_mut().zip(symbols.chain(buttons).chain([self.reward, 1.0])) {
            *x = value;
        }
    }

    fn act(&mut self, action: usize) -> Outcome {
        let right = action == self.right_button(self.symbol);
        self.reward = if right { 1.0 } else { -1.0 };
        self.pressed = Some(action);
        self.step += 1;
        self.symbol = self.draw_symbol();
        Outcome {
            reward: self.reward,
            trial: Some(right),
        }
    }
}
