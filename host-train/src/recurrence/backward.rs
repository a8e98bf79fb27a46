//! The gradient of whole lifetimes: one sweep from the last step to the first, through `h`, `m`, `H`, `E` and eta.
//!
//! The traces are computed again from the recorded `h` and `m`: once to set checkpoints every `√T` steps, and once
//! between each two of them. Lifetimes are taken in groups of fixed size with private sums, which are added in order,
//! so that the result has the same bits whatever the number of threads.

use std::marker::PhantomData;
use std::ops::Range;

use backpropamine::rule::{Granularity, Rule};
use rayon::prelude::*;

use super::forward::{Trajectory, squash_slope};
use super::kernel::{LANES, Lanes, flat, flat_mut};
use super::real::Real;
use super::spec::Gradients;
use super::sweep::{Collect, Combine, Dots, Products, Reverse, Rewind, Rows};
use super::weights::{Weights, unpadded, unpaneled, with_rule};

/// The derivatives by the drive of some lifetimes, `[T][columns]` each.
type Drives<F> = Vec<Vec<Lanes<F>>>;

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
    F::backward(weights, trajectories, by_hidden)
}

pub(super) fn reverse<F: Real>(weights: &Weights<F>, trajectories: &[Trajectory<F>], by_hidden: &[F]) -> Backward<F> {
    let steps = trajectories.first().map_or(0, Trajectory::steps);
    let (batch, neurons) = (trajectories.len(), weights.spec.hidden);
    assert!(
        trajectories.iter().all(|trajectory| trajectory.steps() == steps),
        "lifetimes of one length"
    );
    assert_eq!(
        by_hidden.len(),
        steps * batch * neurons,
        "one derivative per step, lifetime and neuron"
    );

    let groups: Vec<(Sum<F>, Drives<F>)> = trajectories
        .par_chunks(GROUP)
        .enumerate()
        .map_init(
            || Scratch::new(weights, steps),
            |scratch, (group, members)| {
                let mut sum = Sum::new(weights);
                let drives = members.iter().enumerate().map(|(member, trajectory)| {
                    let loss = Loss {
                        by_hidden,
                        batch,
                        neurons,
                        lifetime: group * GROUP + member,
                    };
                    Lifetime {
                        weights,
                        trajectory,
                        loss,
                        sum: &mut sum,
                        scratch,
                    }
                    .reverse()
                });
                let drives = drives.collect();
                (sum, drives)
            },
        )
        .collect();

    let mut total = Sum::new(weights);
    let mut drive = vec![F::ZERO; by_hidden.len()];
    let mut lifetime = 0;
    for (sum, drives) in groups {
        total.add(weights, &sum);
        for by_drive in drives {
            for (t, row) in by_drive.chunks_exact(weights.columns).enumerate() {
                drive[(t * batch + lifetime) * neurons..][..neurons].copy_from_slice(&flat(row)[..neurons]);
            }
            lifetime += 1;
        }
    }
    Backward {
        parameters: total.finish(weights),
        drive,
    }
}

/// One lifetime's part of `dL/dh`.
struct Loss<'a, F> {
    by_hidden: &'a [F],
    batch: usize,
    neurons: usize,
    lifetime: usize,
}

impl<F> Loss<'_, F> {
    fn at(&self, t: usize) -> &[F] {
        &self.by_hidden[(t * self.batch + self.lifetime) * self.neurons..][..self.neurons]
    }
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
        for (out, vectors) in pairs {
            weights.path.run(Combine {
                factors: &[F::ONE],
                vectors,
                out,
            });
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
    /// `M(t)` or the Hebbian rates, `[T][columns]`.
    rates: Vec<Lanes<F>>,
    /// `dL/dM(t)`
    by_rate: Vec<Lanes<F>>,
    by_modulator: Vec<F>,
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
            rates: vectors(steps),
            by_rate: vectors(1),
            by_modulator: vec![F::ZERO; weights.spec.modulators],
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
    loss: Loss<'a, F>,
    sum: &'a mut Sum<F>,
    scratch: &'a mut Scratch<F>,
}

impl<F: Real> Lifetime<'_, F> {
    /// Adds this lifetime's derivatives to the sums; returns those by its drive, `[T][columns]`.
    fn reverse(mut self) -> Vec<Lanes<F>> {
        let (steps, columns) = (self.trajectory.steps(), self.weights.columns);
        let mut by_drive = vec![Lanes::default(); steps * columns];
        if steps == 0 {
            return by_drive;
        }
        for (t, rates) in self.scratch.rates.chunks_exact_mut(columns).enumerate() {
            self.weights.rates(self.trajectory.modulator(t), rates);
        }
        self.set_checkpoints();
        self.scratch.gradient.clear();
        self.scratch.by_pre.fill(Lanes::default());
        self.scratch.by_before.fill(Lanes::default());
        self.leave_step(steps - 1, &mut by_drive);
        for t in (1..steps).rev() {
            if t == steps - 1 || t.is_multiple_of(self.scratch.interval) {
                self.recall(t);
            }
            self.enter_step(t, &by_drive[t * columns..][..columns]);
            self.leave_modulator(t - 1);
            self.leave_step(t - 1, &mut by_drive);
        }
        self.weights.path.run(Products {
            left: &by_drive,
            right: self.trajectory.between(0, steps),
            columns,
            sum: &mut self.sum.weight,
        });
        by_drive
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
    fn leave_modulator(&mut self, t: usize) {
        let (weights, path, columns) = (self.weights, self.weights.path, self.weights.columns);
        let (scratch, sum) = (&mut *self.scratch, &mut *self.sum);
        path.run(Combine {
            factors: &[F::ONE],
            vectors: &scratch.by_rate,
            out: &mut sum.rate,
        });
        path.run(Dots {
            matrix: &weights.fan_out,
            vector: &scratch.by_rate,
            sums: &mut scratch.by_modulator,
        });
        let hidden = self.trajectory.after(t);
        for (k, (by_m, m)) in scratch.by_modulator.iter_mut().zip(self.trajectory.modulator(t)).enumerate() {
            let row = k * columns..(k + 1) * columns;
            path.run(Combine {
                factors: &[*m],
                vectors: &scratch.by_rate,
                out: &mut sum.fan_out[row.clone()],
            });
            *by_m *= squash_slope(weights.spec.squash, *m);
            sum.modulator_bias[k] += *by_m;
            path.run(Combine {
                factors: &[*by_m],
                vectors: hidden,
                out: &mut sum.modulator[row],
            });
        }
        path.run(Combine {
            factors: &scratch.by_modulator,
            vectors: &weights.modulator,
            out: &mut scratch.by_pre,
        });
    }

    /// `g(t)` from the loss and what later steps passed back to `h(t)`.
    fn leave_step(&mut self, t: usize, by_drive: &mut [Lanes<F>]) {
        let g = &mut flat_mut(&mut by_drive[t * self.weights.columns..][..self.weights.columns])[..self.weights.spec.hidden];
        let passed = flat(&self.scratch.by_pre).iter().zip(self.loss.at(t));
        for ((g, &h), (&later, &loss)) in g.iter_mut().zip(self.trajectory.hidden(t)).zip(passed) {
            *g = (later + loss) * (F::ONE - h * h);
        }
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
