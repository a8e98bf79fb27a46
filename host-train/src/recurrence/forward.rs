//! One lifetime forwards, and what it leaves behind for the gradient.

use std::marker::PhantomData;

use backpropamine::rule::Squash;

use super::kernel::{Job, LANES, Lanes, Vector, flat, flat_mut};
use super::real::Real;
use super::sweep::{Activate, Dots, Rows, Step, row, row_mut};
use super::weights::{Weights, position, with_rule};

/// What [`backward`](super::backward) needs of a lifetime: `h` and `m` of every step. The traces are computed again.
#[derive(Clone, Debug, Default)]
pub struct Trajectory<F> {
    neurons: usize,
    columns: usize,
    modulators: usize,
    steps: usize,
    /// `h(-1) = 0`, `h(0)`, `h(1)`, …: `[1 + steps][columns]`.
    hidden: Vec<Lanes<F>>,
    /// `[steps][K]`
    modulator: Vec<F>,
}

impl<F: Real> Trajectory<F> {
    fn new(weights: &Weights<F>, steps: usize) -> Self {
        let modulators = weights.spec.modulators;
        Self {
            neurons: weights.spec.hidden,
            columns: weights.columns,
            modulators,
            steps: 0,
            hidden: vec![Lanes::default(); (steps + 1) * weights.columns],
            modulator: Vec::with_capacity(steps * modulators),
        }
    }

    /// Steps recorded.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// `h(t)`, `[H]`.
    pub fn hidden(&self, t: usize) -> &[F] {
        &flat(self.after(t))[..self.neurons]
    }

    /// `m(t)`, `[K]`, before the fan-out; empty if the rule has no modulator.
    pub fn modulator(&self, t: usize) -> &[F] {
        &self.modulator[t * self.modulators..][..self.modulators]
    }

    /// `h(t)`, padded to whole vectors.
    pub fn after(&self, t: usize) -> &[Lanes<F>] {
        self.before(t + 1)
    }

    /// `h(t-1)`, padded.
    pub(super) fn before(&self, t: usize) -> &[Lanes<F>] {
        &self.hidden[t * self.columns..][..self.columns]
    }

    /// `h(t-1)` of the steps `from..to`, padded.
    pub(super) fn between(&self, from: usize, to: usize) -> &[Lanes<F>] {
        &self.hidden[from * self.columns..to * self.columns]
    }
}

/// One lifetime, step by step. Its traces start at zero.
#[derive(Debug)]
pub struct Forward<'w, F> {
    weights: &'w Weights<F>,
    hebb: Vec<Lanes<F>>,
    elig: Vec<Lanes<F>>,
    /// What the last step writes with, once the next one comes.
    rate: Vec<Lanes<F>>,
    /// One block per row, whole sixteens of rows.
    sums: Vec<Lanes<F>>,
    trajectory: Trajectory<F>,
}

impl<'w, F: Real> Forward<'w, F> {
    /// A lifetime of at most `steps` steps.
    pub fn new(weights: &'w Weights<F>, steps: usize) -> Self {
        let matrix = |present| vec![Lanes::default(); if present { weights.matrix() } else { 0 }];
        Self {
            weights,
            hebb: matrix(weights.spec.rule.is_plastic()),
            elig: matrix(weights.spec.rule.has_eligibility()),
            rate: vec![Lanes::default(); weights.columns],
            sums: vec![Lanes::default(); weights.columns * LANES],
            trajectory: Trajectory::new(weights, steps),
        }
    }

    /// `h(t)`, `[H]`, from `drive = Win·x(t) + b`, `[H]`.
    ///
    /// # Panics
    /// If there are more steps than [`new`](Self::new) was told, or the drive is shorter than `H`.
    pub fn step(&mut self, drive: &[F]) -> &[F] {
        F::step(self, drive);
        self.trajectory.hidden(self.trajectory.steps - 1)
    }

    pub(super) fn advance(&mut self, drive: &[F]) {
        let t = self.trajectory.steps;
        self.sum_inputs(t);
        self.weights.path.run(Finish { forward: self, t, drive });
        self.trajectory.steps += 1;
    }

    /// Brings the traces up to date and sums what each neuron receives from the others.
    fn sum_inputs(&mut self, t: usize) {
        let weights = self.weights;
        let pre = self.trajectory.before(t);
        let writes = Rows {
            rate: &self.rate,
            post: pre,
            eta: &weights.row_eta,
        };
        for (rows, kind) in &weights.kinds {
            with_rule!(*kind, R => weights.path.run(Step::<F, R> {
                rule: PhantomData,
                rows: rows.clone(),
                matrices: weights.matrices(),
                hebb: &mut self.hebb,
                elig: &mut self.elig,
                writes,
                before: self.trajectory.before(t.saturating_sub(1)),
                pre,
                sums: &mut self.sums,
            }));
        }
    }

    /// `m(t)` from `h(t)`, and what this step writes with.
    #[inline(always)]
    fn modulate<V: Vector<F>>(&mut self, t: usize) {
        let (weights, count) = (self.weights, self.weights.spec.modulators);
        let Trajectory {
            hidden,
            modulator,
            columns,
            ..
        } = &mut self.trajectory;
        modulator.resize((t + 1) * count, F::ZERO);
        let m = &mut modulator[t * count..];
        Dots {
            matrix: &weights.modulator,
            vector: row(hidden, t + 1, *columns),
            bias: &weights.modulator_bias,
            sums: m,
        }
        .run::<V>();
        for m in m.iter_mut() {
            *m = squash(weights.spec.squash, *m);
        }
        weights.rates::<V>(m, &mut self.rate);
    }

    /// `h(t)` of the last step, padded to whole vectors.
    pub fn hidden(&self) -> &[Lanes<F>] {
        self.trajectory.before(self.trajectory.steps)
    }

    /// `m(t)` of the last step, `[K]`, before the fan-out; empty if the rule has no modulator or no step was made.
    pub fn modulator(&self) -> &[F] {
        &self.trajectory.modulator[self.trajectory.modulator.len().saturating_sub(self.trajectory.modulators)..]
    }

    /// `H_ji(t)` that the last step used, before the update it makes; `None` for a non-plastic network.
    pub fn hebb(&self, post: usize, pre: usize) -> Option<F> {
        flat(&self.hebb).get(position(self.trajectory.neurons, post, pre)).copied()
    }

    /// What was recorded.
    pub fn finish(self) -> Trajectory<F> {
        self.trajectory
    }
}

/// What is left of step `t` once the inputs are summed.
struct Finish<'a, 'w, F> {
    forward: &'a mut Forward<'w, F>,
    t: usize,
    drive: &'a [F],
}

impl<F: Real> Job<F> for Finish<'_, '_, F> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<F>>(self) {
        let Self { forward, t, drive } = self;
        let Trajectory { columns, neurons, .. } = forward.trajectory;
        let hidden = row_mut(&mut forward.trajectory.hidden, t + 1, columns);
        flat_mut(hidden)[..neurons].copy_from_slice(&drive[..neurons]);
        let sums = &forward.sums;
        Activate { sums, hidden }.run::<V>();
        forward.modulate::<V>(t);
    }
}

#[inline(always)]
fn squash<F: Real>(squash: Squash, x: F) -> F {
    match squash {
        Squash::Tanh => x.tanh(),
        Squash::Sigmoid => (F::ONE + (x * F::real(0.5)).tanh()) * F::real(0.5),
        Squash::Identity => x,
    }
}

/// `f'`, from `m = f(x)`.
#[inline(always)]
pub(super) fn squash_slope<F: Real>(squash: Squash, m: F) -> F {
    match squash {
        Squash::Tanh => F::ONE - m * m,
        Squash::Sigmoid => m * (F::ONE - m),
        Squash::Identity => F::ONE,
    }
}
