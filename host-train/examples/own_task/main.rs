//! A task of one's own, from training to the emulated board: `cargo run -p backpropamine-train --example own_task`.
//!
//! The task is `task.rs` beside this file; the firmware that runs it is `firmware/src/bin/own_task.rs`.

mod task;

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use backpropamine::lifetime::EVALUATION_SEED;
use backpropamine::policy::Policy;
use backpropamine::rng::{Rng, Stream};
use backpropamine_train::cli::NumericArg;
use backpropamine_train::config::Config;
use backpropamine_train::device::board::Board;
use backpropamine_train::device::emulator::{self, Options};
use backpropamine_train::device::firmware::{Firmware, Recipe};
use backpropamine_train::device::toolchain::{Source, Toolchain};
use backpropamine_train::eval::evaluate;
use backpropamine_train::rollout::Single;
use backpropamine_train::runnable::Choice;
use backpropamine_train::train::meta_train;
use task::Panel;

/// Lifetimes that `firmware/src/bin/own_task.rs` runs.
const LIFETIMES: u32 = 20;

fn main() -> Result<()> {
    let out = Path::new("runs/own_task");
    std::fs::create_dir_all(out)?;

    // 1. Train. Any preset serves; what the task decides (inputs, actions, steps) comes from the task.
    let settings = ["network.hidden=16", "training.iterations=3000", "run.kernel=portable"].map(String::from);
    let config = Config::load("cue-small", &settings)?;
    let make = || Panel::new(Rng::new(0).lifetime(Stream::Task, 0));
    let course = Single {
        name: "panel".into(),
        make,
    };
    let trained = meta_train(config, course, |_| ControlFlow::Continue(()))?;
    let model = out.join("panel.safetensors");
    trained.model.save(&model)?;

    // 2. Export to 16-bit fixed point and measure on lifetimes that training never saw.
    let choice = Choice {
        numeric: Some(NumericArg::Q15),
        input_range: Some(1.0),
    };
    let network = choice.open(&model, None)?;
    let host = evaluate(&network, make, Policy::Sample, EVALUATION_SEED, LIFETIMES)?;
    let many = evaluate(&network, make, Policy::Sample, EVALUATION_SEED, 1000)?;
    for trial in many.by_trial().iter().step_by(4) {
        println!("press {:2}: {:3.0}% right", trial.trial, 100.0 * trial.accuracy);
    }

    // 3. Run the first lifetimes on the emulated Cortex-M4: the same digests, so the same lifetimes bit for bit.
    let image = out.join("panel-q15.bpam");
    let bytes: Vec<u8> = network.words.iter().flat_map(|word| word.to_le_bytes()).collect();
    std::fs::write(&image, bytes)?;
    let toolchain = Toolchain::find(Source::Auto, &[Board::DEFAULT.target]).context("type: cargo bpam setup --yes")?;
    let firmware = Firmware::locate(None, toolchain)?;
    let elf = firmware.build(&Recipe {
        image: Some(&image),
        ..Recipe::new("own_task", Board::DEFAULT)
    })?;
    let mut device = Vec::new();
    emulator::run(&elf, Board::DEFAULT, Options::default(), |line| {
        device.push(line.to_owned());
        Ok(())
    })?;
    let expected: Vec<_> = host.lives.iter().map(|life| format!("{:016x}", life.digest)).collect();
    ensure!(
        device == expected,
        "the board lives other lifetimes than the host:\n{device:?}\n{expected:?}"
    );
    println!("{} lifetimes on {} are the host's, bit for bit", device.len(), Board::DEFAULT.name);
    Ok(())
}
