//! The model file: what meta-training found, as a safetensors file that any tool can read and write.
//!
//! Every matrix is `[post][pre]`: row `j` holds what neuron `j` receives. `H` hidden neurons, `I` inputs, `A` actions,
//! `K` modulators; all tensors are F32 and finite.
//!
//! | tensor | shape | present |
//! |---|---|---|
//! | `input.weight`, `input.bias` | `[H, I]`, `[H]` | always |
//! | `recurrent.weight` | `[H, H]` | always |
//! | `recurrent.alpha` | `[H, H]`, `[H]` or `[1]` | hebbian, simple, retroactive |
//! | `recurrent.eta` (of H for hebbian, of E for retroactive) | `[H, H]`, `[H]` or `[1]` | hebbian, retroactive |
//! | `modulator.weight`, `modulator.bias` | `[K, H]`, `[K]` | simple, retroactive |
//! | `modulator.fan_out.weight`, `modulator.fan_out.bias` | `[H, K]`, `[H]` | may be, where there is a modulator; absent = 1 and 0 |
//! | `modulator.mask` (1 modulated, 0 Hebbian) and `recurrent.hebbian_eta` | `[H]` and `[H, H]`, `[H]` or `[1]` | both or none, where there is a modulator |
//! | `policy.weight`, `policy.bias` | `[A, H]`, `[A]` | always |
//! | `value.weight`, `value.bias` | `[1, H]`, `[1]` | both or none |
//!
//! Metadata: `format=backpropamine/1`, `cell=rnn`, `rule=none|hebbian|simple|retroactive`; optional `clip=hard:C|soft|decay|oja`
//! (default `hard:1`) and `modulator=tanh|sigmoid|identity` (default `tanh`); anything else, `task`, `seed` and
//! `config` among it, is kept as it is.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::Path;

use backpropamine::rule::{Clip, Granularity, Rule, Squash};

use crate::archive::{Archive, Tensor};
pub use crate::files::FileError;

/// The metadata word `format` of this version.
pub const FORMAT: &str = "backpropamine/1";

/// The metadata words of the clips without a limit to choose.
const CLIPS: [(&str, Clip); 3] = [("soft", Clip::Soft), ("decay", Clip::Decay), ("oja", Clip::Oja)];

/// What the metadata word of a clip may be.
pub const CLIP_WORDS: &str = "hard:C with a finite C above 0, soft, decay or oja";

/// One tensor of a model: shape and values, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Length of every dimension, slowest first.
    pub shape: Vec<usize>,
    /// As many finite values as the shape says.
    pub values: Vec<f32>,
}

/// A checked model: the tensors its rule needs, in the shapes of the format, all finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// How the trace changes in a lifetime.
    pub rule: Rule,
    /// How the trace is kept within its limit.
    pub clip_kind: Clip,
    /// The trace stays in `[-clip, clip]`; 1 but for the hard clip.
    pub clip: f64,
    /// The modulator's nonlinearity.
    pub squash: Squash,
    /// Lengths of the dimensions that the tensors share.
    pub sizes: Sizes,
    /// The tensors by name.
    pub parameters: BTreeMap<String, Parameter>,
    /// Every metadata word of the file, the required ones included.
    pub metadata: BTreeMap<String, String>,
}

/// Lengths of the dimensions that the tensors share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Hidden neurons, `H`.
    pub hidden: usize,
    /// Inputs, `I`.
    pub inputs: usize,
    /// Actions, `A`.
    pub actions: usize,
    /// Modulators, `K`; 0 without a modulator.
    pub modulators: usize,
}

impl Model {
    /// Reads a model file.
    ///
    /// # Errors
    /// [`FileError`] naming the field, when the file is no model of this format.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        Self::from_archive(&Archive::read(path)?, path)
    }

    /// Checks a model's tensors and metadata; `path` is for the error message.
    ///
    /// # Errors
    /// [`FileError`] naming the field, when something is missing, unknown, of the wrong type or shape, or not finite.
    pub fn from_archive(archive: &Archive, path: &Path) -> Result<Self, FileError> {
        let words = Words {
            metadata: &archive.metadata,
            path,
        };
        words.format()?;
        words.cell()?;
        let rule = words.rule()?;
        check_presence(archive, rule, path)?;
        let mut parameters = BTreeMap::new();
        for (name, tensor) in &archive.tensors {
            parameters.insert(name.clone(), float_tensor(name, tensor, path)?);
        }
        let sizes = check_shapes(&parameters, path)?;
        check_values(&parameters, path)?;
        let (clip_kind, clip) = words.clip(rule)?;
        Ok(Self {
            rule,
            clip_kind,
            clip,
            squash: words.squash()?,
            sizes,
            parameters,
            metadata: archive.metadata.clone(),
        })
    }

    /// The model as named tensors and metadata.
    pub fn to_archive(&self) -> Archive {
        let tensors = self
            .parameters
            .iter()
            .map(|(name, parameter)| (name.clone(), Tensor::from_f32(&parameter.shape, &parameter.values)));
        Archive {
            tensors: tensors.collect(),
            metadata: self.metadata.clone(),
        }
    }

    /// Writes the model file, whole or not at all; the same model gives the same bytes.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        self.to_archive().write(path)
    }

    /// The values of a tensor, row by row; `None` if the model does not have it.
    pub fn values(&self, name: &str) -> Option<&[f32]> {
        self.parameters.get(name).map(|parameter| parameter.values.as_slice())
    }

    /// How many numbers the coefficient `name` (`recurrent.alpha`, `recurrent.eta`, `recurrent.hebbian_eta`) has.
    ///
    /// A network of one neuron has them per connection, per neuron or single as its file says.
    pub fn granularity(&self, name: &str) -> Granularity {
        match self.parameters.get(name).map(|parameter| parameter.shape.as_slice()) {
            None => Granularity::Absent,
            Some([_, _]) => Granularity::PerConnection,
            Some([1]) => Granularity::Single,
            Some(_) => Granularity::PerNeuron,
        }
    }

    /// The model's `rule` as the metadata spells it.
    pub fn rule_word(&self) -> &'static str {
        rule_word(self.rule)
    }
}

/// The metadata word of a rule.
pub fn rule_word(rule: Rule) -> &'static str {
    RULES.iter().find(|(_, other)| *other == rule).map_or("none", |(word, _)| word)
}

/// The rule of a metadata word or command line argument.
pub fn rule_from_word(word: &str) -> Option<Rule> {
    RULES.iter().find(|(other, _)| *other == word).map(|&(_, rule)| rule)
}

/// The metadata word of a clip; `limit` counts for the hard one only.
pub fn clip_word(kind: Clip, limit: f32) -> String {
    let word = CLIPS.iter().find(|(_, other)| *other == kind);
    word.map_or_else(|| format!("hard:{limit}"), |(word, _)| (*word).to_owned())
}

/// The kind and the limit of a clip's metadata word; `None` if it is none of [`CLIP_WORDS`].
pub fn clip_from_word(word: &str) -> Option<(Clip, f64)> {
    if let Some(&(_, kind)) = CLIPS.iter().find(|(other, _)| *other == word) {
        return Some((kind, 1.0));
    }
    let limit: f64 = word.strip_prefix("hard:")?.parse().ok()?;
    ((limit as f32).is_finite() && limit as f32 > 0.0).then_some((Clip::Hard, limit))
}

/// The metadata word of each rule.
pub const RULES: [(&str, Rule); 4] = [
    ("none", Rule::NonPlastic),
    ("hebbian", Rule::Hebbian),
    ("simple", Rule::Modulated),
    ("retroactive", Rule::Retroactive),
];

/// The metadata word of each nonlinearity of the modulator.
pub const SQUASHES: [(&str, Squash); 3] = [("tanh", Squash::Tanh), ("sigmoid", Squash::Sigmoid), ("identity", Squash::Identity)];

/// The metadata words that decide what the tensors mean.
struct Words<'a> {
    metadata: &'a BTreeMap<String, String>,
    path: &'a Path,
}

impl Words<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    fn error(&self, key: &str, expected: impl Display, hint: impl Display) -> FileError {
        let found = self.get(key).map_or("no such metadata".to_owned(), |word| format!("{word:?}"));
        FileError::new(self.path, format_args!("metadata {key}"), expected, found, hint)
    }

    fn format(&self) -> Result<(), FileError> {
        match self.get("format") {
            Some(FORMAT) => Ok(()),
            Some(word) if word.starts_with("backpropamine/") => Err(self.error(
                "format",
                FORMAT,
                "the model was made for another version: use that version's program",
            )),
            _ => Err(self.error("format", FORMAT, "bring weights from elsewhere in with `backpropamine import`")),
        }
    }

    fn cell(&self) -> Result<(), FileError> {
        match self.get("cell") {
            Some("rnn") => Ok(()),
            Some("lstm") => Err(self.error("cell", "rnn", "this version does not implement the plastic LSTM yet")),
            _ => Err(self.error("cell", "rnn", "set the metadata word cell=rnn")),
        }
    }

    fn rule(&self) -> Result<Rule, FileError> {
        self.get("rule").and_then(rule_from_word).ok_or_else(|| {
            self.error(
                "rule",
                "none, hebbian, simple or retroactive",
                "name the rule that the model was trained with",
            )
        })
    }

    /// The kind and the limit.
    fn clip(&self, rule: Rule) -> Result<(Clip, f64), FileError> {
        let Some(word) = self.get("clip") else {
            return Ok((Clip::Hard, 1.0));
        };
        match clip_from_word(word) {
            None => Err(self.error("clip", CLIP_WORDS, "write for example hard:1 or soft")),
            Some((kind, _)) if !kind.suits(rule) => {
                let hint = format!("{word} decays at the rate of a product h_j·h_i, and the retroactive rule writes an eligibility trace");
                Err(self.error("clip", "hard:C or soft with the retroactive rule", hint))
            }
            Some(clip) => Ok(clip),
        }
    }

    fn squash(&self) -> Result<Squash, FileError> {
        let Some(word) = self.get("modulator") else {
            return Ok(Squash::Tanh);
        };
        SQUASHES
            .iter()
            .find(|(other, _)| *other == word)
            .map(|&(_, squash)| squash)
            .ok_or_else(|| self.error("modulator", "tanh, sigmoid or identity", "name the modulator's nonlinearity"))
    }
}

/// A dimension of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axis {
    Hidden,
    Inputs,
    Actions,
    Modulators,
    One,
}

use Axis::{Actions, Hidden, Inputs, Modulators, One};

/// When a tensor belongs to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Required,
    /// With this other tensor, or not at all.
    Together(&'static str),
    Optional,
    Never,
}

/// One line of the format's table of tensors.
struct Entry {
    name: &'static str,
    shapes: &'static [&'static [Axis]],
    presence: fn(Rule) -> Presence,
}

const COEFFICIENT: &[&[Axis]] = &[&[Hidden, Hidden], &[Hidden], &[One]];

fn required_if(holds: bool) -> Presence {
    if holds { Presence::Required } else { Presence::Never }
}

fn with_modulator(rule: Rule, presence: Presence) -> Presence {
    if rule.is_modulated() { presence } else { Presence::Never }
}

/// The first entry that has an axis defines its length.
const TENSORS: [Entry; 15] = [
    Entry {
        name: "recurrent.weight",
        shapes: &[&[Hidden, Hidden]],
        presence: |_| Presence::Required,
    },
    Entry {
        name: "input.weight",
        shapes: &[&[Hidden, Inputs]],
        presence: |_| Presence::Required,
    },
    Entry {
        name: "input.bias",
        shapes: &[&[Hidden]],
        presence: |_| Presence::Required,
    },
    Entry {
        name: "recurrent.alpha",
        shapes: COEFFICIENT,
        presence: |rule| required_if(rule.is_plastic()),
    },
    Entry {
        name: "recurrent.eta",
        shapes: COEFFICIENT,
        presence: |rule| required_if(rule.has_eta()),
    },
    Entry {
        name: "modulator.weight",
        shapes: &[&[Modulators, Hidden]],
        presence: |rule| required_if(rule.is_modulated()),
    },
    Entry {
        name: "modulator.bias",
        shapes: &[&[Modulators]],
        presence: |rule| required_if(rule.is_modulated()),
    },
    Entry {
        name: "modulator.fan_out.weight",
        shapes: &[&[Hidden, Modulators]],
        presence: |rule| with_modulator(rule, Presence::Optional),
    },
    Entry {
        name: "modulator.fan_out.bias",
        shapes: &[&[Hidden]],
        presence: |rule| with_modulator(rule, Presence::Optional),
    },
    Entry {
        name: "modulator.mask",
        shapes: &[&[Hidden]],
        presence: |rule| with_modulator(rule, Presence::Together("recurrent.hebbian_eta")),
    },
    Entry {
        name: "recurrent.hebbian_eta",
        shapes: COEFFICIENT,
        presence: |rule| with_modulator(rule, Presence::Together("modulator.mask")),
    },
    Entry {
        name: "policy.weight",
        shapes: &[&[Actions, Hidden]],
        presence: |_| Presence::Required,
    },
    Entry {
        name: "policy.bias",
        shapes: &[&[Actions]],
        presence: |_| Presence::Required,
    },
    Entry {
        name: "value.weight",
        shapes: &[&[One, Hidden]],
        presence: |_| Presence::Together("value.bias"),
    },
    Entry {
        name: "value.bias",
        shapes: &[&[One]],
        presence: |_| Presence::Together("value.weight"),
    },
];

/// The name of every tensor that a model may have.
pub fn tensor_names() -> impl Iterator<Item = &'static str> {
    TENSORS.iter().map(|entry| entry.name)
}

fn entry(name: &str) -> Option<&'static Entry> {
    TENSORS.iter().find(|entry| entry.name == name)
}

/// No unknown tensor, none that the rule has no use for, none missing.
fn check_presence(archive: &Archive, rule: Rule, path: &Path) -> Result<(), FileError> {
    let has = |name: &str| archive.tensors.contains_key(name);
    for name in archive.tensors.keys() {
        let error = |expected: &str, hint: &str| Err(FileError::new(path, name, expected, "such a tensor", hint));
        match entry(name).map(|entry| (entry.presence)(rule)) {
            None => {
                return error("no tensor of that name", "correct the name or leave the tensor out");
            }
            Some(Presence::Never) => {
                let expected = format!("no such tensor with rule={}", rule_word(rule));
                return error(&expected, "leave the tensor out or name the rule that uses it");
            }
            Some(_) => {}
        }
    }
    for entry in &TENSORS {
        let needed_by = match (entry.presence)(rule) {
            Presence::Required => format!("rule={}", rule_word(rule)),
            Presence::Together(other) if has(other) => other.to_owned(),
            _ => continue,
        };
        if !has(entry.name) {
            let expected = format!("a tensor, needed by {needed_by}");
            return Err(FileError::new(path, entry.name, expected, "none", "add the tensor to the file"));
        }
    }
    Ok(())
}

fn float_tensor(name: &str, tensor: &Tensor, path: &Path) -> Result<Parameter, FileError> {
    let values = tensor.to_f32().ok_or_else(|| {
        FileError::new(
            path,
            name,
            "type F32",
            format_args!("{:?}", tensor.dtype),
            "convert the tensor to F32",
        )
    })?;
    Ok(Parameter {
        shape: tensor.shape.clone(),
        values,
    })
}

/// The known length of each axis and the tensor that it was read from.
#[derive(Default)]
struct Axes {
    known: Vec<(Axis, usize, &'static str)>,
}

impl Axes {
    fn length(&self, axis: Axis) -> Option<usize> {
        if axis == One {
            return Some(1);
        }
        self.known.iter().find(|(other, ..)| *other == axis).map(|&(_, length, _)| length)
    }

    /// Whether `shape` is one of these axes; learns the lengths that were open.
    fn accept(&mut self, axes: &[Axis], shape: &[usize], name: &'static str) -> bool {
        if axes.len() != shape.len() || shape.contains(&0) {
            return false;
        }
        let before = self.known.len();
        for (&axis, &length) in axes.iter().zip(shape) {
            match self.length(axis) {
                None => self.known.push((axis, length, name)),
                Some(known) if known != length => {
                    self.known.truncate(before);
                    return false;
                }
                Some(_) => {}
            }
        }
        true
    }

    /// `shape [H, I] (H = 32 by recurrent.weight)`.
    fn describe(&self, shapes: &[&[Axis]]) -> String {
        let shapes_text: Vec<_> = shapes.iter().map(|axes| bracketed(axes.iter().map(letter))).collect();
        let mut sources: Vec<_> = Vec::new();
        for (axis, length, source) in &self.known {
            if shapes.iter().any(|axes| axes.contains(axis)) {
                sources.push(format!("{} = {length} by {source}", letter(axis)));
            }
        }
        let mut text = format!("shape {}", shapes_text.join(" or "));
        if !sources.is_empty() {
            text += &format!(" ({})", sources.join(", "));
        }
        text
    }
}

fn letter(axis: &Axis) -> &'static str {
    match axis {
        Hidden => "H",
        Inputs => "I",
        Actions => "A",
        Modulators => "K",
        One => "1",
    }
}

fn bracketed(items: impl Iterator<Item = impl Display>) -> String {
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    format!("[{}]", items.join(", "))
}

fn check_shapes(parameters: &BTreeMap<String, Parameter>, path: &Path) -> Result<Sizes, FileError> {
    let mut axes = Axes::default();
    for entry in &TENSORS {
        let Some(Parameter { shape, .. }) = parameters.get(entry.name) else {
            continue;
        };
        if !entry.shapes.iter().any(|shapes| axes.accept(shapes, shape, entry.name)) {
            let found = format!("shape {}", bracketed(shape.iter()));
            return Err(FileError::new(
                path,
                entry.name,
                axes.describe(entry.shapes),
                found,
                shape_hint(entry.name, shape),
            ));
        }
    }
    Ok(Sizes {
        hidden: axes.length(Hidden).unwrap_or(0),
        inputs: axes.length(Inputs).unwrap_or(0),
        actions: axes.length(Actions).unwrap_or(0),
        modulators: axes.length(Modulators).unwrap_or(0),
    })
}

fn shape_hint(name: &str, shape: &[usize]) -> &'static str {
    match (name, shape.len()) {
        ("modulator.fan_out.weight", 3) | ("modulator.fan_out.bias", 2) => "this version does not implement fan-out per connection yet",
        _ => "every matrix is [post, pre], none is empty; check for a transposed one",
    }
}

fn check_values(parameters: &BTreeMap<String, Parameter>, path: &Path) -> Result<(), FileError> {
    for (name, Parameter { shape, values }) in parameters {
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            let found = format!("{} at {}", values[index], Position { index, shape });
            return Err(FileError::new(
                path,
                name,
                "finite values",
                found,
                "the training that made it diverged: use an earlier checkpoint",
            ));
        }
    }
    let mask = parameters.get("modulator.mask").map_or(&[][..], |mask| &mask.values);
    if let Some(index) = mask.iter().position(|&value| value != 0.0 && value != 1.0) {
        let found = format!("{} at [{index}]", mask[index]);
        return Err(FileError::new(
            path,
            "modulator.mask",
            "0 (Hebbian) or 1 (modulated)",
            found,
            "a neuron is modulated or not, nothing between",
        ));
    }
    Ok(())
}

/// The place of an element of a tensor, as `[row, column]`.
pub(crate) struct Position<'a> {
    pub(crate) index: usize,
    pub(crate) shape: &'a [usize],
}

impl Display for Position<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.index;
        let mut place = vec![0; self.shape.len()];
        for (position, &length) in place.iter_mut().zip(self.shape).rev() {
            *position = rest % length;
            rest /= length;
        }
        write!(f, "{}", bracketed(place.iter()))
    }
}
