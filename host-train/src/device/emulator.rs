//! Runs a program in QEMU and decodes what it reports.

use std::io::Read;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use defmt_decoder::{DecodeError, StreamDecoder, Table};

use super::board::{Board, Kind};
use super::firmware::Elf;
use super::{EMULATOR, limit};

/// How to run a program.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// Longest time a run may take.
    pub limit: Duration,
    /// Counts instructions: every one advances the emulated time by `2^shift` nanoseconds.
    pub icount_shift: Option<u8>,
    /// A file to lie in the board's memory at this address.
    pub file: Option<(&'a Path, u32)>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            limit: Duration::from_secs(120),
            icount_shift: None,
            file: None,
        }
    }
}

/// Runs `elf` on an emulated board and hands every line it reports to `on_line`.
///
/// # Errors
/// When the board is not emulated, the emulator is missing, does not end in time, or ends with another status
/// than 0; when the program reports something that does not decode, or nothing at all; and the first error of `on_line`.
pub fn run(elf: &Elf, board: &Board, options: Options, mut on_line: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let table = Table::parse(&elf.bytes)?.context("the firmware has no defmt table")?;
    let mut decoder = table.new_stream_decoder();
    let mut child = start(elf, board, options)?;
    let result = follow(&mut child, options.limit, |bytes| decode(decoder.as_mut(), bytes, &mut on_line));
    let status = limit::wait(&mut child, Duration::from_secs(if result.is_ok() { 5 } else { 0 }))?;
    result?;
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("the firmware or its emulator failed on {}: {status}", board.name),
        None => bail!("the emulator of {} closed its output but did not end", board.name),
    }
}

fn start(elf: &Elf, board: &Board, options: Options) -> Result<Child> {
    let Kind::Emulated(machine) = board.kind else {
        bail!("{} has no emulator", board.name)
    };
    let mut command = Command::new(EMULATOR);
    command.args(["-M", machine, "-display", "none", "-monitor", "none", "-serial", "none"]);
    command
        .args(["-semihosting-config", "enable=on,target=native", "-kernel"])
        .arg(&*elf.file);
    if let Some(shift) = options.icount_shift {
        command.args(["-icount", &format!("shift={shift}")]);
    }
    if let Some((file, address)) = options.file {
        // A comma in a name would end it, so it is doubled.
        let name = file.to_string_lossy().replace(',', ",,");
        command.args(["-device", &format!("loader,file={name},addr={address:#x},force-raw=on")]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
        .spawn()
        .with_context(|| format!("starting {EMULATOR}; `backpropamine setup` installs it"))
}

/// How often a run that reports nothing looks for an interrupt.
const POLL: Duration = Duration::from_millis(100);

/// Reads the child's output until it closes or the time is up.
///
/// # Errors
/// When the time is up or Ctrl-C was pressed, and the first error of `on_bytes`.
pub(super) fn follow(child: &mut Child, limit: Duration, mut on_bytes: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let start = Instant::now();
    let stdout = child.stdout.take().context("the program has no stdout")?;
    let chunks = read_in_background(stdout);
    while start.elapsed() < limit {
        match chunks.recv_timeout(POLL.min(limit)) {
            Ok(bytes) => on_bytes(&bytes)?,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        crate::interrupt::check()?;
    }
    bail!("the firmware did not end within {} s", limit.as_secs())
}

fn read_in_background(mut stdout: ChildStdout) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stdout.read(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

fn decode(decoder: &mut dyn StreamDecoder, bytes: &[u8], on_line: &mut impl FnMut(&str) -> Result<()>) -> Result<()> {
    decoder.received(bytes);
    loop {
        match decoder.decode() {
            Ok(frame) => on_line(&frame.display_message().to_string())?,
            Err(DecodeError::UnexpectedEof) => return Ok(()),
            Err(DecodeError::Malformed) => bail!("the firmware's report is damaged: a frame does not decode"),
        }
    }
}
