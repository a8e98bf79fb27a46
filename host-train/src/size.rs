//! `size`: what a network takes of a board, without building anything: flash, memory and stack per number format, whether
//! it fits, and how large the network could be.
//!
//! Image and memory are exact: they follow from the header. Code, static data and stack of the program around them were
//! measured on linked programs (`size.toml`, made by `cargo run -p backpropamine-train --example calibrate_size`) for several
//! network sizes, because the compiler specialises the program for the network; between two of them lies a straight line.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use backpropamine::image::{Header, Numeric, Section};
use backpropamine::rule::Rule;
use clap::Args;
use object::{Object, ObjectSection, SectionFlags, SectionKind};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::archive::{Archive, Tensor};
use crate::cli::{Console, Report};
use crate::device::board::{Board, Kind};
use crate::device::emulator::{self, Options};
use crate::device::firmware::{Elf, Firmware, Recipe};
use crate::export::{self, f32_image, fixed_image, memory_bytes};
use crate::image_file::{self, ImageFile, tensor_name};
use crate::model::{self, Model, rule_word};

/// Predict flash, memory and stack on a board, without building
#[derive(Debug, Args)]
#[command(after_help = "\
Of a model all formats are shown, of an image its own. The program is the firmware's `cue` (on a real board, its own).

JSON: board, flash_bytes, ram_bytes (the board's) and formats [{numeric, flash_bytes, ram_bytes, stack_bytes, fits,
estimated (code and stack are another format's), largest_hidden, largest_term {name, memory, bytes}}].

Example: backpropamine size model.safetensors --board netduinoplus2")]
pub struct SizeCommand {
    /// The network, a safetensors model or a .bpam image
    model: PathBuf,
    /// The board
    #[arg(long, default_value = Board::DEFAULT.name, value_parser = Board::parser(|_| true))]
    board: &'static Board,
}

impl SizeCommand {
    /// Reads the network and predicts.
    ///
    /// # Errors
    /// [`FileError`](crate::files::FileError) for a bad model or image.
    pub fn run(&self, console: &Console) -> Result<Report> {
        let board = self.board;
        let formats = headers(&self.model)?
            .iter()
            .map(|header| Prediction::new(header, board))
            .collect::<Result<Vec<_>>>()?;
        console.say(format_args!(
            "{} on {} ({}): {} bytes of flash, {} of RAM",
            self.model.display(),
            board.name,
            board.cpu,
            board.flash,
            board.ram
        ));
        console.say(format_args!(
            "{:7}{:>10}{:>10}{:>8}{:>6}{:>11}  largest term",
            "", "flash", "RAM", "stack", "fits", "largest H"
        ));
        for format in &formats {
            console.say(format.line());
        }
        for Prediction { numeric, .. } in formats.iter().filter(|format| format.estimated) {
            console.say(format_args!(
                "{numeric}: code and stack are estimated from q15's; image and memory are exact"
            ));
        }
        Report::done(json!({ "board": board.name, "flash_bytes": board.flash, "ram_bytes": board.ram, "formats": formats }))
    }
}

/// What the network's images say about themselves: one per format of a model, one of an image.
fn headers(path: &Path) -> Result<Vec<Header>> {
    if image_file::is_image(path) {
        return Ok(vec![ImageFile::load(path)?.header]);
    }
    let model = Model::load(path)?;
    Ok([Numeric::F32, Numeric::Q15, Numeric::Q7]
        .map(|numeric| export::header(&model, numeric))
        .to_vec())
}

/// What a program takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Vectors, code, constants, initial values.
    pub flash: usize,
    /// Static data.
    pub ram: usize,
    /// Deepest stack.
    pub stack: usize,
}

/// One format of a network on a board.
#[derive(Debug, Clone, Serialize)]
pub struct Prediction {
    /// `f32`, `q15` or `q7`.
    pub numeric: String,
    /// Flash of the whole program.
    pub flash_bytes: usize,
    /// Its static data.
    pub ram_bytes: usize,
    /// Its deepest stack, with a margin.
    pub stack_bytes: usize,
    /// Whether all of it fits the board.
    pub fits: bool,
    /// The largest number of hidden neurons that would.
    pub largest_hidden: usize,
    /// Whether code and stack are those of another format, because this one's have not been measured.
    pub estimated: bool,
    largest_term: Term,
}

/// One thing that takes room.
#[derive(Debug, Clone, Serialize)]
struct Term {
    name: String,
    memory: &'static str,
    bytes: usize,
}

impl Prediction {
    /// Predicts for the network of this header.
    ///
    /// # Errors
    /// When the program has not been measured for this board.
    pub fn new(header: &Header, board: &Board) -> Result<Self> {
        let program = Program::of(header, board)?;
        let cost = program.cost(header);
        let hidden = (1..=backpropamine::image::MAX_UNITS as usize).rev();
        let sized = |hidden: usize| Header { hidden, ..*header };
        Ok(Self {
            numeric: format!("{:?}", header.numeric).to_lowercase(),
            flash_bytes: cost.flash,
            ram_bytes: cost.ram,
            stack_bytes: cost.stack,
            fits: cost.fits(board),
            estimated: program.numeric != format!("{:?}", header.numeric).to_lowercase(),
            largest_hidden: hidden
                .into_iter()
                .find(|&hidden| program.cost(&sized(hidden)).fits(board))
                .unwrap_or(0),
            largest_term: largest_term(header, board, &cost),
        })
    }

    fn line(&self) -> String {
        let Self {
            numeric,
            flash_bytes,
            ram_bytes,
            stack_bytes,
            largest_hidden,
            largest_term,
            ..
        } = self;
        let fits = if self.fits { "yes" } else { "no" };
        let Term { name, memory, bytes } = largest_term;
        format!(
            "{numeric:7}{flash_bytes:>10}{ram_bytes:>10}{stack_bytes:>8}{fits:>6}{largest_hidden:>11}  {name}, {bytes} bytes of {memory}"
        )
    }
}

impl Cost {
    fn fits(&self, board: &Board) -> bool {
        self.flash <= board.flash as usize && self.ram + self.stack <= board.ram as usize
    }
}

/// What takes the largest share of its memory.
fn largest_term(header: &Header, board: &Board, cost: &Cost) -> Term {
    let image: usize = header.total_words() * 4;
    let mut terms = vec![
        ("code and constants".to_owned(), "flash", cost.flash - image),
        ("stack".to_owned(), "RAM", cost.stack),
    ];
    for section in Section::ALL {
        terms.push((tensor_name(section).to_owned(), "flash", header.section_words(section) * 4));
    }
    let trace = memory_bytes(header)
        - memory_bytes(&Header {
            rule: Rule::NonPlastic,
            ..*header
        });
    let traces = 1 + usize::from(header.rule.has_eligibility());
    for name in ["Hebbian trace", "eligibility trace"].into_iter().take(traces) {
        terms.push((name.to_owned(), "RAM", trace / traces));
    }
    let share = |memory: &str, bytes: usize| bytes * 1000 / if memory == "flash" { board.flash } else { board.ram } as usize;
    let largest = terms
        .into_iter()
        .min_by_key(|(_, memory, bytes)| Reverse((share(memory, *bytes), *bytes)));
    let (name, memory, bytes) = largest.unwrap_or_default();
    Term { name, memory, bytes }
}

/// The measured programs.
#[derive(Debug, Deserialize, Serialize)]
pub struct Table {
    /// One per target, board family, format and rule.
    pub program: Vec<Program>,
}

impl Table {
    /// The table that `size` predicts from.
    ///
    /// # Errors
    /// When `size.toml` is damaged.
    pub fn measured() -> Result<Self> {
        Ok(toml::from_str(MEASURED)?)
    }

    /// Puts a program in the place of its last measurement.
    pub fn replace(&mut self, program: Program) {
        self.program.retain(|old| old.key() != program.key());
        self.program.push(program);
    }
}

/// A program around networks of one rule in one format on one kind of board, measured for several network sizes.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Program {
    /// Rust target.
    pub target: String,
    /// Firmware binary.
    pub binary: String,
    /// `f32`, `q15` or `q7`.
    pub numeric: String,
    /// Metadata word of the rule.
    pub rule: String,
    /// Network sizes.
    pub hidden: Vec<usize>,
    /// Flash without the image, for each of them.
    pub flash: Vec<usize>,
    /// Static data without the agent's memory, for each of them.
    pub ram: Vec<usize>,
    /// Deepest stack of loading and running the network.
    pub stack: usize,
}

/// One part in so many is added to the measured stack: networks of other sizes spill other registers.
const STACK_MARGIN: usize = 12;

/// Stack that q7's programs may take beyond q15's.
const UNMEASURED_STACK: usize = 256;

const MEASURED: &str = include_str!("size.toml");

impl Program {
    fn key(&self) -> [&str; 4] {
        [&self.target, &self.binary, &self.numeric, &self.rule]
    }

    fn of(header: &Header, board: &Board) -> Result<Self> {
        let numeric = format!("{:?}", header.numeric).to_lowercase();
        let key = [board.target, binary_of(board), &numeric, rule_word(header.rule)];
        let programs = Table::measured()?.program;
        // A board whose own program has not been measured counts as the emulated one of its target.
        let find = |numeric: &str| {
            let mut of_target = programs.iter().filter(|program| {
                let [target, _, found, rule] = program.key();
                [target, found, rule] == [key[0], numeric, key[3]]
            });
            let own = of_target.clone().find(|program| program.key()[1] == key[1]);
            own.or_else(|| of_target.next()).cloned()
        };
        // Until somebody measures q7's programs they are taken to be as large as q15's with more stack, and said to be estimated.
        let nearest = || {
            find("q15").map(|program| Program {
                stack: program.stack + UNMEASURED_STACK,
                ..program
            })
        };
        let found = find(&numeric).or_else(|| (header.numeric == Numeric::Q7).then(nearest).flatten());
        found.with_context(|| {
            let command = "cargo run -p backpropamine-train --example calibrate_size";
            format!("{}: {} has not been measured; run `{command}`", board.name, key.join(" "))
        })
    }

    fn cost(&self, header: &Header) -> Cost {
        Cost {
            flash: self.between(&self.flash, header.hidden) + header.total_words() * 4,
            ram: self.between(&self.ram, header.hidden) + memory_bytes(header),
            stack: self.stack + self.stack / STACK_MARGIN,
        }
    }

    /// A measured quantity at a network size: on the line between the two measured sizes around it.
    fn between(&self, values: &[usize], hidden: usize) -> usize {
        let points = || self.hidden.iter().zip(values);
        let below = points().rev().find(|(size, _)| **size <= hidden).or(points().next());
        let above = points().find(|(size, _)| **size >= hidden).or(points().next_back());
        let (Some((low, &from)), Some((high, &to))) = (below, above) else {
            return 0;
        };
        if low == high {
            from
        } else {
            (from * (high - hidden) + to * (hidden - low)) / (high - low)
        }
    }
}

/// The firmware binary that a board runs.
pub fn binary_of(board: &Board) -> &'static str {
    match board.kind {
        Kind::Emulated(_) => "cue",
        Kind::Real(_) => board.name,
    }
}

/// Builds the program of a board around an image, for more lifetimes than anyone waits for.
///
/// # Errors
/// When the build fails.
pub fn build(firmware: &Firmware, board: &'static Board, image: &Path) -> Result<Elf> {
    let features = matches!(board.kind, Kind::Real(_)).then_some(board.name);
    firmware.build(&Recipe {
        image: Some(image),
        features,
        ..Recipe::new(binary_of(board), board)
    })
}

/// Flash and static data of a linked program, in bytes.
///
/// # Errors
/// When the bytes are no ELF file.
pub fn linked_sections(elf: &[u8]) -> Result<(usize, usize)> {
    let file = object::File::parse(elf)?;
    let (mut flash, mut ram) = (0, 0);
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags } = section.flags() else {
            continue;
        };
        if sh_flags & u64::from(object::elf::SHF_ALLOC) == 0 {
            continue;
        }
        let size = section.size() as usize;
        let writable = sh_flags & u64::from(object::elf::SHF_WRITE) != 0;
        let stored = !matches!(section.kind(), SectionKind::UninitializedData);
        ram += if writable { size } else { 0 };
        flash += if stored { size } else { 0 };
    }
    Ok((flash, ram))
}

/// Deepest stack of loading and running the network, as the firmware's `stack` paints and reports it. A real board cannot be
/// asked: it counts as the emulated one of its target.
///
/// # Errors
/// When the build or the emulator fails.
pub fn painted_stack(firmware: &Firmware, board: &'static Board, image: &Path) -> Result<usize> {
    let board = if board.is_emulated() { board } else { Board::DEFAULT };
    let elf = firmware.build(&Recipe {
        image: Some(image),
        ..Recipe::new("stack", board)
    })?;
    let mut deepest = 0;
    emulator::run(&elf, board, Options::default(), |line| {
        let parts: BTreeMap<String, usize> = serde_json::from_str(line)?;
        deepest = parts.into_values().fold(deepest, usize::max);
        Ok(())
    })?;
    Ok(deepest)
}

/// An image for the cue task whose numbers do not matter: what programs are measured with.
///
/// # Errors
/// When the network is larger than the format holds.
pub fn cue_image(numeric: &str, rule: Rule, hidden: usize) -> Result<Vec<u32>> {
    let mut archive = Archive::default();
    let mut add = |name: &str, shape: &[usize]| {
        let length: usize = shape.iter().product();
        let values: Vec<f32> = (0..length).map(|index| (index % 7) as f32 * 0.01).collect();
        archive.tensors.insert(name.into(), Tensor::from_f32(shape, &values));
    };
    add("input.weight", &[hidden, 27]);
    add("input.bias", &[hidden]);
    add("recurrent.weight", &[hidden, hidden]);
    add("policy.weight", &[2, hidden]);
    add("policy.bias", &[2]);
    add("value.weight", &[1, hidden]);
    add("value.bias", &[1]);
    if rule.is_plastic() {
        add("recurrent.alpha", &[hidden, hidden]);
    }
    if rule.has_eta() {
        add("recurrent.eta", &[1]);
    }
    if rule.is_modulated() {
        add("modulator.weight", &[1, hidden]);
        add("modulator.bias", &[1]);
    }
    let words = [("format", model::FORMAT), ("cell", "rnn"), ("rule", rule_word(rule))];
    archive.metadata = words.map(|(key, word)| (key.to_owned(), word.to_owned())).into();
    let path = Path::new("calibration");
    let model = Model::from_archive(&archive, path)?;
    Ok(match numeric {
        "f32" => f32_image(&model),
        "q7" => fixed_image(&model, Numeric::Q7, path, 1.0)?.words,
        _ => fixed_image(&model, Numeric::Q15, path, 1.0)?.words,
    })
}
