//! What `size` predicts, held against linked programs and painted stacks.
//!
//! Needs the Cortex-M targets and QEMU; `cargo bpam setup --yes` installs both.

use backpropamine::image::Header;
use backpropamine::rule::Rule;
use backpropamine_train::device::board::Board;
use backpropamine_train::device::firmware::Firmware;
use backpropamine_train::device::toolchain::{Source, Toolchain};
use backpropamine_train::size::{Prediction, build, cue_image, linked_sections, painted_stack};
use clap::ValueEnum;

/// Asserts that flash and RAM of one network are within 2% of the linked program, and the stack between the painted one and
/// 20% more.
fn check(firmware: &Firmware, board: &str, numeric: &str, rule: Rule, hidden: usize) {
    let board = Board::named(board).unwrap();
    let words = cue_image(numeric, rule, hidden).unwrap();
    let image = tempfile::NamedTempFile::with_suffix(".bpam").unwrap();
    std::fs::write(image.path(), words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    let predicted = Prediction::new(&Header::parse(&words).unwrap(), board).unwrap();
    let (flash, ram) = linked_sections(&build(firmware, board, image.path()).unwrap().bytes).unwrap();
    let stack = painted_stack(firmware, board, image.path()).unwrap();
    for (what, predicted, linked) in [("flash", predicted.flash_bytes, flash), ("RAM", predicted.ram_bytes, ram)] {
        assert!(
            predicted.abs_diff(linked) * 50 <= linked,
            "{} {numeric} {rule:?} {hidden}, {what}: {predicted}, linked {linked}",
            board.name
        );
    }
    let stack_bytes = predicted.stack_bytes;
    assert!(
        (stack..=stack * 6 / 5).contains(&stack_bytes),
        "{} {numeric} {rule:?} {hidden}, stack: {stack_bytes}, painted {stack}",
        board.name
    );
}

#[test]
fn predictions_hold_for_linked_programs() {
    let word = std::env::var("BPAM_TOOLCHAIN").unwrap_or_else(|_| "auto".into());
    let source = Source::from_str(&word, false).expect("BPAM_TOOLCHAIN is auto, rustup or distribution");
    let toolchain = Toolchain::find(source, &Board::targets()).expect("no compiler for Cortex-M; type: cargo bpam setup --yes");
    let firmware = Firmware::locate(None, toolchain).unwrap();
    check(&firmware, "mps2-an386", "q15", Rule::Modulated, 32);
    check(&firmware, "mps2-an386", "f32", Rule::Retroactive, 80);
    check(&firmware, "netduinoplus2", "q15", Rule::Retroactive, 150);
    check(&firmware, "netduinoplus2", "f32", Rule::Retroactive, 100);
    check(&firmware, "nrf52840", "q15", Rule::Retroactive, 200);
    check(&firmware, "microbit", "q15", Rule::Modulated, 48);
}
