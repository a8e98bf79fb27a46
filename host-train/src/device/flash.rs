//! `flash`: a network on a real board, through a debug probe.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use super::PROBE;
use super::board::{Board, Kind};
use super::emulate::ImageForBuild;
use super::firmware::{Firmware, Recipe};
use super::setup::SetupArgs;
use super::toolchain::printed;
use crate::cli::{Console, ExitKind, Report};
use crate::runnable::Choice;

/// Put a network on a real board with a debug probe, and show what it reports
#[derive(Debug, Args)]
#[command(
    after_help = "Needs probe-rs and a probe; ends with Ctrl-C. A lit answer LED says: the target was there. A press within two \
                        seconds pays -1, no press +1.\n\n\
                        board     answer        truth         button, to ground\n\
                        nrf52840  LED 1         LED 2         button 1          (nRF52840-DK)\n\
                        stm32f4   PA15, yellow  PB4, blue     PB3, USR          (pyboard, any STM32F405)\n\
                        rp2040    GP25, LED     an LED, GP15  a switch, GP14    (Raspberry Pi Pico)\n\n\
                        JSON: board, elf_bytes.\n\n\
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
        let toolchain = self.setup.compiler(console, &[self.board.target])?;
        let firmware = Firmware::locate(self.firmware.as_deref(), toolchain)?;
        let image = ImageForBuild::new(&network)?;
        console.note(format_args!("building firmware for {} ({})", self.board.name, self.board.cpu));
        let recipe = Recipe {
            image: Some(image.path()),
            features: Some(self.board.name),
            ..Recipe::new(self.board.name, self.board)
        };
        let elf = firmware.build(&recipe)?;
        let status = Command::new(PROBE)
            .args(["run", "--chip", chip])
            .arg(&*elf.file)
            .status()
            .context("starting probe-rs")?;
        crate::interrupt::check()?;
        Report::with_success(json!({ "board": self.board.name, "elf_bytes": elf.bytes.len() }), status.success())
    }
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
