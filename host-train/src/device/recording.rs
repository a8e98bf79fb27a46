//! What `monitor --out` writes and `plot` reads, and `reproduce fig3` makes on the host: JSON Lines. The first line,
//! `{"monitor": …}`, says what was recorded ([`Head`]); each further one is a [`Record`] as the device reported it.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use backpropamine::image::Header;
use backpropamine::lifetime::EVALUATION_SEED;
use serde::{Deserialize, Serialize};
use toml::Table;

use super::record::{self, Birth, Record};
use crate::files::{self, FileError, WriteError};
use crate::model::rule_word;
use crate::runnable::Runnable;
use crate::task::TaskConfig;

/// The version of the file format that this module writes and reads.
pub const FORMAT: u32 = 1;

/// What was recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Version of the format, 1.
    pub format: u32,
    /// The model's file name.
    pub model: String,
    /// The image's checksum, as 8 hexadecimal digits.
    pub image: String,
    /// The rule's word.
    pub rule: String,
    /// The arithmetic.
    pub numeric: String,
    /// The board.
    pub board: String,
    /// The task's name and options, the text of a preset's `[task]`.
    pub task: String,
    /// What `per_tick` counts: `instructions` (emulated) or `cycles`.
    pub unit: String,
    /// Instructions or cycles of one tick of a step's `ticks`.
    pub per_tick: f64,
    /// The processor's clock in Hz.
    pub clock: u32,
}

impl Head {
    /// That of a run on the host, where nothing is timed.
    pub fn on_host(network: &Runnable, task: String, model: &Path) -> Self {
        let Header { checksum, rule, .. } = network.header;
        Self {
            format: FORMAT,
            model: model.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            image: format!("{checksum:08x}"),
            rule: rule_word(rule).into(),
            numeric: network.numeric.to_string(),
            board: "host".into(),
            task,
            unit: "instructions".into(),
            per_tick: 0.0,
            clock: 0,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstLine {
    monitor: Head,
}

/// Writes the first line.
///
/// # Errors
/// What `file` reports.
pub fn write_head(file: &mut dyn Write, head: &Head) -> std::io::Result<()> {
    writeln!(file, "{}", serde_json::to_string(&FirstLine { monitor: head.clone() })?)
}

/// Writes one further line.
///
/// # Errors
/// What `file` reports.
pub fn write_record(file: &mut dyn Write, record: &Record) -> std::io::Result<()> {
    writeln!(file, "{}", serde_json::to_string(record)?)
}

/// A recording in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// What was recorded.
    pub head: Head,
    /// The task of every lifetime.
    pub task: TaskConfig,
    /// Everything that was reported.
    pub records: Vec<Record>,
}

impl Recording {
    /// The first evaluation lifetime of a network on the host; `text` is the text of a preset's `[task]` that says `task`. There
    /// are no records of its health.
    ///
    /// # Errors
    /// When the image or the task cannot be used.
    pub fn on_host(network: &Runnable, text: String, task: TaskConfig, model: &Path) -> Result<Self> {
        let birth = Birth {
            lifetime: 0,
            seed: EVALUATION_SEED,
        };
        let mut records = vec![Record::Birth(birth)];
        records.extend(record::on_host(network, task, 1)?);
        let head = Head::on_host(network, text, model);
        Ok(Self { head, task, records })
    }

    /// Writes the file that [`load`](Self::load) reads.
    ///
    /// # Errors
    /// [`WriteError`] when it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), WriteError> {
        let written = files::replace_file(path, |file| {
            write_head(file, &self.head)?;
            self.records.iter().try_for_each(|record| write_record(file, record))
        });
        let file = path.to_owned();
        written.map_err(|source| WriteError { file, source })
    }

    /// Reads a recording; one that an interrupt cut short at the end of a line is as good as any.
    ///
    /// # Errors
    /// [`FileError`] names the file and the line that is none of a recording's.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let text = files::read_text(path)?;
        let refuse = |line: usize, expected: &str, found: String| {
            let hint = "give a file that `monitor --out` wrote";
            FileError::new(path, format_args!("line {line}"), expected, found, hint)
        };
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let FirstLine { monitor: head } =
            serde_json::from_str(first).map_err(|error| refuse(1, "what was recorded, under \"monitor\"", error.to_string()))?;
        if head.format != FORMAT {
            return Err(refuse(1, &format!("format {FORMAT}"), head.format.to_string()));
        }
        let task: Result<Table, _> = head.task.parse();
        let task = task
            .and_then(|table| TaskConfig::parse(&table))
            .map_err(|error| refuse(1, "a task", error.message().to_owned()))?;
        let records = lines.enumerate().map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| refuse(index + 2, "a record of a device's report", error.to_string()))
        });
        let records = records.collect::<Result<_, _>>()?;
        Ok(Self { head, task, records })
    }
}
