//! The way back when gradients explode.
//!
//! Explosions come on slowly: one gradient in a hundred is too long and its update left out, then every tenth, then every
//! second, and what the network had learned is gone by then. So a copy of network and optimiser is kept from times when no
//! update was left out for a while. Once too many are, the copy comes back, and the rate is halved for the rest of the
//! attempt, as the same steps would soon lead to the same place. One in a hundred does no harm, for as long as it may last:
//! every update that is made pays off a part of one that was left out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::TrainingOptions;
use crate::model::Parameter;
use crate::optim::Adam;

/// The rate is halved so often and no more.
const HALVINGS: u32 = 4;

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
    /// Those of this attempt.
    of_attempt: u32,
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
        0.5f64.powi(self.of_attempt.min(HALVINGS) as i32)
    }

    /// Before an update that is made: copies network and optimiser if it is time.
    pub fn keep(&mut self, parameters: &BTreeMap<String, Parameter>, adam: &Adam, options: &TrainingOptions) {
        self.calm += 1;
        self.strain = self.strain.saturating_sub(options.rollback_after);
        if options.rollback_after > 0 && self.calm >= options.rollback_every {
            self.calm = 0;
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
        self.strain = 0;
        self.of_attempt += 1;
        self.count += 1;
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
