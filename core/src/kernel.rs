//! The hot loops: traces learn from the last step, row by row, and then the neurons of this one act.
//!
//! The loops are written once, over the elementary operations of a [`Kernel`]. They go through a row in ascending order,
//! in blocks of [`Kernel::BLOCK`] lanes (a q7 lane is the columns of one word; a fixed-point block has 32-bit sums of its own), without
//! fused multiply-add.
//! A kernel for a particular processor may work on several rows at once but must give these bits. Lengths are those of
//! the shortest slice, so nothing here can panic.

#[cfg(armv7em)]
#[macro_use]
mod sweep;

#[cfg(armv7em)]
mod armv7em;
#[cfg(armv7em)]
mod armv7em_q7;
#[cfg(armv6m)]
#[path = "kernel/armv6m.rs"]
mod assembly;
#[cfg(armv7m)]
#[path = "kernel/armv7m.rs"]
mod assembly;
mod fixed;
mod float;
#[cfg(any(armv6m, armv7em, armv7m))]
mod operands;
mod q7;
#[cfg(any(armv6m, armv7m))]
mod quads;
#[cfg(all(armv7em, target_abi = "eabihf"))]
mod vfp;

use crate::image::{Formats, Header};
use crate::rule::{Clip, Granularity, Squash};
use bytemuck::{Pod, Zeroable};
use core::{mem, slice};

/// The elementary operations of one arithmetic. Sealed by living in a private module.
pub trait Kernel: Pod {
    /// Weights as stored in the image.
    type Weight: Pod;
    /// `eta` and `hebbian_eta` as stored in the image.
    type Rate: Pod;
    /// What is loaded at once: the weights of one lane.
    type Weights: Pod;
    /// The activities or traces of one lane.
    type Values: Pod;
    /// Biases as stored in the image.
    type Bias: Pod;
    /// A pre-activation.
    type Accumulator: Copy;
    /// The sum of one block.
    type Partial: Copy;
    /// The factor of an increment of H: `eta·h_j`, `M_j·h_j` or `M_j`.
    type Gain: Copy + Zeroable;
    /// What an update of H needs to know: the clip limit, or the format of gains.
    type Bounds: Copy;
    /// Logits, value and modulator.
    type Output: Pod + PartialOrd + core::fmt::Debug;

    /// Lanes of a block.
    const BLOCK: usize;

    /// The accumulator at the start: a bias, or zero.
    fn start(bias: Option<&Self::Bias>) -> Self::Accumulator;
    /// Begins a block.
    fn begin(acc: Self::Accumulator) -> Self::Partial;
    /// `partial + weight·x`, for every number of a lane in ascending order.
    fn mac(partial: Self::Partial, weight: Self::Weights, x: Self::Values) -> Self::Partial;
    /// `partial + (weight + alpha·hebb)·x`, likewise.
    fn plastic_mac(
        partial: Self::Partial,
        weight: Self::Weights,
        alpha: Self::Weights,
        hebb: Self::Values,
        x: Self::Values,
    ) -> Self::Partial;
    /// A lane that holds one weight everywhere.
    fn splat(weight: Self::Weight) -> Self::Weights;
    /// Ends a block whose weights have `format` fractional bits.
    fn end(acc: Self::Accumulator, partial: Self::Partial, format: u16) -> Self::Accumulator;

    /// The bounds of this image's traces.
    fn bounds(header: &Header) -> Self::Bounds;
    /// `clip(hebb + gain·factor)`, where `factor` is `pre` or an eligibility.
    fn bump(hebb: Self, gain: Self::Gain, factor: Self, bounds: Self::Bounds) -> Self;
    /// `clip(hebb + d·(1-hebb))` if `d = gain·factor > 0`, else `clip(hebb + d·(1+hebb))`.
    fn soft(hebb: Self, gain: Self::Gain, factor: Self, bounds: Self::Bounds) -> Self;
    /// `clip((1-rate)·hebb + (rate·post)·pre)`.
    fn decay(hebb: Self, rate: Self::Gain, post: Self, pre: Self, bounds: Self::Bounds) -> Self;
    /// `clip(hebb + (rate·post)·(pre - post·hebb))`.
    fn oja(hebb: Self, rate: Self::Gain, post: Self, pre: Self, bounds: Self::Bounds) -> Self;
    /// `(1-eta)·eligibility + (eta·post)·pre`.
    fn drift(eligibility: Self, eta: Self::Rate, post: Self, pre: Self) -> Self;
    /// The gain that is a stored eta of Hebbian.
    fn rate(eta: Self::Rate) -> Self::Gain;
    /// `gain·post`.
    fn times(gain: Self::Gain, post: Self) -> Self::Gain;
    /// Whether increments with this gain change nothing.
    fn is_zero(gain: Self::Gain) -> bool;
    /// `M_j = Σ_k fan_out_jk·m_k + bias_j`; without a fan-out row every factor is 1.
    fn modulation(m: &[Self::Output], fan_out: Option<&[Self::Weight]>, bias: Option<&Self::Bias>, header: &Header) -> Self::Gain;

    /// [`act`]. This and the next four are for kernels of a particular processor.
    #[inline(always)]
    fn act(layer: &Layer<'_, Self>, next: &mut [Self]) {
        act_each(layer, next);
    }
    /// [`dot`].
    fn dot(acc: Self::Accumulator, weight: &[Self::Weight], x: &[Self], format: u16) -> Self::Accumulator {
        static_dot::<Self>(acc, lanes(weight), lanes(x), format)
    }
    /// [`learn`].
    #[inline(always)]
    fn learn(traces: Traces<'_, Self>, increment: Increment<'_, Self>, post: &[Self], pre: &[Self], header: &Header) {
        learn_each(traces, increment, post, pre, header);
    }
    /// [`bump_each`].
    #[inline(always)]
    fn bump_row(hebb: &mut [Self], gain: Self::Gain, factors: &[Self], bounds: Self::Bounds) {
        bump_each(hebb, gain, factors, bounds);
    }
    /// [`write_each`].
    #[inline(always)]
    fn write_row(traces: Traces<'_, Self>, modulator: Self::Gain, eta: Self::Rate, post: Self, pre: &[Self], bounds: Self::Bounds) {
        write_each(traces, modulator, eta, post, pre, bounds);
    }

    /// `tanh` of a pre-activation.
    fn activity(acc: Self::Accumulator) -> Self;
    /// A pre-activation as logit or value.
    fn output(acc: Self::Accumulator) -> Self::Output;
    /// The modulator's nonlinearity.
    fn squash(acc: Self::Accumulator, squash: Squash) -> Self::Output;
}

/// A coefficient of all connections, as many numbers as the image has of it.
#[derive(Clone, Copy)]
pub struct Coefficients<'a, W> {
    /// The numbers.
    pub values: &'a [W],
    /// What one number is for.
    pub granularity: Granularity,
}

impl<'a, W: Pod> Coefficients<'a, W> {
    /// The coefficient along row `post` of a matrix with rows of `stride` numbers.
    pub fn row(self, post: usize, stride: usize) -> Coefficient<'a, W> {
        let one = |index| Coefficient::Uniform(self.values.get(index).copied().unwrap_or(W::zeroed()));
        match self.granularity {
            Granularity::Absent | Granularity::Single => one(0),
            Granularity::PerNeuron => one(post),
            Granularity::PerConnection => Coefficient::Row(row(self.values, stride, post)),
        }
    }
}

/// A coefficient along one row: a number per connection, or one for the whole row.
#[derive(Clone, Copy)]
pub enum Coefficient<'a, W> {
    /// One number for every connection of the row.
    Uniform(W),
    /// A number per connection.
    Row(&'a [W]),
}

impl<W: Pod> Coefficient<'_, W> {
    /// The number of one connection.
    fn at(self, pre: usize) -> W {
        match self {
            Coefficient::Uniform(one) => one,
            Coefficient::Row(row) => row.get(pre).copied().unwrap_or(W::zeroed()),
        }
    }
}

/// What the activities of all neurons are computed from: matrices row by row, and what every row reads.
pub struct Layer<'a, S: Kernel> {
    /// Inputs u(t), a whole number of lanes.
    pub input: &'a [S],
    /// Their weights `Win`.
    pub input_weight: &'a [S::Weight],
    /// A bias `b` for each neuron.
    pub bias: &'a [S::Bias],
    /// The activities h(t-1), a whole number of lanes.
    pub h: &'a [S],
    /// Their weights `w`.
    pub weight: &'a [S::Weight],
    /// `alpha` and H, if there is plasticity.
    pub plastic: Option<(Coefficients<'a, S::Weight>, &'a [S])>,
    /// Fractional bits of weights.
    pub formats: &'a Formats,
}

/// `next_j = tanh(b_j + Σ_k Win_jk·u_k + Σ_i (w_ji + alpha_ji·H_ji)·h_i)`.
#[inline(always)]
pub fn act<S: Kernel>(layer: &Layer<'_, S>, next: &mut [S]) {
    S::act(layer, next);
}

/// [`act`], row by row.
fn act_each<S: Kernel>(layer: &Layer<'_, S>, next: &mut [S]) {
    let formats = layer.formats;
    let rows = rows(layer.input_weight, layer.input.len()).zip(rows(layer.weight, layer.h.len()));
    for (post, ((next, bias), (input_weight, weight))) in next.iter_mut().zip(layer.bias).zip(rows).enumerate() {
        let acc = dot(S::start(Some(bias)), input_weight, layer.input, formats.input);
        *next = S::activity(match layer.plastic {
            Some((alpha, hebb)) => plastic_dot(
                acc,
                weight,
                alpha.row(post, layer.h.len()),
                row(hebb, layer.h.len(), post),
                layer.h,
                formats.recurrent,
            ),
            None => dot(acc, weight, layer.h, formats.recurrent),
        });
    }
}

/// The rows of a matrix, one after the other.
fn rows<T>(matrix: &[T], stride: usize) -> slice::ChunksExact<'_, T> {
    // A stride is never 0, but that the compiler cannot know.
    matrix.chunks_exact(stride.max(1))
}

/// Row `index` of a matrix; empty beyond its end.
pub fn row<T>(matrix: &[T], stride: usize, index: usize) -> &[T] {
    let rest = matrix
        .split_at_checked(index.wrapping_mul(stride))
        .map_or(&[][..], |(_, rest)| rest);
    rest.split_at_checked(stride).map_or(&[], |(row, _)| row)
}

/// Rows of H and of E; the latter empty where the rule has none.
pub struct Traces<'a, S> {
    /// Hebbian traces.
    pub hebb: &'a mut [S],
    /// Eligibility traces.
    pub eligibility: &'a mut [S],
}

impl<'a, S> Traces<'a, S> {
    /// Takes the first row of both; empty at the end.
    pub fn next_row(&mut self, stride: usize) -> (&'a mut [S], &'a mut [S]) {
        (take_row(&mut self.hebb, stride), take_row(&mut self.eligibility, stride))
    }
}

/// The first row of a matrix that is to be changed, taken off its front; empty at the end.
fn take_row<'a, T>(matrix: &mut &'a mut [T], stride: usize) -> &'a mut [T] {
    match mem::take(matrix).split_at_mut_checked(stride) {
        Some((row, rest)) => {
            *matrix = rest;
            row
        }
        None => &mut [],
    }
}

/// What the last step left to be done to rows of traces, with `pre` = h(t-2) and `post` = h_j(t-1), one for each row.
#[derive(Clone, Copy)]
pub enum Increment<'a, S: Kernel> {
    /// Nothing.
    None,
    /// `H ← clip(H + (rate·post)·pre)`, or as the other clips have it: Hebbian with one eta for these rows, and Modulated.
    Rate(S::Gain),
    /// Likewise with a row of eta: Hebbian with one per connection.
    Rates(&'a [S::Rate]),
    /// `H ← clip(H + M·E)`, then `E ← (1-eta)·E + (eta·post)·pre`: Retroactive.
    Retroactive {
        /// The modulator at these neurons.
        modulator: S::Gain,
        /// The trace rate.
        eta: Coefficient<'a, S::Rate>,
    },
}

impl<'a, S: Kernel> Increment<'a, S> {
    /// The increment of one connection alone.
    pub fn column(self, pre: usize) -> Self {
        let one = |row: &'a [S::Rate]| row.get(pre..=pre).unwrap_or_default();
        match self {
            Increment::Rates(eta) => Increment::Rates(one(eta)),
            Increment::Retroactive {
                modulator,
                eta: Coefficient::Row(eta),
            } => Increment::Retroactive {
                modulator,
                eta: Coefficient::Row(one(eta)),
            },
            other => other,
        }
    }
}

/// Whether steps are to take the same time whatever the numbers are: then no row is left out, and the kernels of processors that
/// choose by the size of a number stand back.
const CONSTANT_TIME: bool = cfg!(feature = "constant-time");

/// Whether a row may be left out because increments with this gain change nothing.
fn is_idle<S: Kernel>(gain: S::Gain) -> bool {
    !CONSTANT_TIME && S::is_zero(gain)
}

/// Applies an increment to a row of traces for each `post`.
#[inline(always)]
pub fn learn<S: Kernel>(traces: Traces<'_, S>, increment: Increment<'_, S>, post: &[S], pre: &[S], header: &Header) {
    S::learn(traces, increment, post, pre, header);
}

/// [`learn`], row by row.
fn learn_each<S: Kernel>(mut traces: Traces<'_, S>, increment: Increment<'_, S>, post: &[S], pre: &[S], header: &Header) {
    for post in post {
        let (hebb, eligibility) = traces.next_row(pre.len());
        learn_row(hebb, eligibility, increment, *post, pre, header);
    }
}

/// [`learn`] of one row, connection by connection.
fn learn_row<S: Kernel>(hebb: &mut [S], eligibility: &mut [S], increment: Increment<'_, S>, post: S, pre: &[S], header: &Header) {
    let bounds = S::bounds(header);
    if header.clip_kind != Clip::Hard {
        return learn_shaped(hebb, eligibility, increment, post, pre, header.clip_kind, bounds);
    }
    match increment {
        Increment::None => (),
        Increment::Rate(rate) => {
            let gain = S::times(rate, post);
            if !is_idle::<S>(gain) {
                S::bump_row(hebb, gain, pre, bounds);
            }
        }
        Increment::Rates(eta) => {
            for ((hebb, pre), eta) in hebb.iter_mut().zip(pre).zip(eta) {
                *hebb = S::bump(*hebb, S::times(S::rate(*eta), post), *pre, bounds);
            }
        }
        Increment::Retroactive {
            modulator,
            eta: Coefficient::Uniform(eta),
        } => S::write_row(Traces { hebb, eligibility }, modulator, eta, post, pre, bounds),
        Increment::Retroactive {
            modulator,
            eta: Coefficient::Row(eta),
        } => {
            for (((hebb, eligibility), pre), eta) in hebb.iter_mut().zip(eligibility).zip(pre).zip(eta) {
                write(hebb, eligibility, modulator, *eta, post, *pre, bounds);
            }
        }
    }
}

/// `hebb ← clip(hebb + gain·factors)` along a row.
fn bump_each<S: Kernel>(hebb: &mut [S], gain: S::Gain, factors: &[S], bounds: S::Bounds) {
    for (hebb, factor) in hebb.iter_mut().zip(factors) {
        *hebb = S::bump(*hebb, gain, *factor, bounds);
    }
}

/// [`write()`] along a row.
fn write_each<S: Kernel>(traces: Traces<'_, S>, modulator: S::Gain, eta: S::Rate, post: S, pre: &[S], bounds: S::Bounds) {
    for ((hebb, eligibility), pre) in traces.hebb.iter_mut().zip(traces.eligibility).zip(pre) {
        write(hebb, eligibility, modulator, eta, post, *pre, bounds);
    }
}

/// A connection's retroactive change of H, and of E.
#[inline(always)]
fn write<S: Kernel>(hebb: &mut S, eligibility: &mut S, modulator: S::Gain, eta: S::Rate, post: S, pre: S, bounds: S::Bounds) {
    *hebb = S::bump(*hebb, modulator, *eligibility, bounds);
    *eligibility = S::drift(*eligibility, eta, post, pre);
}

/// [`learn_row`] for clips that are not hard. Out of line and one connection after the other, so that the hard clip's loops
/// stay as small and as fast as without it.
#[inline(never)]
fn learn_shaped<S: Kernel>(
    hebb: &mut [S],
    eligibility: &mut [S],
    increment: Increment<'_, S>,
    post: S,
    pre: &[S],
    clip: Clip,
    bounds: S::Bounds,
) {
    let write = |hebb, rate, pre| match clip {
        Clip::Decay => S::decay(hebb, rate, post, pre, bounds),
        Clip::Oja => S::oja(hebb, rate, post, pre, bounds),
        Clip::Hard | Clip::Soft => S::soft(hebb, S::times(rate, post), pre, bounds),
    };
    // A trace decays at its rate even where the neuron is silent.
    let is_idle = |rate| is_idle::<S>(rate) || !clip.needs_rate() && is_idle::<S>(S::times(rate, post));
    let traces = hebb.iter_mut().zip(pre);
    match increment {
        Increment::Rate(rate) if !is_idle(rate) => traces.for_each(|(hebb, pre)| *hebb = write(*hebb, rate, *pre)),
        Increment::None | Increment::Rate(_) => (),
        Increment::Rates(eta) => traces
            .zip(eta)
            .for_each(|((hebb, pre), eta)| *hebb = write(*hebb, S::rate(*eta), *pre)),
        Increment::Retroactive { modulator, eta } => {
            for (index, ((hebb, pre), eligibility)) in traces.zip(eligibility).enumerate() {
                *hebb = S::soft(*hebb, modulator, *eligibility, bounds);
                *eligibility = S::drift(*eligibility, eta.at(index), post, *pre);
            }
        }
    }
}

/// A row in lanes. It is never cut short: rows of an image and of a memory begin on a word and end on one
/// ([`Numeric::stride`](crate::image::Numeric::stride)).
fn lanes<T: Pod, L: Pod>(row: &[T]) -> &[L] {
    let lanes = bytemuck::try_cast_slice(row);
    debug_assert!(lanes.is_ok(), "a row must be a whole number of lanes");
    lanes.unwrap_or_default()
}

/// `acc + Σ weight·x`; `format` is the weights' number of fractional bits.
#[inline(always)]
pub fn dot<S: Kernel>(acc: S::Accumulator, weight: &[S::Weight], x: &[S], format: u16) -> S::Accumulator {
    S::dot(acc, weight, x, format)
}

/// [`dot`] by elementary operations.
#[inline(never)]
fn static_dot<S: Kernel>(acc: S::Accumulator, weight: &[S::Weights], x: &[S::Values], format: u16) -> S::Accumulator {
    let sum = |acc, (weight, x): (&[S::Weights], &[S::Values])| {
        let partial = weight
            .iter()
            .zip(x)
            .fold(S::begin(acc), |partial, (weight, x)| S::mac(partial, *weight, *x));
        S::end(acc, partial, format)
    };
    let (weights, xs) = (weight.chunks_exact(S::BLOCK), x.chunks_exact(S::BLOCK));
    let rest = (weights.remainder(), xs.remainder());
    sum(weights.zip(xs).fold(acc, sum), rest)
}

/// `acc + Σ (weight + alpha·hebb)·x`.
#[inline(always)]
pub fn plastic_dot<S: Kernel>(
    acc: S::Accumulator,
    weight: &[S::Weight],
    alpha: Coefficient<'_, S::Weight>,
    hebb: &[S],
    x: &[S],
    format: u16,
) -> S::Accumulator {
    match alpha {
        Coefficient::Uniform(alpha) => uniform_dot::<S>(acc, lanes(weight), S::splat(alpha), lanes(hebb), lanes(x), format),
        Coefficient::Row(alpha) => row_dot::<S>(acc, lanes(weight), lanes(alpha), lanes(hebb), lanes(x), format),
    }
}

/// Two rows of a kind.
type Two<'a, A> = (&'a [A], &'a [A]);

/// [`plastic_dot`] with one alpha.
fn uniform_dot<S: Kernel>(
    acc: S::Accumulator,
    weight: &[S::Weights],
    alpha: S::Weights,
    hebb: &[S::Values],
    x: &[S::Values],
    format: u16,
) -> S::Accumulator {
    let sum = |acc, (weight, (hebb, x)): (&[S::Weights], Two<'_, S::Values>)| {
        let mut partial = S::begin(acc);
        for ((weight, hebb), x) in weight.iter().zip(hebb).zip(x) {
            partial = S::plastic_mac(partial, *weight, alpha, *hebb, *x);
        }
        S::end(acc, partial, format)
    };
    let weights = weight.chunks_exact(S::BLOCK);
    let (hebbs, xs) = (hebb.chunks_exact(S::BLOCK), x.chunks_exact(S::BLOCK));
    let rest = (weights.remainder(), (hebbs.remainder(), xs.remainder()));
    sum(weights.zip(hebbs.zip(xs)).fold(acc, sum), rest)
}

/// [`plastic_dot`] with an alpha per connection, by elementary operations.
#[inline(never)]
fn row_dot<S: Kernel>(
    acc: S::Accumulator,
    weight: &[S::Weights],
    alpha: &[S::Weights],
    hebb: &[S::Values],
    x: &[S::Values],
    format: u16,
) -> S::Accumulator {
    let sum = |acc, ((weight, alpha), (hebb, x)): (Two<'_, S::Weights>, Two<'_, S::Values>)| {
        let mut partial = S::begin(acc);
        for ((weight, alpha), (hebb, x)) in weight.iter().zip(alpha).zip(hebb.iter().zip(x)) {
            partial = S::plastic_mac(partial, *weight, *alpha, *hebb, *x);
        }
        S::end(acc, partial, format)
    };
    let (weights, alphas) = (weight.chunks_exact(S::BLOCK), alpha.chunks_exact(S::BLOCK));
    let (hebbs, xs) = (hebb.chunks_exact(S::BLOCK), x.chunks_exact(S::BLOCK));
    let rest = ((weights.remainder(), alphas.remainder()), (hebbs.remainder(), xs.remainder()));
    sum(weights.zip(alphas).zip(hebbs.zip(xs)).fold(acc, sum), rest)
}
