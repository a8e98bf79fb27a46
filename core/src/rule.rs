//! The four learning rules and what shapes them. Their arithmetic is in `core/FORMAT.md`.
//!
//! With pre-synaptic activity `h_i(t-1)`, post-synaptic activity `h_j(t)` and the modulator `M_j(t)`, after `h(t)` is known:
//!
//! | rule | update | paper |
//! |---|---|---|
//! | [`Rule::NonPlastic`] | none | |
//! | [`Rule::Hebbian`] | `H ← clip(H + eta·h_j(t)·h_i(t-1))` | Eq. 1-2 |
//! | [`Rule::Modulated`] | `H ← clip(H + M_j(t)·h_j(t)·h_i(t-1))` | Eq. 3 |
//! | [`Rule::Retroactive`] | first `H ← clip(H + M_j(t)·E)`, then `E ← (1-eta)·E + eta·h_j(t)·h_i(t-1)` | Eq. 4-5 |
//!
//! This is with [`Clip::Hard`]; the other kinds of [`Clip`] change how H takes an increment.

/// How the Hebbian trace changes in a lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Rule {
    /// No trace: a plain recurrent network.
    NonPlastic = 0,
    /// Plasticity at a fixed rate (Eq. 1-2).
    Hebbian = 1,
    /// Simple neuromodulation: the network's own output is the rate (Eq. 3).
    Modulated = 2,
    /// Retroactive neuromodulation: the modulator writes an eligibility trace into the Hebbian trace (Eq. 4-5).
    Retroactive = 3,
}

impl Rule {
    /// Whether the network has a Hebbian trace `H`.
    pub const fn is_plastic(self) -> bool {
        !matches!(self, Rule::NonPlastic)
    }

    /// Whether the network computes a modulator `m(t)`.
    pub const fn is_modulated(self) -> bool {
        matches!(self, Rule::Modulated | Rule::Retroactive)
    }

    /// Whether the network has an eligibility trace `E`.
    pub const fn has_eligibility(self) -> bool {
        matches!(self, Rule::Retroactive)
    }

    /// Whether the rule has a rate `eta` of its own: of `H` for Hebbian, of `E` for Retroactive.
    pub const fn has_eta(self) -> bool {
        matches!(self, Rule::Hebbian | Rule::Retroactive)
    }

    pub(crate) const fn from_code(code: u32) -> Option<Self> {
        match code {
            0 => Some(Rule::NonPlastic),
            1 => Some(Rule::Hebbian),
            2 => Some(Rule::Modulated),
            3 => Some(Rule::Retroactive),
            _ => None,
        }
    }
}

/// What keeps the Hebbian trace bounded, and how an increment `d` gets there. `clip(x)` cuts to the limit.
///
/// | clip | update | with |
/// |---|---|---|
/// | [`Clip::Hard`] | `H ← clip(H + d)` | every rule |
/// | [`Clip::Soft`] | `H ← clip(H + d·(1-H))` if `d > 0`, else `clip(H + d·(1+H))` | every rule, limit 1 |
/// | [`Clip::Decay`] | `H ← clip((1-r)·H + r·h_j·h_i)` | Hebbian (`r = eta`) and Modulated (`r = M_j`), limit 1 |
/// | [`Clip::Oja`] | `H ← clip(H + r·h_j·(h_i - h_j·H))` | likewise |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Clip {
    /// Cut at the limit.
    Hard = 0,
    /// Increments shrink as the trace comes near its limit.
    Soft = 1,
    /// The trace decays at the rate at which it learns.
    Decay = 2,
    /// Oja's rule: what the neuron already says about its input is subtracted.
    Oja = 3,
}

impl Clip {
    /// Whether it replaces the increment `d` by one that needs the rate `r` itself: Decay and Oja.
    pub const fn needs_rate(self) -> bool {
        matches!(self, Clip::Decay | Clip::Oja)
    }

    /// Whether a network of this rule can have it: an eligibility is no product `h_j·h_i` with a rate to decay at, so
    /// Decay and Oja have no meaning for [`Rule::Retroactive`].
    pub const fn suits(self, rule: Rule) -> bool {
        !(self.needs_rate() && rule.has_eligibility())
    }

    pub(crate) const fn from_code(code: u32) -> Option<Self> {
        match code {
            0 => Some(Clip::Hard),
            1 => Some(Clip::Soft),
            2 => Some(Clip::Decay),
            3 => Some(Clip::Oja),
            _ => None,
        }
    }
}

/// The nonlinearity `f` of the modulator, `m = f(Wm h + bm)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Squash {
    /// `tanh`, the paper's.
    Tanh = 0,
    /// The logistic function, computed as `(1 + tanh(x/2)) / 2`.
    Sigmoid = 1,
    /// None.
    Identity = 2,
}

impl Squash {
    pub(crate) const fn from_code(code: u32) -> Option<Self> {
        match code {
            0 => Some(Squash::Tanh),
            1 => Some(Squash::Sigmoid),
            2 => Some(Squash::Identity),
            _ => None,
        }
    }
}

/// How many numbers a coefficient (`alpha`, `eta`) has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Granularity {
    /// The rule does not have this coefficient.
    Absent = 0,
    /// One for the whole network, `[1]`.
    Single = 1,
    /// One per postsynaptic neuron, `[H]`.
    PerNeuron = 2,
    /// One per connection, `[H, H]`, post by pre.
    PerConnection = 3,
}

impl Granularity {
    pub(crate) const fn from_code(code: u32) -> Option<Self> {
        match code {
            0 => Some(Granularity::Absent),
            1 => Some(Granularity::Single),
            2 => Some(Granularity::PerNeuron),
            3 => Some(Granularity::PerConnection),
            _ => None,
        }
    }
}
