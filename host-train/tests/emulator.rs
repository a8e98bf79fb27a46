//! The firmware on emulated boards: the same bits as the host, no panic path, failures that show.
//!
//! Needs the Cortex-M targets and QEMU; `cargo bpam setup --yes` installs both.

use std::path::{Path, PathBuf};
use std::time::Duration;

use backpropamine::image::{Header, Section, seal};
use backpropamine::lifetime::EVALUATION_SEED;
use backpropamine::policy::Policy;
use backpropamine::rng::{Rng, Stream};
use backpropamine::rule::Rule;
use backpropamine::task::{cue, maze};
use backpropamine_train::bench::device::CORTEX_M0;
use backpropamine_train::cli::NumericArg;
use backpropamine_train::config::Config;
use backpropamine_train::device::board::{BOARDS, Board};
use backpropamine_train::device::emulate::{ImageForBuild, Run};
use backpropamine_train::device::emulator::{self, Options};
use backpropamine_train::device::firmware::Recipe;
use backpropamine_train::device::record::{self, Record};
use backpropamine_train::eval::evaluate;
use backpropamine_train::rollout::Single;
use backpropamine_train::runnable::{Choice, Runnable};
use backpropamine_train::size::{cue_image, linked_sections};
use backpropamine_train::task::TaskConfig;
use backpropamine_train::train::Trainer;
use firmware::FIRMWARE;
use serde_json::Value;

#[path = "common/firmware.rs"]
mod firmware;
#[path = "../../firmware/src/odd.rs"]
mod odd;
#[path = "../examples/own_task/task.rs"]
mod panel;

/// One board for every processor core: M4, M3, M0, M33.
const CORES: [&str; 4] = ["mps2-an386", "mps2-an385", "microbit", "mps2-an505"];

fn board(name: &str) -> &'static Board {
    Board::named(name).expect("a board of the table")
}

fn golden(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(file)
}

fn network(name: &str) -> Runnable {
    Choice::default().open(&golden(&format!("{name}.bpam")), None).unwrap()
}

/// Every line that a program reports.
fn lines(recipe: &Recipe, options: Options) -> anyhow::Result<Vec<String>> {
    let elf = FIRMWARE.build(recipe)?;
    let mut lines = Vec::new();
    emulator::run(&elf, recipe.board, options, |line| {
        lines.push(line.to_owned());
        Ok(())
    })?;
    Ok(lines)
}

#[test]
fn golden_digests_are_equal_on_every_core() {
    let digests = std::fs::read_to_string(golden("digests.txt")).unwrap();
    let expected: Vec<_> = digests.lines().chain(["end"]).collect();
    for core in CORES {
        assert_eq!(
            lines(&Recipe::new("golden", board(core)), Options::default()).unwrap(),
            expected,
            "{core}"
        );
    }
}

/// The kernels of a processor, where it has its own, are the portable ones bit for bit; so are the portable ones everywhere.
#[test]
fn odd_networks_are_equal_on_every_core_with_the_room() {
    let mut expected = Vec::new();
    let (mut image, mut memory) = (vec![0; odd::IMAGE_WORDS], vec![0; odd::MEMORY_WORDS]);
    let report = |numeric, rule, hidden, digest| expected.push(format!("odd {numeric} {rule} {hidden} {digest:016x}"));
    odd::digests(&mut image, &mut memory, report).unwrap();
    expected.push("end".into());
    // A Cortex-M0's own boards are too small: its code runs on the Cortex-M3's.
    for core in ["mps2-an386", "mps2-an500", "mps2-an385", "mps2-an505"]
        .map(board)
        .into_iter()
        .chain([&CORTEX_M0])
    {
        assert_eq!(
            lines(&Recipe::new("odd", core), Options::default()).unwrap(),
            expected,
            "{}",
            core.cpu
        );
    }
}

/// Also on the memory of a real board, the STM32F405's, at its own addresses.
#[test]
fn embedded_lifetimes_are_the_hosts_record_for_record() {
    for core in CORES.into_iter().chain(["netduinoplus2"]) {
        for name in ["simple-f32", "retroactive-q15", "retroactive-q7"] {
            let network = network(name);
            let run = Run {
                network: &network,
                task: TaskConfig::Cue(cue::Config::default()),
                lifetimes: 2,
            };
            let device = run.on_board(&FIRMWARE, board(core), |_| {}).unwrap();
            let host = record::on_host(&network, run.task, run.lifetimes).unwrap();
            assert_eq!(record::first_difference(&device, &host), None, "{name} on {core}");
        }
    }
}

#[test]
fn the_options_of_the_task_reach_the_device() {
    let network = network("simple-q15");
    let task = cue::Config {
        cues: 3,
        steps: 77,
        flip: 0.25,
        time_input: false,
        ..cue::Config::default()
    };
    let run = Run {
        network: &network,
        task: TaskConfig::Cue(task),
        lifetimes: 3,
    };
    let device = run.on_board(&FIRMWARE, Board::DEFAULT, |_| {}).unwrap();
    assert_eq!(device, record::on_host(&network, run.task, 3).unwrap());
}

/// The committed network, pictures of the first lifetime included, in both arithmetics and on a maze of other options.
#[test]
fn the_maze_is_the_hosts_record_for_record() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware/weights/maze-simple.safetensors");
    let trained = maze::Config {
        size: 9,
        reward: 1.0,
        ..maze::Config::default()
    };
    let other = maze::Config {
        size: 13,
        steps: 120,
        wall_penalty: 0.25,
        start: maze::Start::Random,
        goal_moves_every: 50,
        time_input: false,
        ..trained
    };
    for (numeric, task, core) in [
        (NumericArg::F32, trained, "mps2-an386"),
        (NumericArg::Q15, trained, "microbit"),
        (NumericArg::Q15, other, "mps2-an386"),
    ] {
        let choice = Choice {
            numeric: Some(numeric),
            input_range: None,
        };
        let network = choice.open(&model, None).unwrap();
        let run = Run {
            network: &network,
            task: TaskConfig::Maze(task),
            lifetimes: 3,
        };
        let device = run.on_board(&FIRMWARE, board(core), |_| {}).unwrap();
        let host = record::on_host(&network, run.task, 3).unwrap();
        assert_eq!(record::first_difference(&device, &host), None, "{numeric} on {core}");
        let pictures = device.iter().filter(|record| matches!(record, Record::Picture(_))).count();
        assert!(pictures > 1, "a trained network hits the goal");
    }
}

/// What the example `own_task` shows with a trained network, here with an untrained one.
#[test]
fn a_task_from_outside_the_core_runs_on_the_device() {
    let make = || panel::Panel::new(Rng::new(0).lifetime(Stream::Task, 0));
    let course = Single {
        name: "panel".into(),
        make,
    };
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("panel.safetensors");
    Trainer::new(Config::default(), course).unwrap().model().save(&model).unwrap();
    let choice = Choice {
        numeric: Some(NumericArg::Q15),
        input_range: Some(1.0),
    };
    let network = choice.open(&model, None).unwrap();
    let host = evaluate(&network, make, Policy::Sample, EVALUATION_SEED, 20).unwrap();
    let expected: Vec<_> = host.lives.iter().map(|life| format!("{:016x}", life.digest)).collect();
    let image = ImageForBuild::new(&network).unwrap();
    let recipe = Recipe {
        image: Some(image.path()),
        ..Recipe::new("own_task", Board::DEFAULT)
    };
    assert_eq!(lines(&recipe, Options::default()).unwrap(), expected);
}

#[test]
fn steps_and_loader_cannot_panic_on_any_core() {
    for core in CORES {
        for name in ["masked-f32", "simple-q15"] {
            let image = golden(&format!("{name}.bpam"));
            let recipe = Recipe {
                image: Some(&image),
                ..Recipe::new("nopanic", board(core))
            };
            FIRMWARE.build(&recipe).unwrap();
        }
    }
}

/// The proof above is worth something only if it can fail.
#[test]
fn one_panic_path_does_not_link() {
    let recipe = Recipe {
        features: Some("semihosting,sabotage"),
        ..Recipe::new("nopanic", Board::DEFAULT)
    };
    let error = FIRMWARE.build(&recipe).unwrap_err().to_string();
    assert!(error.contains("undefined symbol: a_panic_path_survives"), "{error}");
}

/// The table of stack sizes in `firmware/BENCHMARKS.md`: what it says is enough, and no more than a quarter too much.
#[test]
fn the_stack_is_as_documented_on_every_emulated_board() {
    let document = include_str!("../../firmware/BENCHMARKS.md");
    let rows: Vec<[&str; 5]> = document.lines().filter_map(stack_row).collect();
    let emulated = BOARDS.iter().filter(|board| board.is_emulated()).count();
    assert_eq!(rows.len(), 3 * emulated, "a row for every emulated board and arithmetic");
    let mut wrong = Vec::new();
    for [name, numeric, documented @ ..] in rows {
        let image = golden(&format!("masked-{numeric}.bpam"));
        let recipe = Recipe {
            image: Some(&image),
            ..Recipe::new("stack", board(name))
        };
        let painted = lines(&recipe, Options::default()).unwrap().concat();
        let painted: Value = serde_json::from_str(&painted).unwrap();
        for (what, documented) in ["load", "step", "lifetime"].into_iter().zip(documented) {
            let (found, documented) = (painted[what].as_u64().unwrap(), documented.parse().unwrap());
            if !(found..=found + found / 4).contains(&documented) {
                wrong.push(format!("{name} {numeric} {what}: {found} bytes, documented {documented}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `| mps2-an386 | q15 | 500 | 700 | 1000 |`: a line of that table, any other line not.
fn stack_row(line: &str) -> Option<[&str; 5]> {
    let cells: Vec<_> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
    let row: [&str; 5] = cells.try_into().ok()?;
    (Board::named(row[0])?.is_emulated() && ["f32", "q15", "q7"].contains(&row[1])).then_some(row)
}

#[test]
fn a_failing_firmware_fails_the_run() {
    let recipe = Recipe {
        variables: vec![("BPAM_CUES", "1".into())],
        ..Recipe::new("cue", Board::DEFAULT)
    };
    let error = lines(&recipe, Options::default()).unwrap_err().to_string();
    assert!(error.contains("exit status: 2"), "{error}");
}

#[test]
fn a_run_that_takes_too_long_is_ended() {
    let recipe = Recipe {
        variables: vec![("BPAM_LIFETIMES", "100000".into())],
        ..Recipe::new("cue", Board::DEFAULT)
    };
    let options = Options {
        limit: Duration::from_secs(2),
        ..Options::default()
    };
    let error = lines(&recipe, options).unwrap_err().to_string();
    assert!(error.contains("did not end within 2 s"), "{error}");
}

/// Ticks of every measured step of a network whose neurons are silent without input, in each case of the firmware's `constant`.
fn ticks_by_case(core: &str, numeric: &str, rule: Rule, features: Option<&'static str>) -> Vec<(String, Vec<u64>)> {
    let mut words = cue_image(numeric, rule, 20).unwrap();
    let header = Header::parse(&words).unwrap();
    let start = header.section_start(Section::InputBias);
    words[start..start + header.section_words(Section::InputBias)].fill(0);
    seal(&mut words);
    let image = tempfile::NamedTempFile::with_suffix(".bpam").unwrap();
    std::fs::write(image.path(), words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    let recipe = Recipe {
        image: Some(image.path()),
        features,
        ..Recipe::new("constant", board(core))
    };
    let options = Options {
        icount_shift: Some(10),
        ..Options::default()
    };
    let case = |line: &String| {
        let report: Value = serde_json::from_str(line).unwrap();
        let ticks = report["ticks"].as_array().unwrap().iter().map(|ticks| ticks.as_u64().unwrap());
        (report["case"].as_str().unwrap().to_owned(), ticks.collect())
    };
    lines(&recipe, options).unwrap().iter().map(case).collect()
}

/// At 2^10 ns an instruction takes 25.6 ticks, so that one more or less cannot hide.
#[test]
fn steps_in_constant_time_take_the_same_instructions_whatever_the_data() {
    for core in ["mps2-an386", "mps2-an385"] {
        for (numeric, rule) in [
            ("q15", Rule::Modulated),
            ("q15", Rule::Retroactive),
            ("q7", Rule::Modulated),
            ("q7", Rule::Retroactive),
        ] {
            let cases = ticks_by_case(core, numeric, rule, Some("semihosting,constant-time"));
            assert_eq!(cases.len(), 5);
            let first = cases[0].1[0];
            let constant = cases.iter().all(|(_, ticks)| ticks.iter().all(|ticks| ticks.abs_diff(first) < 13));
            assert!(constant, "{core} {numeric} {rule:?}: {cases:?}");
        }
    }
    let cases = ticks_by_case("mps2-an386", "q15", Rule::Modulated, None);
    assert!(
        cases[0].1[7] + 1000 < cases[1].1[7],
        "rows are left out unless asked otherwise: {cases:?}"
    );
}

/// No such board is here, so this is all that can be shown of them; `firmware/src/taught.rs` has tests of their logic.
#[test]
fn the_real_boards_firmware_builds_and_fits() {
    for name in ["nrf52840", "stm32f4", "rp2040"] {
        let board = board(name);
        let recipe = Recipe {
            features: Some(name),
            ..Recipe::new(name, board)
        };
        let (flash, ram) = linked_sections(&FIRMWARE.build(&recipe).unwrap().bytes).unwrap();
        assert!(flash < board.flash as usize && ram < board.ram as usize, "{name}: {flash}, {ram}");
    }
}
