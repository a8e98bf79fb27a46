//! Where the report comes from: the emulator, or a board through a debug probe.

use std::io::{Read, Seek};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::device::board::{Board, Kind};
use crate::device::emulate::Run;
use crate::device::emulator::{self, Options};
use crate::device::firmware::{Elf, Firmware};
use crate::device::{PROBE, limit};

/// The emulator counts instructions of `2^SHIFT` ns each.
const SHIFT: u8 = 6;

/// What a board's clock counts, and how many of it in one tick.
pub fn tick(board: &Board) -> (&'static str, f64) {
    match board.kind {
        Kind::Emulated(_) => ("instructions", 1e9 / f64::from(board.clock) / f64::from(1 << SHIFT)),
        Kind::Real(_) => ("cycles", 1.0),
    }
}

/// A program with telemetry, ready to run.
pub struct Feed {
    elf: Elf,
    board: &'static Board,
    /// The longest time that an emulated run takes.
    limit: Duration,
    /// Steps of an emulated run.
    steps: u32,
}

impl Feed {
    /// Builds the program.
    ///
    /// # Errors
    /// When the network is in f64, or the build fails.
    pub fn new(run: &Run, firmware: &Firmware, board: &'static Board) -> Result<Self> {
        let transport = if board.is_emulated() { "semihosting" } else { board.name };
        Ok(Self {
            elf: run.build(firmware, board, Some(&format!("{transport},telemetry")))?,
            board,
            // A step's report takes longer than the step.
            limit: 10 * run.limit(),
            steps: run.lifetimes.saturating_mul(run.task.steps()),
        })
    }

    /// Runs the program and hands every line to `on_line`; an emulated one no faster than `speed` steps in a second.
    ///
    /// # Errors
    /// When the run fails or is interrupted, and the first error of `on_line`.
    pub fn run(&self, speed: Option<u32>, mut on_line: impl FnMut(&str) -> Result<()>) -> Result<()> {
        if let Kind::Real(chip) = self.board.kind {
            return self.probe(chip, on_line);
        }
        let pause = speed.map_or(Duration::ZERO, |speed| Duration::from_secs(1) / speed);
        let options = Options {
            limit: self.limit + pause * self.steps,
            icount_shift: Some(SHIFT),
            ..Options::default()
        };
        let mut next = Instant::now();
        emulator::run(&self.elf, self.board, options, |line| {
            if line.starts_with("{\"step\"") {
                thread::sleep(next.saturating_duration_since(Instant::now()));
                next = Instant::now() + pause;
            }
            on_line(line)
        })
    }

    /// Flashes and runs the program through probe-rs, which decodes what it reports.
    fn probe(&self, chip: &str, mut on_line: impl FnMut(&str) -> Result<()>) -> Result<()> {
        // Its progress bars would spoil a live view; should it fail, this says why.
        let mut said = tempfile::tempfile()?;
        let mut child = Command::new(PROBE)
            .args(["run", "--chip", chip, "--log-format", "{s}"])
            .arg(&*self.elf.file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(said.try_clone()?)
            .spawn()
            .context("starting probe-rs")?;
        let mut rest = Vec::new();
        let followed = emulator::follow(&mut child, Duration::MAX, |bytes| {
            rest.extend_from_slice(bytes);
            while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                on_line(String::from_utf8_lossy(&line).trim_end())?;
            }
            Ok(())
        });
        let status = limit::wait(&mut child, Duration::from_secs(if followed.is_ok() { 5 } else { 0 }))?;
        followed?;
        if status.is_some_and(|status| status.success()) {
            return Ok(());
        }
        let mut text = String::new();
        said.rewind()?;
        said.read_to_string(&mut text)?;
        bail!("probe-rs failed:\n{}", text.trim_end())
    }
}
