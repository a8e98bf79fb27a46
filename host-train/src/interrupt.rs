//! Ctrl-C: a flag that long-running commands look at between two units of work.
//!
//! The first signal (Ctrl-C, a termination, the end of the terminal) asks for an orderly end (exit code 130, every file
//! whole); the second ends the process at once, which is safe because files are only ever replaced whole (see
//! [`crate::files`]). A signal that was being ignored when the process began, as `nohup` does it, stays ignored.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

static REQUESTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// The run was interrupted by Ctrl-C or a termination signal; ends the process with exit code 130.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Installs the signal handlers. Called once, by the binary.
///
/// # Errors
/// When the operating system refuses a handler, or another one is installed already.
#[cfg(unix)]
pub fn install() -> anyhow::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    use signal_hook::flag;

    for signal in [SIGINT, SIGTERM, SIGHUP] {
        if !is_ignored(signal) {
            // In this order: the first signal finds the flag down and raises it.
            flag::register_conditional_shutdown(signal, crate::cli::EXIT_INTERRUPTED.into(), Arc::clone(&REQUESTED))?;
            flag::register(signal, Arc::clone(&REQUESTED))?;
        }
    }
    // A write beyond the limit on file sizes fails like on a full disk; without a handler the signal kills the process,
    // which leaves its temporary file behind.
    flag::register(SIGXFSZ, Arc::default())?;
    Ok(())
}

/// Whether the process was started with this signal ignored; where the system does not tell, it was not.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Installs the signal handlers. Called once, by the binary.
///
/// # Errors
/// When the operating system refuses a handler, or another one is installed already.
#[cfg(not(unix))]
pub fn install() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            std::process::exit(crate::cli::EXIT_INTERRUPTED.into());
        }
    })?;
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
