//! The passes over the traces, one [`Job`] each.
//!
//! | pass | per connection |
//! |---|---|
//! | [`Step`] | the update that step t-1 left behind, then `Σ_i (w + alpha·H) h_i(t-1)` |
//! | [`Rewind`] | the traces once more, as the recorded `h` and `M` wrote them |
//! | [`Reverse`] | the gradient through step t and through the update before it |
//! | [`Products`] | `Σ_t g_j(t) h_i(t-1)`, the gradient of `w` |
//!
//! A matrix `[post][pre]` lies in memory panel by panel: up to four blocks of presynaptic neurons wide, all rows deep.
//! Each pass walks each panel once from top to bottom, with everything that belongs to its columns in registers.

use std::marker::PhantomData;
use std::ops::Range;

use super::kernel::{Job, LANES, Lanes, Vector, flat};
use super::real::Real;
use super::rule::{Limits, Past, Plasticity, Row, Sinks, Traces};

/// Blocks that hold `count` numbers.
pub(super) const fn blocks(count: usize) -> usize {
    count.div_ceil(LANES)
}

/// Consecutive blocks of columns.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    /// The first of them.
    pub start: usize,
    /// How many: 1 to 4.
    pub width: usize,
}

/// As few panels as hold `columns` blocks, as even as can be, the wider ones first.
pub(super) fn panels(columns: usize) -> impl Iterator<Item = Panel> {
    let count = columns.div_ceil(4);
    (0..count).scan(0, move |start, index| {
        // Most often there is one panel only, and no need for a division.
        let width = if count == 1 {
            columns
        } else {
            columns / count + usize::from(index < columns % count)
        };
        *start += width;
        Some(Panel {
            start: *start - width,
            width,
        })
    })
}

/// Calls `$function::<V, WIDTH>($panel)` with each panel's width as a constant.
macro_rules! each_panel {
    ($self:ident, $columns:expr, $V:ident) => {
        for panel in panels($columns) {
            match panel.width {
                1 => $self.panel::<$V, 1>(panel.start),
                2 => $self.panel::<$V, 2>(panel.start),
                3 => $self.panel::<$V, 3>(panel.start),
                _ => $self.panel::<$V, 4>(panel.start),
            }
        }
    };
}

/// `rows` of the panel that starts at block `start` of a matrix of `neurons` rows; nothing where the rule has no such matrix.
#[inline(always)]
fn tile<'a, F, const WIDTH: usize>(
    present: bool,
    matrix: &'a [Lanes<F>],
    neurons: usize,
    start: usize,
    rows: &Range<usize>,
) -> &'a [[Lanes<F>; WIDTH]] {
    if present {
        &matrix[start * neurons..].as_chunks().0[rows.clone()]
    } else {
        &[]
    }
}

#[inline(always)]
fn tile_mut<'a, F, const WIDTH: usize>(
    present: bool,
    matrix: &'a mut [Lanes<F>],
    neurons: usize,
    start: usize,
    rows: &Range<usize>,
) -> &'a mut [[Lanes<F>; WIDTH]] {
    if present {
        &mut matrix[start * neurons..].as_chunks_mut().0[rows.clone()]
    } else {
        &mut []
    }
}

#[inline(always)]
fn load<F: Real, V: Vector<F>, const WIDTH: usize>(blocks: &[Lanes<F>]) -> [V; WIDTH] {
    let mut vectors = [V::splat(F::ZERO); WIDTH];
    for (vector, block) in vectors.iter_mut().zip(&blocks[..WIDTH]) {
        *vector = V::load(block);
    }
    vectors
}

#[inline(always)]
fn store<F: Real, V: Vector<F>, const WIDTH: usize>(vectors: [V; WIDTH], blocks: &mut [Lanes<F>]) {
    for (vector, block) in vectors.into_iter().zip(&mut blocks[..WIDTH]) {
        vector.store(block);
    }
}

/// A matrix' block, or zeros where the rule has no such matrix.
#[inline(always)]
fn load_if<F: Real, V: Vector<F>, const WIDTH: usize>(present: bool, rows: &[[Lanes<F>; WIDTH]], row: usize, column: usize) -> V {
    if present { V::load(&rows[row][column]) } else { V::splat(F::ZERO) }
}

/// The coefficients of all rows at one step, padded to whole blocks: see [`Row`].
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, F> {
    pub rate: &'a [Lanes<F>],
    pub post: &'a [Lanes<F>],
    pub eta: &'a [Lanes<F>],
}

impl<'a, F: Real> Rows<'a, F> {
    /// Those of `rows` only, as numbers.
    #[inline(always)]
    fn select(&self, rows: &Range<usize>) -> Row<&'a [F]> {
        let select = |values: &'a [Lanes<F>]| &flat(values)[rows.clone()];
        Row {
            rate: select(self.rate),
            post: select(self.post),
            eta: select(self.eta),
        }
    }
}

#[inline(always)]
fn splat<F: Real, V: Vector<F>>(rows: &Row<&[F]>, row: usize) -> Row<V> {
    Row {
        rate: V::splat(rows.rate[row]),
        post: V::splat(rows.post[row]),
        eta: V::splat(rows.eta[row]),
    }
}

/// The matrices that do not change in a lifetime. `alpha` is empty if the rule is not plastic, `eta` unless it is one per connection.
#[derive(Clone, Copy)]
pub(super) struct Matrices<'a, F> {
    pub neurons: usize,
    pub weight: &'a [Lanes<F>],
    pub alpha: &'a [Lanes<F>],
    pub eta: &'a [Lanes<F>],
    /// The clip's limit.
    pub limit: F,
    /// 1 with Oja's rule, else 0.
    pub oja: F,
}

/// One step forward for the rows in `rows`.
pub(super) struct Step<'a, F, R> {
    pub rule: PhantomData<R>,
    pub rows: Range<usize>,
    pub matrices: Matrices<'a, F>,
    /// `H`, as it was when `h(t-1)` was computed; brought up to date.
    pub hebb: &'a mut [Lanes<F>],
    /// `E`, likewise.
    pub elig: &'a mut [Lanes<F>],
    /// What step t-1 writes with.
    pub writes: Rows<'a, F>,
    /// `h(t-2)`
    pub before: &'a [Lanes<F>],
    /// `h(t-1)`
    pub pre: &'a [Lanes<F>],
    /// `Σ_i (w_ji + alpha_ji H_ji) h_i(t-1)`, one block per row whose lanes are still to be summed: written.
    pub sums: &'a mut [Lanes<F>],
}

impl<F: Real, R: Plasticity> Job<F> for Step<'_, F, R> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<F>>(mut self) {
        each_panel!(self, self.pre.len(), V);
    }
}

impl<F: Real, R: Plasticity> Step<'_, F, R> {
    #[inline(always)]
    fn panel<V: Vector<F>, const WIDTH: usize>(&mut self, start: usize) {
        let (neurons, rows) = (self.matrices.neurons, &self.rows);
        let limits = Limits::<V>::new(self.matrices.limit, self.matrices.oja);
        let pre: [V; WIDTH] = load(&self.pre[start..]);
        let before: [V; WIDTH] = load(&self.before[start..]);
        let writes = self.writes.select(rows);
        let weight = tile::<F, WIDTH>(true, self.matrices.weight, neurons, start, rows);
        let alpha = tile::<F, WIDTH>(R::HEBB, self.matrices.alpha, neurons, start, rows);
        let eta = tile::<F, WIDTH>(R::DENSE, self.matrices.eta, neurons, start, rows);
        let hebb = tile_mut::<F, WIDTH>(R::HEBB, self.hebb, neurons, start, rows);
        let elig = tile_mut::<F, WIDTH>(R::ELIGIBILITY, self.elig, neurons, start, rows);
        let sums = &mut self.sums[rows.clone()];
        for j in 0..rows.len() {
            let row = splat::<F, V>(&writes, j);
            let mut sum = if start > 0 { V::load(&sums[j]) } else { V::splat(F::ZERO) };
            for c in 0..WIDTH {
                let mut strength = V::load(&weight[j][c]);
                if R::HEBB {
                    // Before the stores, which would hold it up where both addresses end alike.
                    let alpha = V::load(&alpha[j][c]);
                    let traces = Traces {
                        h: V::load(&hebb[j][c]),
                        e: load_if(R::ELIGIBILITY, elig, j, c),
                    };
                    let traces = R::write(&row, load_if(R::DENSE, eta, j, c), traces, before[c], limits);
                    traces.h.store(&mut hebb[j][c]);
                    if R::ELIGIBILITY {
                        traces.e.store(&mut elig[j][c]);
                    }
                    strength = alpha.mul_add(traces.h, strength);
                }
                sum = strength.mul_add(pre[c], sum);
            }
            sum.store(&mut sums[j]);
        }
    }
}

/// `h(t)`: the rows' sums, their lanes added up, and the drive, through tanh.
pub(super) struct Activate<'a, F> {
    /// One block per row, whole sixteens of rows.
    pub sums: &'a [Lanes<F>],
    /// The drive; becomes `h(t)`.
    pub hidden: &'a mut [Lanes<F>],
}

impl<F: Real> Job<F> for Activate<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<F>>(self) {
        for (hidden, rows) in self.hidden.iter_mut().zip(self.sums.as_chunks::<LANES>().0) {
            V::sums(rows).add(V::load(hidden)).store(hidden);
        }
        for h in super::kernel::flat_mut(self.hidden) {
            *h = h.tanh();
        }
    }
}

/// The traces of `rows` over several steps, from recorded activities.
pub(super) struct Rewind<'a, F, R> {
    pub rule: PhantomData<R>,
    pub rows: Range<usize>,
    pub matrices: Matrices<'a, F>,
    pub columns: usize,
    /// What each step writes with; as many as there are steps.
    pub writes: &'a [Rows<'a, F>],
    /// `h(t-1)` of each step, `[steps][columns]`.
    pub pre: &'a [Lanes<F>],
    /// The traces before the first of these steps.
    pub from: (&'a [Lanes<F>], &'a [Lanes<F>]),
    /// Where they go after each step, one matrix per step; if there is room for one only, after the last step.
    pub to: (&'a mut [Lanes<F>], &'a mut [Lanes<F>]),
}

impl<F: Real, R: Plasticity> Job<F> for Rewind<'_, F, R> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<F>>(mut self) {
        each_panel!(self, self.columns, V);
    }
}

impl<F: Real, R: Plasticity> Rewind<'_, F, R> {
    #[inline(always)]
    fn panel<V: Vector<F>, const WIDTH: usize>(&mut self, start: usize) {
        let mut j = self.rows.start;
        while V::REGISTERS >= 32 && WIDTH <= 2 && j + 4 <= self.rows.end {
            self.tile::<V, 4, WIDTH>(j, start);
            j += 4;
        }
        while j + 2 <= self.rows.end {
            self.tile::<V, 2, WIDTH>(j, start);
            j += 2;
        }
        if j < self.rows.end {
            self.tile::<V, 1, WIDTH>(j, start);
        }
    }

    /// All steps for a few rows of a panel, whose traces stay in registers.
    #[inline(always)]
    fn tile<V: Vector<F>, const ROWS: usize, const WIDTH: usize>(&mut self, j: usize, start: usize) {
        let zero = V::splat(F::ZERO);
        let limits = Limits::<V>::new(self.matrices.limit, self.matrices.oja);
        let (neurons, rows, size) = (self.matrices.neurons, j..j + ROWS, self.from.0.len());
        let each = self.to.0.len() > size;
        let mut traces = [[Traces { h: zero, e: zero }; WIDTH]; ROWS];
        let mut eta = [[zero; WIDTH]; ROWS];
        let from_hebb = tile::<F, WIDTH>(true, self.from.0, neurons, start, &rows);
        let from_elig = tile::<F, WIDTH>(R::ELIGIBILITY, self.from.1, neurons, start, &rows);
        let from_eta = tile::<F, WIDTH>(R::DENSE, self.matrices.eta, neurons, start, &rows);
        for r in 0..ROWS {
            for c in 0..WIDTH {
                traces[r][c].h = V::load(&from_hebb[r][c]);
                traces[r][c].e = load_if(R::ELIGIBILITY, from_elig, r, c);
                eta[r][c] = load_if(R::DENSE, from_eta, r, c);
            }
        }
        for (step, writes) in self.writes.iter().enumerate() {
            let pre: [V; WIDTH] = load(&self.pre[step * self.columns + start..]);
            let writes = writes.select(&rows);
            for r in 0..ROWS {
                let row = splat::<F, V>(&writes, r);
                for c in 0..WIDTH {
                    traces[r][c] = R::write(&row, eta[r][c], traces[r][c], pre[c], limits);
                }
            }
            if each || step + 1 == self.writes.len() {
                let matrix = if each { step * size } else { 0 };
                let hebb = tile_mut::<F, WIDTH>(true, &mut self.to.0[matrix..][..size], neurons, start, &rows);
                for r in 0..ROWS {
                    for c in 0..WIDTH {
                        traces[r][c].h.store(&mut hebb[r][c]);
                    }
                }
                if R::ELIGIBILITY {
                    let elig = tile_mut::<F, WIDTH>(true, &mut self.to.1[matrix..][..size], neurons, start, &rows);
                    for r in 0..ROWS {
                        for c in 0..WIDTH {
                            traces[r][c].e.store(&mut elig[r][c]);
                        }
                    }
                }
            }
        }
    }
}

/// Backwards through step t and the update that step t-1 made, for the rows in `rows`.
pub(super) struct Reverse<'a, F, R> {
    pub rule: PhantomData<R>,
    pub rows: Range<usize>,
    pub matrices: Matrices<'a, F>,
    /// `H(t)`, which step t used.
    pub hebb: &'a [Lanes<F>],
    /// `H(t-1)`, which it was made of.
    pub old_hebb: &'a [Lanes<F>],
    /// `E(t-1)`, which wrote into it.
    pub elig: &'a [Lanes<F>],
    /// What step t-1 wrote with.
    pub writes: Rows<'a, F>,
    /// `h(t-2)`
    pub before: &'a [Lanes<F>],
    /// `h(t-1)`
    pub pre: &'a [Lanes<F>],
    /// `g(t)`, the loss by the argument of tanh.
    pub g: &'a [Lanes<F>],
    /// By the traces after step t's update; turned into by those after step t-1's.
    pub by_hebb: &'a mut [Lanes<F>],
    pub by_elig: &'a mut [Lanes<F>],
    /// By `alpha`, added to.
    pub by_alpha: &'a mut [Lanes<F>],
    /// By `eta`, added to, if it is one per connection.
    pub by_eta: &'a mut [Lanes<F>],
    /// By `h(t-2)`, added to.
    pub by_before: &'a mut [Lanes<F>],
    /// By `h(t-1)`, added to.
    pub by_pre: &'a mut [Lanes<F>],
    /// [`Sinks::sums`] of each row, one block each, `[R::SUMS][whole sixteens of rows]`: written.
    pub sums: &'a mut [Lanes<F>],
}

impl<F: Real, R: Plasticity> Job<F> for Reverse<'_, F, R> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<F>>(mut self) {
        each_panel!(self, self.pre.len(), V);
    }
}

impl<F: Real, R: Plasticity> Reverse<'_, F, R> {
    #[inline(always)]
    fn panel<V: Vector<F>, const WIDTH: usize>(&mut self, start: usize) {
        let (neurons, rows) = (self.matrices.neurons, &self.rows);
        let limits = Limits::<V>::new(self.matrices.limit, self.matrices.oja);
        let pre: [V; WIDTH] = load(&self.pre[start..]);
        let before: [V; WIDTH] = load(&self.before[start..]);
        let mut by_pre: [V; WIDTH] = load(&self.by_pre[start..]);
        let mut by_before: [V; WIDTH] = load(&self.by_before[start..]);
        let writes = self.writes.select(rows);
        let g = &flat(self.g)[rows.clone()];
        let weight = tile::<F, WIDTH>(true, self.matrices.weight, neurons, start, rows);
        let alpha = tile::<F, WIDTH>(R::HEBB, self.matrices.alpha, neurons, start, rows);
        let eta = tile::<F, WIDTH>(R::DENSE, self.matrices.eta, neurons, start, rows);
        let hebb = tile::<F, WIDTH>(R::HEBB, self.hebb, neurons, start, rows);
        let old_hebb = tile::<F, WIDTH>(R::BEFORE, self.old_hebb, neurons, start, rows);
        let elig = tile::<F, WIDTH>(R::ELIGIBILITY, self.elig, neurons, start, rows);
        let by_hebb = tile_mut::<F, WIDTH>(R::HEBB, self.by_hebb, neurons, start, rows);
        let by_elig = tile_mut::<F, WIDTH>(R::ELIGIBILITY, self.by_elig, neurons, start, rows);
        let by_alpha = tile_mut::<F, WIDTH>(R::HEBB, self.by_alpha, neurons, start, rows);
        let by_eta = tile_mut::<F, WIDTH>(R::DENSE, self.by_eta, neurons, start, rows);
        let depth = self.pre.len() * LANES;
        let kept = split(self.sums, depth, rows);
        for j in 0..rows.len() {
            let row = splat::<F, V>(&writes, j);
            let g = V::splat(g[j]);
            let mut sums = [V::splat(F::ZERO); 3];
            for k in 0..R::SUMS {
                if start > 0 {
                    sums[k] = V::load(&kept[k][j]);
                }
            }
            for c in 0..WIDTH {
                let weight = V::load(&weight[j][c]);
                if !R::HEBB {
                    by_pre[c] = weight.mul_add(g, by_pre[c]);
                    continue;
                }
                let alpha = V::load(&alpha[j][c]);
                let h = V::load(&hebb[j][c]);
                let product = g.mul(pre[c]);
                // Stored after all loads, which it would hold up where both addresses end alike.
                let alpha_sum = product.mul_add(h, V::load(&by_alpha[j][c]));
                by_pre[c] = alpha.mul_add(h, weight).mul_add(g, by_pre[c]);

                let past = Past {
                    after: h,
                    before: load_if(R::BEFORE, old_hebb, j, c),
                    e: load_if(R::ELIGIBILITY, elig, j, c),
                };
                let gradient = Traces {
                    h: product.mul_add(alpha, V::load(&by_hebb[j][c])),
                    e: load_if(R::ELIGIBILITY, by_elig, j, c),
                };
                let mut sinks = Sinks {
                    pre: by_before[c],
                    sums,
                    eta: load_if(R::DENSE, by_eta, j, c),
                };
                let eta = load_if(R::DENSE, eta, j, c);
                let gradient = R::reverse(&row, eta, past, before[c], limits, gradient, &mut sinks);
                (by_before[c], sums) = (sinks.pre, sinks.sums);
                alpha_sum.store(&mut by_alpha[j][c]);
                gradient.h.store(&mut by_hebb[j][c]);
                if R::ELIGIBILITY {
                    gradient.e.store(&mut by_elig[j][c]);
                }
                if R::DENSE {
                    sinks.eta.store(&mut by_eta[j][c]);
                }
            }
            for k in 0..R::SUMS {
                sums[k].store(&mut kept[k][j]);
            }
        }
        store(by_pre, &mut self.by_pre[start..]);
        store(by_before, &mut self.by_before[start..]);
    }
}

/// `rows` of each of three matrices of `depth` blocks.
#[inline(always)]
fn split<'a, F>(sums: &'a mut [Lanes<F>], depth: usize, rows: &Range<usize>) -> [&'a mut [Lanes<F>]; 3] {
    let (first, rest) = sums.split_at_mut(depth);
    let (second, third) = rest.split_at_mut(depth);
    [&mut first[rows.clone()], &mut second[rows.clone()], &mut third[rows.clone()]]
}

/// What [`Reverse`] summed over each row, handed on to the row's coefficients.
pub(super) struct Collect<'a, F, R> {
    pub rule: PhantomData<R>,
    /// 1 for the neurons that follow this rule, else 0.
    pub members: &'a [Lanes<F>],
    pub writes: Rows<'a, F>,
    /// As [`Reverse::sums`].
    pub sums: &'a [Lanes<F>],
    /// By `M_j(t)` or the Hebbian rate, added to.
    pub by_rate: &'a mut [Lanes<F>],
    /// By `h_j(t)`, added to.
    pub by_post: &'a mut [Lanes<F>],
    /// By each neuron's eta, added to.
    pub by_eta: &'a mut [Lanes<F>],
}

impl<F: Real, R: Plasticity> Job<F> for Collect<'_, F, R> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<F>>(self) {
        let columns = self.members.len();
        let blocks = self.sums.as_chunks::<LANES>().0;
        for b in 0..columns {
            let mut sums = [V::splat(F::ZERO); 3];
            for (k, sum) in sums.iter_mut().enumerate().take(R::SUMS) {
                *sum = V::sums(&blocks[k * columns + b]);
            }
            let rows = Row {
                rate: V::load(&self.writes.rate[b]),
                post: V::load(&self.writes.post[b]),
                eta: V::load(&self.writes.eta[b]),
            };
            let by = R::row_gradient(&rows, sums);
            let members = V::load(&self.members[b]);
            members.mul_add(by.rate, V::load(&self.by_rate[b])).store(&mut self.by_rate[b]);
            members.mul_add(by.post, V::load(&self.by_post[b])).store(&mut self.by_post[b]);
            members.mul_add(by.eta, V::load(&self.by_eta[b])).store(&mut self.by_eta[b]);
        }
    }
}

/// `sum[j][i] += Σ_t left_j(t)·right_i(t)`: one product over all steps instead of one outer product per step.
pub(super) struct Products<'a, F, L, R> {
    /// How many steps.
    pub steps: usize,
    /// `left(t)`, as many numbers as `sum` has rows.
    pub left: L,
    /// `right(t)`, as many blocks as `sum` has columns.
    pub right: R,
    pub columns: usize,
    /// A matrix, panel by panel.
    pub sum: &'a mut [Lanes<F>],
}

impl<'a, F: Real, L, R> Job<F> for Products<'_, F, L, R>
where
    L: Fn(usize) -> &'a [F],
    R: Fn(usize) -> &'a [Lanes<F>],
{
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<F>>(mut self) {
        each_panel!(self, self.columns, V);
    }
}

impl<'a, F: Real, L, R> Products<'_, F, L, R>
where
    L: Fn(usize) -> &'a [F],
    R: Fn(usize) -> &'a [Lanes<F>],
{
    #[inline(always)]
    fn panel<V: Vector<F>, const WIDTH: usize>(&mut self, start: usize) {
        let rows = self.sum.len() / self.columns;
        let mut j = 0;
        while j + 4 <= rows {
            self.tile::<V, 4, WIDTH>(j, rows, start);
            j += 4;
        }
        while j + 2 <= rows {
            self.tile::<V, 2, WIDTH>(j, rows, start);
            j += 2;
        }
        if j < rows {
            self.tile::<V, 1, WIDTH>(j, rows, start);
        }
    }

    #[inline(always)]
    fn tile<V: Vector<F>, const ROWS: usize, const WIDTH: usize>(&mut self, j: usize, rows: usize, start: usize) {
        let mut sum = [[V::splat(F::ZERO); WIDTH]; ROWS];
        for t in 0..self.steps {
            let left = &(self.left)(t)[j..][..ROWS];
            let right: [V; WIDTH] = load(&(self.right)(t)[start..]);
            for r in 0..ROWS {
                for c in 0..WIDTH {
                    sum[r][c] = V::splat(left[r]).mul_add(right[c], sum[r][c]);
                }
            }
        }
        let tile = tile_mut::<F, WIDTH>(true, self.sum, rows, start, &(j..j + ROWS));
        for (row, sum) in tile.iter_mut().zip(sum) {
            for (block, sum) in row.iter_mut().zip(sum) {
                V::load(block).add(sum).store(block);
            }
        }
    }
}

/// `sums_k = bias_k + Σ_i matrix_ki · vector_i` for a matrix of few rows, `[sums.len()][vector.len()]`.
pub(super) struct Dots<'a, F> {
    pub matrix: &'a [Lanes<F>],
    pub vector: &'a [Lanes<F>],
    pub bias: &'a [F],
    pub sums: &'a mut [F],
}

impl<F: Real> Job<F> for Dots<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<F>>(self) {
        for (k, (sum, &bias)) in self.sums.iter_mut().zip(self.bias).enumerate() {
            *sum = dot::<F, V>(row(self.matrix, k, self.vector.len()), self.vector) + bias;
        }
    }
}

/// `Σ_i a_i · b_i`
#[inline(always)]
pub(super) fn dot<F: Real, V: Vector<F>>(a: &[Lanes<F>], b: &[Lanes<F>]) -> F {
    let mut lanes = V::splat(F::ZERO);
    for (a, b) in a.iter().zip(b) {
        lanes = V::load(a).mul_add(V::load(b), lanes);
    }
    lanes.sum()
}

/// Row `k` of a matrix that lies row by row.
#[inline(always)]
pub(super) fn row<T>(matrix: &[T], k: usize, width: usize) -> &[T] {
    &matrix[k * width..][..width]
}

#[inline(always)]
pub(super) fn row_mut<T>(matrix: &mut [T], k: usize, width: usize) -> &mut [T] {
    &mut matrix[k * width..][..width]
}

/// `out = initial + Σ_k factor_k · vector_k` with `[K][out.len()]` vectors.
pub(super) struct Combine<'a, F> {
    pub initial: &'a [Lanes<F>],
    pub factors: &'a [F],
    pub vectors: &'a [Lanes<F>],
    pub out: &'a mut [Lanes<F>],
}

impl<F: Real> Job<F> for Combine<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<F>>(mut self) {
        each_panel!(self, self.out.len(), V);
    }
}

impl<F: Real> Combine<'_, F> {
    #[inline(always)]
    fn panel<V: Vector<F>, const WIDTH: usize>(&mut self, start: usize) {
        let mut sums: [V; WIDTH] = load(&self.initial[start..]);
        for (k, &factor) in self.factors.iter().enumerate() {
            let blocks: [V; WIDTH] = load(&row(self.vectors, k, self.out.len())[start..]);
            for c in 0..WIDTH {
                sums[c] = blocks[c].mul_add(V::splat(factor), sums[c]);
            }
        }
        store(sums, &mut self.out[start..]);
    }
}

/// `sums += term`
pub(super) struct Accumulate<'a, F> {
    pub sums: &'a mut [Lanes<F>],
    pub term: &'a [Lanes<F>],
}

impl<F: Real> Job<F> for Accumulate<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<F>>(self) {
        accumulate::<F, V>(self.sums, F::ONE, self.term);
    }
}

/// `sums += factor · vector`
#[inline(always)]
pub(super) fn accumulate<F: Real, V: Vector<F>>(sums: &mut [Lanes<F>], factor: F, vector: &[Lanes<F>]) {
    for (sum, block) in sums.iter_mut().zip(vector) {
        V::load(block).mul_add(V::splat(factor), V::load(sum)).store(sum);
    }
}
