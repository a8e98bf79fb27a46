//! From logits to an action. The same bits give the same action on every target (`core/FORMAT.md`).

use crate::math::exp_neg_q16;
use crate::scalar::{Q16, Scalar};

/// How an action is chosen from the policy logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Policy {
    /// One 32-bit draw against the cumulative softmax.
    Sample,
    /// The first of the largest logits.
    Greedy,
}

impl Policy {
    /// The action for these logits. `draw` is 32 uniform bits; a greedy policy ignores them.
    pub fn choose<S: Scalar>(self, logits: &[S::Output], draw: u32) -> usize {
        match self {
            Policy::Sample => S::sample(logits, draw),
            Policy::Greedy => greedy(logits),
        }
    }
}

/// The index of the first largest logit; 0 for an empty slice.
///
/// ```
/// assert_eq!(backpropamine::policy::greedy(&[0.5, 2.0, 2.0]), 1);
/// ```
pub fn greedy<O: PartialOrd>(logits: &[O]) -> usize {
    let mut best = 0;
    let mut largest = logits.first();
    for (index, logit) in logits.iter().enumerate() {
        if largest.is_some_and(|current| logit > current) {
            best = index;
            largest = Some(logit);
        }
    }
    best
}

/// One draw against the softmax of f32 logits: the first action whose cumulative weight exceeds `draw / 2^32` of the whole.
///
/// Weights are `exp(logit - largest)` by `libm::expf`, summed in ascending order; the draw has 24 bits here.
///
/// ```
/// use backpropamine::policy::sample_f32;
/// assert_eq!(sample_f32([0.0, 0.0].into_iter(), 0), 0);
/// assert_eq!(sample_f32([0.0, 0.0].into_iter(), u32::MAX), 1);
/// ```
pub fn sample_f32(logits: impl ExactSizeIterator<Item = f32> + Clone, draw: u32) -> usize {
    let largest = logits.clone().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
    sample_weights(logits.map(|logit| libm::expf(logit - largest)), draw)
}

/// One draw against the weights of actions, in their order, as [`sample_f32`] says: for callers who have computed them.
///
/// ```
/// use backpropamine::policy::sample_weights;
/// assert_eq!(sample_weights([1.0, 3.0].into_iter(), 1 << 30), 1);
/// ```
pub fn sample_weights(weights: impl ExactSizeIterator<Item = f32> + Clone, draw: u32) -> usize {
    let mut total = 0.0;
    for weight in weights.clone() {
        total += weight;
    }
    let threshold = (draw >> 8) as f32 * (1.0 / 16_777_216.0) * total;
    let mut cumulative = 0.0;
    let last = weights.len().saturating_sub(1);
    for (action, weight) in weights.enumerate() {
        cumulative += weight;
        if threshold < cumulative {
            return action;
        }
    }
    last
}

/// One draw against the softmax of logits in Q16, in integers only.
///
/// The weight of an action is `2^(-d·log2 e)` in Q30, `d` its distance from the largest logit, by a table of 64 intervals
/// with linear interpolation (relative error below 3e-5).
///
/// ```
/// use backpropamine::{policy::sample_q16, scalar::Q16};
/// let logits = [Q16::from_f32(0.0), Q16::from_f32(3.0)];
/// assert_eq!(sample_q16(&logits, 0), 0);
/// assert_eq!(sample_q16(&logits, 1 << 31), 1);
/// ```
pub fn sample_q16(logits: &[Q16], draw: u32) -> usize {
    let largest = logits.iter().map(|logit| logit.to_bits()).fold(i32::MIN, i32::max);
    let weight = |logit: &Q16| u64::from(exp_neg_q16(largest.abs_diff(logit.to_bits())));
    let mut total = 0u64;
    for logit in logits {
        total += weight(logit);
    }
    // floor(draw·total / 2^32) without overflow, whatever the number of actions.
    let draw = u64::from(draw);
    let threshold = draw * (total >> 32) + ((draw * (total & 0xffff_ffff)) >> 32);
    let mut cumulative = 0u64;
    for (action, logit) in logits.iter().enumerate() {
        cumulative += weight(logit);
        if threshold < cumulative {
            return action;
        }
    }
    logits.len().saturating_sub(1)
}
