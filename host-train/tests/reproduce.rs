//! `reproduce`, with runs too short to learn anything: what it makes, what it reports, how it goes on.

use std::path::Path;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use serde_json::Value;

/// Presets cut down to a few updates of a tiny network.
const TINY: &str = "--seed 1,2 --episodes 20 --set training.iterations=2 --set training.batch=2 --set network.hidden=6 \
                    --set curriculum.cues=[] --set curriculum.longest_trials=[] --set curriculum.sizes=[]";

fn reproduce(folder: &Path, arguments: &str) -> Assert {
    let mut command = Command::cargo_bin("backpropamine").unwrap();
    command
        .current_dir(folder)
        .arg("reproduce")
        .args(arguments.split_whitespace())
        .assert()
}

fn report(folder: &Path, arguments: &str) -> Value {
    let output = reproduce(folder, &format!("{arguments} {TINY} --json"))
        .success()
        .get_output()
        .stdout
        .clone();
    serde_json::from_slice(&output).unwrap()
}

fn text(folder: &Path, file: &Value) -> String {
    std::fs::read_to_string(folder.join(file.as_str().unwrap())).unwrap()
}

fn lines(folder: &Path, file: &Value) -> Vec<Value> {
    text(folder, file).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn names(report: &Value) -> Vec<&str> {
    let arms = report["arms"].as_array().unwrap().iter();
    arms.map(|arm| arm["name"].as_str().unwrap()).collect()
}

#[test]
fn figure_1_compares_four_rules_and_goes_on_after_an_interrupt() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let first = report(folder, "fig1");
    assert_eq!(names(&first), ["none", "hebbian", "simple", "retroactive"]);
    assert!(text(folder, &first["picture"]).starts_with("<svg"));
    assert_eq!(first["picture"], "runs/fig1-quick/fig1.svg");
    assert_eq!(&lines(folder, &first["results"]), first["arms"].as_array().unwrap());
    let drawn = lines(folder, &first["numbers"]);
    for arm in first["arms"].as_array().unwrap() {
        assert!(drawn.iter().any(|point| point["name"] == arm["name"]));
        let runs = arm["runs"].as_array().unwrap();
        let values: Vec<f64> = runs.iter().map(|run| run["value"].as_f64().unwrap()).collect();
        assert!(values.len() == 2 && values.iter().all(|value| (0.0..=1.0).contains(value)), "{arm}");
        assert!((arm["value"].as_f64().unwrap() - (values[0] + values[1]) / 2.0).abs() < 1e-12);
        // Two against two: the test's p is a third at least.
        let tested = arm["against"] == "hebbian";
        assert_eq!(tested, arm["p"].as_f64().is_some_and(|p| p > 0.3), "{arm}");
        assert_eq!(tested, ["simple", "retroactive"].contains(&arm["name"].as_str().unwrap()));
    }
    // Never over what is there, unless asked to go on: then a lost run is made again, the same to the last bit.
    let refused = reproduce(folder, &format!("fig1 {TINY}")).code(2);
    assert!(String::from_utf8_lossy(&refused.get_output().stderr).contains("--resume"));
    std::fs::remove_dir_all(folder.join("runs/fig1-quick/simple/seed-2")).unwrap();
    assert_eq!(report(folder, "fig1 --resume"), first);
}

#[test]
fn figure_2_is_of_the_maze_and_names_its_levels() {
    let folder = tempfile::tempdir().unwrap();
    let maze = report(folder.path(), "fig2 --budget paper --out maze");
    assert_eq!(maze["arms"][0]["preset"], "maze-paper");
    assert_eq!(maze["arms"][0]["score"], "hits");
    let level = |name: &str| maze[name].as_f64().unwrap();
    assert!(level("searcher") > 20.0 && level("random") < 3.0, "{maze}");
    assert!(folder.path().join("maze/fig2.svg").exists());
}

#[test]
fn figure_3_draws_lifetimes_that_plot_can_draw_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let figure = report(folder, "fig3");
    assert_eq!(names(&figure), ["simple", "retroactive"]);
    let points = lines(folder, &figure["numbers"]);
    assert_eq!(points.len(), 2 * 2 * 120);
    assert!(points.iter().any(|point| point["m"] != 0.0) && points.iter().any(|point| point["reward"] != 0.0));
    let picture = text(folder, &figure["picture"]);
    assert!(picture.contains("retroactive-seed-2: retroactive") && picture.contains("M(t)") && !picture.contains("mean |H|"));
    let mut plot = Command::cargo_bin("backpropamine").unwrap();
    plot.current_dir(folder)
        .args(["plot", "runs/fig3-quick/simple/seed-1/simple-seed-1.jsonl", "--trial", "3"]);
    plot.assert().success();
}

#[test]
fn figure_4_has_both_clips_and_table_1_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let figure = report(folder.path(), "fig4");
    let all = [
        "none",
        "hebbian",
        "simple",
        "retroactive",
        "hebbian-soft",
        "simple-soft",
        "retroactive-soft",
    ];
    assert_eq!(names(&figure), all);
    let arm = &figure["arms"][6];
    assert_eq!(
        (&arm["against"], &arm["settings"][0]),
        (&"hebbian-soft".into(), &"network.clip=soft".into())
    );
    let refused = reproduce(folder.path(), "table1").code(2);
    assert!(String::from_utf8_lossy(&refused.get_output().stderr).contains("language model"));
}
