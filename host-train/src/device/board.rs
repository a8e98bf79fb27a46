//! The boards we build for: where their memory lies is in `firmware/boards/`, how much there is of it is here.

use clap::builder::{PossibleValuesParser, TypedValueParser};

/// A microcontroller board, emulated or real.
#[derive(Debug, PartialEq, Eq)]
pub struct Board {
    /// Name on the command line.
    pub name: &'static str,
    /// Processor core.
    pub cpu: &'static str,
    /// Rust target.
    pub target: &'static str,
    /// File stem of the memory layout in `firmware/boards/`.
    pub memory: &'static str,
    /// Flash in bytes.
    pub flash: u32,
    /// RAM in bytes, one region.
    pub ram: u32,
    /// The processor's clock in Hz: the emulator's, or what our firmware sets.
    pub clock: u32,
    /// The part of the flash that holds a second image, where the firmware `slot` runs.
    pub slot: Option<Slot>,
    /// How it runs.
    pub kind: Kind,
}

/// A part of the flash memory, as `firmware/boards/` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Its first byte.
    pub address: u32,
    /// Its length.
    pub bytes: u32,
}

/// How a board runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In QEMU, as this machine.
    Emulated(&'static str),
    /// As silicon, through probe-rs, which knows it by this chip name.
    Real(&'static str),
}

const KIB: u32 = 1024;
const MIB: u32 = 1024 * KIB;
const MHZ: u32 = 1_000_000;

/// Every board, the default one first.
pub const BOARDS: [Board; 9] = [
    mps2("mps2-an386", "Cortex-M4F", "thumbv7em-none-eabihf"),
    mps2("mps2-an385", "Cortex-M3", "thumbv7m-none-eabi"),
    mps2("mps2-an500", "Cortex-M7", "thumbv7em-none-eabihf"),
    Board {
        name: "microbit",
        cpu: "Cortex-M0",
        target: "thumbv6m-none-eabi",
        memory: "microbit",
        flash: 256 * KIB,
        ram: 16 * KIB,
        clock: 16 * MHZ,
        slot: None,
        kind: Kind::Emulated("microbit"),
    },
    Board {
        name: "mps2-an505",
        cpu: "Cortex-M33",
        target: "thumbv8m.main-none-eabihf",
        memory: "mps2-an505",
        flash: 4 * MIB,
        ram: 4 * MIB,
        clock: 20 * MHZ,
        slot: None,
        kind: Kind::Emulated("mps2-an505"),
    },
    Board {
        name: "netduinoplus2",
        cpu: "Cortex-M4F",
        target: "thumbv7em-none-eabihf",
        memory: "netduinoplus2",
        flash: MIB,
        ram: 128 * KIB,
        clock: 168 * MHZ,
        slot: None,
        kind: Kind::Emulated("netduinoplus2"),
    },
    Board {
        name: "nrf52840",
        cpu: "Cortex-M4F",
        target: "thumbv7em-none-eabihf",
        memory: "nrf52840",
        flash: MIB,
        ram: 256 * KIB,
        clock: 64 * MHZ,
        slot: Some(Slot {
            address: 512 * KIB,
            bytes: 384 * KIB,
        }),
        kind: Kind::Real("nRF52840_xxAA"),
    },
    Board {
        name: "stm32f4",
        cpu: "Cortex-M4F",
        target: "thumbv7em-none-eabihf",
        memory: "stm32f4",
        flash: MIB,
        ram: 128 * KIB,
        clock: 168 * MHZ,
        slot: None,
        kind: Kind::Real("STM32F405RGTx"),
    },
    Board {
        name: "rp2040",
        cpu: "Cortex-M0+",
        target: "thumbv6m-none-eabi",
        memory: "rp2040",
        flash: 2 * MIB,
        ram: 264 * KIB,
        clock: 125 * MHZ,
        slot: None,
        kind: Kind::Real("RP2040"),
    },
];

const fn mps2(name: &'static str, cpu: &'static str, target: &'static str) -> Board {
    Board {
        name,
        cpu,
        target,
        memory: "mps2",
        flash: 4 * MIB,
        ram: 4 * MIB,
        clock: 25 * MHZ,
        slot: Some(Slot {
            address: 2 * MIB,
            bytes: 2 * MIB,
        }),
        kind: Kind::Emulated(name),
    }
}

impl Board {
    /// The emulated Cortex-M4 that everything runs on unless told otherwise.
    pub const DEFAULT: &'static Board = &BOARDS[0];

    /// The board of this name.
    pub fn named(name: &str) -> Option<&'static Board> {
        BOARDS.iter().find(|board| board.name == name)
    }

    /// Every Rust target that some board needs, each once.
    pub fn targets() -> Vec<&'static str> {
        let mut targets: Vec<_> = BOARDS.iter().map(|board| board.target).collect();
        targets.sort_unstable();
        targets.dedup();
        targets
    }

    /// A clap parser for `--board` among the boards that `keep` accepts.
    pub fn parser(keep: fn(&Board) -> bool) -> impl TypedValueParser<Value = &'static Board> {
        let names = BOARDS.iter().filter(move |board| keep(board)).map(|board| board.name);
        PossibleValuesParser::new(names).map(|name| Board::named(&name).unwrap_or(Board::DEFAULT))
    }

    /// Whether QEMU has this board.
    pub fn is_emulated(&self) -> bool {
        matches!(self.kind, Kind::Emulated(_))
    }
}
