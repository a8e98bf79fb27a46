//! Meta-training, export, replay and measurement of plastic networks for microcontrollers.
//!
//! The host meta-trains *how* a network learns; the core crate [`backpropamine`] lets it learn, bit for bit the
//! same on the workstation, in the emulator and on the board. This library holds everything the binary
//! `backpropamine` does; each subcommand is one module with a `…Command` type.

pub mod a2c;
pub mod activity;
pub mod archive;
pub mod bench;
pub mod cli;
pub mod config;
pub mod cuda;
pub mod curriculum;
pub mod device;
pub mod eval;
pub mod export;
pub mod files;
mod fixed;
pub mod image_file;
pub mod import;
pub mod interrupt;
pub mod model;
pub mod optim;
pub mod plot;
pub mod recurrence;
pub mod replay;
pub mod reproduce;
pub mod rollback;
pub mod rollout;
pub mod run;
pub mod runnable;
pub mod size;
pub mod snapshot_command;
pub mod snapshot_file;
pub mod task;
pub mod train;
pub mod train_command;
