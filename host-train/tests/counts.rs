//! Instruction counts are exact and repeatable, so they are kept: `firmware/counts.toml`.
//!
//! Needs the Cortex-M targets and QEMU; `cargo bpam setup --yes` installs both. To keep new counts: `cargo bpam bench device --record`.

use backpropamine_train::bench::device::Counts;
use backpropamine_train::device::board::Board;
use backpropamine_train::device::firmware::Firmware;
use backpropamine_train::device::toolchain::{Source, Toolchain};
use clap::ValueEnum;

#[test]
fn no_count_has_grown_by_more_than_two_percent() {
    let word = std::env::var("BPAM_TOOLCHAIN").unwrap_or_else(|_| "auto".into());
    let source = Source::from_str(&word, false).expect("BPAM_TOOLCHAIN is auto, rustup or distribution");
    let toolchain = Toolchain::find(source, &Board::targets()).expect("no compiler for Cortex-M; type: cargo bpam setup --yes");
    let firmware = Firmware::locate(None, toolchain).expect("the tests run inside the checkout");
    let kept: Counts = toml::from_str(&std::fs::read_to_string(Counts::path(&firmware)).unwrap()).unwrap();
    let measured = Counts::measure(&firmware).unwrap();
    assert_eq!(measured.count.len(), kept.count.len());
    for (measured, kept) in measured.count.iter().zip(&kept.count) {
        assert!(
            measured.step <= 1.02 * kept.step
                && (&measured.cpu, &measured.numeric, &measured.kind) == (&kept.cpu, &kept.numeric, &kept.kind),
            "kept {kept:?}, measured {measured:?}; if it has to be: cargo bpam bench device --record"
        );
    }
}
