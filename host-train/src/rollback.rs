//! The way back when gradients explode.
//!
//! Explosions come on slowly: one gradient in a hundred is too long and its update left out, then every tenth, then every
//! second, and what the network had learned is gone by then. So a copy of network and optimiser is kept from times when no
//! update was left out for a while. Once too many are, the copy comes back, and the rate is halved, as the same steps would
//! soon lead to the same place; it rises again once the network has long been elsewhere. One in a hundred does no harm, for
//! as long as it may last: every update that is made pays off a part of one that was left out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::TrainingOptions;
use crate::model::Parameter;
use crate::optim::Adam;

/// The rate is halved so often and no more.
const HALVINGS: u32 = 4;

/// So many copies without a roll-back between them take one halving back.
const COPIES: u32 = 10;

/// Network and optimiser as they were in calm times.
#[derive(Clone, Debug, PartialEq)]
pub struct GoodCopy {
    /// The network's.
    pub parameters: BTreeMap<String, Parameter>,
    /// The optimiser.
    pub adam: Adam,
}

/// What decides about copies and roll-backs; all of it is part of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rollback {
    /// Roll-backs so far.
    pub count: u32,
    /// How often the rate is halved now.
    halvings: u32,
    /// Copies since that changed.
    copies: u32,
    /// Updates made since the last copy, roll-back or update left out.
    calm: u32,
    /// Updates left out and not paid off yet, each [`rollback_every`](TrainingOptions::rollback_every) strong.
    strain: u32,
    /// The last copy, which a checkpoint holds as tensors.
    #[serde(skip)]
    pub good: Option<GoodCopy>,
}

impl Rollback {
    /// Factor of the learning rate.
    pub fn rate_factor(&self) -> f64 {
        0.5f64.powi(self.halvings as i32)
    }

    /// Before an update that is made: copies network and optimiser if it is time.
    pub fn keep(&mut self, parameters: &BTreeMap<String, Parameter>, adam: &Adam, options: &TrainingOptions) {
        self.calm += 1;
        self.strain = self.strain.saturating_sub(options.rollback_after);
        if options.rollback_after > 0 && self.calm >= options.rollback_every {
            self.calm = 0;
            self.copies += 1;
            if self.copies == COPIES {
                self.copies = 0;
                self.halvings = self.halvings.saturating_sub(1);
            }
            self.good = Some(GoodCopy {
                parameters: parameters.clone(),
                adam: adam.clone(),
            });
        }
    }

    /// After an update that is left out: the copy to go back to, if it is time.
    pub fn skip(&mut self, options: &TrainingOptions) -> Option<&GoodCopy> {
        self.calm = 0;
        self.strain = self.strain.saturating_add(options.rollback_every);
        if options.rollback_after == 0 || self.strain < options.rollback_every.saturating_mul(options.rollback_after) {
            return None;
        }
        let good = self.good.as_ref()?;
        self.count += 1;
        (self.strain, self.copies) = (0, 0);
        self.halvings = (self.halvings + 1).min(HALVINGS);
        Some(good)
    }

    /// Another attempt, with new weights.
    pub fn begin_again(&mut self) {
        *self = Self {
            count: self.count,
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// After `updates` updates, of which those with a number that `left_out` says are left out.
    fn lived(updates: u32, left_out: impl Fn(u32) -> bool) -> Rollback {
        let options = Config::default().training;
        let mut rollback = Rollback::default();
        for update in 0..updates {
            if left_out(update) {
                rollback.skip(&options);
            } else {
                rollback.keep(&BTreeMap::new(), &Adam::default(), &options);
            }
        }
        rollback
    }

    #[test]
    fn every_twentieth_left_out_does_no_harm_and_every_second_does() {
        let calm = |update| update < 200;
        assert_eq!(lived(20_000, |update| !calm(update) && update % 20 == 0).count, 0);
        assert_eq!(lived(300, |update| !calm(update) && update % 2 == 0).count, 4);
    }

    #[test]
    fn the_rate_rises_again_in_calm_times() {
        let explosion = |update| (200..210).contains(&update);
        assert_eq!(lived(300, explosion).rate_factor(), 0.5);
        assert_eq!(lived(1500, explosion).rate_factor(), 1.0);
    }
}
