#![doc = include_str!("../IMPORT.md")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use backpropamine::rule::Rule;
use clap::Args;
use half::{bf16, f16};
use safetensors::Dtype;
use serde_json::json;

use crate::archive::{Archive, Tensor, elements};
use crate::cli::{Console, Report, rule_parser};
use crate::files::{self, FileError};
use crate::model::{self, Model};

/// Make a model file of weights from elsewhere, such as PyTorch's
#[derive(Debug, Args)]
#[command(after_help = "\
The map's lines say OUR TENSOR = THEIRS:
  \"recurrent.weight\" = \"rnn.weight_hh_l0\"
  \"input.bias\" = [\"rnn.bias_ih_l0\", \"rnn.bias_hh_l0\"]       the sum of both
  \"recurrent.alpha\" = { from = \"alpha\", transpose = true }  this one is stored [pre][post]
  \"recurrent.eta\" = 0.1                                     a constant (biases and coefficients)
  [metadata]
  clip = \"hard:2\"

JSON: out, rule, hidden, inputs, actions, modulators, parameters, converted (theirs: type).

Example: backpropamine import net.safetensors --map map.toml --rule simple --out model.safetensors")]
pub struct ImportCommand {
    /// The weights, a safetensors file of F32, F64, F16 or BF16
    file: PathBuf,
    /// Which of their tensors is which of ours
    #[arg(long, value_name = "MAP.toml")]
    map: PathBuf,
    /// The rule of the network: none, hebbian, simple or retroactive
    #[arg(long, value_parser = rule_parser())]
    rule: Rule,
    /// Their matrices are stored [pre][post] ([in][out]): transpose every one
    #[arg(long)]
    transpose: bool,
    /// The model file to write
    #[arg(long, value_name = "MODEL")]
    out: PathBuf,
}

impl ImportCommand {
    /// Reads, maps, checks and writes.
    ///
    /// # Errors
    /// [`FileError`] when the weights or the map do not make a model of this rule.
    pub fn run(&self, console: &Console) -> Result<Report> {
        let source = Archive::read(&self.file)?;
        let map = Map::read(&self.map)?;
        let importer = Importer {
            command: self,
            source: &source,
            map: &map,
        };
        let model = importer.model()?;
        model.save(&self.out)?;
        let converted = importer.converted();
        for (name, dtype) in &converted {
            console.note(format_args!("note: {name} was converted from {dtype} to F32"));
        }
        let sizes = model.sizes;
        console.say(format_args!(
            "{}: rule {}, {} hidden, {} inputs, {} actions, {} modulators",
            self.out.display(),
            model.rule_word(),
            sizes.hidden,
            sizes.inputs,
            sizes.actions,
            sizes.modulators
        ));
        Report::done(json!({
            "out": self.out,
            "rule": model.rule_word(),
            "hidden": sizes.hidden,
            "inputs": sizes.inputs,
            "actions": sizes.actions,
            "modulators": sizes.modulators,
            "parameters": model.parameters.values().map(|p| p.values.len()).sum::<usize>(),
            "converted": converted,
        }))
    }
}

/// Where one of our tensors comes from.
#[derive(Debug, Clone, PartialEq)]
enum Origin {
    /// The sum of their tensors, each transposed or not (`None`: as the command line says).
    Sum(Vec<(String, Option<bool>)>),
    /// Every element is this number.
    Constant(f32),
}

/// A parsed map file.
#[derive(Debug, Default)]
struct Map {
    tensors: BTreeMap<String, Origin>,
    metadata: BTreeMap<String, String>,
}

impl Map {
    fn read(path: &Path) -> Result<Self, FileError> {
        let text = files::read_text(path)?;
        let mut table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| FileError::new(path, "map", "TOML", error.message(), place(&text, &error)))?;
        let mut map = Self::default();
        if let Some(metadata) = table.remove("metadata") {
            map.metadata = metadata_words(&metadata, path)?;
        }
        if let Some(toml::Value::Table(tensors)) = table.remove("tensors") {
            table.extend(tensors);
        }
        map.add("", &table, path)?;
        Ok(map)
    }

    /// Adds the lines of a table; `input.weight = "…"` without quotes is TOML for a table in a table.
    fn add(&mut self, prefix: &str, table: &toml::Table, path: &Path) -> Result<(), FileError> {
        for (key, value) in table {
            let name = format!("{prefix}{key}");
            match value {
                toml::Value::Table(inner) if !inner.contains_key("from") => {
                    self.add(&format!("{name}."), inner, path)?;
                }
                _ if !model::tensor_names().any(|known| known == name) => {
                    let expected = model::tensor_names().collect::<Vec<_>>().join(", ");
                    return Err(FileError::new(
                        path,
                        &name,
                        format_args!("one of {expected}"),
                        "another name",
                        "the map says our tensor = theirs",
                    ));
                }
                value => {
                    let origin = origin(value).ok_or_else(|| malformed(path, &name, value))?;
                    self.tensors.insert(name, origin);
                }
            }
        }
        Ok(())
    }
}

fn place(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start);
    let line = text.as_bytes().iter().take(start).filter(|&&byte| byte == b'\n').count() + 1;
    format!("correct line {line}; tensor names with dots need quotes")
}

fn malformed(path: &Path, name: &str, value: &toml::Value) -> FileError {
    FileError::new(
        path,
        name,
        "\"THEIRS\", [\"A\", \"B\"] (their sum), { from = \"THEIRS\", transpose = true } or a number",
        value,
        "the map says our tensor = theirs",
    )
}

fn metadata_words(value: &toml::Value, path: &Path) -> Result<BTreeMap<String, String>, FileError> {
    let malformed =
        |found: &toml::Value| FileError::new(path, "metadata", "a table of strings", found, "write for example clip = \"hard:2\"");
    let table = value.as_table().ok_or_else(|| malformed(value))?;
    table
        .iter()
        .map(|(key, value)| Ok((key.clone(), value.as_str().ok_or_else(|| malformed(value))?.to_owned())))
        .collect()
}

fn origin(value: &toml::Value) -> Option<Origin> {
    match value {
        toml::Value::Array(names) if !names.is_empty() => Some(Origin::Sum(names.iter().map(one_origin).collect::<Option<_>>()?)),
        toml::Value::Float(number) => Some(Origin::Constant(*number as f32)),
        toml::Value::Integer(number) => Some(Origin::Constant(*number as f32)),
        other => Some(Origin::Sum(vec![one_origin(other)?])),
    }
}

fn one_origin(value: &toml::Value) -> Option<(String, Option<bool>)> {
    match value {
        toml::Value::String(name) => Some((name.clone(), None)),
        toml::Value::Table(table) if table.keys().all(|key| key == "from" || key == "transpose") => {
            let transpose = match table.get("transpose") {
                None => None,
                Some(value) => Some(value.as_bool()?),
            };
            Some((table.get("from")?.as_str()?.to_owned(), transpose))
        }
        _ => None,
    }
}

/// Everything that making the model needs.
struct Importer<'a> {
    command: &'a ImportCommand,
    source: &'a Archive,
    map: &'a Map,
}

impl Importer<'_> {
    fn model(&self) -> Result<Model, FileError> {
        let mut archive = Archive {
            metadata: self.metadata()?,
            ..Archive::default()
        };
        for (ours, origin) in &self.map.tensors {
            if let Origin::Sum(theirs) = origin {
                archive.tensors.insert(ours.clone(), self.sum(ours, theirs)?);
            }
        }
        for (ours, origin) in &self.map.tensors {
            if let Origin::Constant(value) = *origin {
                let length = self.constant_length(ours, &archive)?;
                archive
                    .tensors
                    .insert(ours.clone(), Tensor::from_f32(&[length], &vec![value; length]));
            }
        }
        Model::from_archive(&archive, &self.command.file).map_err(|error| self.with_their_name(error))
    }

    fn metadata(&self) -> Result<BTreeMap<String, String>, FileError> {
        let mut words = self.map.metadata.clone();
        for (key, ours) in [
            ("format", model::FORMAT),
            ("cell", "rnn"),
            ("rule", model::rule_word(self.command.rule)),
        ] {
            if let Some(found) = words.insert(key.to_owned(), ours.to_owned()).filter(|found| found != ours) {
                return Err(FileError::new(
                    &self.command.map,
                    format_args!("metadata {key}"),
                    ours,
                    found,
                    "leave the word out of the map",
                ));
            }
        }
        Ok(words)
    }

    fn sum(&self, ours: &str, theirs: &[(String, Option<bool>)]) -> Result<Tensor, FileError> {
        let mut total: Option<(Vec<usize>, Vec<f64>)> = None;
        for (name, transpose) in theirs {
            let (shape, values) = self.values(ours, name, transpose.unwrap_or(self.command.transpose))?;
            match &mut total {
                None => total = Some((shape, values)),
                Some((known, sum)) if *known == shape => {
                    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                }
                Some((known, _)) => {
                    let expected = format!("shape {known:?} as the tensor that it is added to");
                    return Err(FileError::new(
                        &self.command.file,
                        name,
                        expected,
                        format_args!("shape {shape:?}"),
                        "correct the map",
                    ));
                }
            }
        }
        let (shape, values) = total.unwrap_or_default();
        let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
        Ok(Tensor::from_f32(&shape, &values))
    }

    /// Shape and exact values of one of their tensors, as `[post][pre]`.
    fn values(&self, ours: &str, name: &str, transpose: bool) -> Result<(Vec<usize>, Vec<f64>), FileError> {
        let file = &self.command.file;
        let tensor = self.source.tensors.get(name).ok_or_else(|| {
            let known: Vec<_> = self.source.tensors.keys().map(String::as_str).collect();
            let expected = format!("a tensor, mapped to {ours} by {}", self.command.map.display());
            FileError::new(
                file,
                name,
                expected,
                "none",
                format_args!("correct the map; the file has {}", known.join(", ")),
            )
        })?;
        let values = to_f64(tensor).ok_or_else(|| {
            FileError::new(
                file,
                name,
                "type F32, F64, F16 or BF16",
                format_args!("{:?}", tensor.dtype),
                "convert the tensor",
            )
        })?;
        Ok(match *tensor.shape.as_slice() {
            [] => (vec![1], values),
            [rows, columns] if transpose => (vec![columns, rows], transposed(&values, rows, columns)),
            _ => (tensor.shape.clone(), values),
        })
    }

    /// Constants are for biases, as long as their layer has rows, and for single coefficients.
    fn constant_length(&self, ours: &str, archive: &Archive) -> Result<usize, FileError> {
        let refused = |hint: &str| FileError::new(&self.command.map, ours, "the name of one of their tensors", "a number", hint);
        if matches!(ours, "recurrent.alpha" | "recurrent.eta" | "recurrent.hebbian_eta") {
            return Ok(1);
        }
        let Some(layer) = ours.strip_suffix(".bias") else {
            return Err(refused("only biases and coefficients can be constants"));
        };
        let layer = if layer == "modulator.fan_out" { "recurrent" } else { layer };
        let weight = archive.tensors.get(&format!("{layer}.weight"));
        weight
            .and_then(|weight| weight.shape.first().copied())
            .ok_or_else(|| refused("its layer has no weight in the map"))
    }

    fn with_their_name(&self, mut error: FileError) -> FileError {
        if let Some(Origin::Sum(theirs)) = self.map.tensors.get(&error.field) {
            let names: Vec<_> = theirs.iter().map(|(name, _)| name.as_str()).collect();
            error.field = format!("{} ({})", error.field, names.join(" + "));
        } else if error.field.starts_with("metadata ") || model::tensor_names().any(|name| name == error.field) {
            error.file = self.command.map.clone();
        }
        error
    }

    /// The tensors in use that were not F32, and what they were.
    fn converted(&self) -> BTreeMap<&str, String> {
        let used = self.map.tensors.values().filter_map(|origin| match origin {
            Origin::Sum(theirs) => Some(theirs),
            Origin::Constant(_) => None,
        });
        used.flatten()
            .map(|(name, _)| (name.as_str(), self.source.tensors[name].dtype))
            .filter(|(_, dtype)| *dtype != Dtype::F32)
            .map(|(name, dtype)| (name, format!("{dtype:?}")))
            .collect()
    }
}

fn to_f64(tensor: &Tensor) -> Option<Vec<f64>> {
    let bytes = &tensor.bytes;
    match tensor.dtype {
        Dtype::F64 => Some(elements(bytes, f64::from_le_bytes)),
        Dtype::F32 => Some(elements(bytes, |chunk| f32::from_le_bytes(chunk).into())),
        Dtype::F16 => Some(elements(bytes, |chunk| f16::from_le_bytes(chunk).into())),
        Dtype::BF16 => Some(elements(bytes, |chunk| bf16::from_le_bytes(chunk).into())),
        _ => None,
    }
}

fn transposed(values: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    (0..columns)
        .flat_map(|column| (0..rows).map(move |row| values[row * columns + column]))
        .collect()
}
