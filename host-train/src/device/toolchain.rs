//! Compilers for Cortex-M: rustup's, or the distribution's where rustup cannot download.
//!
//! Distributions ship no `core` for microcontrollers, but they ship its source: there every build compiles `core`
//! itself, which costs half a minute once per target.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

/// Where the cross compiler comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// The active toolchain if it has or can get the targets, else the distribution's.
    Auto,
    /// The active toolchain, whose targets `rustup target add` installs.
    Rustup,
    /// `/usr/bin/cargo`, which builds `core` from the distribution's source package.
    Distribution,
}

/// A compiler that can build the firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Toolchain {
    /// The active toolchain.
    Rustup,
    /// The distribution's compiler, linking with this LLD.
    Distribution {
        /// `ld.lld`, or the active toolchain's `rust-lld`.
        linker: PathBuf,
    },
}

/// The distribution's compiler.
const RUSTC: &str = "/usr/bin/rustc";

/// Oldest compiler that builds the core, as (major, minor).
const OLDEST: (u32, u32) = (1, 88);

impl Toolchain {
    /// The toolchain of this source, if it can build for all of `targets` now.
    pub fn find(source: Source, targets: &[&str]) -> Option<Self> {
        let rustup = || targets.iter().all(|target| has_target(target)).then_some(Self::Rustup);
        match source {
            Source::Rustup => rustup(),
            Source::Distribution => distribution(),
            Source::Auto => rustup().or_else(distribution),
        }
    }

    /// Name for messages and JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rustup => "rustup",
            Self::Distribution { .. } => "distribution",
        }
    }

    /// `cargo SUBCOMMAND --target TARGET`, free of the flags that the host build was given.
    pub fn cargo(&self, subcommand: &str, target: &str) -> Command {
        let mut command = match self {
            Self::Rustup => Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())),
            Self::Distribution { .. } => Command::new("/usr/bin/cargo"),
        };
        command.args([subcommand, "--target", target]);
        for flags in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTC_WRAPPER"] {
            command.env_remove(flags);
        }
        if let Self::Distribution { linker } = self {
            let variable = target.to_uppercase().replace(['-', '.'], "_");
            command
                .arg("-Zbuild-std=core")
                .env("RUSTC", RUSTC)
                .env("RUSTC_BOOTSTRAP", "1")
                .env(format!("CARGO_TARGET_{variable}_LINKER"), linker);
        }
        command
    }
}

/// Whether the active compiler has a standard library for `target`.
fn has_target(target: &str) -> bool {
    printed("rustc", &["--print", "target-libdir", "--target", target]).is_some_and(|folder| Path::new(&folder).exists())
}

fn distribution() -> Option<Toolchain> {
    let version = printed(RUSTC, &["--version"])?;
    let sysroot = printed(RUSTC, &["--print", "sysroot"])?;
    let source = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core");
    let usable = version_of(&version)? >= OLDEST && source.exists() && Path::new("/usr/bin/cargo").exists();
    Some(Toolchain::Distribution {
        linker: linker().filter(|_| usable)?,
    })
}

/// `ld.lld` on the PATH, or the `rust-lld` that rustup's toolchains bring along.
pub(super) fn linker() -> Option<PathBuf> {
    let on_path = printed("ld.lld", &["--version"]).map(|_| PathBuf::from("ld.lld"));
    on_path.or_else(|| {
        let sysroot = printed("rustc", &["--print", "sysroot"])?;
        let hosts = std::fs::read_dir(Path::new(&sysroot).join("lib/rustlib")).ok()?;
        hosts
            .flatten()
            .map(|host| host.path().join("bin/rust-lld"))
            .find(|path| path.exists())
    })
}

/// `rustc 1.96.0 (…)` → `(1, 96)`.
fn version_of(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// First line that a program prints (empty if none), if it runs and succeeds.
pub(super) fn printed(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        assert_eq!(version_of("rustc 1.96.0 (ac68faa20 2026-05-25)"), Some((1, 96)));
        assert!(version_of("rustc 1.85.0").unwrap() < OLDEST);
        assert_eq!(version_of("rustc"), None);
    }
}
