//! The parameters as the sweeps read them: padded to whole blocks, coarse coefficients spread out.

use std::ops::Range;

use backpropamine::rule::Rule;

use super::kernel::{LANES, Lanes, Path, Vector, flat, flat_mut};
use super::real::Real;
use super::spec::{Clip, Parameters, Spec, SpecError};
use super::sweep::{Matrices, accumulate, blocks, panels, row};

/// Which [`Plasticity`](super::rule::Plasticity) a range of neurons follows: see [`with_rule`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Still,
    Outer,
    OuterDense,
    OuterSoft,
    Forgetful,
    Traced,
    TracedDense,
    TracedSoft,
}

/// Runs `$body` with `$R` standing for the rule of `$kind`.
macro_rules! with_rule {
    ($kind:expr, $R:ident => $body:expr) => {
        $crate::recurrence::weights::with_rule! {
            $kind, $R => $body;
            Still: Still,
            Outer: Outer,
            OuterDense: OuterDense,
            OuterSoft: Shaped<Soft>,
            Forgetful: Shaped<Forget>,
            Traced: Traced,
            TracedDense: TracedDense<Hard>,
            TracedSoft: TracedDense<Soft>,
        }
    };
    ($kind:expr, $R:ident => $body:expr; $($name:ident: $rule:ident $(<$argument:ident>)?,)+) => {
        match $kind {
            $($crate::recurrence::weights::Kind::$name => {
                type $R = $crate::recurrence::rule::$rule $(<$crate::recurrence::rule::$argument>)?;
                $body
            })+
        }
    };
}
pub(super) use with_rule;

/// Parameters ready for stepping, made once per iteration and shared by all of its lifetimes.
#[derive(Clone, Debug)]
pub struct Weights<F> {
    pub(super) spec: Spec,
    pub(super) path: Path,
    /// Blocks per row.
    pub(super) columns: usize,
    limit: F,
    oja: F,
    /// Consecutive neurons that follow one rule.
    pub(super) kinds: Vec<(Range<usize>, Kind)>,
    /// For each kind, 1 for its neurons and 0 for the others.
    pub(super) members: Vec<Vec<Lanes<F>>>,
    /// Whether what neuron j receives is modulated.
    pub(super) modulated: Vec<bool>,
    weight: Vec<Lanes<F>>,
    alpha: Vec<Lanes<F>>,
    /// A matrix if some neurons have an eta per connection inside ([`Spec::has_eta_matrix`]), else empty.
    eta: Vec<Lanes<F>>,
    /// Eta of each neuron; 0 where it has none or one per connection.
    pub(super) row_eta: Vec<Lanes<F>>,
    /// `c_j` of modulated neurons, the Hebbian rate of the others.
    base_rate: Vec<Lanes<F>>,
    /// `g`, transposed: `[K][columns]`, 1 where it is not learned, 0 for unmodulated neurons.
    pub(super) fan_out: Vec<Lanes<F>>,
    /// `[K][columns]`
    pub(super) modulator: Vec<Lanes<F>>,
    pub(super) modulator_bias: Vec<F>,
}

impl<F: Real> Weights<F> {
    /// Checks and prepares `parameters`.
    pub fn new(spec: &Spec, parameters: &Parameters<F>, path: Path) -> Result<Self, SpecError> {
        spec.check()?;
        parameters.check(spec)?;
        let h = spec.hidden;
        let modulated = modulated(spec);
        let row_eta = per_neuron(&parameters.eta, h);
        // Rates that are one per connection inside stand in the matrix alone.
        let hebbian = match spec.rule {
            _ if spec.has_eta_matrix(false) => vec![F::ZERO; h],
            Rule::Hebbian => row_eta.clone(),
            _ => per_neuron(&parameters.hebbian_eta, h),
        };
        let bias = per_neuron(&parameters.fan_out_bias, h);
        let base_rate: Vec<F> = (0..h).map(|j| if modulated[j] { bias[j] } else { hebbian[j] }).collect();
        let fan_out: Vec<F> = (0..spec.modulators * h)
            .map(|index| match (index / h, index % h) {
                (_, j) if !modulated[j] => F::ZERO,
                (k, j) => parameters.fan_out_weight.get(j * spec.modulators + k).copied().unwrap_or(F::ONE),
            })
            .collect();
        let eta = paneled(&eta_matrix(spec, parameters, &modulated), h);
        let kinds = kinds(spec);
        let members = |rows: &Range<usize>| (0..h).map(|j| if rows.contains(&j) { F::ONE } else { F::ZERO }).collect::<Vec<F>>();
        Ok(Self {
            path,
            columns: blocks(h),
            limit: F::real(spec.clip.limit().into()),
            members: kinds.iter().map(|(rows, _)| padded(&members(rows), h)).collect(),
            kinds,
            modulated,
            weight: paneled(&parameters.weight, h),
            alpha: paneled(&per_connection(&parameters.alpha, h), h),
            eta,
            oja: if spec.clip == Clip::Oja { F::ONE } else { F::ZERO },
            row_eta: padded(&row_eta, h),
            base_rate: padded(&base_rate, h),
            fan_out: padded(&fan_out, h),
            modulator: padded(&parameters.modulator_weight, h),
            modulator_bias: parameters.modulator_bias.clone(),
            spec: spec.clone(),
        })
    }

    /// What they were made for.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Size of a matrix.
    pub(super) fn matrix(&self) -> usize {
        self.spec.hidden * self.columns
    }

    /// What the sweeps read.
    pub(super) fn matrices(&self) -> Matrices<'_, F> {
        Matrices {
            neurons: self.spec.hidden,
            weight: &self.weight,
            alpha: &self.alpha,
            eta: &self.eta,
            limit: self.limit,
            oja: self.oja,
        }
    }

    /// `M_j = Σ_k g_jk m_k + c_j` of modulated neurons, the Hebbian rate of the others.
    #[inline(always)]
    pub(super) fn rates<V: Vector<F>>(&self, m: &[F], rates: &mut [Lanes<F>]) {
        rates.copy_from_slice(&self.base_rate);
        for (k, &m) in m.iter().enumerate() {
            accumulate::<F, V>(rates, m, row(&self.fan_out, k, self.columns));
        }
    }
}

/// Whether each neuron is modulated.
fn modulated(spec: &Spec) -> Vec<bool> {
    let all = spec.rule.is_modulated();
    spec.mask.as_ref().map_or(vec![all; spec.hidden], |mask| mask.modulated.clone())
}

/// What a modulated neuron, or one that is not, follows.
fn kind(spec: &Spec, modulated: bool) -> Kind {
    let traced = spec.rule == Rule::Retroactive && modulated;
    match (spec.clip, traced, spec.has_eta_matrix(modulated)) {
        _ if !spec.rule.is_plastic() => Kind::Still,
        (Clip::Soft, false, _) => Kind::OuterSoft,
        (Clip::Soft, true, _) => Kind::TracedSoft,
        (Clip::Decay | Clip::Oja, ..) => Kind::Forgetful,
        (Clip::Hard(_), false, false) => Kind::Outer,
        (Clip::Hard(_), false, true) => Kind::OuterDense,
        (Clip::Hard(_), true, false) => Kind::Traced,
        (Clip::Hard(_), true, true) => Kind::TracedDense,
    }
}

/// The rule's own eta in the rows of the neurons that have it, the Hebbian rate in the others', where they are one per
/// connection inside; 0 elsewhere.
fn eta_matrix<F: Real>(spec: &Spec, parameters: &Parameters<F>, modulated: &[bool]) -> Vec<F> {
    if ![true, false].into_iter().any(|modulated| spec.has_eta_matrix(modulated)) {
        return Vec::new();
    }
    let h = spec.hidden;
    let [own, hebbian] = [&parameters.eta, &parameters.hebbian_eta].map(|eta| per_connection(eta, h));
    let of = |at: usize| {
        if modulated[at / h] || spec.mask.is_none() {
            own.get(at)
        } else {
            hebbian.get(at)
        }
    };
    let eta = (0..h * h).map(|at| of(at).filter(|_| spec.has_eta_matrix(modulated[at / h])));
    eta.map(|eta| eta.copied().unwrap_or(F::ZERO)).collect()
}

/// Consecutive neurons of one kind.
fn kinds(spec: &Spec) -> Vec<(Range<usize>, Kind)> {
    let each: Vec<Kind> = modulated(spec).into_iter().map(|modulated| kind(spec, modulated)).collect();
    let mut start = 0;
    let runs = each.chunk_by(|a, b| a == b);
    runs.map(|run| {
        let range = start..start + run.len();
        start = range.end;
        (range, run[0])
    })
    .collect()
}

/// Rows of `width` numbers, each padded with zeros to whole blocks.
pub(super) fn padded<F: Real>(values: &[F], width: usize) -> Vec<Lanes<F>> {
    let columns = blocks(width);
    let mut matrix = vec![Lanes::default(); values.len() / width * columns];
    for (row, values) in matrix.chunks_exact_mut(columns).zip(values.chunks_exact(width)) {
        flat_mut(row)[..width].copy_from_slice(values);
    }
    matrix
}

/// A matrix `[neurons][neurons]` (or none) as the sweeps want it.
fn paneled<F: Real>(values: &[F], neurons: usize) -> Vec<Lanes<F>> {
    let rows = padded(values, neurons);
    let columns = blocks(neurons);
    let panels = panels(columns).flat_map(|panel| rows.chunks_exact(columns).flat_map(move |row| &row[panel.start..][..panel.width]));
    panels.copied().collect()
}

/// The inverse of [`padded`].
pub(super) fn unpadded<F: Real>(matrix: &[Lanes<F>], width: usize) -> Vec<F> {
    matrix
        .chunks_exact(blocks(width))
        .flat_map(|row| flat(row)[..width].iter().copied())
        .collect()
}

/// The inverse of [`paneled`], for any number of rows of `width` numbers.
pub(super) fn unpaneled<F: Real>(matrix: &[Lanes<F>], width: usize) -> Vec<F> {
    let columns = blocks(width);
    let count = matrix.len() / columns;
    let mut rows = vec![Lanes::default(); matrix.len()];
    for panel in panels(columns) {
        let tiles = matrix.get(panel.start * count..).unwrap_or_default().chunks_exact(panel.width);
        for (row, tile) in rows.chunks_exact_mut(columns).zip(tiles) {
            row[panel.start..][..panel.width].copy_from_slice(tile);
        }
    }
    unpadded(&rows, width)
}

/// Where number `(post, pre)` of a matrix lies among its numbers.
pub(super) fn position(neurons: usize, post: usize, pre: usize) -> usize {
    let block = pre / LANES;
    let panel = panels(blocks(neurons)).take_while(|panel| panel.start <= block).last();
    let panel = panel.expect("the first panel starts at 0");
    (panel.start * neurons + post * panel.width + block - panel.start) * LANES + pre % LANES
}

/// One number for each neuron, from one for all or one for each; 0 where there is none or one for each connection.
fn per_neuron<F: Real>(values: &[F], neurons: usize) -> Vec<F> {
    match values {
        [one] => vec![*one; neurons],
        each if each.len() == neurons => each.to_vec(),
        _ => vec![F::ZERO; neurons],
    }
}

/// One number for each connection, from one for all, one for each neuron, one for each connection, or none (none).
fn per_connection<F: Real>(values: &[F], neurons: usize) -> Vec<F> {
    match values {
        [] => Vec::new(),
        each if each.len() == neurons * neurons => each.to_vec(),
        coarse => per_neuron(coarse, neurons)
            .iter()
            .flat_map(|&value| std::iter::repeat_n(value, neurons))
            .collect(),
    }
}
