//! `setup`: what the other commands need on a fresh machine, installed or written out for the user to type.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::board::Board;
use super::toolchain::{Source, Toolchain, linker, printed};
use super::{EMULATOR, limit};
use crate::cli::{Console, ExitKind, Report};

/// Rust targets for Cortex-M and the emulator: installs them with --yes, else prints the lines that do
#[derive(Debug, Clone, Args)]
#[command(after_help = "JSON: toolchain (rustup or distribution), emulator (its version).\n\n\
                        Example: backpropamine setup --yes")]
pub struct SetupCommand {
    /// How to set up.
    #[command(flatten)]
    pub setup: SetupArgs,
}

/// Options of every command that builds firmware.
#[derive(Debug, Clone, Args)]
pub struct SetupArgs {
    /// Install what is missing: Rust targets by rustup, packages by apt as root or through sudo
    #[arg(long, short)]
    pub yes: bool,
    /// Where the Cortex-M compiler comes from
    #[arg(long, value_enum, default_value = "auto")]
    pub toolchain: Source,
}

impl SetupCommand {
    /// Installs everything for every board.
    ///
    /// # Errors
    /// [`ExitKind::MissingTool`] with the lines to type, when something is missing and may not or cannot be installed.
    pub fn run(&self, console: &Console) -> Result<Report> {
        let toolchain = self.setup.prepare(console, &Board::targets())?;
        let emulator = printed(EMULATOR, &["--version"]);
        console.say(format_args!("Cortex-M compiler: {}", toolchain.name()));
        console.say(format_args!("Emulator: {}", emulator.as_deref().unwrap_or("none")));
        Report::done(json!({ "toolchain": toolchain.name(), "emulator": emulator }))
    }
}

impl SetupArgs {
    /// A toolchain for `targets`, and an emulator: found, or installed if `--yes` allows.
    ///
    /// # Errors
    /// [`ExitKind::MissingTool`] with the lines to type, when something is missing and may not or cannot be installed.
    pub fn prepare(&self, console: &Console, targets: &[&str]) -> Result<Toolchain> {
        let mut missing = Vec::new();
        if printed(EMULATOR, &["--version"]).is_none() {
            missing.extend(self.install(console, &apt(&["qemu-system-arm"])));
        }
        self.find_or_install(console, targets, missing)
    }

    /// A toolchain alone, for boards that need no emulator.
    ///
    /// # Errors
    /// As [`SetupArgs::prepare`].
    pub fn compiler(&self, console: &Console, targets: &[&str]) -> Result<Toolchain> {
        self.find_or_install(console, targets, Vec::new())
    }

    fn find_or_install(&self, console: &Console, targets: &[&str], mut missing: Vec<String>) -> Result<Toolchain> {
        let toolchain = Toolchain::find(self.toolchain, targets).or_else(|| self.install_toolchain(console, targets, &mut missing));
        match toolchain {
            Some(toolchain) if missing.is_empty() => Ok(toolchain),
            _ => Err(ExitKind::MissingTool(message(self.yes, &missing)).into()),
        }
    }

    /// First rustup, which is quick, then the distribution. What did not work is added to `missing`.
    fn install_toolchain(&self, console: &Console, targets: &[&str], missing: &mut Vec<String>) -> Option<Toolchain> {
        let mut refused = Vec::new();
        if self.toolchain != Source::Distribution && printed("rustup", &["--version"]).is_some() {
            refused.extend(self.install(console, &words(&[&["rustup", "target", "add"], targets])));
        }
        let mut found = Toolchain::find(self.toolchain, targets);
        if found.is_none() && self.toolchain != Source::Rustup {
            if !refused.is_empty() {
                refused.push("or, where rustup cannot download:".into());
            }
            refused.extend(self.install(console, &apt(&distribution_packages())));
            found = Toolchain::find(self.toolchain, targets);
        }
        if found.is_none() {
            missing.append(&mut refused);
        }
        found
    }

    /// Runs an installer if it may run; otherwise, and when it fails, returns it as the line to type.
    fn install(&self, console: &Console, command: &[String]) -> Option<String> {
        let line = command.join(" ");
        let allowed = self.yes && (command[0] != "sudo" || printed("sudo", &["-n", "true"]).is_some());
        if allowed {
            console.note(format_args!("installing: {line}"));
        }
        (!allowed || !run(command)).then_some(line)
    }
}

/// Runs an installer within its time limit, refreshing apt's lists first; true if it succeeded.
fn run(command: &[String]) -> bool {
    const LIMIT: Duration = Duration::from_secs(900);
    if let Some(options) = command.iter().position(|word| word == "install") {
        limit::succeeds(&[&command[..options], &["update".into()]].concat(), LIMIT);
    }
    limit::succeeds(command, LIMIT)
}

/// The line that installs Debian or Ubuntu packages, through sudo unless we are root.
fn apt(packages: &[&str]) -> Vec<String> {
    let root = printed("id", &["-u"]).is_some_and(|user| user == "0");
    let sudo: &[&str] = if root { &[] } else { &["sudo"] };
    let install = ["apt-get", "-qq", "install", "--yes", "--no-install-recommends"];
    words(&[sudo, &install, packages])
}

fn words(parts: &[&[&str]]) -> Vec<String> {
    parts.concat().into_iter().map(str::to_owned).collect()
}

/// Debian keeps a second, recent compiler for its browsers; elsewhere the ordinary packages have to be recent enough.
fn distribution_packages() -> Vec<&'static str> {
    let recent = printed("apt-cache", &["show", "rustc-web"]).is_some();
    let mut packages = if recent {
        vec!["rustc-web", "cargo-web", "rust-web-src"]
    } else {
        vec!["rustc", "cargo", "rust-src"]
    };
    if linker().is_none() {
        packages.push("lld");
    }
    packages
}

fn message(tried: bool, missing: &[String]) -> String {
    let advice = if tried {
        "this could not be installed here; type it yourself, then run the command again"
    } else {
        "missing tools; type these lines, or add --yes to have it done"
    };
    format!("{advice}:\n  {}", missing.join("\n  "))
}
