//! Microcontrollers: their compilers and emulator, building firmware with a model in it, running it, reading it.

pub mod board;
pub mod demo;
pub mod emulate;
pub mod emulator;
pub mod firmware;
pub mod flash;
pub mod limit;
pub mod monitor;
pub mod record;
pub mod recording;
pub mod setup;
pub mod toolchain;
pub mod verify;
pub mod world;

/// The emulator's program.
const EMULATOR: &str = "qemu-system-arm";

/// The program that talks to debug probes.
const PROBE: &str = "probe-rs";
