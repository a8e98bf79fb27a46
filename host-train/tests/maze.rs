//! The maze from training to its report, and the wrong ways to ask for it.

use std::process::{Command, Output};

use backpropamine::task::maze::players::Player;
use backpropamine::task::{Task, maze};
use backpropamine_train::config::Config;
use backpropamine_train::rollout::Course;
use backpropamine_train::task::{MazeCourse, mean_hits};
use backpropamine_train::train::meta_train;
use serde_json::Value;
use std::ops::ControlFlow;

fn backpropamine(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_backpropamine")).args(arguments).output().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = backpropamine(arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(arguments: &[&str], code: i32, parts: &[&str]) {
    let output = backpropamine(arguments);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn a_maze_is_trained_and_evaluated_beside_its_players() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let out = out.to_str().unwrap();
    let small = [
        "--set",
        "task.size=7",
        "--set",
        "network.hidden=8",
        "--set",
        "training.iterations=3",
    ];
    let train: Vec<&str> = [&["train", "maze", "--json", "--out", out], &small[..]].concat();
    assert!(json(&train)["runs"][0]["score"].is_number());
    let model = format!("{out}/model.safetensors");
    for numeric in ["f32", "q15"] {
        let report = json(&["eval", &model, "--json", "--episodes", "100", "--numeric", numeric]);
        let number = |key: &str| report[key].as_f64().unwrap();
        assert_eq!((number("size"), number("steps"), number("saturated_inputs")), (7.0, 200.0, 0.0));
        assert_eq!(number("hits"), number("reward"), "a hit pays 1");
        assert!(number("oracle") > number("searcher") && number("searcher") > number("random"));
        assert!(number("hits") < number("searcher"), "three iterations teach nothing");
    }
    let all = json(&["eval", &model, &model, "--numeric", "all", "--json", "--episodes", "20"]);
    let group = &all["groups"][0];
    assert_eq!(
        (&group["task"], &group["rule"], &all["groups"][1]),
        (&"maze".into(), &"simple".into(), &Value::Null)
    );
    let rows = group["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["arithmetic"].as_str().unwrap()).collect();
    assert_eq!(names[..5], ["f32", "micromath", "q15", "q7", "h16-nearest"]);
    assert_eq!(
        names[5..],
        ["h16-floor", "h16-stochastic", "h8-nearest", "h8-floor", "h8-stochastic"]
    );
    for row in rows {
        // The same model twice: nothing lies between its values.
        let values = row["values"].as_array().unwrap();
        assert_eq!(
            (values.len(), &values[0], &row["interval"][0]),
            (2, &row["value"], &row["interval"][1])
        );
        let less = row["value"].as_f64().unwrap() - rows[0]["value"].as_f64().unwrap();
        assert!((row["difference"].as_f64().unwrap() - less).abs() < 1e-12);
    }
    refused(&["eval", &model, &model], 2, &["2 models", "--numeric all"]);
    let bigger = json(&["eval", &model, "--json", "--episodes", "100", "--set", "task.size=13"]);
    assert!(bigger["oracle"].as_f64().unwrap() < 30.0);
}

#[test]
fn a_reward_of_ten_widens_the_input_scale() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let out = out.to_str().unwrap();
    json(&[
        "train",
        "maze",
        "--json",
        "--preset",
        "maze-code",
        "--set",
        "network.hidden=8",
        "--set",
        "training.iterations=1",
        "--out",
        out,
    ]);
    let report = json(&[
        "eval",
        &format!("{out}/model.safetensors"),
        "--json",
        "--episodes",
        "20",
        "--numeric",
        "q15",
    ]);
    assert_eq!(report["saturated_inputs"], 0);
}

#[test]
fn stages_grow_to_the_full_size_and_score_against_the_searcher() {
    let config = Config::load("maze-small", &["task.size=13".into(), "curriculum.sizes=[7,9,15]".into()]).unwrap();
    let course = MazeCourse::new(&config).unwrap();
    let sizes: Vec<u32> = (0..course.stages()).map(|stage| course.task(stage).config().size).collect();
    assert_eq!(sizes, [7, 9, 13]);
    assert!((0..3).all(|stage| course.task(stage).inputs() == 17));
    let level = mean_hits(Player::Searcher, &course.task(2), 1_000_000, 2000);
    assert!((19.0..21.0).contains(&level), "{level}");
}

#[test]
fn every_rule_trains_in_the_maze() {
    for rule in ["none", "hebbian", "simple", "retroactive"] {
        let settings = [
            "task.size=5",
            "task.steps=20",
            "network.hidden=5",
            "training.iterations=2",
            "training.batch=3",
        ];
        let mut settings: Vec<String> = settings.map(String::from).into();
        settings.push(format!("network.rule={rule}"));
        let config = Config::load("maze-small", &settings).unwrap();
        let course = MazeCourse::new(&config).unwrap();
        let trained = meta_train(config, course, |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(trained.model.metadata["task"], "maze");
        assert!(
            trained
                .metrics
                .iter()
                .all(|metrics| metrics.norm.is_finite() && metrics.reachable > 0)
        );
    }
}

#[test]
fn presets_describe_what_their_sources_do() {
    let maze = |preset: &str| Config::load(preset, &[]).unwrap().maze().unwrap();
    assert_eq!(maze("maze-paper"), maze::Config::paper());
    assert_eq!(
        maze("maze-code"),
        maze::Config {
            size: 13,
            ..maze::Config::default()
        }
    );
    assert_eq!(maze("maze-fanout"), maze::Config::default());
    assert!(Config::load("maze-fanout", &[]).unwrap().network.fan_out);
}

#[test]
fn the_wrong_task_is_a_usage_error() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let out = out.to_str().unwrap();
    refused(
        &["train", "maze", "--preset", "cue-small", "--out", out],
        2,
        &["task.name", "maze", "cue", "preset"],
    );
    refused(
        &["train", "cue", "--preset", "maze-small", "--out", out],
        2,
        &["task.name", "cue", "maze"],
    );
    refused(&["train", "maze", "--set", "task.size=10", "--out", out], 2, &["task.size", "odd"]);
    refused(
        &["train", "maze", "--set", "task.cues=3", "--out", out],
        2,
        &["task.cues", "an unknown key"],
    );
    refused(&["train", "cue", "--set", "task.name=maze", "--out", out], 2, &["task"]);
    assert!(!folder.path().join("run").exists());
}
