//! A model in q15 or q7: the format of every tensor, and the proof that no accumulator of `core/FORMAT.md` can overflow.
//!
//! Traces, activities and inputs are fractions of their range, so the clip limit `c` goes into alpha (times `c`) and into
//! everything that writes the trace (divided by `c`), and the input scale into the input weights. Each tensor takes the
//! largest number of fractional bits at which it fits its width and, in q15, every block of a row stays within 32 bits; in
//! q7 none can be larger.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::Path;

use backpropamine::image::{BLOCK, Formats, Numeric};
use backpropamine::rule::{Granularity, Rule, Squash};
use serde::Serialize;

use crate::cli::NumericArg;
use crate::files::FileError;
use crate::model::Model;

/// Fractional bits of biases, stored in 32 bits.
const BIAS_BITS: u8 = 20;
/// Fractional bits of a network-wide fan-out of 1 divided by the clip limit.
const UNIT_FAN_OUT_BITS: u8 = 14;

/// No integer of an image is larger; sums of a few thousand products of such numbers fit 64 bits while formats are tried.
const LARGEST: i64 = 1 << 34;

/// One tensor as integers.
#[derive(Debug, Clone)]
pub(crate) struct Integers {
    /// What the model's numbers were multiplied by before rounding, their scale and folded ones.
    factor: f64,
    bits: u8,
    values: Vec<i64>,
    /// Bytes of a stored integer.
    width: usize,
}

/// Bytes of biases and masks.
const WORD: usize = 4;

impl Integers {
    /// The section's words: rows of `columns` numbers, `stride` apart.
    pub(crate) fn words(&self, columns: usize, stride: usize) -> Vec<u32> {
        // Words are rows already.
        let padding = if self.width == WORD { 0 } else { stride - columns };
        let rows = self.values.chunks(columns);
        let padded = rows.flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0, padding)));
        let bytes: Vec<u8> = padded.flat_map(|value| value.to_le_bytes().into_iter().take(self.width)).collect();
        bytes.as_chunks().0.iter().copied().map(u32::from_le_bytes).collect()
    }

    fn fit(&self) -> bool {
        let largest = (1u64 << (8 * self.width - 1)) - 1;
        self.values.iter().all(|value| value.unsigned_abs() <= largest)
    }
}

/// What a tensor lost by becoming integers.
#[derive(Debug, Clone, Serialize)]
pub struct Quantised {
    /// The tensor.
    pub name: String,
    /// Fractional bits of its integers; in q7, whose weights have them in quarters, rounded down.
    pub fractional_bits: u8,
    /// Largest difference between a number and its integer, in the model's units.
    pub worst_error: f64,
}

impl Display for Quantised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:26} {:2} fractional bits, worst error {:.2e}",
            self.name, self.fractional_bits, self.worst_error
        )
    }
}

/// A whole model as integers.
#[derive(Debug, Default)]
pub(crate) struct Fixed {
    pub(crate) formats: Formats,
    pub(crate) unit_fan_out: i32,
    pub(crate) tensors: BTreeMap<&'static str, Integers>,
}

impl Fixed {
    /// Chooses every format for inputs within `±2^input_scale`.
    ///
    /// # Errors
    /// [`FileError`] naming the tensor that does not fit.
    pub(crate) fn new(model: &Model, numeric: Numeric, input_scale: i8, path: &Path) -> Result<Self, FileError> {
        let mut fixed = Self {
            formats: Formats {
                input_scale,
                ..Formats::default()
            },
            ..Self::default()
        };
        let maker = Maker { model, numeric, path };
        fixed.add_layers(&maker)?;
        fixed.add_recurrence(&maker)?;
        if model.rule.is_modulated() {
            fixed.add_fan_out(&maker)?;
        }
        fixed.add_rates(&maker)?;
        Ok(fixed)
    }

    /// What every tensor lost.
    pub(crate) fn report(&self, model: &Model) -> Vec<Quantised> {
        let worst = |name: &str, integers: &Integers| {
            let values = model.values(name).unwrap_or_default().iter().zip(&integers.values);
            values
                .map(|(&value, &integer)| (f64::from(value) - integer as f64 / integers.factor).abs())
                .fold(0.0, f64::max)
        };
        let tensors = self.tensors.iter().map(|(&name, integers)| Quantised {
            name: name.to_owned(),
            fractional_bits: integers.bits,
            worst_error: worst(name, integers),
        });
        tensors.collect()
    }

    fn add(&mut self, name: &'static str, integers: Option<Integers>) {
        if let Some(integers) = integers {
            self.tensors.insert(name, integers);
        }
    }

    /// The static layers: input, heads, modulator readout.
    fn add_layers(&mut self, maker: &Maker<'_>) -> Result<(), FileError> {
        let scale = f64::from(self.formats.input_scale).exp2();
        self.formats.input = self.add_layer(maker, ["input.weight", "input.bias"], scale, maker.model.sizes.inputs)?;
        let hidden = maker.model.sizes.hidden;
        self.formats.policy = self.add_layer(maker, ["policy.weight", "policy.bias"], 1.0, hidden)?;
        if maker.has("value.weight") {
            self.formats.value = self.add_layer(maker, ["value.weight", "value.bias"], 1.0, hidden)?;
        }
        if maker.has("modulator.weight") {
            self.formats.modulator = self.add_layer(maker, ["modulator.weight", "modulator.bias"], 1.0, hidden)?;
        }
        let given_out: &[&str] = match maker.model.squash {
            Squash::Identity => &["policy", "value", "modulator"],
            Squash::Tanh | Squash::Sigmoid => &["policy", "value"],
        };
        given_out.iter().try_for_each(|layer| self.check_output(maker, layer))?;
        Ok(())
    }

    fn add_layer(&mut self, maker: &Maker<'_>, [weight, bias]: [&'static str; 2], scale: f64, columns: usize) -> Result<u16, FileError> {
        let format = maker.largest_format(weight, maker.finest(), |format| {
            let integers = maker.weights(weight, scale, format)?;
            let fits = integers.values.chunks(columns).all(|row| maker.blocks_fit(row, |_| 0));
            (fits && integers.fit()).then_some(integers)
        })?;
        self.add(weight, Some(format.1));
        let biases = maker.word(bias, 1.0, BIAS_BITS)?;
        self.add(bias, biases);
        Ok(format.0.into())
    }

    /// Logits, value and an identity modulator are given out with 16 integer bits.
    fn check_output(&self, maker: &Maker<'_>, layer: &str) -> Result<(), FileError> {
        let name = format!("{layer}.weight");
        if let Some(bound) = self.output_bound(maker, layer).filter(|&bound| bound > i32::MAX.into()) {
            let found = format!("{:.0} at most", bound as f64 / 65536.0);
            return Err(maker.refuse(&name, "rows whose output stays below 32768", found));
        }
        Ok(())
    }

    /// Largest magnitude of a layer's output before its nonlinearity, with 16 fractional bits.
    fn output_bound(&self, maker: &Maker<'_>, layer: &str) -> Option<i128> {
        let weights = self.tensors.get(format!("{layer}.weight").as_str())?;
        let biases = self.tensors.get(format!("{layer}.bias").as_str())?;
        let rows = weights.values.chunks(maker.model.sizes.hidden).zip(&biases.values);
        let bound = |(row, bias): (&[i64], &i64)| {
            let weights = row.iter().map(|weight| weight.abs()).sum::<i64>() as f64 / weights.factor;
            let products = (weights * 30f64.exp2()).ceil() as i128;
            rounded_shift(products + i128::from(bias.abs() << (30 - BIAS_BITS)), 14)
        };
        rows.map(bound).max()
    }

    /// `recurrent.weight` and `recurrent.alpha` times the clip limit: in q7 each for itself, for every bit counts there.
    fn add_recurrence(&mut self, maker: &Maker<'_>) -> Result<(), FileError> {
        if maker.numeric != Numeric::Q7 {
            return self.add_coupled_recurrence(maker);
        }
        let mut format = |name: &'static str, scale| {
            let (format, integers) = maker.largest_format(name, maker.finest(), |format| {
                maker.weights(name, scale, format).filter(Integers::fit)
            })?;
            self.add(name, Some(integers));
            Ok(u16::from(format))
        };
        let weight = format("recurrent.weight", 1.0)?;
        let alpha = match maker.has("recurrent.alpha") {
            true => format("recurrent.alpha", maker.model.clip)?,
            false => 0,
        };
        self.formats.recurrent = weight | alpha << 8;
        Ok(())
    }

    /// In q15 alpha has one fractional bit more than the weights, with whose products it shares a sum.
    fn add_coupled_recurrence(&mut self, maker: &Maker<'_>) -> Result<(), FileError> {
        let (model, hidden) = (maker.model, maker.model.sizes.hidden);
        let granularity = model.granularity("recurrent.alpha");
        let (format, (weights, alphas)) = maker.largest_format("recurrent.weight", 15, |bits| {
            let weights = maker.weights("recurrent.weight", 1.0, bits)?;
            let alphas = maker.weights("recurrent.alpha", model.clip, bits + 1);
            let alpha = |post: usize, pre: usize| {
                alphas
                    .as_ref()
                    .map_or(0, |a| a.values[coefficient_index(granularity, hidden, post, pre)])
            };
            let rows = weights.values.chunks(hidden).enumerate();
            let fits = rows.into_iter().all(|(post, row)| maker.blocks_fit(row, |pre| alpha(post, pre)));
            (fits && weights.fit() && alphas.as_ref().is_none_or(Integers::fit)).then_some((weights, alphas))
        })?;
        self.formats.recurrent = format.into();
        self.add("recurrent.weight", Some(weights));
        self.add("recurrent.alpha", alphas);
        Ok(())
    }

    /// What stands between m and the gain of an increment, divided by the clip limit.
    fn add_fan_out(&mut self, maker: &Maker<'_>) -> Result<(), FileError> {
        let scale = 1.0 / maker.model.clip;
        if maker.has("modulator.fan_out.weight") {
            let (format, weights) = maker.largest_format("modulator.fan_out.weight", 14, |bits| {
                maker
                    .integers("modulator.fan_out.weight", scale, bits, maker.numeric.weight_bytes())
                    .filter(Integers::fit)
            })?;
            self.formats.fan_out = format;
            self.add("modulator.fan_out.weight", Some(weights));
        } else {
            self.unit_fan_out = (scale * f64::from(UNIT_FAN_OUT_BITS).exp2()).round() as i32;
            if !(1..=1 << 24).contains(&self.unit_fan_out) {
                return Err(maker.refuse("metadata clip", "a limit between 0.001 and 16384", maker.model.clip));
            }
        }
        self.add("modulator.fan_out.bias", maker.word("modulator.fan_out.bias", scale, BIAS_BITS)?);
        let mask = maker.integers("modulator.mask", 1.0, 0, WORD);
        self.add("modulator.mask", mask);
        Ok(())
    }

    /// The rates, and the format of gains: the largest at which eta and every possible M fit.
    fn add_rates(&mut self, maker: &Maker<'_>) -> Result<(), FileError> {
        let scale = 1.0 / maker.model.clip;
        let rates: Vec<_> = self
            .gain_rates(maker.model.rule)
            .iter()
            .copied()
            .filter(|name| maker.has(name))
            .collect();
        let largest = self.largest_gain(maker);
        let field = rates.first().copied().unwrap_or("modulator.weight");
        let (format, integers) = maker.largest_format(field, 30, |bits| {
            let integers: Option<Vec<_>> = rates
                .iter()
                .map(|name| maker.rates(name, scale, bits).filter(Integers::fit))
                .collect();
            integers.filter(|_| rounded_shift(largest, 30 - bits) <= i16::MAX.into())
        })?;
        self.formats.gain = format;
        for (name, integers) in rates.into_iter().zip(integers) {
            self.add(name, Some(integers));
        }
        if maker.model.rule == Rule::Retroactive {
            self.add_trace_rate(maker)?;
        }
        Ok(())
    }

    /// The tensors that are gains of H themselves.
    fn gain_rates(&self, rule: Rule) -> &'static [&'static str] {
        match rule {
            Rule::Hebbian => &["recurrent.eta"],
            Rule::Modulated | Rule::Retroactive => &["recurrent.hebbian_eta"],
            Rule::NonPlastic => &[],
        }
    }

    /// The rate of E is an unsigned fraction.
    fn add_trace_rate(&mut self, maker: &Maker<'_>) -> Result<(), FileError> {
        let values = maker.model.values("recurrent.eta").unwrap_or_default();
        if let Some(value) = values.iter().find(|value| !(0.0..=1.0).contains(*value)) {
            return Err(maker.refuse("recurrent.eta", "rates of the eligibility trace between 0 and 1", value));
        }
        let eta = maker.rates("recurrent.eta", 1.0, 15);
        self.add("recurrent.eta", eta);
        Ok(())
    }

    /// Largest magnitude of `M_j` divided by the clip limit, with 30 fractional bits.
    fn largest_gain(&self, maker: &Maker<'_>) -> i128 {
        let model = maker.model;
        if !model.rule.is_modulated() {
            return 0;
        }
        let largest_m = match model.squash {
            Squash::Tanh => 2 * 32767,
            Squash::Sigmoid => 32768 + 32767,
            Squash::Identity => self.output_bound(maker, "modulator").unwrap_or(0),
        };
        let modulators = model.sizes.modulators;
        let neuron = |neuron: usize| {
            let sum = match self.tensors.get("modulator.fan_out.weight") {
                Some(weights) => {
                    let row = &weights.values[neuron * modulators..][..modulators];
                    row.iter().map(|&factor| i128::from(factor.abs()) * largest_m).sum::<i128>() << (14 - weights.bits)
                }
                None => i128::from(self.unit_fan_out) * largest_m * modulators as i128,
            };
            let bias = self
                .tensors
                .get("modulator.fan_out.bias")
                .map_or(0, |biases| biases.values[neuron].abs());
            sum + (i128::from(bias) << (30 - BIAS_BITS))
        };
        (0..model.sizes.hidden).map(neuron).max().unwrap_or(0)
    }
}

/// The model on its way to integers.
struct Maker<'a> {
    model: &'a Model,
    numeric: Numeric,
    path: &'a Path,
}

impl Maker<'_> {
    fn has(&self, name: &str) -> bool {
        self.model.parameters.contains_key(name)
    }

    /// A tensor times `scale·2^bits`, to the nearest integers; `None` if the model does not have it.
    fn integers(&self, name: &str, scale: f64, bits: u8, width: usize) -> Option<Integers> {
        let factor = scale * f64::from(bits).exp2();
        let integer = |&value: &f32| ((f64::from(value) * factor).round() as i64).clamp(-LARGEST, LARGEST);
        let values = self.model.values(name)?.iter().map(integer);
        Some(Integers {
            factor,
            bits,
            values: values.collect(),
            width,
        })
    }

    /// Weights whose format is in whole bits, or in quarters.
    fn weights(&self, name: &str, scale: f64, format: u8) -> Option<Integers> {
        let steps = self.steps();
        let fraction = (f64::from(format % steps) / f64::from(steps)).exp2();
        self.integers(name, scale * fraction, format / steps, self.numeric.weight_bytes())
    }

    /// Formats of weights per bit.
    fn steps(&self) -> u8 {
        if self.numeric == Numeric::Q7 { 4 } else { 1 }
    }

    /// The largest format of weights.
    fn finest(&self) -> u8 {
        16 * self.steps() - 1
    }

    fn rates(&self, name: &str, scale: f64, bits: u8) -> Option<Integers> {
        self.integers(name, scale, bits, self.numeric.rate_bytes())
    }

    /// Whether the sum of every block of a row fits 32 bits; in q7 there is no other: 64 products below 2^21.
    fn blocks_fit(&self, row: &[i64], alpha: impl Fn(usize) -> i64) -> bool {
        self.numeric == Numeric::Q7 || blocks_fit(row, alpha)
    }

    /// A tensor in 32-bit integers; refused when it does not fit.
    fn word(&self, name: &str, scale: f64, bits: u8) -> Result<Option<Integers>, FileError> {
        let integers = self.integers(name, scale, bits, WORD);
        if integers.as_ref().is_none_or(Integers::fit) {
            return Ok(integers);
        }
        let limit = f64::from(i32::MAX) / (scale * f64::from(bits).exp2());
        Err(self.refuse(name, format_args!("magnitudes up to {limit:.0}"), self.largest(name)))
    }

    /// The largest number of fractional bits that `attempt` accepts, and what it made of it.
    fn largest_format<T>(&self, name: &str, most: u8, attempt: impl Fn(u8) -> Option<T>) -> Result<(u8, T), FileError> {
        (0..=most)
            .rev()
            .find_map(|bits| Some((bits, attempt(bits)?)))
            .ok_or_else(|| self.refuse(name, self.demand(), self.largest(name)))
    }

    /// What a tensor must be, in words.
    fn demand(&self) -> &'static str {
        match self.numeric {
            Numeric::Q7 => "weights that fit 8 bits, and rates and modulators that fit 16",
            _ => "numbers that fit 16 bits and sums of 32 that fit 32 bits",
        }
    }

    fn largest(&self, name: &str) -> String {
        let values = self.model.values(name).unwrap_or_default();
        format!(
            "magnitudes up to {:?}",
            values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()))
        )
    }

    fn refuse(&self, name: &str, expected: impl Display, found: impl Display) -> FileError {
        FileError::new(
            self.path,
            name,
            expected,
            found,
            format_args!(
                "{} cannot hold this model: use --numeric f32 or train with smaller weights",
                NumericArg::from(self.numeric)
            ),
        )
    }
}

/// Whether the sum of every block of a row fits 32 bits at the largest inputs and traces: `|w|·2^15` for a static product and
/// `|alpha|·2^14 + 1` for a plastic one, which is rounded down.
fn blocks_fit(row: &[i64], alpha: impl Fn(usize) -> i64) -> bool {
    row.chunks(BLOCK).enumerate().all(|(block, weights)| {
        let bound = |(column, weight): (usize, &i64)| (weight.abs() << 15) + (alpha(block * BLOCK + column).abs() << 14) + 1;
        weights.iter().enumerate().map(bound).sum::<i64>() <= i64::from(i32::MAX)
    })
}

/// Where a connection's coefficient lies in its tensor.
fn coefficient_index(granularity: Granularity, hidden: usize, post: usize, pre: usize) -> usize {
    match granularity {
        Granularity::PerConnection => post * hidden + pre,
        Granularity::PerNeuron => post,
        Granularity::Single | Granularity::Absent => 0,
    }
}

/// `value / 2^shift` to the nearest.
fn rounded_shift(value: i128, shift: u8) -> i128 {
    (value + ((1 << shift) >> 1)) >> shift
}
