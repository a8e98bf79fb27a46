//! Runs that are interrupted, killed or damaged, and go on or say why not.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use backpropamine_train::archive::{Archive, Tensor};
use backpropamine_train::config::Config;
use backpropamine_train::task::CueCourse;
use backpropamine_train::train::{Metrics, Trainer};

const FILES: [&str; 4] = ["config.toml", "metrics.jsonl", "model.safetensors", "state.safetensors"];

/// A run of a second or two, with a restart and all stages.
const SETTINGS: [&str; 9] = [
    "network.hidden=12",
    "network.rule=retroactive",
    "task.steps=60",
    "training.batch=8",
    "training.iterations=500",
    "curriculum.patience=40",
    "curriculum.restarts=1",
    "curriculum.window=5",
    "run.checkpoint_every=7",
];

fn train(out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backpropamine"));
    command.args(["train", "cue", "--quiet", "--out"]).arg(out);
    for setting in SETTINGS {
        command.args(["--set", setting]);
    }
    command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(mut command: Command) -> Output {
    command.output().unwrap()
}

fn assert_done(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

fn assert_refused(output: &Output, code: i32, parts: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is missing in {message}");
    }
}

fn assert_same_run(a: &Path, b: &Path) {
    for name in FILES {
        assert!(fs::read(a.join(name)).unwrap() == fs::read(b.join(name)).unwrap(), "{name} differs");
    }
}

fn iteration(out: &Path) -> u32 {
    let state = Archive::read(&out.join("state.safetensors"));
    state.map_or(0, |state| state.metadata["iteration"].parse().unwrap())
}

/// Waits until a run has made at least `iterations` and says whether it is still going on.
fn wait_for(child: &mut Child, out: &Path, iterations: u32) -> bool {
    while child.try_wait().unwrap().is_none() {
        if iteration(out) >= iterations {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Starts the run or goes on with it, and kills it (as `kill -9` does) a random while after it has made `iterations`.
/// Says whether it was still going on.
fn kill_after(out: &Path, iterations: u32) -> bool {
    let mut child = train(out, &["--resume"]).spawn().unwrap();
    wait_for(&mut child, out, iterations);
    std::thread::sleep(Duration::from_micros(RandomState::new().hash_one(0) % 20_000));
    let alive = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    alive
}

#[test]
fn a_run_that_is_killed_twenty_times_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, torn) = (folder.path().join("whole"), folder.path().join("torn"));
    assert_done(&run(train(&whole, &[])));
    let all = iteration(&whole);
    // Every fourth at once after its start, which may be before it has read its checkpoint.
    let moments = (0..20).map(|kill| if kill % 4 == 3 { 0 } else { all * kill / 26 });
    let kills = moments.filter(|&iterations| kill_after(&torn, iterations)).count();
    assert_eq!(kills, 20, "the run was too short to be killed so often");
    assert_done(&run(train(&torn, &["--resume"])));
    assert_same_run(&whole, &torn);
    let metrics = fs::read_to_string(whole.join("metrics.jsonl")).unwrap();
    for (number, line) in metrics.lines().enumerate() {
        assert!(line.starts_with(&format!("{{\"iteration\":{number},")), "{line}");
    }
    let temporary = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(".backpropamine-");
    let left = fs::read_dir(&whole).unwrap().flatten().filter(temporary).count();
    assert_eq!(left, 0, "temporary files of a run that was not killed");
    // Resuming what has ended changes nothing.
    assert_done(&run(train(&torn, &["--resume"])));
    assert_same_run(&whole, &torn);
}

#[cfg(unix)]
#[test]
fn seeds_side_by_side_leave_the_files_of_runs_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let short = ["--set", "training.iterations=20", "--set", "curriculum.cues=[]"];
    let together = folder.path().join("together");
    let mut command = train(&together, &short);
    command.args(["--seed", "4,6-7"]).env("RAYON_NUM_THREADS", "2");
    assert_done(&run(command));
    for seed in ["4", "6", "7"] {
        let alone = folder.path().join(seed);
        let mut command = train(&alone, &short);
        assert_done(&run({
            command.args(["--seed", seed]);
            command
        }));
        assert_same_run(&together.join(format!("seed-{seed}")), &alone);
    }
}

#[cfg(target_os = "linux")]
fn send(signal: &str, child: &Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
}

/// Ctrl-C, a termination, and the end of the terminal.
#[cfg(target_os = "linux")]
#[test]
fn signals_save_and_say_130() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    assert_done(&run(train(&whole, &[])));
    for signal in ["-INT", "-TERM", "-HUP"] {
        let broken = folder.path().join(signal);
        let inner = train(&broken, &[]);
        // The tests themselves may run with a signal ignored, as under `nohup`, which a child inherits.
        let mut command = Command::new("env");
        command.args(["--default-signal"]).arg(inner.get_program()).args(inner.get_args());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        assert!(wait_for(&mut child, &broken, 20));
        send(signal, &child);
        assert_refused(&child.wait_with_output().unwrap(), 130, &["interrupted"]);
        let metrics = fs::read_to_string(broken.join("metrics.jsonl")).unwrap();
        let lines = metrics.lines().count() as u32;
        assert_eq!(lines, iteration(&broken), "{signal}: nothing that was computed is lost");
        assert_done(&run(train(&broken, &["--resume"])));
        assert_same_run(&whole, &broken);
    }
}

/// Under `nohup`, the run does not even stop.
#[cfg(target_os = "linux")]
#[test]
fn a_terminal_that_closes_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, mute, ignoring] = ["whole", "mute", "ignoring"].map(|name| folder.path().join(name));
    assert_done(&run(train(&whole, &[])));
    // Nobody reads its lines any more.
    let mut command = train(&mute, &[]);
    let quiet = command.get_args().position(|argument| argument == "--quiet");
    assert!(quiet.is_some());
    let loud: Vec<_> = command
        .get_args()
        .filter(|argument| *argument != "--quiet")
        .map(ToOwned::to_owned)
        .collect();
    command = Command::new(command.get_program());
    let mut child = command.args(&loud).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_same_run(&whole, &mute);

    let inner = train(&ignoring, &[]);
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' HUP; exec \"$0\" \"$@\""])
        .arg(inner.get_program())
        .args(inner.get_args());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    assert!(wait_for(&mut child, &ignoring, 20));
    send("-HUP", &child);
    assert_done(&child.wait_with_output().unwrap());
    assert_same_run(&whole, &ignoring);
}

#[test]
fn one_thread_and_two_leave_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let outs = ["1", "2"].map(|threads| {
        let out = folder.path().join(threads);
        let mut command = train(&out, &[]);
        command.env("RAYON_NUM_THREADS", threads);
        assert_done(&run(command));
        out
    });
    assert_same_run(&outs[0], &outs[1]);
}

/// Its files are then from the future.
#[test]
fn a_clock_that_is_set_back_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, early) = (folder.path().join("whole"), folder.path().join("early"));
    assert_done(&run(train(&whole, &[])));
    assert!(kill_after(&early, 100));
    let year = Duration::from_secs(365 * 24 * 3600);
    for entry in fs::read_dir(&early).unwrap().flatten() {
        let file = fs::File::options().write(true).open(entry.path()).unwrap();
        file.set_modified(SystemTime::now() + year).unwrap();
    }
    assert_done(&run(train(&early, &["--resume"])));
    assert_same_run(&whole, &early);
}

/// A disk that is full after a while, by a limit on the size of files that the metrics reach.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_keeps_the_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, full) = (folder.path().join("whole"), folder.path().join("full"));
    assert_done(&run(train(&whole, &[])));
    let size = |name: &str| fs::metadata(whole.join(name)).unwrap().len();
    let limit = size("metrics.jsonl") / 2;
    assert!(size("state.safetensors") < limit, "the metrics are to fail first");
    let inner = train(&full, &[]);
    let mut command = Command::new("sh");
    let script = format!("ulimit -f {}; exec \"$0\" \"$@\"", limit / 512);
    command.args(["-c", &script]).arg(inner.get_program()).args(inner.get_args());
    assert_refused(&run(command), 1, &["metrics.jsonl", "File too large", "room"]);
    assert!(iteration(&full) > 0 && iteration(&full) < iteration(&whole));
    assert_done(&run(train(&full, &["--resume"])));
    assert_same_run(&whole, &full);
}

/// Trains with these settings twice, once through a checkpoint at every iteration; returns the metrics, which are the same.
fn resumed_at_every_iteration(more: &[&str]) -> Vec<Metrics> {
    let settings: Vec<_> = SETTINGS.iter().chain(more).map(ToString::to_string).collect();
    let config = Config::load("cue-small", &settings).unwrap();
    let course = || CueCourse::new(&config).unwrap();
    let mut straight = Trainer::new(config.clone(), course()).unwrap();
    let mut resumed = Trainer::new(config.clone(), course()).unwrap();
    let mut metrics = Vec::new();
    while !straight.finished() {
        metrics.push(straight.iterate().unwrap());
        assert_eq!(resumed.iterate().unwrap(), *metrics.last().unwrap());
        let bytes = resumed.state().unwrap().to_bytes().unwrap();
        assert_eq!(bytes, straight.state().unwrap().to_bytes().unwrap());
        let state = Archive::from_bytes(&bytes, "state".as_ref()).unwrap();
        resumed = Trainer::restore(straight.config().clone(), course(), &state, "state".as_ref()).unwrap();
    }
    metrics
}

#[test]
fn every_iteration_can_be_resumed_from() {
    let metrics = resumed_at_every_iteration(&["training.iterations=4", "curriculum.patience=4"]);
    assert_eq!(metrics.len(), 12);
}

/// With a limit on the norm that every second gradient passes, so that there are roll-backs all the time.
#[test]
fn roll_backs_can_be_resumed_from() {
    let short = ["training.iterations=40", "curriculum.cues=[]"];
    let mut norms: Vec<f64> = resumed_at_every_iteration(&short).iter().map(|metrics| metrics.norm).collect();
    norms.sort_by(f64::total_cmp);
    let limit = format!("training.norm_skip={}", norms[norms.len() / 2]);
    let strict = [limit.as_str(), "training.rollback_after=2", "training.rollback_every=2"];
    let metrics = resumed_at_every_iteration(&[&short[..], &strict].concat());
    let rolled_back = metrics.last().unwrap().rolled_back;
    assert!(rolled_back >= 3, "{rolled_back}");
}

/// With a probation that no attempt passes, so that one of them comes back from the shelf or the last goes on.
#[test]
fn probations_can_be_resumed_from() {
    let metrics = resumed_at_every_iteration(&[
        "training.iterations=12",
        "curriculum.cues=[]",
        "curriculum.restarts=3",
        "curriculum.probation=5",
        "curriculum.probation_score=1.0",
    ]);
    let ends: Vec<u32> = metrics
        .windows(2)
        .filter(|two| two[0].attempt < two[1].attempt)
        .map(|two| two[0].iteration)
        .collect();
    assert_eq!(ends, [4, 9, 14]);
    assert_eq!(
        metrics.len(),
        4 * 5 + 7,
        "the last attempt or the recalled one has the rest of the updates"
    );
}

/// A short finished run to damage.
fn short_run(folder: &Path) -> std::path::PathBuf {
    let out = folder.join("run");
    assert_done(&run(train(
        &out,
        &["--set", "training.iterations=3", "--set", "curriculum.cues=[]"],
    )));
    out
}

fn resume(out: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backpropamine"));
    command.args(["train", "cue", "--quiet", "--resume", "--out"]).arg(out);
    run(command)
}

#[test]
fn a_folder_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = short_run(folder.path());
    let before = fs::read(out.join("state.safetensors")).unwrap();
    assert_refused(&run(train(&out, &[])), 2, &["not empty", "--resume"]);
    assert_refused(
        &run(train(&out, &["--resume"])),
        2,
        &["config.toml", "iterations = 3", "iterations = 500"],
    );
    assert_eq!(fs::read(out.join("state.safetensors")).unwrap(), before);
    assert_done(&resume(&out));
}

#[test]
fn damaged_checkpoints_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let out = short_run(folder.path());
    let state = out.join("state.safetensors");
    let good = fs::read(&state).unwrap();
    let archive = Archive::from_bytes(&good, &state).unwrap();
    let with = |change: &dyn Fn(&mut Archive)| {
        let mut changed = archive.clone();
        change(&mut changed);
        changed.to_bytes().unwrap()
    };
    let name = "adam.first.policy.bias";
    let cases: [(Vec<u8>, &[&str]); 7] = [
        (good[..good.len() - 1].to_vec(), &["state.safetensors", "data"]),
        (good[..100].to_vec(), &["state.safetensors", "header"]),
        (
            with(&|a| drop(a.tensors.remove("model.policy.bias"))),
            &["model.policy.bias", "none"],
        ),
        (
            with(&|a| drop(a.tensors.insert(name.into(), Tensor::from_f32(&[2], &[0.0, f32::NAN])))),
            &[name, "NaN"],
        ),
        (
            with(&|a| drop(a.tensors.insert(name.into(), Tensor::from_f32(&[3], &[0.0; 3])))),
            &[name, "[3]"],
        ),
        (
            with(&|a| drop(a.tensors.insert("odd".into(), Tensor::from_f32(&[1], &[0.0])))),
            &["tensors"],
        ),
        (
            with(&|a| drop(a.metadata.insert("format".into(), "backpropamine-state/9".into()))),
            &["format", "state/9"],
        ),
    ];
    for (bytes, parts) in cases {
        fs::write(&state, &bytes).unwrap();
        assert_refused(&resume(&out), 3, parts);
        assert_eq!(fs::read(&state).unwrap(), bytes, "a refused file is left alone");
    }
    fs::write(&state, &good).unwrap();
    fs::write(out.join("metrics.jsonl"), "").unwrap();
    assert_refused(&resume(&out), 3, &["metrics.jsonl", "lines"]);
    fs::remove_file(&state).unwrap();
    let network = fs::read(out.join("model.safetensors")).unwrap();
    assert_refused(&resume(&out), 3, &["state.safetensors", "checkpoint", "model.safetensors"]);
    assert_eq!(fs::read(out.join("model.safetensors")).unwrap(), network);
}

#[test]
fn what_a_killed_run_left_behind_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let out = short_run(folder.path());
    fs::write(out.join(".backpropamine-x1.tmp"), "half").unwrap();
    assert_done(&resume(&out));
    assert!(!out.join(".backpropamine-x1.tmp").exists());
}

/// As on a full disk: the write that goes too far fails, and nothing half-written stays.
#[cfg(target_os = "linux")]
#[test]
fn a_limit_on_file_sizes_is_an_error_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 8; exec \"$0\" train cue --quiet --out \"$1\""]);
    let output = run({
        command.arg(env!("CARGO_BIN_EXE_backpropamine")).arg(&out);
        command
    });
    assert_refused(&output, 1, &["state.safetensors", "File too large", "room"]);
    let temporary = |entry: fs::DirEntry| entry.file_name().to_string_lossy().ends_with(".tmp");
    assert!(!fs::read_dir(&out).unwrap().flatten().any(temporary));
}

#[test]
fn wrong_settings_and_files_end_with_their_codes() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let preset = folder.path().join("mine.toml");
    fs::write(&preset, "[training]\nlearning_rat = 0.1\n").unwrap();
    let preset = preset.to_str().unwrap();
    assert_refused(
        &run(train(&out, &["--preset", preset])),
        3,
        &["mine.toml", "training.learning_rat", "learning_rate"],
    );
    assert_refused(&run(train(&out, &["--set", "training.bach=3"])), 2, &["training.batch"]);
    assert_refused(&run(train(&out, &["--seed", "1000000"])), 2, &["run.seed"]);
    assert_refused(&run(train(&out, &["--device", "cuda:999"])), 4, &["--device cpu"]);
    assert_refused(&run(train(&out, &["--set", "task.bits=1"])), 2, &["bits"]);
    assert_refused(&run(train(&out, &["--set", "network.modulators=2"])), 2, &["fan_out"]);
    assert!(!out.exists(), "nothing is made for a run that cannot be");
}
