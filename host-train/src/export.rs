//! `export`: a model becomes a `.bpam` image. The layout is the core's ([`backpropamine::image`]); this module fills it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use backpropamine::image::{self, Formats, Header, Numeric, Section};
use backpropamine::scalar::{Q7, Q15, Q16};
use clap::Args;
use serde_json::json;

use crate::cli::{Console, ExitKind, NumericArg, Report};
use crate::files;
use crate::fixed::{Fixed, Quantised};
use crate::image_file::tensor_name;
use crate::model::Model;
use crate::runnable::{Choice, task_range};

/// Turn a model into an image for a microcontroller
#[derive(Debug, Args)]
#[command(after_help = "\
JSON: out, numeric, bytes, memory_bytes, input_range and tensors [{name, fractional_bits, worst_error}] (both q15 and q7
only).

Example: backpropamine export model.safetensors --numeric q15 --out model.bpam")]
pub struct ExportCommand {
    /// The model, a safetensors file
    model: PathBuf,
    #[command(flatten)]
    choice: Choice,
    /// The image to write
    #[arg(long, value_name = "X.bpam")]
    out: PathBuf,
}

impl ExportCommand {
    /// Reads the model, fills the image, says what was lost, writes.
    ///
    /// # Errors
    /// [`FileError`](files::FileError) for a bad model or one that does not fit the format; a usage error for an
    /// arithmetic that images do not have.
    pub fn run(&self, console: &Console) -> Result<Report> {
        let numeric = self.choice.numeric.unwrap_or(NumericArg::F32);
        self.choice.check_range_is_used(numeric)?;
        let model = Model::load(&self.model)?;
        let known_range = self.choice.input_range.or_else(|| task_range(&model.metadata));
        let (words, quantised) = match numeric {
            NumericArg::F64 | NumericArg::Micromath => {
                let message = format!("--numeric {numeric}: images are in f32, q15 or q7; an f32 image runs in {numeric} too");
                return Err(ExitKind::Usage(message).into());
            }
            NumericArg::F32 => (f32_image(&model), Vec::new()),
            NumericArg::Q15 | NumericArg::Q7 => {
                let image = fixed_image(&model, numeric.image(), &self.model, known_range.unwrap_or(1.0))?;
                (image.words, image.tensors)
            }
        };
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        files::write_atomically(&self.out, &bytes)?;
        let header = Header::parse(&words)?;
        let memory = memory_bytes(&header);
        for tensor in &quantised {
            console.say(tensor);
        }
        if numeric.is_fixed() && known_range.is_none() {
            console.note("note: the model names no task; inputs are taken to lie within ±1 (see --input-range)");
        }
        console.say(format_args!(
            "{}: {} bytes of flash, {memory} bytes of memory, {numeric}",
            self.out.display(),
            bytes.len()
        ));
        let range = numeric.is_fixed().then(|| f64::from(header.formats.input_scale).exp2());
        Report::done(json!({
            "out": self.out,
            "numeric": numeric.to_string(),
            "bytes": bytes.len(),
            "memory_bytes": memory,
            "input_range": range,
            "tensors": quantised,
        }))
    }
}

/// Bytes of memory that one agent of an image needs on a device.
pub fn memory_bytes(header: &Header) -> usize {
    let (scalar, output) = match header.numeric {
        Numeric::F32 => (size_of::<f32>(), size_of::<f32>()),
        Numeric::Q15 => (size_of::<Q15>(), size_of::<Q16>()),
        Numeric::Q7 => (size_of::<Q7>(), size_of::<Q16>()),
    };
    header.memory_words(scalar, output) * size_of::<u64>()
}

/// A fixed-point image and what it lost.
pub struct FixedImage {
    /// The image.
    pub words: Vec<u32>,
    /// Every tensor's format and worst error.
    pub tensors: Vec<Quantised>,
}

/// Model words that the image's header holds already.
const IN_HEADER: [&str; 5] = ["format", "cell", "rule", "clip", "modulator"];

/// The image in f32: every number as the model has it.
pub fn f32_image(model: &Model) -> Vec<u32> {
    let metadata = metadata_text(model);
    let header = header(model, Numeric::F32);
    assemble(&header, &metadata, |section| {
        let values = model.values(tensor_name(section)).unwrap_or_default();
        match section {
            Section::Mask => values.iter().map(|&modulated| modulated as u32).collect(),
            _ => values.iter().map(|value| value.to_bits()).collect(),
        }
    })
}

/// The image in q15 or q7, for inputs within `±input_range`, with every bound of `core/FORMAT.md` proven. `path` is the model's.
///
/// # Errors
/// [`FileError`](files::FileError) naming the tensor that does not fit; a usage error for a range beyond the format.
pub fn fixed_image(model: &Model, numeric: Numeric, path: &Path, input_range: f32) -> Result<FixedImage> {
    let scale = input_scale(input_range).ok_or_else(|| {
        ExitKind::Usage(format!(
            "inputs up to {input_range}: fixed point holds at most 32768; scale the inputs or give --input-range"
        ))
    })?;
    let metadata = metadata_text(model);
    let fixed = Fixed::new(model, numeric, scale, path)?;
    let header = Header {
        checksum: 0,
        formats: fixed.formats,
        unit_fan_out: fixed.unit_fan_out,
        ..header(model, numeric)
    };
    let words = assemble(&header, &metadata, |section| {
        let (_, columns) = header.shape(section);
        let tensor = fixed.tensors.get(tensor_name(section));
        tensor.map_or_else(Vec::new, |tensor| tensor.words(columns, numeric.stride(columns)))
    });
    Ok(FixedImage {
        words,
        tensors: fixed.report(model),
    })
}

/// The smallest power of two that holds `range`, as its exponent; `None` beyond ±15.
fn input_scale(range: f32) -> Option<i8> {
    (-15..=15).find(|&scale| f64::from(scale).exp2() >= f64::from(range))
}

/// Header, every section and the metadata, sealed.
fn assemble(header: &Header, metadata: &str, section_words: impl Fn(Section) -> Vec<u32>) -> Vec<u32> {
    let mut words = header.words().to_vec();
    for section in Section::ALL {
        match section {
            Section::Metadata => words.extend(padded_words(metadata.as_bytes())),
            _ => words.extend(section_words(section)),
        }
    }
    image::seal(&mut words);
    words
}

/// The header of a model's image, before the fixed-point fields.
pub(crate) fn header(model: &Model, numeric: Numeric) -> Header {
    let has = |name: &str| model.parameters.contains_key(name);
    let clip = model.clip as f32;
    let clip_remainder = match numeric {
        Numeric::F32 => (model.clip - f64::from(clip)) as f32,
        Numeric::Q15 | Numeric::Q7 => 0.0,
    };
    Header {
        checksum: 0,
        numeric,
        rule: model.rule,
        squash: model.squash,
        clip_kind: model.clip_kind,
        clip,
        clip_remainder,
        inputs: model.sizes.inputs,
        hidden: model.sizes.hidden,
        outputs: model.sizes.actions,
        modulators: model.sizes.modulators,
        alpha: model.granularity("recurrent.alpha"),
        eta: model.granularity("recurrent.eta"),
        hebbian_eta: model.granularity("recurrent.hebbian_eta"),
        fan_out: has("modulator.fan_out.weight"),
        fan_out_bias: has("modulator.fan_out.bias"),
        value: has("value.weight"),
        formats: Formats::default(),
        unit_fan_out: 0,
        metadata_bytes: metadata_text(model).len(),
    }
}

fn metadata_text(model: &Model) -> String {
    let words: BTreeMap<_, _> = model
        .metadata
        .iter()
        .filter(|(key, _)| !IN_HEADER.contains(&key.as_str()))
        .collect();
    toml::to_string(&words).unwrap_or_default()
}

/// Bytes as little-endian words, the last one filled up with zeros.
fn padded_words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.chunks(4).map(|chunk| {
        let mut quad = [0; 4];
        quad[..chunk.len()].copy_from_slice(chunk);
        u32::from_le_bytes(quad)
    })
}
