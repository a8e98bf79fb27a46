//! What a plastic recurrence consists of: its rule and shapes ([`Spec`]) and its trainable numbers ([`Parameters`]).

use backpropamine::rule::{self, Granularity, Rule, Squash};
use thiserror::Error;

use super::real::Real;

/// What keeps the Hebbian trace bounded: [`backpropamine::rule::Clip`] has the updates. Each ends with a cut to the limit,
/// whose gradient is 1 inside and 0 where it cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip {
    /// `H` is cut to `[-limit, limit]`.
    Hard(f32),
    /// Increments shrink as `H` comes near 1 or -1.
    Soft,
    /// `H` decays at the rate at which it learns.
    Decay,
    /// Oja's rule.
    Oja,
}

impl Clip {
    /// Of this kind; the limit counts for the hard clip only.
    pub fn new(kind: rule::Clip, limit: f32) -> Self {
        match kind {
            rule::Clip::Hard => Self::Hard(limit),
            rule::Clip::Soft => Self::Soft,
            rule::Clip::Decay => Self::Decay,
            rule::Clip::Oja => Self::Oja,
        }
    }

    /// The core's name for it.
    pub fn kind(self) -> rule::Clip {
        match self {
            Self::Hard(_) => rule::Clip::Hard,
            Self::Soft => rule::Clip::Soft,
            Self::Decay => rule::Clip::Decay,
            Self::Oja => rule::Clip::Oja,
        }
    }

    /// `H` stays within this, either sign.
    pub fn limit(self) -> f32 {
        match self {
            Self::Hard(limit) => limit,
            Self::Soft | Self::Decay | Self::Oja => 1.0,
        }
    }
}

/// Which neurons of a partly modulated network are modulated. The traces of the others follow the Hebbian rule
/// (Eq. 1-2) at a rate of their own, `recurrent.hebbian_eta`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mask {
    /// One entry per neuron: whether what it receives is modulated.
    pub modulated: Vec<bool>,
    /// How many rates the other neurons have.
    pub eta: Granularity,
}

/// The shape of a plastic recurrence (SPEC: `h(t) = tanh(drive + (w + alpha∘H) h(t-1))` and the rule that writes `H`).
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Number of neurons `H`.
    pub hidden: usize,
    /// How the Hebbian trace changes.
    pub rule: Rule,
    /// What bounds it.
    pub clip: Clip,
    /// Number `K` of modulators; 0 where the rule has none.
    pub modulators: usize,
    /// The modulator's nonlinearity.
    pub squash: Squash,
    /// How many plasticity coefficients there are; `Absent` for a non-plastic network.
    pub alpha: Granularity,
    /// How many rates of its own the rule has: of `H` for Hebbian, of `E` for Retroactive, `Absent` otherwise.
    pub eta: Granularity,
    /// Whether `M_j = Σ_k g_jk m_k + c_j` has a learned `g` and `c`; without, they are 1 and 0.
    pub fan_out: bool,
    /// Which neurons are modulated; all of them where it is absent.
    pub mask: Option<Mask>,
}

/// A recurrence that cannot be trained, and why.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum SpecError {
    /// The parts of the specification contradict each other; the sentence says which and what to do.
    #[error("{0}")]
    Unsupported(&'static str),
    /// A parameter has the wrong number of elements.
    #[error("{tensor}: expected {expected} numbers, found {found}")]
    Shape {
        /// The tensor's name in the model file.
        tensor: &'static str,
        /// Elements the specification asks for.
        expected: usize,
        /// Elements given.
        found: usize,
    },
}

impl Spec {
    /// The paper's network with this rule: hard clip at 1, one tanh modulator that reaches every neuron,
    /// `alpha` per connection, one `eta`.
    pub fn new(hidden: usize, rule: Rule) -> Self {
        let present = |has, granularity| {
            if has { granularity } else { Granularity::Absent }
        };
        Self {
            hidden,
            rule,
            clip: Clip::Hard(1.0),
            modulators: usize::from(rule.is_modulated()),
            squash: Squash::Tanh,
            alpha: present(rule.is_plastic(), Granularity::PerConnection),
            eta: present(rule.has_eta(), Granularity::Single),
            fan_out: false,
            mask: None,
        }
    }

    /// Refuses what makes no sense, by a sentence.
    pub fn check(&self) -> Result<(), SpecError> {
        let absent = |granularity| granularity == Granularity::Absent;
        let limit = self.clip.limit();
        let mask_fits = |mask: &Mask| mask.modulated.len() == self.hidden;
        let rules: [(bool, &'static str); 10] = [
            (self.hidden > 0, "a network needs at least one neuron"),
            (limit > 0.0 && limit.is_finite(), "the clip's limit must be a positive number"),
            (
                self.clip.kind().suits(self.rule),
                "decay and oja forget at the rate of a product h_j·h_i, and the retroactive rule writes an eligibility \
                 trace: choose the clip hard:C or soft, or another rule",
            ),
            (
                self.rule.is_plastic() != absent(self.alpha),
                "alpha belongs to plastic rules, and each of them needs one: set its granularity to match the rule",
            ),
            (
                self.rule.has_eta() != absent(self.eta),
                "eta belongs to the Hebbian and the retroactive rule, and they need one: set its granularity to match the rule",
            ),
            (
                self.rule.is_modulated() == (self.modulators > 0),
                "modulators belong to the simple and the retroactive rule, and they need at least one",
            ),
            (
                self.modulators > 0 || !self.fan_out,
                "a fan-out needs a modulator: remove it or choose a modulated rule",
            ),
            (
                self.modulators > 0 || self.mask.is_none(),
                "a mask of modulated neurons needs a modulator: remove it or choose a modulated rule",
            ),
            (
                self.mask.as_ref().is_none_or(mask_fits),
                "the mask of modulated neurons needs one entry per neuron",
            ),
            (
                self.mask.as_ref().is_none_or(|mask| !absent(mask.eta)),
                "unmodulated neurons need a Hebbian rate: one for the network, one per neuron or one per connection",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, sentence)) => Err(SpecError::Unsupported(sentence)),
            None => Ok(()),
        }
    }

    /// Whether modulated neurons, or the others, have an eta for each connection as the sweeps see it: by its granularity,
    /// or, in order to compile fewer of them, with every clip that is not hard.
    pub(super) fn has_eta_matrix(&self, modulated: bool) -> bool {
        let hebbian = self.mask.as_ref().map_or(self.eta, |mask| mask.eta);
        let eta = if modulated { self.eta } else { hebbian };
        eta == Granularity::PerConnection || !matches!(self.clip, Clip::Hard(_))
    }

    fn count(&self, granularity: Granularity) -> usize {
        match granularity {
            Granularity::Absent => 0,
            Granularity::Single => 1,
            Granularity::PerNeuron => self.hidden,
            Granularity::PerConnection => self.hidden * self.hidden,
        }
    }

    /// Elements of each parameter, in the order of [`Parameters::tensors`].
    fn sizes(&self) -> [usize; TENSORS.len()] {
        let (h, k) = (self.hidden, self.modulators);
        let fan_out = usize::from(self.fan_out);
        let hebbian_eta = self.mask.as_ref().map_or(Granularity::Absent, |mask| mask.eta);
        [
            h * h,
            self.count(self.alpha),
            self.count(self.eta),
            self.count(hebbian_eta),
            k * h,
            k,
            fan_out * h * k,
            fan_out * h,
        ]
    }
}

/// The parameters' names in a model file, in the order in which they are packed.
pub const TENSORS: [&str; 8] = [
    "recurrent.weight",
    "recurrent.alpha",
    "recurrent.eta",
    "recurrent.hebbian_eta",
    "modulator.weight",
    "modulator.bias",
    "modulator.fan_out.weight",
    "modulator.fan_out.bias",
];

/// The recurrence's trainable numbers, named as in a model file, row-major `[post][pre]`. What the network has not is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters<F> {
    /// `w`, `[H, H]`.
    pub weight: Vec<F>,
    /// `alpha`: `[H, H]`, `[H]` or `[1]`.
    pub alpha: Vec<F>,
    /// The rule's own rate: `[H, H]`, `[H]` or `[1]`.
    pub eta: Vec<F>,
    /// The Hebbian rate of unmodulated neurons: `[H, H]`, `[H]` or `[1]`.
    pub hebbian_eta: Vec<F>,
    /// `Wm`, `[K, H]`.
    pub modulator_weight: Vec<F>,
    /// `bm`, `[K]`.
    pub modulator_bias: Vec<F>,
    /// `g`, `[H, K]`.
    pub fan_out_weight: Vec<F>,
    /// `c`, `[H]`.
    pub fan_out_bias: Vec<F>,
}

/// The loss's derivatives by each parameter, in the parameters' shapes.
pub type Gradients<F> = Parameters<F>;

impl<F: Real> Parameters<F> {
    /// All zero, in the shapes `spec` asks for.
    pub fn zeros(spec: &Spec) -> Self {
        Self::unpack(spec, &vec![F::ZERO; spec.sizes().iter().sum()]).expect("as many as the specification asks for")
    }

    /// Name and elements of every parameter, also of the empty ones, in the order of [`TENSORS`].
    pub fn tensors(&self) -> [(&'static str, &[F]); TENSORS.len()] {
        let fields = [
            &self.weight,
            &self.alpha,
            &self.eta,
            &self.hebbian_eta,
            &self.modulator_weight,
            &self.modulator_bias,
            &self.fan_out_weight,
            &self.fan_out_bias,
        ];
        std::array::from_fn(|i| (TENSORS[i], fields[i].as_slice()))
    }

    /// As [`tensors`](Self::tensors), to be changed in place.
    pub fn tensors_mut(&mut self) -> [(&'static str, &mut Vec<F>); TENSORS.len()] {
        let [weight, alpha, eta, hebbian, mod_weight, mod_bias, fan_weight, fan_bias] = TENSORS;
        [
            (weight, &mut self.weight),
            (alpha, &mut self.alpha),
            (eta, &mut self.eta),
            (hebbian, &mut self.hebbian_eta),
            (mod_weight, &mut self.modulator_weight),
            (mod_bias, &mut self.modulator_bias),
            (fan_weight, &mut self.fan_out_weight),
            (fan_bias, &mut self.fan_out_bias),
        ]
    }

    /// All parameters one after another, in the order of [`TENSORS`]: the layout of [`RecurrenceOp`](super::RecurrenceOp)'s input.
    pub fn pack(&self) -> Vec<F> {
        self.tensors().into_iter().flat_map(|(_, values)| values.iter().copied()).collect()
    }

    /// The inverse of [`pack`](Self::pack).
    pub fn unpack(spec: &Spec, packed: &[F]) -> Result<Self, SpecError> {
        let expected = spec.sizes().iter().sum();
        if packed.len() != expected {
            return Err(SpecError::Shape {
                tensor: "packed parameters",
                expected,
                found: packed.len(),
            });
        }
        let mut parameters = Self::default();
        let mut rest = packed;
        for ((_, values), size) in parameters.tensors_mut().into_iter().zip(spec.sizes()) {
            let (head, tail) = rest.split_at(size);
            values.extend_from_slice(head);
            rest = tail;
        }
        Ok(parameters)
    }

    /// Whether every parameter has the number of elements that `spec` asks for.
    pub fn check(&self, spec: &Spec) -> Result<(), SpecError> {
        for ((tensor, values), expected) in self.tensors().into_iter().zip(spec.sizes()) {
            if values.len() != expected {
                return Err(SpecError::Shape {
                    tensor,
                    expected,
                    found: values.len(),
                });
            }
        }
        Ok(())
    }
}
