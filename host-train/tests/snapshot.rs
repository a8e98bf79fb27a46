//! Snapshots on the host: what one life learned goes on in another run, and files that do not belong are refused.

mod common;

use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use backpropamine_train::archive::{Archive, Tensor};
use common::{Design, Per};
use serde_json::Value;

/// A folder with a model `m.safetensors`, and inputs `all`, `first` and `second` of 20, 12 and 8 steps.
fn folder(design: &Design) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    design.model().write(&folder.path().join("m.safetensors"));
    let row = |step: usize| (0..3).map(move |input| ((step * 3 + input) as f32 * 0.7).sin());
    for (name, steps) in [("all", 0..20), ("first", 0..12), ("second", 12..20)] {
        let mut archive = Archive::default();
        let shape = [steps.len(), 3];
        let x: Vec<f32> = steps.flat_map(row).collect();
        archive.tensors.insert("x".into(), Tensor::from_f32(&shape, &x));
        archive.write(&folder.path().join(name)).unwrap();
    }
    folder
}

fn run(folder: &Path, arguments: &str) -> Output {
    let mut command = Command::cargo_bin("backpropamine").unwrap();
    command.current_dir(folder).args(arguments.split_whitespace());
    command.output().unwrap()
}

fn json(folder: &Path, arguments: &str) -> Value {
    let output = run(folder, &format!("--json {arguments}"));
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(folder: &Path, arguments: &str, code: i32, parts: &[&str]) {
    let output = run(folder, arguments);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments}: {message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

fn file(folder: &Path, name: &str) -> PathBuf {
    folder.join(name)
}

#[test]
fn a_replay_goes_on_from_a_snapshot_as_if_it_had_never_stopped() {
    let folder = folder(&Design {
        alpha: Per::Neuron,
        ..Design::default()
    });
    let folder = folder.path();
    for numeric in ["f64", "f32", "micromath", "q15", "q7"] {
        let options = format!("--numeric {numeric}");
        let options = if numeric.starts_with('q') {
            options + " --input-range 1"
        } else {
            options
        };
        let replay = |rest: &str| json(folder, &format!("replay m.safetensors {rest} {options}"));
        replay("--inputs all --out whole.safetensors --snapshot whole.bpsn");
        replay("--inputs first --out first.safetensors --snapshot half.bpsn");
        replay("--inputs second --out second.safetensors --restore half.bpsn --snapshot end.bpsn");
        let [whole, second] = ["whole", "second"].map(|name| Archive::read(&file(folder, &format!("{name}.safetensors"))).unwrap());
        for name in ["hebb", "eligibility"] {
            assert_eq!(whole.tensors[name].bytes, second.tensors[name].bytes, "{numeric}: {name}");
        }
        for name in ["hidden", "policy", "modulator", "value"] {
            let (whole, second) = (&whole.tensors[name].bytes, &second.tensors[name].bytes);
            assert_eq!(whole[whole.len() - second.len()..], second[..], "{numeric}: {name}");
        }
        let shown = json(folder, "snapshot show end.bpsn --every 500 --erase-cycles 1000");
        let snapshot = &shown["snapshots"][0];
        assert_eq!(
            (&snapshot["step"], &snapshot["sequence"]),
            (&20.into(), &2.into()),
            "{numeric}: {snapshot}"
        );
        assert_eq!(shown["flash_life_steps"], 1_000_000);
        json(
            folder,
            &format!("snapshot extract end.bpsn --model m.safetensors --out learned.safetensors {options}"),
        );
        let learned = Archive::read(&file(folder, "learned.safetensors")).unwrap();
        assert_eq!(learned.tensors["hebb"], whole.tensors["hebb"], "{numeric}");
        assert_eq!(learned.tensors["eligibility"], whole.tensors["eligibility"], "{numeric}");
    }
}

#[test]
fn the_newest_snapshot_of_a_dump_goes_to_another_board() {
    let folder = folder(&Design::default());
    let folder = folder.path();
    json(folder, "replay m.safetensors --inputs first --out o --snapshot 1.bpsn");
    json(
        folder,
        "replay m.safetensors --inputs second --out o --restore 1.bpsn --snapshot 2.bpsn",
    );
    let read = |name: &str| std::fs::read(file(folder, name)).unwrap();
    let (older, newer) = (read("1.bpsn"), read("2.bpsn"));
    // Two slots of 4096 bytes, the newer one first, in a flash that begins with something else.
    let mut dump = vec![0xff; 3 * 4096];
    dump[..8].copy_from_slice(b"firmware");
    dump[4096..][..newer.len()].copy_from_slice(&newer);
    dump[8192..][..older.len()].copy_from_slice(&older);
    std::fs::write(file(folder, "dump"), &dump).unwrap();
    let shown = json(folder, "snapshot show dump");
    let offsets: Vec<_> = shown["snapshots"].as_array().unwrap().iter().map(|s| s["offset"].clone()).collect();
    assert_eq!(offsets, [4096, 8192]);
    json(folder, "snapshot extract dump --out newest.bpsn");
    assert_eq!(read("newest.bpsn"), newer);
    json(folder, "snapshot extract dump --sequence 1 --out first.bpsn");
    assert_eq!(read("first.bpsn"), older);
    let applied = json(folder, "snapshot apply m.safetensors dump --out slot.bin");
    let slot = read("slot.bin");
    assert_eq!(applied["flash_bytes"], slot.len());
    assert!(slot.len().is_multiple_of(256) && slot.starts_with(&newer));
    assert!(slot[newer.len()..].iter().all(|byte| *byte == 0xff));
    // A torn newest one leaves the older one.
    dump[4096 + 100] ^= 1;
    std::fs::write(file(folder, "dump"), &dump).unwrap();
    json(folder, "snapshot extract dump --out left.bpsn");
    assert_eq!(read("left.bpsn"), older);
    refused(folder, "snapshot extract dump --sequence 2 --out x", 2, &["--sequence", "1"]);
    assert!(!file(folder, "x").exists());
}

#[test]
fn what_does_not_belong_is_refused_by_name() {
    let folder = folder(&Design::default());
    let folder = folder.path();
    let other = Design {
        seed: 2,
        ..Design::default()
    };
    other.model().write(&file(folder, "other.safetensors"));
    json(folder, "replay m.safetensors --inputs first --out o --snapshot s.bpsn");
    let model = ["s.bpsn: model: expected the image", "give the model"];
    refused(folder, "snapshot apply other.safetensors s.bpsn --out x", 3, &model);
    refused(
        folder,
        "replay other.safetensors --inputs first --out x --restore s.bpsn",
        3,
        &model,
    );
    refused(
        folder,
        "snapshot apply m.safetensors s.bpsn --numeric f64 --out x",
        3,
        &["s.bpsn: numeric"],
    );
    refused(
        folder,
        "snapshot apply m.safetensors s.bpsn --numeric q15 --out x",
        3,
        &["s.bpsn: model"],
    );
    refused(folder, "snapshot extract s.bpsn --out x.safetensors", 2, &["--model MODEL"]);
    refused(folder, "snapshot show m.safetensors", 3, &["magic", "BPSN"]);
    refused(folder, "snapshot show none", 3, &["none: file"]);
    let mut bytes = std::fs::read(file(folder, "s.bpsn")).unwrap();
    bytes.truncate(80);
    std::fs::write(file(folder, "short"), &bytes).unwrap();
    refused(folder, "snapshot show short", 3, &["short: length", "80 bytes"]);
    std::fs::write(file(folder, "empty"), []).unwrap();
    refused(folder, "snapshot show empty", 3, &["empty: magic"]);
    assert!(!file(folder, "x").exists() && !file(folder, "x.safetensors").exists());
}
