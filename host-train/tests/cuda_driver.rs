//! `--device cuda` from end to end on machines without a GPU: the program launches its kernels through a CUDA driver of the tests.
#![cfg(feature = "cuda")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A folder with the driver's and the compiler's library.
fn driver() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libcuda.so");
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kernels = format!("-DKERNELS={:?}", package.join("src/cuda/kernels.cu"));
    let status = Command::new("c++")
        .args(["-std=c++17", "-O2", "-shared", "-fPIC", "-pthread", &kernels])
        .arg(package.join("tests/cuda/driver.cpp"))
        .arg("-o")
        .arg(&library)
        .status();
    assert!(status.expect("c++ (gcc) is installed").success());
    fs::copy(&library, folder.path().join("libnvrtc.so")).unwrap();
    folder
}

fn run(driver: &TempDir, arguments: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backpropamine"));
    command.args(arguments.split_whitespace()).current_dir(driver);
    command.env("LD_LIBRARY_PATH", driver.path()).envs(variables.iter().copied());
    command.output().unwrap()
}

fn json(driver: &TempDir, arguments: &str, variables: &[(&str, &str)]) -> Value {
    let output = run(driver, &format!("{arguments} --json"), variables);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_check_holds_with_and_without_room_in_shared_memory() {
    let driver = driver();
    let bench = "bench cuda --hidden 16 --iterations 12 --lifetimes 5 --seeds 3 --measured 2";
    for shared in ["232448", "1000"] {
        let report = json(&driver, bench, &[("TEST_DRIVER_SHARED", shared)]);
        assert_eq!(report["machine"], "driver of the tests");
        assert_eq!(report["agrees"], true, "{report}");
    }
    // More neurons than the registers leave threads.
    let large = json(
        &driver,
        "bench cuda --hidden 100 --iterations 1 --lifetimes 1 --seeds 1 --measured 1",
        &[],
    );
    assert_eq!(large["agrees"], true, "{large}");
}

#[test]
fn runs_train_side_by_side_resume_and_match_the_processors() {
    let driver = driver();
    let settings =
        "--set training.iterations=6 --set run.checkpoint_every=2 --set network.hidden=12 --set curriculum.sizes=[] --set task.steps=40";
    json(&driver, &format!("train maze --seed 1-3 --device cuda --out gpu {settings}"), &[]);
    json(&driver, &format!("train maze --seed 1-3 --out cpu {settings}"), &[]);
    for seed in 1..=3 {
        let file = |device: &str, name: &str| fs::read_to_string(driver.path().join(format!("{device}/seed-{seed}/{name}"))).unwrap();
        assert!(file("gpu", "config.toml").contains("device = \"cuda:0\""));
        assert!(!file("cpu", "config.toml").contains("device"));
        let lines = |device: &str| -> Vec<Value> {
            file(device, "metrics.jsonl")
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        };
        let (gpu, cpu) = (lines("gpu"), lines("cpu"));
        assert_eq!((gpu.len(), cpu.len()), (6, 6));
        for (gpu, cpu) in gpu.iter().zip(&cpu) {
            assert_eq!(gpu["reached"], cpu["reached"]);
            let [a, b] = [gpu, cpu].map(|line| line["norm"].as_f64().unwrap());
            assert!((a - b).abs() <= 1e-3 * b, "{gpu} {cpu}");
        }
    }
    let longer = settings.replace("iterations=6", "iterations=8");
    let refused = run(&driver, &format!("train maze --seed 1 --out gpu/seed-1 --resume {longer}"), &[]);
    assert_eq!(refused.status.code(), Some(2), "another configuration");
    json(&driver, "train maze --out gpu/seed-1 --resume", &[]);
    let other = run(&driver, "train maze --out gpu/seed-1 --resume --device cpu", &[]);
    assert_eq!(other.status.code(), Some(2), "the device is part of the run");
}

#[test]
fn what_a_gpu_lacks_is_said() {
    let driver = driver();
    for (arguments, variables, code, words) in [
        ("bench cuda --device cuda:1", [].as_slice(), 4, "no such device"),
        ("bench cuda --device cpu", &[], 2, "expected a GPU"),
        (
            "train maze --device cuda --set training.batch=65536",
            &[("TEST_DRIVER_MEMORY", "100000000")],
            1,
            "lower training.batch",
        ),
    ] {
        let output = run(&driver, arguments, variables);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(words), "{said}");
    }
    fs::remove_file(driver.path().join("libnvrtc.so")).unwrap();
    let output = run(&driver, "bench cuda", &[]);
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).contains("libnvrtc"));
}
