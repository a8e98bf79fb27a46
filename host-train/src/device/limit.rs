//! Child processes with a time limit: nothing we start may hang for ever.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Waits until the child ends or the time is up; then it is killed and the answer is `None`.
///
/// # Errors
/// When the operating system cannot wait for the child.
pub fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// Whether a command ends well within the limit. It reads nothing, and its output goes to our stderr.
pub fn succeeds(command: &[String], limit: Duration) -> bool {
    let [program, arguments @ ..] = command else { return false };
    let child = Command::new(program)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .spawn();
    child.is_ok_and(|mut child| matches!(wait(&mut child, limit), Ok(Some(status)) if status.success()))
}
