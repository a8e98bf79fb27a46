//! Neural networks that go on learning on a microcontroller, without gradients.
//!
//! A host *meta-trains* how a network learns; this crate lets it learn: inside one lifetime, every recurrent
//! connection keeps a Hebbian trace that the network's own neuromodulator writes
//! (Miconi, Rawal, Clune, Stanley: "Backpropamine", ICLR 2019). The arithmetic is defined in `core/FORMAT.md`
//! and gives the same bits on a workstation, in an emulator and on a board.
//!
//! Start with [`network`]: [`network::Network`] is what was meta-learned (immutable, flash),
//! [`network::Memory`] is what one lifetime learns (RAM), [`network::Agent`] joins the two.
//!
//! The crate needs no heap and no operating system, and no step can panic. With the feature `constant-time` a fixed-point step takes the
//! same instructions whatever the numbers are.
#![no_std]

#[cfg(not(target_endian = "little"))]
compile_error!("images are viewed in place, so only little-endian targets are supported");

pub mod digest;
pub mod health;
pub mod image;
mod kernel;
pub mod lifetime;
pub mod math;
pub mod network;
pub mod policy;
pub mod rng;
pub mod rule;
pub mod scalar;
pub mod snapshot;
pub mod task;
