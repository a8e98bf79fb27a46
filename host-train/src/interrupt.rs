//! Ctrl-C: a flag that long-running commands look at between two units of work.
//!
//! The first signal asks for an orderly end (exit code 130, every file whole); the second ends the process at once,
//! which is safe because files are only ever replaced whole (see [`crate::files`]).

use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// The run was interrupted by Ctrl-C or a termination signal; ends the process with exit code 130.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Installs the signal handler. Called once, by the binary.
///
/// # Errors
/// When the operating system refuses the handler, or another one is installed already.
pub fn install() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            std::process::exit(crate::cli::EXIT_INTERRUPTED.into());
        }
    })
}

/// Whether an interrupt was asked for.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// Returns early from a long computation: `interrupt::check()?`.
///
/// # Errors
/// [`Interrupted`] once a signal has arrived.
pub fn check() -> Result<(), Interrupted> {
    if requested() { Err(Interrupted) } else { Ok(()) }
}
