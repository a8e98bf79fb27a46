//! `verify`: every test there is, the emulated boards included.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use super::board::Board;
use super::firmware::Firmware;
use super::limit;
use super::setup::SetupArgs;
use crate::cli::{Console, Report};

/// The longest one `cargo test` may take, building included.
const LIMIT: Duration = Duration::from_secs(45 * 60);

/// Run the whole test suite: host, emulated boards, the firmware's own tests
#[derive(Debug, Clone, Args)]
#[command(after_help = "JSON: passed (true), toolchain.\n\nExample: cargo verify --yes")]
pub struct VerifyCommand {
    /// How to set up.
    #[command(flatten)]
    pub setup: SetupArgs,
}

impl VerifyCommand {
    /// Sets up, then runs the tests of the workspace and of the firmware's host side.
    ///
    /// # Errors
    /// When a tool is missing, or this is no checkout.
    pub fn run(&self, console: &Console) -> Result<Report> {
        let toolchain = self.setup.prepare(console, &Board::targets())?;
        let firmware = Firmware::locate(None, toolchain.clone())?;
        let root = firmware.folder().parent().context("the firmware folder has no parent")?;
        let host = host_target()?;
        let suites: [(&Path, &[&str]); 2] = [
            (root, &["test", "--locked", "--workspace", "--no-fail-fast"]),
            (
                firmware.folder(),
                &["test", "--locked", "--no-fail-fast", "--lib", "--target", &host],
            ),
        ];
        let mut passed = true;
        for (folder, arguments) in suites {
            console.note(format_args!("cargo {}  (in {})", arguments.join(" "), folder.display()));
            passed &= test(folder, arguments, toolchain.name(), console)?;
        }
        console.say(if passed {
            "verify: all tests passed"
        } else {
            "verify: some tests FAILED"
        });
        Report::with_success(json!({ "passed": passed, "toolchain": toolchain.name() }), passed)
    }
}

/// Runs cargo with its own output in view; under `--quiet` and `--json` it goes to stderr.
fn test(folder: &Path, arguments: &[&str], toolchain: &str, console: &Console) -> Result<bool> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .env("BPAM_TOOLCHAIN", toolchain);
    if !console.is_verbose() {
        command.stdout(std::io::stderr());
    }
    let mut child = command.spawn().context("starting cargo")?;
    let status = limit::wait(&mut child, LIMIT)?;
    crate::interrupt::check()?;
    match status {
        Some(status) => Ok(status.success()),
        None => bail!("the tests did not end within {} minutes", LIMIT.as_secs() / 60),
    }
}

/// The target of the machine we run on, as rustc names it.
fn host_target() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("starting rustc")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}
