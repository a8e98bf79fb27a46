//! The firmware `slot`: a new image without a new program, and the program's own when the slot's is not to be used.
//!
//! Needs the Cortex-M targets and QEMU; `cargo bpam setup --yes` installs both.

#[path = "common/firmware.rs"]
mod firmware;
#[cfg(unix)]
#[path = "common/probe.rs"]
mod probe;

use std::path::{Path, PathBuf};
use std::process::Command;

use backpropamine::task::cue;
use backpropamine_train::cli::NumericArg;
use backpropamine_train::device::board::{Board, Slot};
use backpropamine_train::device::emulate::Run;
use backpropamine_train::device::emulator::{self, Options};
use backpropamine_train::device::firmware::{Elf, Recipe};
use backpropamine_train::device::record::{self, Image, Record};
use backpropamine_train::runnable::{Choice, Runnable};
use backpropamine_train::task::TaskConfig;
use firmware::FIRMWARE;
use object::{Object, ObjectSymbol};
use serde_json::Value;

fn weights(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware/weights").join(name)
}

fn open(name: &str, numeric: Option<NumericArg>) -> Runnable {
    let choice = Choice {
        numeric,
        input_range: None,
    };
    choice.open(&weights(name), None).unwrap()
}

fn run(network: &Runnable) -> Run<'_> {
    Run {
        network,
        task: TaskConfig::Cue(cue::Config::default()),
        lifetimes: 2,
    }
}

/// The program with its own image, `cue-simple.bpam`.
fn program(board: &'static Board) -> Elf {
    let recipe = Recipe {
        variables: run(&open("cue-simple.bpam", None)).variables(),
        ..Recipe::new("slot", board)
    };
    FIRMWARE.build(&recipe).unwrap()
}

#[test]
fn an_image_in_the_slot_lives_whatever_its_rule_and_arithmetic() {
    for (name, numeric, board) in [
        ("cue-retroactive.bpam", None, "mps2-an386"),
        ("cue-retroactive.safetensors", Some(NumericArg::Q7), "mps2-an385"),
        ("cue-none.safetensors", Some(NumericArg::F32), "mps2-an500"),
    ] {
        let network = open(name, numeric);
        let run = run(&network);
        let device = run.in_slot(&FIRMWARE, Board::named(board).unwrap(), |_| {}).unwrap();
        assert_eq!(record::first_difference(&device, &run.on_host().unwrap()), None, "{name}");
    }
}

/// What the program reports when these bytes lie in its slot: the warning, if there is one, and the records.
fn with_slot(elf: &Elf, bytes: &[u8]) -> (Option<String>, Vec<Record>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let options = Options {
        file: Some((file.path(), Board::DEFAULT.slot.unwrap().address)),
        ..Options::default()
    };
    let (mut warning, mut records) = (None, Vec::new());
    emulator::run(elf, Board::DEFAULT, options, |line| {
        match Record::parse(line) {
            Ok(record) => records.push(record),
            Err(_) => warning = Some(line.to_owned()),
        }
        Ok(())
    })
    .unwrap();
    (warning, records)
}

#[test]
fn without_a_valid_image_for_this_task_the_programs_own_lives() {
    let elf = program(Board::DEFAULT);
    let own = open("cue-simple.bpam", None);
    let mut expected = run(&own).on_host().unwrap();
    expected.insert(
        0,
        Record::Image(Image {
            slot: 0,
            checksum: own.header.checksum,
        }),
    );
    let image = std::fs::read(weights("cue-retroactive.bpam")).unwrap();
    let mut damaged = image.clone();
    damaged[3000] ^= 4;
    for (bytes, reason) in [
        (vec![0xff; 4096], "NotAnImage"),
        (damaged, "Checksum"),
        (image[..image.len() - 256].to_vec(), "Checksum"),
        (std::fs::read(weights("maze-simple.bpam")).unwrap(), "Task"),
    ] {
        let (warning, records) = with_slot(&elf, &bytes);
        let warning = warning.unwrap();
        assert!(warning.contains(reason) && warning.contains("own image"), "{warning}");
        assert_eq!(record::first_difference(&records, &expected), None, "{reason}");
    }
    let (warning, records) = with_slot(&elf, &image);
    assert_eq!(warning, None);
    assert!(
        matches!(records[0], Record::Image(Image { slot: 1, .. })),
        "the test above can fail"
    );
}

#[test]
fn the_slot_is_where_the_linker_scripts_have_it() {
    for (name, features) in [("mps2-an386", None), ("nrf52840", Some("nrf52840"))] {
        let board = Board::named(name).unwrap();
        let recipe = Recipe {
            features,
            ..Recipe::new("slot", board)
        };
        let elf = FIRMWARE.build(&recipe).unwrap();
        let elf = object::File::parse(&*elf.bytes).unwrap();
        let address = |symbol| elf.symbol_by_name(symbol).unwrap().address() as u32;
        let (start, end) = (address("_image_slot"), address("_image_slot_end"));
        let found = Slot {
            address: start,
            bytes: end - start,
        };
        assert_eq!(board.slot, Some(found), "{name}");
    }
}

#[cfg(unix)]
#[test]
fn flash_writes_the_image_alone() {
    let folder = tempfile::tempdir().unwrap();
    let flash = |model: &str, rest: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_backpropamine"))
            .current_dir(folder.path())
            .env("PATH", probe::path_with(folder.path()))
            .args(["--json", "flash"])
            .arg(weights(model))
            .args(rest)
            .output()
            .unwrap()
    };
    // What it is to write, it copies; its second command names no file.
    probe::stand_in(
        folder.path(),
        "for last; do :; done; if [ -f \"$last\" ]; then cp \"$last\" written; fi",
        0,
    );
    let output = flash("cue-retroactive.bpam", &["--slot", "1"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let image = std::fs::read(weights("cue-retroactive.bpam")).unwrap();
    assert_eq!(std::fs::read(folder.path().join("written")).unwrap(), image);
    let asked = std::fs::read_to_string(folder.path().join("asked")).unwrap();
    let lines: Vec<_> = asked.lines().collect();
    let download = "download --chip nRF52840_xxAA --binary-format bin --base-address 0x80000 ";
    assert!(lines.len() == 2 && lines[0].starts_with(download), "{asked}");
    assert_eq!(lines[1], "reset --chip nRF52840_xxAA");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["slot"], &report["image_bytes"]), (&1.into(), &image.len().into()));

    let output = flash("cue-simple.bpam", &["--slot", "1", "--board", "rp2040"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("rp2040 has no image slot"));
}
