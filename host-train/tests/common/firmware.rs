//! The firmware workspace, for tests that build and run it.

use std::sync::LazyLock;

use backpropamine_train::device::board::Board;
use backpropamine_train::device::firmware::Firmware;
use backpropamine_train::device::toolchain::{Source, Toolchain};
use clap::ValueEnum;

/// The firmware with a compiler for every board.
pub static FIRMWARE: LazyLock<Firmware> = LazyLock::new(|| {
    let word = std::env::var("BPAM_TOOLCHAIN").unwrap_or_else(|_| "auto".into());
    let source = Source::from_str(&word, false).expect("BPAM_TOOLCHAIN is auto, rustup or distribution");
    let toolchain = Toolchain::find(source, &Board::targets()).expect("no compiler for Cortex-M; type: cargo bpam setup --yes");
    Firmware::locate(None, toolchain).expect("the tests run inside the checkout")
});
