//! `monitor` on an emulated board and, with a stand-in for the probe, on a real one: what it shows, what it records.
//!
//! Needs the Cortex-M targets and QEMU; `cargo bpam setup --yes` installs both.

#[cfg(unix)]
#[path = "common/probe.rs"]
mod probe;

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use backpropamine::lifetime::EVALUATION_SEED;
use backpropamine_train::device::record::{self, Birth, Health, Record, Step};
use backpropamine_train::device::recording::Recording;
use backpropamine_train::runnable::Choice;
#[cfg(unix)]
use probe::{path_with, stand_in};
use serde_json::Value;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_backpropamine");

fn command(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(BINARY);
    let word = std::env::var("BPAM_TOOLCHAIN").unwrap_or_else(|_| "auto".into());
    let firmware = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware");
    command
        .current_dir(folder)
        .args(arguments.split_whitespace())
        .args(["--toolchain", &word, "--firmware"])
        .arg(firmware);
    command
}

/// Two lifetimes of the firmware's own cue network on the default board: what was printed, the recording, and its folder.
static CUE: LazyLock<(String, Recording, TempDir)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let output = command(folder.path(), "monitor cue --lifetimes 2 --out run.jsonl")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let recording = Recording::load(&folder.path().join("run.jsonl")).unwrap();
    (String::from_utf8(output.stdout).unwrap(), recording, folder)
});

/// `plot` in a folder, which needs no firmware.
fn plot(folder: &Path, arguments: &str) -> Output {
    let mut command = Command::new(BINARY);
    command
        .current_dir(folder)
        .arg("plot")
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

fn steps(recording: &Recording) -> Vec<Step> {
    record::steps(&recording.records).copied().collect()
}

fn healths(recording: &Recording) -> Vec<Health> {
    let health = |record: &Record| match record {
        Record::Health(health) => Some(*health),
        _ => None,
    };
    recording.records.iter().filter_map(health).collect()
}

#[test]
fn every_step_of_every_lifetime_is_recorded_and_is_the_hosts() {
    let (_, recording, _) = &*CUE;
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware/weights/cue-simple.bpam");
    let network = Choice::default().open(&own, None).unwrap();
    let host = record::on_host(&network, recording.task, 2).unwrap();
    let steps = steps(recording);
    assert_eq!(steps.len(), 240);
    let first: Vec<_> = steps[..120].iter().map(|step| Step { ticks: None, ..*step }).collect();
    assert!(record::steps(&host).eq(&first), "the first lifetime");
    assert!(record::trials(&recording.records).eq(record::trials(&host)));
    assert_eq!(recording.records.last(), host.last());
    let births = recording.records.iter().filter(|record| matches!(record, Record::Birth(_)));
    let born = |lifetime: u32| {
        Record::Birth(Birth {
            lifetime,
            seed: EVALUATION_SEED + u64::from(lifetime),
        })
    };
    assert!(births.eq(&[born(0), born(1)]));
}

#[test]
fn health_and_time_are_in_the_telemetry() {
    let (_, recording, _) = &*CUE;
    let (healths, steps) = (healths(recording), steps(recording));
    for health in &healths {
        let traces: u32 = health.histogram.iter().sum();
        assert_eq!(traces, 48 * 48, "each trace of 48 neurons is in one part");
        let modulators = || {
            steps
                .iter()
                .filter(|step| step.lifetime == health.lifetime && step.step <= health.step)
        };
        let mean = modulators().map(|step| f64::from(step.m.abs())).sum::<f64>() / f64::from(health.step + 1);
        assert!((mean - f64::from(health.modulator_mean)).abs() < 1e-4, "{health:?}");
        let rewards = modulators().fold(0.0, |average, step| average + (step.reward - average) / 64.0);
        assert!((rewards - health.reward_average).abs() < 1e-5, "{health:?}");
    }
    assert_eq!(
        healths.iter().filter(|health| health.step == 119).count(),
        2,
        "one at the end of each lifetime"
    );
    // q15 with 48 neurons, simple: about 9 instructions a synapse with all that is around them.
    let counted = steps.iter().filter(|step| step.ticks != Some(0) && step.step > 0);
    let each: Vec<_> = counted
        .map(|step| f64::from(step.ticks.unwrap()) * recording.head.per_tick)
        .collect();
    assert!(
        each.len() > 100 && each.iter().all(|count| (20_000.0..21_500.0).contains(count)),
        "{each:?}"
    );
}

#[test]
fn without_a_terminal_there_is_a_line_for_every_trial_and_lifetime() {
    let (text, recording, _) = &*CUE;
    let lines = |part: &str| text.lines().filter(|line| line.contains(part)).count();
    assert_eq!(lines("  response "), record::trials(&recording.records).count());
    assert_eq!(lines("  reward average "), 2);
    assert!(text.contains("the host computes the same, bit for bit"), "{text}");
    assert!(!text.contains('\x1b'), "no control sequences");
}

#[test]
fn json_is_one_object_and_the_maze_reports_hits() {
    let folder = tempfile::tempdir().unwrap();
    let output = command(folder.path(), "--json monitor maze --lifetimes 1 --board microbit")
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["equal_to_host"], &report["unit"]), (&true.into(), &"instructions".into()));
    assert!(
        report["trials"].as_u64().unwrap() > 10 && report["per_step"].as_f64().unwrap() > 10_000.0,
        "{report}"
    );
}

#[test]
fn a_task_that_is_not_the_models_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware/weights/cue-simple.bpam");
    let output = command(folder.path(), "monitor maze").arg("--model").arg(model).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("was trained for the task cue"));
}

/// Waits until the child's output has `part`; returns all of it so far.
fn wait_for(child: &mut Child, part: &str) -> String {
    let start = Instant::now();
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    while start.elapsed() < Duration::from_secs(300) {
        let length = child.stdout.as_mut().unwrap().read(&mut buffer).unwrap();
        seen.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&seen);
        if text.contains(part) {
            return text.into_owned();
        }
        assert!(length > 0, "it ended without {part:?}");
    }
    panic!("{part:?} never came");
}

/// On a terminal (of `script`, which every Debian has), the view ends by the key, cleanly, and the file has what came so far.
#[test]
fn ctrl_c_restores_the_terminal_and_keeps_the_recording() {
    let folder = tempfile::tempdir().unwrap();
    let live = command(folder.path(), "monitor maze --lifetimes 5 --speed 50 --out run.jsonl");
    let words: Vec<_> = std::iter::once(live.get_program())
        .chain(live.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    let mut child = Command::new("script")
        .args(["-qefc", &format!("stty rows 30 cols 100; {}", words.join(" ")), "/dev/null"])
        .current_dir(folder.path())
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (enter, leave) = ("\x1b[?1049h", "\x1b[?1049l");
    wait_for(&mut child, enter);
    wait_for(&mut child, "seed");
    child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    wait_for(&mut child, leave);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let recording = Recording::load(&folder.path().join("run.jsonl")).unwrap();
    assert!(!recording.records.is_empty() && record::summary(&recording.records).is_err());
}

#[cfg(unix)]
fn on_board(folder: &Path) -> Output {
    command(folder, "monitor cue --board nrf52840 --out run.jsonl")
        .env("PATH", path_with(folder))
        .output()
        .unwrap()
}

#[cfg(unix)]
#[test]
fn a_real_boards_report_comes_through_the_probe() {
    let folder = tempfile::tempdir().unwrap();
    let (_, recording, _) = &*CUE;
    let lines: Vec<_> = recording
        .records
        .iter()
        .take(40)
        .map(|record| serde_json::to_string(record).unwrap())
        .collect();
    std::fs::write(folder.path().join("said"), lines.join("\n") + "\n").unwrap();
    stand_in(folder.path(), "cat said; echo hello from the board", 0);
    let output = on_board(folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let asked = std::fs::read_to_string(folder.path().join("asked")).unwrap();
    assert!(asked.starts_with("run --chip nRF52840_xxAA --log-format {s} "), "{asked}");
    let heard = Recording::load(&folder.path().join("run.jsonl")).unwrap();
    assert_eq!(heard.records[..], recording.records[..40]);
    assert_eq!((heard.head.unit.as_str(), heard.head.per_tick), ("cycles", 1.0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("hello from the board") && text.contains("  response "), "{text}");

    stand_in(folder.path(), "echo no probe was found >&2", 1);
    let output = on_board(folder.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no probe was found"));
    assert_eq!(
        Recording::load(&folder.path().join("run.jsonl")).unwrap(),
        heard,
        "a failure leaves the file alone"
    );
}

/// Figure 3 of the paper: the modulator beside the reward that the network perceives and the cue that it sees.
#[test]
fn figure_3_is_drawn_from_a_real_lifetime_with_its_numbers_beside_it() {
    let (_, recording, folder) = &*CUE;
    let folder = folder.path();
    let output = plot(folder, "run.jsonl --lifetime 1 --out figure.svg --json");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["numbers"], &report["recordings"][0]["steps"]),
        (&"figure.numbers.jsonl".into(), &120.into())
    );
    let text = std::fs::read_to_string(folder.join("figure.numbers.jsonl")).unwrap();
    let points: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps: Vec<_> = steps(recording).into_iter().filter(|step| step.lifetime == 1).collect();
    assert_eq!(points.len(), steps.len());
    let number = |point: &Value, key: &str| point[key].as_f64().unwrap() as f32;
    let mut perceived = 0.0;
    for (point, step) in points.iter().zip(&steps) {
        assert_eq!(
            (number(point, "m"), number(point, "reward")),
            (step.m, perceived),
            "step {}",
            step.step
        );
        perceived = step.reward;
        assert_eq!(point["go"] == true, step.reward != 0.0, "an answer is paid, and nothing else");
    }
    let cues: std::collections::BTreeSet<_> = points.iter().filter_map(|point| point["cue"].as_u64()).collect();
    assert_eq!(cues, [0, 1, 2, 3].into());
    let health = *healths(recording).last().unwrap();
    assert_eq!(number(&points[119], "trace_mean"), health.trace_mean);
    let svg = std::fs::read_to_string(folder.join("figure.svg")).unwrap();
    for part in ["M(t)", "reward", "mean |H|", "run: simple, q15, lifetime 1"] {
        assert!(svg.contains(part), "{part}");
    }

    let trial = plot(folder, "run.jsonl --trial 2 --out trial.svg --json");
    let report: Value = serde_json::from_slice(&trial.stdout).unwrap();
    let ends: Vec<_> = record::trials(&recording.records).map(|trial| trial.step).collect();
    assert_eq!(report["recordings"][0]["steps"], ends[2] - ends[1] + 1);
    assert_eq!(plot(folder, "run.jsonl --lifetime 9").status.code(), Some(2), "there is none");
}

#[test]
fn a_bad_line_of_a_recording_is_named() {
    let (_, _, folder) = &*CUE;
    let good = std::fs::read_to_string(folder.path().join("run.jsonl")).unwrap();
    let desk = tempfile::tempdir().unwrap();
    let fails = |text: &str, part: &str| {
        std::fs::write(desk.path().join("bad.jsonl"), text).unwrap();
        let output = plot(desk.path(), "bad.jsonl");
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{message}");
        assert!(message.contains(part), "{message}");
        assert!(!desk.path().join("activity.svg").exists());
    };
    let fifth = good.lines().nth(4).unwrap();
    fails(
        &good.replacen(fifth, &fifth[..fifth.len() / 2], 1),
        "bad.jsonl: line 5: expected a record",
    );
    fails(&good.replacen(fifth, "{\"leap\":{}}", 1), "line 5");
    fails(
        &good.replacen("\"format\":1", "\"format\":2", 1),
        "line 1: expected format 1, found 2",
    );
    fails(&good.replacen("name = ", "nome = ", 1), "line 1: expected a task");
    fails(&good.lines().skip(1).collect::<Vec<_>>().join("\n"), "line 1");
    fails("", "line 1");
}
