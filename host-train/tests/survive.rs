//! The firmware `survive`: a life with power cuts goes on as if there had been none.
//!
//! Needs the Cortex-M targets and QEMU; `cargo bpam setup --yes` installs both.

#[path = "common/firmware.rs"]
mod firmware;

use std::collections::BTreeMap;
use std::path::Path;

use backpropamine_train::device::board::Board;
use backpropamine_train::device::emulate::ImageForBuild;
use backpropamine_train::device::emulator::{self, Options};
use backpropamine_train::device::firmware::Recipe;
use backpropamine_train::runnable::{Choice, Runnable};
use firmware::FIRMWARE;
use serde_json::Value;

const LIFETIMES: usize = 2;

/// A committed network, which has learned by the end of a lifetime.
fn network(name: &str) -> Runnable {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../firmware/weights/{name}"));
    Choice::default().open(&path, None).unwrap()
}

/// What the firmware reports of two lifetimes.
fn lives(network: &Runnable, save: &str, cuts: &str) -> Vec<Value> {
    let image = ImageForBuild::new(network).unwrap();
    let recipe = Recipe {
        image: Some(image.path()),
        variables: vec![
            ("BPAM_LIFETIMES", LIFETIMES.to_string()),
            ("BPAM_SAVE", save.into()),
            ("BPAM_CUTS", cuts.into()),
        ],
        ..Recipe::new("survive", Board::DEFAULT)
    };
    let elf = FIRMWARE.build(&recipe).unwrap();
    let mut lines = Vec::new();
    emulator::run(&elf, Board::DEFAULT, Options::default(), |line| {
        lines.push(serde_json::from_str(line)?);
        Ok(())
    })
    .unwrap();
    lines
}

/// Lifetime and, where there is one, step.
type Moment = (u64, u64);

fn moment(value: &Value) -> Moment {
    (value["lifetime"].as_u64().unwrap(), value["step"].as_u64().unwrap_or(0))
}

/// The records of one kind by their moment; what was lived twice was lived in the same way.
fn by_moment<'a>(lines: &'a [Value], kind: &str) -> BTreeMap<Moment, &'a Value> {
    let mut records = BTreeMap::new();
    for record in lines.iter().filter_map(|line| line.get(kind)) {
        let before = records.insert(moment(record), record);
        assert!(before.is_none_or(|before| before == record), "{before:?}, then {record}");
    }
    records
}

/// Wakings after the first, each with the moment of the last save before it.
fn wakings(lines: &[Value]) -> Vec<(Moment, Moment)> {
    let (mut saved, mut lifetime) = ((0, 0), 0);
    let mut wakings = Vec::new();
    for line in lines {
        if let Some(step) = line.get("step") {
            lifetime = moment(step).0;
        } else if let Some(save) = line.get("saved") {
            saved = (lifetime, save["step"].as_u64().unwrap());
        } else if let Some(woke) = line.get("woke") {
            wakings.push((moment(woke), saved));
        }
    }
    wakings.split_off(1)
}

#[test]
fn a_life_with_power_cuts_equals_one_without() {
    for (name, save, cuts) in [
        ("cue-simple.bpam", "every:16", "45,45,7,60"),
        ("cue-retroactive.bpam", "every:50", "149,70,60"),
        ("cue-simple.safetensors", "improved:10", "45,45,100"),
    ] {
        let network = network(name);
        let whole = lives(&network, "never", "");
        let cut = lives(&network, save, cuts);
        assert_eq!(by_moment(&cut, "step"), by_moment(&whole, "step"), "{name}");
        assert_eq!(by_moment(&whole, "lived").len(), LIFETIMES);
        assert_eq!(
            by_moment(&cut, "lived"),
            by_moment(&whole, "lived"),
            "{name}: all that the agent is"
        );
        let wakings = wakings(&cut);
        assert_eq!(wakings.len(), cuts.split(',').count(), "{name}");
        assert!(wakings.iter().all(|(woke, saved)| woke == saved), "{name}: {wakings:?}");
        assert!(wakings.iter().any(|((_, step), _)| *step > 0), "{name}: something survived");
    }
}

/// Without a save, a power cut costs the life so far: the test above can fail.
#[test]
fn a_life_that_is_never_saved_begins_again() {
    let lines = lives(&network("cue-simple.bpam"), "never", "45");
    assert_eq!(wakings(&lines), [((0, 0), (0, 0))]);
    let first = lines
        .iter()
        .filter(|line| line.get("step").is_some_and(|step| moment(step) == (0, 0)));
    assert_eq!(first.count(), 2);
}

/// Its snapshots lie in the chip's own flash, behind the program.
#[test]
fn it_builds_for_a_real_flash() {
    let recipe = Recipe {
        features: Some("nrf52840"),
        ..Recipe::new("survive", Board::named("nrf52840").unwrap())
    };
    FIRMWARE.build(&recipe).unwrap();
}
