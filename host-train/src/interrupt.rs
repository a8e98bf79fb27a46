//! Ctrl-C: a flag that long-running commands look at between two units of work.
//!
//! The first signal asks for an orderly end (exit code 130, every file whole); the second ends the process at once,
//! which is safe because files are only ever replaced whole (see [`crate::files`]).

#[cfg(unix)]
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// The run was interrupted by Ctrl-C or a termination signal; ends the process with exit code 130.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Installs the signal handlers. Called once, by the binary.
///
/// # Errors
/// When the operating system refuses a handler, or another one is installed already.
pub fn install() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            std::process::exit(crate::cli::EXIT_INTERRUPTED.into());
        }
    })?;
    report_large_files()
}

/// Lets a write beyond the limit on file sizes fail like on a full disk; without a handler the signal kills the process,
/// which leaves its temporary file behind.
#[cfg(unix)]
fn report_large_files() -> anyhow::Result<()> {
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    Ok(())
}

#[cfg(not(unix))]
fn report_large_files() -> anyhow::Result<()> {
    Ok(())
}

/// Asks for an orderly end, as Ctrl-C does: for a terminal whose keys we read ourselves.
pub fn request() {
    REQUESTED.store(true, Ordering::Relaxed);
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
