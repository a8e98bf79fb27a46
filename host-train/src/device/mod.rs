//! Microcontrollers: their compilers and emulator, building firmware with a model in it, running it, reading it.

pub mod board;
pub mod demo;
pub mod emulate;
pub mod emulator;
pub mod firmware;
pub mod flash;
pub mod limit;
pub mod record;
pub mod setup;
pub mod toolchain;
pub mod verify;

/// The emulator's program.
const EMULATOR: &str = "qemu-system-arm";
