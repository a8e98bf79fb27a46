//! Networks as the kernels read them.

use anyhow::{Result, ensure};
use backpropamine::rule::{Clip, Granularity, Rule, Squash};

use crate::cli::ExitKind;
use crate::model::Model;
use crate::optim::Gradients;

/// `struct Shape` of the kernels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// N
    pub neurons: u32,
    /// T
    pub steps: u32,
    /// B
    pub lifetimes: u32,
    /// K
    pub modulators: u32,
    /// I
    pub inputs: u32,
    /// A
    pub actions: u32,
    rule: u32,
    squash: u32,
    /// Steps between two checkpoints of the backward sweep.
    interval: u32,
    /// Whether the traces (or their gradients) lie in shared memory, not in scratch; the machine decides.
    pub in_shared: bool,
    limit: f32,
}

impl Shape {
    /// For `lifetimes` lifetimes of `steps` steps of this network, with the traces in scratch.
    ///
    /// # Errors
    /// [`ExitKind::Usage`] when the kernels do not know such a network.
    pub fn new(model: &Model, steps: u32, lifetimes: u32) -> Result<Self> {
        let refuse = |what: &str| ExitKind::Usage(format!("{what}: a GPU cannot train that; use --device cpu"));
        ensure!(model.clip_kind == Clip::Hard, refuse("a clip other than hard:C"));
        ensure!(model.values("modulator.mask").is_none(), refuse("a mask of modulated neurons"));
        let sizes = &model.sizes;
        let [neurons, modulators, inputs, actions] = [sizes.hidden, sizes.modulators, sizes.inputs, sizes.actions].map(|size| size as u32);
        Ok(Self {
            neurons,
            steps,
            lifetimes,
            modulators,
            inputs,
            actions,
            rule: match model.rule {
                Rule::NonPlastic => 0,
                Rule::Hebbian => 1,
                Rule::Modulated => 2,
                Rule::Retroactive => 3,
            },
            squash: match model.squash {
                Squash::Tanh => 0,
                Squash::Sigmoid => 1,
                Squash::Identity => 2,
            },
            interval: steps.isqrt().max(1),
            in_shared: false,
            limit: model.clip as f32,
        })
    }

    /// The struct's words.
    pub fn words(&self) -> [u32; 11] {
        [
            self.neurons,
            self.steps,
            self.lifetimes,
            self.modulators,
            self.inputs,
            self.actions,
            self.rule,
            self.squash,
            self.interval,
            self.in_shared.into(),
            self.limit.to_bits(),
        ]
    }

    fn traces(&self) -> usize {
        [0, 1, 1, 2][self.rule as usize]
    }

    fn readouts(&self) -> usize {
        (self.modulators + self.actions) as usize + 1
    }

    /// Numbers of all traces of a lifetime.
    pub fn state(&self) -> usize {
        let neurons = self.neurons as usize;
        self.traces() * neurons * (neurons | 1)
    }

    /// Steps of all lifetimes.
    pub fn rows(&self) -> usize {
        self.steps as usize * self.lifetimes as usize
    }

    /// Shared numbers of a block of `live`, without the traces.
    pub fn live_shared(&self) -> usize {
        3 * self.neurons as usize + self.inputs as usize + self.readouts()
    }

    /// Shared numbers of a block of `learn`, without the gradients of the traces.
    pub fn learn_shared(&self) -> usize {
        6 * self.neurons as usize + self.readouts()
    }

    /// Numbers of scratch memory that serve both passes of a lifetime, wherever the traces are.
    pub fn scratch(&self) -> usize {
        let checkpoints = self.steps.div_ceil(self.interval);
        self.state() * (checkpoints + self.interval + 2) as usize
    }

    /// Numbers of [`pack`].
    pub fn parameters(&self) -> usize {
        let (neurons, readouts) = (self.neurons as usize, self.readouts());
        let inputs = self.inputs as usize + 1;
        neurons * (3 * neurons + readouts + self.modulators as usize + 1 + inputs) + readouts
    }
}

const MATRICES: [&str; 3] = ["recurrent.weight", "recurrent.alpha", "recurrent.eta"];
const READOUTS: [&str; 3] = ["modulator", "policy", "value"];

/// The parameters as the kernels read them: matrices transposed, every coefficient one per connection, and a fan-out that is
/// not learned of ones.
pub fn pack(model: &Model) -> Vec<f32> {
    let (n, k) = (model.sizes.hidden, model.sizes.modulators);
    let values = |name: &str| model.values(name).unwrap_or_default();
    let (fan_out, base) = (values("modulator.fan_out.weight"), values("modulator.fan_out.bias"));
    let mut all = Vec::new();
    for name in MATRICES {
        let values = values(name);
        all.extend((0..n * n).map(|flat| coefficient(values, n, flat % n, flat / n)));
    }
    for part in ["weight", "bias"] {
        READOUTS.iter().for_each(|layer| all.extend(values(&format!("{layer}.{part}"))));
    }
    all.extend((0..k * n).map(|flat| fan_out.get(flat % n * k + flat / n).copied().unwrap_or(1.0)));
    all.extend((0..n).map(|j| base.get(j).copied().unwrap_or(0.0)));
    all.extend(transposed(values("input.weight"), n));
    all.extend(values("input.bias"));
    all
}

/// A coefficient of the connection `pre` to `post`, whatever its granularity.
fn coefficient(values: &[f32], neurons: usize, post: usize, pre: usize) -> f32 {
    match values.len() {
        0 => 0.0,
        1 => values[0],
        count if count == neurons => values[post],
        _ => values[post * neurons + pre],
    }
}

/// The columns of `matrix`, `[rows, columns]`, one after another.
fn transposed(matrix: &[f32], rows: usize) -> impl Iterator<Item = f32> {
    let columns = matrix.len() / rows;
    (0..columns).flat_map(move |column| matrix.iter().skip(column).step_by(columns).copied())
}

/// The gradients of all parameters of `model` from those in the layout of [`pack`].
///
/// # Panics
/// If there are fewer than [`pack`] has for this model.
pub fn unpack(model: &Model, packed: &[f32]) -> Gradients {
    let (n, k) = (model.sizes.hidden, model.sizes.modulators);
    let mut rest = packed;
    let mut take = |count: usize| {
        let (head, tail) = rest.split_at(count);
        rest = tail;
        head
    };
    let mut gradients = Gradients::new();
    for name in MATRICES {
        gradients.insert(name.into(), gathered(model.granularity(name), n, take(n * n)));
    }
    for (part, columns) in [("weight", n), ("bias", 1)] {
        for (layer, outputs) in READOUTS.into_iter().zip([k, model.sizes.actions, 1]) {
            gradients.insert(format!("{layer}.{part}"), take(outputs * columns).to_vec());
        }
    }
    gradients.insert("modulator.fan_out.weight".into(), transposed(take(k * n), k.max(1)).collect());
    gradients.insert("modulator.fan_out.bias".into(), take(n).to_vec());
    let inputs = model.sizes.inputs;
    gradients.insert("input.weight".into(), transposed(take(inputs * n), inputs).collect());
    gradients.insert("input.bias".into(), take(n).to_vec());
    gradients.retain(|name, _| model.parameters.contains_key(name));
    gradients
}

/// A transposed matrix of gradients, added up to `granularity`.
fn gathered(granularity: Granularity, n: usize, matrix: &[f32]) -> Vec<f32> {
    let rows = (0..n).map(|post| matrix.iter().skip(post).step_by(n).copied());
    match granularity {
        Granularity::Absent => Vec::new(),
        Granularity::Single => vec![rows.flatten().sum()],
        Granularity::PerNeuron => rows.map(Iterator::sum).collect(),
        Granularity::PerConnection => rows.flatten().collect(),
    }
}
