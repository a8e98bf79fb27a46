//! The numbers of a network as plain arrays, before any layout, and random ones to test with.

use backpropamine::rng::{Lifetime, Rng, Stream};
use backpropamine::rule::{Clip, Granularity, Rule, Squash};

/// Every size and kind of a network. [`Shape::normalised`] drops what the rule has not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Inputs, `I`.
    pub inputs: usize,
    /// Neurons, `H`.
    pub hidden: usize,
    /// Actions, `A`.
    pub actions: usize,
    /// Modulators, `K`.
    pub modulators: usize,
    /// Whether there is a value head.
    pub value: bool,
    /// Whether `M_j = Σ_k g_jk m_k + c_j` is learned (else `M_j = Σ_k m_k`).
    pub fan_out: bool,
    /// The learning rule.
    pub rule: Rule,
    /// How the trace is kept within its limit.
    pub clip_kind: Clip,
    /// The limit of the hard clip; 1 for the others.
    pub clip: f32,
    /// The modulator's nonlinearity.
    pub squash: Squash,
    /// How many numbers `alpha` has.
    pub alpha: Granularity,
    /// How many numbers `eta` has.
    pub eta: Granularity,
    /// How many numbers `hebbian_eta` has: with it the network is partly modulated, by a mask of neurons.
    pub hebbian_eta: Granularity,
}

/// The granularities a coefficient can have where its rule has it.
pub const GRANULARITIES: [Granularity; 3] = [Granularity::Single, Granularity::PerNeuron, Granularity::PerConnection];

/// The number of numbers of a coefficient for `hidden` neurons.
pub fn count(granularity: Granularity, hidden: usize) -> usize {
    match granularity {
        Granularity::Absent => 0,
        Granularity::Single => 1,
        Granularity::PerNeuron => hidden,
        Granularity::PerConnection => hidden * hidden,
    }
}

/// All four rules.
pub const RULES: [Rule; 4] = [Rule::NonPlastic, Rule::Hebbian, Rule::Modulated, Rule::Retroactive];

/// All three nonlinearities of the modulator.
pub const SQUASHES: [Squash; 3] = [Squash::Tanh, Squash::Sigmoid, Squash::Identity];

impl Shape {
    /// A network of a rule with the everyday choices: value head, fan-out 1, clip 1, `alpha` per connection, one `eta`.
    pub fn new(rule: Rule, inputs: usize, hidden: usize, actions: usize) -> Self {
        Self {
            inputs,
            hidden,
            actions,
            modulators: 1,
            value: true,
            fan_out: false,
            rule,
            clip_kind: Clip::Hard,
            clip: 1.0,
            squash: Squash::Tanh,
            alpha: Granularity::PerConnection,
            eta: Granularity::Single,
            hebbian_eta: Granularity::Absent,
        }
    }

    /// This shape without what its rule has not.
    pub fn normalised(self) -> Self {
        let only_if = |present: bool, granularity| if present { granularity } else { Granularity::Absent };
        let modulated = self.rule.is_modulated();
        Self {
            modulators: if modulated { self.modulators } else { 0 },
            fan_out: modulated && self.fan_out,
            alpha: only_if(self.rule.is_plastic(), self.alpha),
            eta: only_if(self.rule.has_eta(), self.eta),
            hebbian_eta: only_if(modulated, self.hebbian_eta),
            ..self
        }
    }
}

/// A network's numbers, row-major, `[post][pre]`. What the rule has not is empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    /// Sizes and kinds.
    pub shape: Shape,
    /// `[H, I]`
    pub input_weight: Vec<f32>,
    /// `[H]`
    pub input_bias: Vec<f32>,
    /// `[H, H]`
    pub recurrent_weight: Vec<f32>,
    /// `[1]`, `[H]` or `[H, H]`
    pub alpha: Vec<f32>,
    /// `[1]`, `[H]` or `[H, H]`
    pub eta: Vec<f32>,
    /// `[1]`, `[H]` or `[H, H]`
    pub hebbian_eta: Vec<f32>,
    /// `[H]`, of the neurons with `hebbian_eta`: whether they are modulated
    pub mask: Vec<bool>,
    /// `[K, H]`
    pub modulator_weight: Vec<f32>,
    /// `[K]`
    pub modulator_bias: Vec<f32>,
    /// `g`, `[H, K]`
    pub fan_out_weight: Vec<f32>,
    /// `c`, `[H]`
    pub fan_out_bias: Vec<f32>,
    /// `[A, H]`
    pub policy_weight: Vec<f32>,
    /// `[A]`
    pub policy_bias: Vec<f32>,
    /// `[1, H]`
    pub value_weight: Vec<f32>,
    /// `[1]`
    pub value_bias: Vec<f32>,
}

impl Parameters {
    /// Random numbers of the sizes that trained networks have: recurrent weights near N(0, 0.9²/H), `alpha` uniform in
    /// ±0.05, `eta` uniform in [0.1, 0.6], heads that spread m, V and the logits over their range.
    pub fn random(shape: Shape, seed: u64) -> Self {
        let shape = shape.normalised();
        let mut draws = Draws::new(seed);
        let Shape {
            inputs,
            hidden,
            actions,
            modulators,
            ..
        } = shape;
        let spread = |count: usize| 1.0 / (count as f32).sqrt();
        let masked = if shape.hebbian_eta == Granularity::Absent { 0 } else { hidden };
        let (fanned, valued) = (usize::from(shape.fan_out), usize::from(shape.value));
        Self {
            input_weight: draws.normals(hidden * inputs, spread(inputs)),
            input_bias: draws.normals(hidden, 0.1),
            recurrent_weight: draws.normals(hidden * hidden, 0.9 * spread(hidden)),
            alpha: draws.uniforms(count(shape.alpha, hidden), -0.05, 0.05),
            eta: draws.uniforms(count(shape.eta, hidden), 0.1, 0.6),
            hebbian_eta: draws.uniforms(count(shape.hebbian_eta, hidden), 0.1, 0.6),
            mask: (0..masked).map(|_| draws.unit() < 0.5).collect(),
            modulator_weight: draws.normals(modulators * hidden, 2.0 * spread(hidden)),
            modulator_bias: draws.normals(modulators, 0.1),
            fan_out_weight: draws.uniforms(fanned * hidden * modulators, -1.5, 1.5),
            fan_out_bias: draws.uniforms(fanned * hidden, -0.2, 0.2),
            policy_weight: draws.normals(actions * hidden, 2.0 * spread(hidden)),
            policy_bias: draws.normals(actions, 0.1),
            value_weight: draws.normals(valued * hidden, spread(hidden)),
            value_bias: draws.normals(valued, 0.1),
            shape,
        }
    }

    /// The same network without its plasticity.
    pub fn non_plastic(&self) -> Self {
        Self {
            shape: Shape {
                rule: Rule::NonPlastic,
                ..self.shape
            }
            .normalised(),
            alpha: Vec::new(),
            eta: Vec::new(),
            hebbian_eta: Vec::new(),
            mask: Vec::new(),
            modulator_weight: Vec::new(),
            modulator_bias: Vec::new(),
            fan_out_weight: Vec::new(),
            fan_out_bias: Vec::new(),
            ..self.clone()
        }
    }

    /// The same network with every neuron modulated.
    pub fn wholly_modulated(&self) -> Self {
        Self {
            shape: Shape {
                hebbian_eta: Granularity::Absent,
                ..self.shape
            },
            hebbian_eta: Vec::new(),
            mask: Vec::new(),
            ..self.clone()
        }
    }

    /// The same network with `M_j = Σ_k m_k`.
    pub fn without_fan_out(&self) -> Self {
        Self {
            shape: Shape {
                fan_out: false,
                ..self.shape
            },
            fan_out_weight: Vec::new(),
            fan_out_bias: Vec::new(),
            ..self.clone()
        }
    }
}

/// A row of random numbers from core's generator, the same on every machine.
pub struct Draws {
    stream: Lifetime,
    next: u32,
}

impl Draws {
    /// The row of one seed.
    pub fn new(seed: u64) -> Self {
        Self {
            stream: Rng::new(seed).lifetime(Stream::Init, 0),
            next: 0,
        }
    }

    /// The next 32 bits.
    pub fn bits(&mut self) -> u32 {
        self.next += 1;
        self.stream.draw(self.next, 0)
    }

    /// The next number in [0, 1).
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 8) as f32 / 16_777_216.0
    }

    /// `count` numbers in [low, high).
    pub fn uniforms(&mut self, count: usize, low: f32, high: f32) -> Vec<f32> {
        (0..count).map(|_| low + (high - low) * self.unit()).collect()
    }

    /// `count` nearly normal numbers of mean 0: the sum of twelve uniform ones has variance 1 and needs no logarithm,
    /// whose last bit would be the platform's.
    pub fn normals(&mut self, count: usize, deviation: f32) -> Vec<f32> {
        (0..count)
            .map(|_| deviation * ((0..12).map(|_| self.unit()).sum::<f32>() - 6.0))
            .collect()
    }
}
