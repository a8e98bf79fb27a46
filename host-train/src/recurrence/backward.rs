//! The gradient of whole lifetimes: one sweep from the last step to the first, through `h`, `m`, `H`, `E` and eta.
//!
//! The traces are computed again from the recorded `h` and `m`: once to set checkpoints every `√T` steps, and once
//! between each two of them. Lifetimes are taken in groups of fixed size with private sums, which are added in order,
//! so that the result has the same bits whatever the number of threads.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use backpropamine::rule::{Granularity, Rule};
use rayon::prelude::*;

use super::forward::{Trajectory, squash_slope};
use super::kernel::{Job, LANES, Lanes, Vector, flat, flat_mut};
use super::real::Real;
use super::spec::Gradients;
use super::sweep::{Accumulate, Collect, Products, Reverse, Rewind, Rows, accumulate, dot, row, row_mut};
use super::weights::{Weights, unpadded, unpaneled, with_rule};

/// Writes `dL/dh` of a lifetime, given its place in the batch, into `[T][blocks of H]` zeros.
pub type ByHidden<'a, F> = &'a (dyn Fn(usize, &mut [Lanes<F>]) + Sync);

/// Receives the derivatives by the drive of a lifetime, `[T][blocks of H]`, with its place in the batch, in any order.
pub type ByDrive<'a, F> = &'a (dyn Fn(usize, &[Lanes<F>]) + Sync);

/// Lifetimes whose gradients are summed together.
const GROUP: usize = 2;

/// The loss's derivatives.
#[derive(Clone, Debug)]
pub struct Backward<F> {
    /// By every parameter.
    pub parameters: Gradients<F>,
    /// By the drive, `[T, B, H]`.
    pub drive: Vec<F>,
}

/// The derivatives of a loss that depends on `h(t)` of the lifetimes `trajectories`; `by_hidden` are its derivatives by
/// them, `[T, B, H]`. Every lifetime has the same number of steps.
///
/// # Panics
/// If the lengths do not fit together.
pub fn backward<F: Real>(weights: &Weights<F>, trajectories: &[Trajectory<F>], by_hidden: &[F]) -> Backward<F> {
    let steps = trajectories.first().map_or(0, Trajectory::steps);
    let (batch, neurons, columns) = (trajectories.len(), weights.spec.hidden, weights.columns);
    assert_eq!(
        by_hidden.len(),
        steps * batch * neurons,
        "one derivative per step, lifetime and neuron"
    );
    let trajectories: Vec<_> = trajectories.iter().collect();
    let place = |t: usize, lifetime: usize| t * batch + lifetime;
    let drive = Mutex::new(vec![F::ZERO; by_hidden.len()]);
    let parameters = backward_lifetimes(
        weights,
        &trajectories,
        &|lifetime, out| {
            for t in 0..steps {
                flat_mut(row_mut(out, t, columns))[..neurons].copy_from_slice(row(by_hidden, place(t, lifetime), neurons));
            }
        },
        &|lifetime, by_drive| {
            let mut drive = drive.lock().unwrap_or_else(PoisonError::into_inner);
            for t in 0..steps {
                row_mut(&mut drive, place(t, lifetime), neurons).copy_from_slice(&flat(row(by_drive, t, columns))[..neurons]);
            }
        },
    );
    let drive = drive.into_inner().unwrap_or_else(PoisonError::into_inner);
    Backward { parameters, drive }
}

/// As [`backward`], where every lifetime's `dL/dh` is asked for when its turn comes and the derivatives by its drive are
/// handed on at once, while they are in the cache.
///
/// # Panics
/// If the lifetimes differ in length.
pub fn backward_lifetimes<F: Real>(
    weights: &Weights<F>,
    trajectories: &[&Trajectory<F>],
    by_hidden: ByHidden<F>,
    by_drive: ByDrive<F>,
) -> Gradients<F> {
    F::backward(weights, trajectories, by_hidden, by_drive)
}

pub(super) fn reverse<F: Real>(
    weights: &Weights<F>,
    trajectories: &[&Trajectory<F>],
    by_hidden: ByHidden<F>,
    by_drive: ByDrive<F>,
) -> Gradients<F> {
    let steps = trajectories.first().map_or(0, |trajectory| trajectory.steps());
    assert!(
        trajectories.iter().all(|trajectory| trajectory.steps() == steps),
        "lifetimes of one length"
    );
    let groups: Vec<Sum<F>> = trajectories
        .par_chunks(GROUP)
        .enumerate()
        .map_init(
            || (Scratch::new(weights, steps), vec![Lanes::default(); steps * weights.columns]),
            |(scratch, drive), (group, members)| {
                let mut sum = Sum::new(weights);
                for (place, trajectory) in (group * GROUP..).zip(members) {
                    scratch.by_hidden.fill(Lanes::default());
                    by_hidden(place, &mut scratch.by_hidden);
                    let lifetime = Lifetime {
                        weights,
                        trajectory,
                        sum: &mut sum,
                        scratch,
                    };
                    lifetime.reverse(drive);
                    by_drive(place, drive);
                }
                sum
            },
        )
        .collect();
    let mut total = Sum::new(weights);
    for sum in &groups {
        total.add(weights, sum);
    }
    total.finish(weights)
}

/// A group's sums, as the sweeps add to them.
struct Sum<F> {
    weight: Vec<Lanes<F>>,
    alpha: Vec<Lanes<F>>,
    /// One per connection, if eta is inside.
    eta: Vec<Lanes<F>>,
    /// By each neuron's eta.
    row_eta: Vec<Lanes<F>>,
    /// By `M_j`, or by each unmodulated neuron's Hebbian rate.
    rate: Vec<Lanes<F>>,
    /// By `g`, transposed: `[K][columns]`.
    fan_out: Vec<Lanes<F>>,
    modulator: Vec<Lanes<F>>,
    modulator_bias: Vec<F>,
}

impl<F: Real> Sum<F> {
    fn new(weights: &Weights<F>) -> Self {
        let matrices = weights.matrices();
        let zeros = |like: &[Lanes<F>]| vec![Lanes::default(); like.len()];
        Self {
            weight: zeros(matrices.weight),
            alpha: zeros(matrices.alpha),
            eta: zeros(matrices.eta),
            row_eta: zeros(&weights.row_eta),
            rate: zeros(&weights.row_eta),
            fan_out: zeros(&weights.fan_out),
            modulator: zeros(&weights.modulator),
            modulator_bias: vec![F::ZERO; weights.modulator_bias.len()],
        }
    }

    fn add(&mut self, weights: &Weights<F>, other: &Self) {
        let pairs = [
            (&mut self.weight, &other.weight),
            (&mut self.alpha, &other.alpha),
            (&mut self.eta, &other.eta),
            (&mut self.row_eta, &other.row_eta),
            (&mut self.rate, &other.rate),
            (&mut self.fan_out, &other.fan_out),
            (&mut self.modulator, &other.modulator),
        ];
        for (sums, term) in pairs {
            weights.path.run(Accumulate { sums, term });
        }
        for (sum, &bias) in self.modulator_bias.iter_mut().zip(&other.modulator_bias) {
            *sum += bias;
        }
    }

    /// In the parameters' shapes.
    fn finish(self, weights: &Weights<F>) -> Gradients<F> {
        let (spec, h, k) = (&weights.spec, weights.spec.hidden, weights.spec.modulators);
        let rates = |modulated: bool| -> Vec<F> {
            let rates = flat(&self.rate).iter().zip(&weights.modulated);
            rates.map(|(&rate, &is)| if is == modulated { rate } else { F::ZERO }).collect()
        };
        let row_eta = if spec.rule == Rule::Hebbian {
            rates(false)
        } else {
            flat(&self.row_eta)[..h].to_vec()
        };
        let hebbian_eta = spec.mask.as_ref().map_or(Granularity::Absent, |mask| mask.eta);
        // Of one matrix, the modulated neurons' rows are the rule's own eta, and all of them where none is modulated.
        let own = |j: usize| weights.modulated[j] || spec.mask.is_none();
        let etas = |wanted: bool| -> Vec<F> {
            let rows = unpaneled(&self.eta, h).into_iter().enumerate();
            rows.map(|(at, eta)| if own(at / h) == wanted { eta } else { F::ZERO }).collect()
        };
        let fan_out = unpadded(&self.fan_out, h);
        let by_fan_out = (0..h * k).map(|index| match (index / k, index % k) {
            (j, _) if !weights.modulated[j] => F::ZERO,
            (j, k) => fan_out[k * h + j],
        });
        Gradients {
            weight: unpaneled(&self.weight, h),
            alpha: from_connections(spec.alpha, unpaneled(&self.alpha, h), h),
            eta: match spec.has_eta_matrix(spec.rule.is_modulated()) {
                true => from_connections(spec.eta, etas(true), h),
                false => from_neurons(spec.eta, &row_eta),
            },
            hebbian_eta: match spec.has_eta_matrix(false) {
                true => from_connections(hebbian_eta, etas(false), h),
                false => from_neurons(hebbian_eta, &rates(false)),
            },
            modulator_weight: unpadded(&self.modulator, h),
            modulator_bias: self.modulator_bias,
            fan_out_weight: if spec.fan_out { by_fan_out.collect() } else { Vec::new() },
            fan_out_bias: if spec.fan_out { rates(true) } else { Vec::new() },
        }
    }
}

fn total<F: Real>(values: &[F]) -> F {
    values.iter().fold(F::ZERO, |sum, &value| sum + value)
}

/// The derivatives by a coefficient from those by each neuron's.
fn from_neurons<F: Real>(granularity: Granularity, sums: &[F]) -> Vec<F> {
    match granularity {
        Granularity::Absent => Vec::new(),
        Granularity::Single => vec![total(sums)],
        Granularity::PerNeuron | Granularity::PerConnection => sums.to_vec(),
    }
}

/// The derivatives by a coefficient from those by each connection's.
fn from_connections<F: Real>(granularity: Granularity, sums: Vec<F>, neurons: usize) -> Vec<F> {
    if granularity == Granularity::PerConnection {
        return sums;
    }
    let rows: Vec<F> = sums.chunks_exact(neurons).map(total).collect();
    from_neurons(granularity, &rows)
}

/// Both traces of all connections.
struct TracePair<F> {
    hebb: Vec<Lanes<F>>,
    elig: Vec<Lanes<F>>,
}

impl<F: Real> TracePair<F> {
    fn new(weights: &Weights<F>, matrices: usize) -> Self {
        let size = |present| vec![Lanes::default(); if present { matrices * weights.matrix() } else { 0 }];
        Self {
            hebb: size(weights.spec.rule.is_plastic()),
            elig: size(weights.spec.rule.has_eligibility()),
        }
    }

    fn clear(&mut self) {
        self.hebb.fill(Lanes::default());
        self.elig.fill(Lanes::default());
    }
}

/// What a thread needs for one lifetime after another.
struct Scratch<F> {
    /// Steps between checkpoints.
    interval: usize,
    /// The traces that step 0, `interval`, `2·interval`, … use.
    checkpoints: Vec<TracePair<F>>,
    /// The traces of the steps after a checkpoint, up to the next one.
    recent: TracePair<F>,
    /// `dL/dH`, `dL/dE`
    gradient: TracePair<F>,
    /// `dL/dh(t)`, as far as the loss depends on it at once, `[T][columns]`.
    by_hidden: Vec<Lanes<F>>,
    /// `M(t)` or the Hebbian rates, `[T][columns]`.
    rates: Vec<Lanes<F>>,
    /// `dL/dM(t)`
    by_rate: Vec<Lanes<F>>,
    by_pre: Vec<Lanes<F>>,
    by_before: Vec<Lanes<F>>,
    /// Three matrices of one block per row, whole sixteens of rows.
    sums: Vec<Lanes<F>>,
}

impl<F: Real> Scratch<F> {
    fn new(weights: &Weights<F>, steps: usize) -> Self {
        let interval = steps.isqrt().max(1);
        let vectors = |count: usize| vec![Lanes::default(); count * weights.columns];
        Self {
            interval,
            checkpoints: (0..steps.div_ceil(interval)).map(|_| TracePair::new(weights, 1)).collect(),
            recent: TracePair::new(weights, interval),
            gradient: TracePair::new(weights, 1),
            by_hidden: vectors(steps),
            rates: vectors(steps),
            by_rate: vectors(1),
            by_pre: vectors(1),
            by_before: vectors(1),
            sums: vectors(3 * LANES),
        }
    }
}

/// One lifetime on its way back.
struct Lifetime<'a, F> {
    weights: &'a Weights<F>,
    trajectory: &'a Trajectory<F>,
    sum: &'a mut Sum<F>,
    scratch: &'a mut Scratch<F>,
}

impl<F: Real> Lifetime<'_, F> {
    /// Adds this lifetime's derivatives to the sums and writes those by its drive, `g(t)`, `[T][columns]`.
    fn reverse(mut self, by_drive: &mut [Lanes<F>]) {
        let (weights, trajectory, columns) = (self.weights, self.trajectory, self.weights.columns);
        let steps = trajectory.steps();
        weights.path.run(Rates {
            weights,
            trajectory,
            rates: &mut self.scratch.rates,
        });
        self.set_checkpoints();
        self.scratch.gradient.clear();
        self.scratch.by_pre.fill(Lanes::default());
        self.scratch.by_before.fill(Lanes::default());
        for t in (0..steps).rev() {
            weights.path.run(Leave {
                lifetime: &mut self,
                t,
                g: row_mut(by_drive, t, columns),
            });
            if t > 0 {
                if t == steps - 1 || t.is_multiple_of(self.scratch.interval) {
                    self.recall(t);
                }
                self.enter_step(t, row(by_drive, t, columns));
            }
        }
        weights.path.run(Products {
            steps,
            left: |t: usize| flat(row(by_drive, t, columns)),
            right: |t: usize| trajectory.before(t),
            columns,
            sum: &mut self.sum.weight,
        });
    }

    /// The traces that every `interval`-th step uses.
    fn set_checkpoints(&mut self) {
        let Scratch {
            interval,
            checkpoints,
            rates,
            ..
        } = &mut *self.scratch;
        checkpoints[0].clear();
        for next in 1..checkpoints.len() {
            let (done, rest) = checkpoints.split_at_mut(next);
            let steps = (next - 1) * *interval..next * *interval;
            rewind(self.weights, self.trajectory, rates, steps, &done[next - 1], &mut rest[0]);
        }
    }

    /// The traces of the steps from the last checkpoint before `t` up to `t`.
    fn recall(&mut self, t: usize) {
        let Scratch {
            interval,
            checkpoints,
            rates,
            recent,
            ..
        } = &mut *self.scratch;
        let checkpoint = (t - 1) / *interval;
        rewind(
            self.weights,
            self.trajectory,
            rates,
            checkpoint * *interval..t,
            &checkpoints[checkpoint],
            recent,
        );
    }

    /// From `g(t)` to `dL/dh(t-1)`, but for the modulator's part, through the traces of step t and what step t-1 wrote into them.
    fn enter_step(&mut self, t: usize, g: &[Lanes<F>]) {
        let (weights, trajectory, scratch) = (self.weights, self.trajectory, &mut *self.scratch);
        let (size, columns) = (weights.matrix(), weights.columns);
        std::mem::swap(&mut scratch.by_pre, &mut scratch.by_before);
        scratch.by_before.fill(Lanes::default());
        scratch.by_rate.fill(Lanes::default());
        let (checkpoint, recent) = ((t - 1) / scratch.interval, (t - 1) % scratch.interval);
        let hebb = nth(&scratch.recent.hebb, recent, size);
        let (old, n) = match recent {
            0 => (&scratch.checkpoints[checkpoint], 0),
            _ => (&scratch.recent, recent - 1),
        };
        let (old_hebb, elig) = (nth(&old.hebb, n, size), nth(&old.elig, n, size));
        let writes = Rows {
            rate: &scratch.rates[(t - 1) * columns..][..columns],
            post: trajectory.after(t - 1),
            eta: &weights.row_eta,
        };
        for ((rows, kind), members) in weights.kinds.iter().zip(&weights.members) {
            with_rule!(*kind, R => {
                weights.path.run(Reverse::<F, R> {
                    rule: PhantomData,
                    rows: rows.clone(),
                    matrices: weights.matrices(),
                    hebb,
                    old_hebb,
                    elig,
                    writes,
                    before: trajectory.before(t - 1),
                    pre: trajectory.before(t),
                    g,
                    by_hebb: &mut scratch.gradient.hebb,
                    by_elig: &mut scratch.gradient.elig,
                    by_alpha: &mut self.sum.alpha,
                    by_eta: &mut self.sum.eta,
                    by_before: &mut scratch.by_before,
                    by_pre: &mut scratch.by_pre,
                    sums: &mut scratch.sums,
                });
                weights.path.run(Collect::<F, R> {
                    rule: PhantomData,
                    members,
                    writes,
                    sums: &scratch.sums,
                    by_rate: &mut scratch.by_rate,
                    by_post: &mut scratch.by_pre,
                    by_eta: &mut self.sum.row_eta,
                });
            });
        }
    }

    /// From `dL/dM(t)` to the fan-out, the modulator's weights and `dL/dh(t)`; of unmodulated neurons to their rate.
    #[inline(always)]
    fn leave_modulator<V: Vector<F>>(&mut self, t: usize) {
        let (weights, columns) = (self.weights, self.weights.columns);
        let (scratch, sum) = (&mut *self.scratch, &mut *self.sum);
        accumulate::<F, V>(&mut sum.rate, F::ONE, &scratch.by_rate);
        for (k, &m) in self.trajectory.modulator(t).iter().enumerate() {
            let by_m = dot::<F, V>(row(&weights.fan_out, k, columns), &scratch.by_rate) * squash_slope(weights.spec.squash, m);
            accumulate::<F, V>(row_mut(&mut sum.fan_out, k, columns), m, &scratch.by_rate);
            sum.modulator_bias[k] += by_m;
            accumulate::<F, V>(row_mut(&mut sum.modulator, k, columns), by_m, self.trajectory.after(t));
            accumulate::<F, V>(&mut scratch.by_pre, by_m, row(&weights.modulator, k, columns));
        }
    }

    /// `g(t)` from the loss and what later steps passed back to `h(t)`.
    #[inline(always)]
    fn leave_step<V: Vector<F>>(&self, t: usize, g: &mut [Lanes<F>]) {
        let (hidden, loss) = (self.trajectory.after(t), row(&self.scratch.by_hidden, t, self.weights.columns));
        let passed = self.scratch.by_pre.iter().zip(loss);
        for ((g, h), (later, loss)) in g.iter_mut().zip(hidden).zip(passed) {
            let h = V::load(h);
            let slope = V::splat(F::ONE).sub(h.mul(h));
            V::load(later).add(V::load(loss)).mul(slope).store(g);
        }
    }
}

/// The rates that every step wrote with.
struct Rates<'a, F> {
    weights: &'a Weights<F>,
    trajectory: &'a Trajectory<F>,
    /// `[T][columns]`
    rates: &'a mut [Lanes<F>],
}

impl<F: Real> Job<F> for Rates<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<F>>(self) {
        for t in 0..self.trajectory.steps() {
            let rates = row_mut(self.rates, t, self.weights.columns);
            self.weights.rates::<V>(self.trajectory.modulator(t), rates);
        }
    }
}

/// Back through the modulator and tanh of step `t`.
struct Leave<'a, 'l, F> {
    lifetime: &'a mut Lifetime<'l, F>,
    t: usize,
    /// `g(t)`: written.
    g: &'a mut [Lanes<F>],
}

impl<F: Real> Job<F> for Leave<'_, '_, F> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<F>>(self) {
        // What the last step would have written, nothing reads.
        if self.t + 1 < self.lifetime.trajectory.steps() {
            self.lifetime.leave_modulator::<V>(self.t);
        }
        self.lifetime.leave_step::<V>(self.t, self.g);
    }
}

/// The `n`-th of several matrices of this size; none of those that the rule has not.
fn nth<F>(matrices: &[Lanes<F>], n: usize, size: usize) -> &[Lanes<F>] {
    matrices.get(n * size..(n + 1) * size).unwrap_or_default()
}

/// The traces after `steps` (of `from` before them), as [`Rewind`] says.
fn rewind<F: Real>(
    weights: &Weights<F>,
    trajectory: &Trajectory<F>,
    rates: &[Lanes<F>],
    steps: Range<usize>,
    from: &TracePair<F>,
    to: &mut TracePair<F>,
) {
    if !weights.spec.rule.is_plastic() {
        return;
    }
    let columns = weights.columns;
    let writes: Vec<Rows<F>> = steps
        .clone()
        .map(|t| Rows {
            rate: &rates[t * columns..][..columns],
            post: trajectory.after(t),
            eta: &weights.row_eta,
        })
        .collect();
    for (rows, kind) in &weights.kinds {
        with_rule!(*kind, R => weights.path.run(Rewind::<F, R> {
            rule: PhantomData,
            rows: rows.clone(),
            matrices: weights.matrices(),
            columns,
            writes: &writes,
            pre: trajectory.between(steps.start, steps.end),
            from: (&from.hebb, &from.elig),
            to: (&mut to.hebb, &mut to.elig),
        }));
    }
}
