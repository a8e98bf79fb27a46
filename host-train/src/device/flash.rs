//! `flash`: a network on a real board, through a debug probe.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use super::PROBE;
use super::board::{Board, Kind};
use super::emulate::{ImageForBuild, slot_of};
use super::firmware::{Firmware, Recipe};
use super::setup::SetupArgs;
use super::toolchain::printed;
use crate::cli::{Console, ExitKind, Report};
use crate::runnable::{Choice, Runnable};

/// Put a network on a real board with a debug probe, and show what it reports
#[derive(Debug, Args)]
#[command(
    after_help = "Needs probe-rs and a probe; ends with Ctrl-C. A lit answer LED says: the target was there. A press within two \
                        seconds pays -1, no press +1.\n\n\
                        board     answer        truth         button, to ground\n\
                        nrf52840  LED 1         LED 2         button 1          (nRF52840-DK)\n\
                        stm32f4   PA15, yellow  PB4, blue     PB3, USR          (pyboard, any STM32F405)\n\
                        rp2040    GP25, LED     an LED, GP15  a switch, GP14    (Raspberry Pi Pico)\n\n\
                        With --slot the program is the firmware `slot`, which lives lifetimes of the cue task by itself. --slot 0 flashes it with\n\
                        the network as its own; --slot 1 writes nothing but the image, without a compiler, into the slot that it\n\
                        prefers once a valid image is there.\n\n\
                        JSON: board, elf_bytes; with --slot 1: board, slot, address, image_bytes.\n\n\
                        Example: backpropamine flash firmware/weights/cue-simple.bpam --board nrf52840"
)]
pub struct FlashCommand {
    /// The network, a safetensors model or a .bpam image of the cue task
    model: PathBuf,
    #[command(flatten)]
    choice: Choice,
    /// The board
    #[arg(long, default_value = "nrf52840", value_parser = Board::parser(|board| !board.is_emulated()))]
    board: &'static Board,
    /// Use the program with two image slots, and this one of them
    #[arg(long, value_name = "0|1", value_parser = clap::value_parser!(u32).range(0..=1))]
    slot: Option<u32>,
    #[command(flatten)]
    setup: SetupArgs,
    /// Folder of the firmware workspace [default: the one of the checkout around the current folder]
    #[arg(long, value_name = "DIR")]
    firmware: Option<PathBuf>,
}

impl FlashCommand {
    /// Builds, flashes, and follows the board's report.
    ///
    /// # Errors
    /// [`ExitKind::MissingTool`] without probe-rs or a compiler; when the model is bad, or the build or probe-rs fails.
    pub fn run(&self, console: &Console) -> Result<Report> {
        let network = self.choice.open(&self.model, None)?;
        let chip = probe(self.board)?;
        match self.slot {
            None => self.program(self.board.name, chip, &network, console),
            Some(0) => {
                slot_of(self.board, &network.words)?;
                self.program("slot", chip, &network, console)
            }
            Some(slot) => self.image(slot, chip, &network, console),
        }
    }

    /// Builds a program with the network in it, flashes it, and follows its report.
    fn program(&self, binary: &str, chip: &str, network: &Runnable, console: &Console) -> Result<Report> {
        let toolchain = self.setup.compiler(console, &[self.board.target])?;
        let firmware = Firmware::locate(self.firmware.as_deref(), toolchain)?;
        let image = ImageForBuild::new(network)?;
        console.note(format_args!("building firmware for {} ({})", self.board.name, self.board.cpu));
        let recipe = Recipe {
            image: Some(image.path()),
            features: Some(self.board.name),
            ..Recipe::new(binary, self.board)
        };
        let elf = firmware.build(&recipe)?;
        let ran = probe_rs(&["run", "--chip", chip], Some(&elf.file))?;
        Report::with_success(json!({ "board": self.board.name, "elf_bytes": elf.bytes.len() }), ran)
    }

    /// Writes the image into its slot, and starts the program that lies beside it.
    fn image(&self, slot: u32, chip: &str, network: &Runnable, console: &Console) -> Result<Report> {
        let address = slot_of(self.board, &network.words)?.address;
        let image = ImageForBuild::new(network)?;
        let base = format!("{address:#x}");
        let download = ["download", "--chip", chip, "--binary-format", "bin", "--base-address", &base];
        let written = probe_rs(&download, Some(image.path()))? && probe_rs(&["reset", "--chip", chip], None)?;
        let bytes = 4 * network.words.len();
        if written {
            console.say(format_args!("{bytes} bytes at {base}; the board has started anew"));
        }
        Report::with_success(
            json!({ "board": self.board.name, "slot": slot, "address": address, "image_bytes": bytes }),
            written,
        )
    }
}

/// Runs probe-rs; whether it succeeded.
fn probe_rs(arguments: &[&str], file: Option<&Path>) -> Result<bool> {
    let status = Command::new(PROBE)
        .args(arguments)
        .args(file)
        .status()
        .context("starting probe-rs")?;
    crate::interrupt::check()?;
    Ok(status.success())
}

/// The name by which probe-rs knows the board's chip, and probe-rs is there.
///
/// # Errors
/// [`ExitKind::Usage`] for an emulated board, [`ExitKind::MissingTool`] without probe-rs.
pub(super) fn probe(board: &Board) -> Result<&'static str, ExitKind> {
    let Kind::Real(chip) = board.kind else {
        return Err(ExitKind::Usage(format!("--board {}: is emulated; use `emulate`", board.name)));
    };
    match printed(PROBE, &["--version"]) {
        Some(_) => Ok(chip),
        None => {
            let message = "probe-rs is missing; type this line:\n  cargo install --locked probe-rs-tools";
            Err(ExitKind::MissingTool(message.into()))
        }
    }
}
