//! What the firmware binaries share: how a run ends and how it says so, and the parts that a host can test.
#![cfg_attr(not(test), no_std)]

pub mod button;
#[cfg(target_os = "none")]
mod end;
#[cfg(target_os = "none")]
pub mod layout;
#[cfg(target_os = "none")]
pub mod odd;
#[cfg(target_os = "none")]
pub mod paint;
pub mod ram_flash;
#[cfg(target_os = "none")]
pub mod report;
#[cfg(target_os = "none")]
pub mod survive;
pub mod taught;
#[cfg(all(target_os = "none", feature = "telemetry"))]
mod telemetry;
#[cfg(target_os = "none")]
pub mod timer;

#[cfg(target_os = "none")]
pub use end::exit;
