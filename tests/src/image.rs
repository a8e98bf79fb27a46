//! Images of plain arrays, laid out by core's own header. The fixed-point formats are chosen as `core/FORMAT.md` says
//! (section 4, "Formats that the exporter chooses"), independently of the exporter.

use backpropamine::image::BLOCK;
use backpropamine::image::{Formats, Header, Numeric, Section, seal};
use backpropamine::rule::{Rule, Squash};

use crate::parameters::Parameters;

/// The f32 image of a network, as words.
pub fn f32_words(parameters: &Parameters) -> Vec<u32> {
    lay_out(parameters, &header(parameters), |section, numbers, _| match section {
        Section::Mask => numbers.iter().map(|&modulated| modulated as u32).collect(),
        _ => numbers.iter().copied().map(f32::to_bits).collect(),
    })
}

/// The q15 image of a network whose inputs lie within `±input_range`, as words.
///
/// # Panics
/// When a number is too large for any format.
pub fn q15_words(parameters: &Parameters, input_range: f32) -> Vec<u32> {
    fixed_words(parameters, Numeric::Q15, input_range)
}

/// The q7 image, likewise.
///
/// # Panics
/// When a number is too large for any format.
pub fn q7_words(parameters: &Parameters, input_range: f32) -> Vec<u32> {
    fixed_words(parameters, Numeric::Q7, input_range)
}

fn fixed_words(parameters: &Parameters, numeric: Numeric, input_range: f32) -> Vec<u32> {
    let header = fixed_header(parameters, numeric, input_range);
    lay_out(parameters, &header, |section, numbers, columns| {
        let stored = |number: &f32| (f64::from(*number) * unit(&header, section)).round() as i64;
        let (width, stride) = match section {
            Section::Mask => (4, columns),
            _ if is_wide(section) => (4, columns),
            Section::Eta | Section::HebbianEta => (numeric.rate_bytes(), numeric.stride(columns)),
            _ => (numeric.weight_bytes(), numeric.stride(columns)),
        };
        numbers
            .chunks(columns.max(1))
            .flat_map(|row| packed(row.iter().map(stored), width, stride))
            .collect()
    })
}

/// The header of a network's f32 image.
pub fn header(parameters: &Parameters) -> Header {
    let shape = parameters.shape.normalised();
    Header {
        checksum: 0,
        numeric: Numeric::F32,
        rule: shape.rule,
        squash: shape.squash,
        clip_kind: shape.clip_kind,
        clip: shape.clip,
        clip_remainder: 0.0,
        inputs: shape.inputs,
        hidden: shape.hidden,
        outputs: shape.actions,
        modulators: shape.modulators,
        alpha: shape.alpha,
        eta: shape.eta,
        hebbian_eta: shape.hebbian_eta,
        fan_out: !parameters.fan_out_weight.is_empty(),
        fan_out_bias: !parameters.fan_out_bias.is_empty(),
        value: shape.value,
        formats: Formats::default(),
        unit_fan_out: 0,
        metadata_bytes: 0,
    }
}

fn fixed_header(parameters: &Parameters, numeric: Numeric, input_range: f32) -> Header {
    let base = header(parameters);
    let clip = f64::from(base.clip);
    let input_scale = input_range.log2().ceil() as i8;
    let weight = |numbers: &[f64], most| largest_fit(numbers, most, numeric.weight_bytes());
    let format = |numbers: &[f64], columns| match numeric {
        Numeric::Q7 => largest_quarters(numbers),
        _ => largest_bounded(numbers, columns, weight(numbers, 15)).into(),
    };
    let head = |weight: &[f32]| format(&reals(weight, 1.0), base.hidden);
    let recurrent = reals(&parameters.recurrent_weight, 1.0);
    let coupled = || {
        let fits = weight(&recurrent, weight(&reals(&parameters.alpha, 2.0 * clip), 15));
        let plastic: Vec<f64> = (0..recurrent.len())
            .map(|index| recurrent[index].abs() + clip * spread(&parameters.alpha, base.hidden, index).abs())
            .collect();
        largest_bounded(&plastic, base.hidden, fits)
    };
    let alpha = |present: bool| {
        if present {
            largest_quarters(&reals(&parameters.alpha, clip))
        } else {
            0
        }
    };
    Header {
        numeric,
        formats: Formats {
            input_scale,
            input: format(&reals(&parameters.input_weight, 2f64.powi(input_scale.into())), base.inputs),
            recurrent: match numeric {
                Numeric::Q7 => largest_quarters(&recurrent) | alpha(base.rule.is_plastic()) << 8,
                _ => coupled().into(),
            },
            gain: largest_fit(&[largest_gain(parameters) / clip], 30, numeric.rate_bytes()),
            fan_out: weight(&reals(&parameters.fan_out_weight, 1.0 / clip), 14),
            modulator: head(&parameters.modulator_weight),
            policy: head(&parameters.policy_weight),
            value: head(&parameters.value_weight),
        },
        unit_fan_out: (16_384.0 / clip).round() as i32,
        ..base
    }
}

fn reals(numbers: &[f32], scale: f64) -> Vec<f64> {
    numbers.iter().map(|number| f64::from(*number) * scale).collect()
}

/// A coefficient of any granularity at a position of the matrix; 0 if there is none.
fn spread(numbers: &[f32], hidden: usize, index: usize) -> f64 {
    let own = match numbers.len() {
        1 => 0,
        n if n == hidden => index / hidden,
        _ => index,
    };
    numbers.get(own).copied().unwrap_or(0.0).into()
}

/// The largest format, up to `most`, at which every number fits a width in bytes.
fn largest_fit(numbers: &[f64], most: u8, width: usize) -> u8 {
    let largest = 2f64.powi(8 * width as i32 - 1) - 1.0;
    let fits = |format: &u8| {
        numbers
            .iter()
            .all(|number| (number * 2f64.powi((*format).into())).round().abs() <= largest)
    };
    (0..=most).rev().find(fits).expect("every number fits a format")
}

/// The largest q7 format, in quarters of a bit, at which every number fits 8 bits.
fn largest_quarters(numbers: &[f64]) -> u16 {
    let fits = |format: &u16| {
        let scale = quarters(*format);
        numbers.iter().all(|number| (number * scale).round().abs() <= 127.0)
    };
    (0..64).rev().find(fits).expect("every number fits a format")
}

/// The scale of a q7 format.
fn quarters(format: u16) -> f64 {
    2f64.powf(f64::from(format) / 4.0)
}

/// The largest format, up to `most`, at which no block's 32-bit sum can overflow, with activities at full scale and
/// rounding against us.
fn largest_bounded(matrix: &[f64], columns: usize, most: u8) -> u8 {
    let holds = |format: &u8| {
        let sum = |block: &[f64]| {
            block
                .iter()
                .map(|number| number.abs() * 2f64.powi((*format).into()) + 2.0)
                .sum::<f64>()
        };
        matrix
            .chunks(columns)
            .flat_map(|row| row.chunks(BLOCK))
            .all(|block| sum(block) < 65_536.0)
    };
    (0..=most).rev().find(holds).expect("every block fits a format")
}

/// The largest factor of an increment of H that the network can produce.
fn largest_gain(parameters: &Parameters) -> f64 {
    let shape = parameters.shape.normalised();
    let magnitude = |numbers: &[f32]| numbers.iter().map(|number| f64::from(number.abs())).sum::<f64>();
    let etas = if shape.rule == Rule::Retroactive {
        &[][..]
    } else {
        &parameters.eta
    };
    let rates = etas.iter().chain(&parameters.hebbian_eta).map(|eta| f64::from(*eta));
    let rows = parameters.modulator_weight.chunks(shape.hidden).zip(&parameters.modulator_bias);
    let m: Vec<f64> = rows
        .map(|(row, bias)| {
            if shape.squash == Squash::Identity {
                magnitude(row) + f64::from(bias.abs())
            } else {
                1.0
            }
        })
        .collect();
    let modulation = |post: usize| {
        let bias = parameters.fan_out_bias.get(post).map_or(0.0, |bias| f64::from(bias.abs()));
        let row = parameters.fan_out_weight.chunks(shape.modulators.max(1)).nth(post);
        bias + match row {
            Some(row) => row.iter().zip(&m).map(|(g, m)| f64::from(g.abs()) * m).sum::<f64>(),
            None => m.iter().sum(),
        }
    };
    (0..shape.hidden).map(modulation).chain(rates).fold(0.0, f64::max)
}

/// What a real 1 is stored as.
fn unit(header: &Header, section: Section) -> f64 {
    let formats = &header.formats;
    let clip = f64::from(header.clip);
    let power = |bits: u8| 2f64.powi(bits.into());
    let weight = |format: u16| match header.numeric {
        Numeric::Q7 => quarters(format),
        _ => 2f64.powi(format.into()),
    };
    match section {
        Section::InputWeight => weight(formats.input) * 2f64.powi(formats.input_scale.into()),
        Section::RecurrentWeight => weight(formats.recurrent & 255),
        Section::Alpha if header.numeric == Numeric::Q7 => weight(formats.recurrent >> 8) * clip,
        Section::Alpha => weight(formats.recurrent + 1) * clip,
        Section::Eta if header.rule == Rule::Retroactive => power(15),
        Section::Eta | Section::HebbianEta => power(formats.gain) / clip,
        Section::ModulatorWeight => weight(formats.modulator),
        Section::FanOutWeight => power(formats.fan_out) / clip,
        Section::PolicyWeight => weight(formats.policy),
        Section::ValueWeight => weight(formats.value),
        Section::FanOutBias => power(20) / clip,
        Section::InputBias | Section::ModulatorBias | Section::PolicyBias | Section::ValueBias => power(20),
        Section::Mask | Section::Metadata => 1.0,
    }
}

fn is_wide(section: Section) -> bool {
    use Section::{FanOutBias, InputBias, ModulatorBias, PolicyBias, ValueBias};
    matches!(section, InputBias | ModulatorBias | FanOutBias | PolicyBias | ValueBias)
}

/// A row of `stride` numbers of `width` bytes in words, zeros at its end.
fn packed(row: impl Iterator<Item = i64>, width: usize, stride: usize) -> Vec<u32> {
    let bytes: Vec<u8> = row
        .chain(std::iter::repeat(0))
        .take(stride)
        .flat_map(|number| number.to_le_bytes().into_iter().take(width))
        .collect();
    bytes.as_chunks().0.iter().copied().map(u32::from_le_bytes).collect()
}

/// An image whose sections are encoded by `encode(section, numbers, columns)`.
fn lay_out(parameters: &Parameters, header: &Header, encode: impl Fn(Section, &[f32], usize) -> Vec<u32>) -> Vec<u32> {
    let mut words = header.words().to_vec();
    for section in Section::ALL {
        let (_, columns) = header.shape(section);
        let encoded = encode(section, &numbers(parameters, section), columns);
        assert_eq!(encoded.len(), header.section_words(section), "{section:?}");
        words.extend(encoded);
    }
    seal(&mut words);
    words
}

/// A section's numbers, row by row.
fn numbers(parameters: &Parameters, section: Section) -> Vec<f32> {
    match section {
        Section::InputWeight => parameters.input_weight.clone(),
        Section::InputBias => parameters.input_bias.clone(),
        Section::RecurrentWeight => parameters.recurrent_weight.clone(),
        Section::Alpha => parameters.alpha.clone(),
        Section::Eta => parameters.eta.clone(),
        Section::HebbianEta => parameters.hebbian_eta.clone(),
        Section::Mask => parameters.mask.iter().map(|modulated| f32::from(u8::from(*modulated))).collect(),
        Section::ModulatorWeight => parameters.modulator_weight.clone(),
        Section::ModulatorBias => parameters.modulator_bias.clone(),
        Section::FanOutWeight => parameters.fan_out_weight.clone(),
        Section::FanOutBias => parameters.fan_out_bias.clone(),
        Section::PolicyWeight => parameters.policy_weight.clone(),
        Section::PolicyBias => parameters.policy_bias.clone(),
        Section::ValueWeight => parameters.value_weight.clone(),
        Section::ValueBias => parameters.value_bias.clone(),
        Section::Metadata => Vec::new(),
    }
}
