//! Random models, written with the safetensors library from the text of the format.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};

/// How many numbers a coefficient has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Per {
    Network,
    Neuron,
    Connection,
}

/// What to draw.
#[derive(Clone, Copy, Debug)]
pub struct Design {
    pub rule: &'static str,
    pub hidden: usize,
    pub inputs: usize,
    pub actions: usize,
    pub modulators: usize,
    pub alpha: Per,
    pub eta: Per,
    pub fan_out: bool,
    pub masked: bool,
    pub value: bool,
    pub squash: &'static str,
    pub clip: f64,
    /// The word of a clip that is not hard.
    pub shaped: Option<&'static str>,
    pub seed: u64,
}

impl Default for Design {
    fn default() -> Self {
        Self {
            rule: "retroactive",
            hidden: 8,
            inputs: 3,
            actions: 2,
            modulators: 1,
            alpha: Per::Connection,
            eta: Per::Network,
            fan_out: false,
            masked: false,
            value: true,
            squash: "tanh",
            clip: 1.0,
            shaped: None,
            seed: 1,
        }
    }
}

/// Shape and values of a tensor.
pub type Values = (Vec<usize>, Vec<f32>);

/// A model as its file has it.
#[derive(Clone, Debug)]
pub struct RandomModel {
    pub tensors: BTreeMap<String, Values>,
    pub metadata: HashMap<String, String>,
}

/// SplitMix64: numbers for tests, nothing else.
pub struct Draws(pub u64);

impl Draws {
    pub fn uniform(&mut self, from: f64, to: f64) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64;
        (from + (to - from) * unit) as f32
    }
}

impl Design {
    pub fn has_modulator(&self) -> bool {
        matches!(self.rule, "simple" | "retroactive")
    }

    pub fn is_plastic(&self) -> bool {
        self.rule != "none"
    }

    pub fn model(&self) -> RandomModel {
        let Self {
            hidden,
            inputs,
            actions,
            modulators,
            ..
        } = *self;
        let mut draws = Draws(self.seed);
        let mut tensors = BTreeMap::new();
        let mut add = |name: &str, shape: &[usize], from: f64, to: f64| {
            let values = (0..shape.iter().product()).map(|_| draws.uniform(from, to)).collect();
            tensors.insert(name.to_owned(), (shape.to_vec(), values));
        };
        let coefficient = |per| match per {
            Per::Network => vec![1],
            Per::Neuron => vec![hidden],
            Per::Connection => vec![hidden, hidden],
        };
        let spread = 1.5 / (hidden as f64).sqrt();
        add("input.weight", &[hidden, inputs], -0.5, 0.5);
        add("input.bias", &[hidden], -0.1, 0.1);
        add("recurrent.weight", &[hidden, hidden], -spread, spread);
        add("policy.weight", &[actions, hidden], -spread, spread);
        add("policy.bias", &[actions], -0.1, 0.1);
        if self.is_plastic() {
            add("recurrent.alpha", &coefficient(self.alpha), -0.1, 0.1);
        }
        if matches!(self.rule, "hebbian" | "retroactive") {
            add("recurrent.eta", &coefficient(self.eta), 0.1, 0.5);
        }
        if self.has_modulator() {
            add("modulator.weight", &[modulators, hidden], -spread, spread);
            add("modulator.bias", &[modulators], -0.1, 0.1);
        }
        if self.fan_out {
            add("modulator.fan_out.weight", &[hidden, modulators], -1.5, 1.5);
            add("modulator.fan_out.bias", &[hidden], -0.2, 0.2);
        }
        if self.value {
            add("value.weight", &[1, hidden], -spread, spread);
            add("value.bias", &[1], -0.1, 0.1);
        }
        if self.masked {
            add("recurrent.hebbian_eta", &coefficient(self.eta), 0.1, 0.5);
            let mask = (0..hidden).map(|neuron| f32::from(u8::from(neuron % 3 != 0))).collect();
            tensors.insert("modulator.mask".into(), (vec![hidden], mask));
        }
        let words = [
            ("format", "backpropamine/1".to_owned()),
            ("cell", "rnn".to_owned()),
            ("rule", self.rule.to_owned()),
            ("clip", self.shaped.map_or_else(|| format!("hard:{}", self.clip), str::to_owned)),
            ("modulator", self.squash.to_owned()),
        ];
        let metadata = words.map(|(key, word)| (key.to_owned(), word)).into();
        RandomModel { tensors, metadata }
    }
}

/// Little-endian bytes.
pub fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Writes F32 tensors.
pub fn write(path: &Path, tensors: &BTreeMap<String, Values>, metadata: Option<&HashMap<String, String>>) {
    let raw: Vec<_> = tensors.iter().map(|(name, (shape, values))| (name, shape, bytes(values))).collect();
    let views = raw
        .iter()
        .map(|(name, shape, bytes)| (name.as_str(), TensorView::new(Dtype::F32, (*shape).clone(), bytes).unwrap()));
    std::fs::write(path, serialize(views, metadata.cloned()).unwrap()).unwrap();
}

impl RandomModel {
    pub fn write(&self, path: &Path) {
        write(path, &self.tensors, Some(&self.metadata));
    }
}
