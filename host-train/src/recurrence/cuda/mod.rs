//! The recurrence on a GPU: `kernels.cu`, and what goes into and comes out of its kernels.
//!
//! `tests/cuda_shim.rs` compiles the same file as host code and holds it against the passes of this crate.

use backpropamine::rule::{Granularity, Rule, Squash};

use super::spec::{Clip, Gradients, Parameters, Spec, SpecError};

/// CUDA C of both passes.
pub const KERNELS: &str = include_str!("kernels.cu");

/// `struct Shape` of the kernels.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Shape {
    /// H
    pub neurons: i32,
    /// T
    pub steps: i32,
    /// Lifetimes per seed.
    pub episodes: i32,
    /// K
    pub modulators: i32,
    rule: i32,
    squash: i32,
    /// Steps between two checkpoints of the backward sweep.
    pub interval: i32,
    /// 1 if the traces (or their gradients) lie in shared memory, 0 if in scratch.
    pub in_shared: i32,
    limit: f32,
}

impl Shape {
    /// For `episodes` lifetimes of `steps` steps, with the traces in scratch.
    ///
    /// # Errors
    /// When the kernels cannot run `spec`, with the reason.
    pub fn new(spec: &Spec, steps: usize, episodes: usize) -> Result<Self, SpecError> {
        spec.check()?;
        if spec.mask.is_some() {
            return Err(SpecError::Unsupported(
                "the CUDA kernels modulate every neuron: remove the mask of modulated neurons or train on the CPU",
            ));
        }
        let int = |count: usize| i32::try_from(count).map_err(|_| SpecError::Unsupported("the CUDA kernels count in 32 bits"));
        let Clip::Hard(limit) = spec.clip else {
            return Err(SpecError::Unsupported(
                "the CUDA kernels know the hard clip only: set the clip to hard:C or train on the CPU",
            ));
        };
        Ok(Self {
            neurons: int(spec.hidden)?,
            steps: int(steps)?,
            episodes: int(episodes)?,
            modulators: int(spec.modulators)?,
            rule: match spec.rule {
                Rule::NonPlastic => 0,
                Rule::Hebbian => 1,
                Rule::Modulated => 2,
                Rule::Retroactive => 3,
            },
            squash: match spec.squash {
                Squash::Tanh => 0,
                Squash::Sigmoid => 1,
                Squash::Identity => 2,
            },
            interval: int(steps.isqrt().max(1))?,
            in_shared: 0,
            limit,
        })
    }

    /// The bytes of `struct Shape`.
    pub fn bytes(&self) -> Vec<u8> {
        let ints = [
            self.neurons,
            self.steps,
            self.episodes,
            self.modulators,
            self.rule,
            self.squash,
            self.interval,
            self.in_shared,
        ];
        let ints = ints.into_iter().flat_map(i32::to_ne_bytes);
        ints.chain(self.limit.to_ne_bytes()).collect()
    }
}

/// The parameters as the kernels read them: matrices transposed, every coefficient one per connection, and a fan-out
/// that is not learned of ones.
pub fn spread(spec: &Spec, parameters: &Parameters<f32>) -> Vec<f32> {
    let (n, k) = (spec.hidden, spec.modulators);
    let matrix = |values: &[f32]| -> Vec<f32> { (0..n * n).map(|flat| at(values, n, flat % n, flat / n)).collect() };
    let fan_out = |flat: usize| parameters.fan_out_weight.get(flat % n * k + flat / n).copied().unwrap_or(1.0);
    let base = |j: usize| parameters.fan_out_bias.get(j).copied().unwrap_or(0.0);
    let mut all = matrix(&parameters.weight);
    all.extend(matrix(&parameters.alpha));
    all.extend(matrix(&parameters.eta));
    all.extend_from_slice(&parameters.modulator_weight);
    all.extend_from_slice(&parameters.modulator_bias);
    all.extend((0..k * n).map(fan_out));
    all.extend((0..n).map(base));
    all
}

/// A coefficient of the connection `pre` to `post`, whatever its granularity.
fn at(values: &[f32], neurons: usize, post: usize, pre: usize) -> f32 {
    match values.len() {
        0 => 0.0,
        1 => values[0],
        count if count == neurons => values[post],
        _ => values[post * neurons + pre],
    }
}

/// The gradient of all parameters from those of single lifetimes (the inverse of [`spread`]), added in order.
pub fn fold(spec: &Spec, lifetimes: &[f32]) -> Gradients<f32> {
    let (n, k) = (spec.hidden, spec.modulators);
    let mut total = vec![0.0; 3 * n * n + 2 * k * n + k + n];
    for one in lifetimes.chunks_exact(total.len()) {
        total.iter_mut().zip(one).for_each(|(total, one)| *total += one);
    }
    let (weight, rest) = total.split_at(n * n);
    let (alpha, rest) = rest.split_at(n * n);
    let (eta, rest) = rest.split_at(n * n);
    let (modulator_weight, rest) = rest.split_at(k * n);
    let (modulator_bias, rest) = rest.split_at(k);
    let (fan_out, base) = rest.split_at(k * n);
    let learned = |count: usize| if spec.fan_out { count } else { 0 };
    Gradients {
        weight: gather(Granularity::PerConnection, n, weight),
        alpha: gather(spec.alpha, n, alpha),
        eta: gather(spec.eta, n, eta),
        hebbian_eta: Vec::new(),
        modulator_weight: modulator_weight.to_vec(),
        modulator_bias: modulator_bias.to_vec(),
        fan_out_weight: (0..learned(n * k)).map(|flat| fan_out[flat % k * n + flat / k]).collect(),
        fan_out_bias: base[..learned(n)].to_vec(),
    }
}

/// A transposed matrix of gradients, added up to `granularity`.
fn gather(granularity: Granularity, n: usize, matrix: &[f32]) -> Vec<f32> {
    let rows = (0..n).map(|post| (0..n).map(move |pre| matrix[pre * n + post]));
    match granularity {
        Granularity::Absent => Vec::new(),
        Granularity::Single => vec![rows.flatten().sum()],
        Granularity::PerNeuron => rows.map(Iterator::sum).collect(),
        Granularity::PerConnection => rows.flatten().collect(),
    }
}
