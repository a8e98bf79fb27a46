//! Training on a GPU: whether it is the processor's, and how fast it is.

use std::fmt;
use std::sync::Barrier;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::config::Config;
use crate::cuda::Machine;
use crate::cuda::compare::{CurveDistance, Distance, compare, compare_training};
use crate::model::Model;
use crate::task::MazeCourse;
use crate::train::Trainer;

/// Lifetimes compared per network.
const COMPARED: u32 = 8;
/// Largest distance of activities and modulators.
const ACTIVITY: f32 = 2e-4;
/// Largest distance of gradients. Whole lifetimes of 100 untrained Hebbian neurons come to 1e-3 by rounding alone.
const GRADIENT: f32 = 5e-3;
/// Largest distance of the gradient's norm in the first iterations.
const FIRST: f64 = 1e-3;
/// Largest distance of the mean reward in a quarter of a curve; two kernels of one processor come to 0.05 in 200 iterations.
const QUARTER: f64 = 0.15;

/// What to compare and measure, all in the maze.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Neurons
    #[arg(long, value_name = "N", default_value = "100")]
    pub hidden: usize,
    /// Iterations of the training curve
    #[arg(long, value_name = "N", default_value = "200")]
    pub iterations: u32,
    /// Lifetimes of an iteration whose speed is measured
    #[arg(long, value_name = "N", default_value = "120")]
    pub lifetimes: usize,
    /// Trainings side by side whose speed is measured
    #[arg(long, value_name = "N", default_value = "4")]
    pub seeds: u64,
    /// Iterations of each of them
    #[arg(long, value_name = "N", default_value = "30")]
    pub measured: u32,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What ran the kernels.
    pub machine: String,
    /// One entry per rule, untrained, and one of a trained network.
    pub networks: Vec<Network>,
    /// Two trainings from the same beginning.
    pub curve: CurveDistance,
    /// How fast it trains.
    pub speed: Speed,
    /// Whether everything is within its tolerance.
    pub agrees: bool,
}

/// A network on both machines.
#[derive(Clone, Debug, Serialize)]
pub struct Network {
    /// The learning rule, as in a configuration.
    pub rule: &'static str,
    /// Whether it comes from the training curve.
    pub trained: bool,
    /// How far apart they are.
    #[serde(flatten)]
    pub distance: Distance,
}

/// Whole iterations: rollout, gradient, Adam.
#[derive(Clone, Debug, Serialize)]
pub struct Speed {
    /// Neurons.
    pub hidden: usize,
    /// Steps of a lifetime.
    pub steps: u32,
    /// Lifetimes of an iteration.
    pub lifetimes: usize,
    /// Trainings side by side.
    pub seeds: u64,
    /// Iterations of each.
    pub iterations: u32,
    /// Wall time.
    pub seconds: f64,
    /// Steps of all lifetimes per second.
    pub env_steps_per_second: f64,
}

/// Compares the machines that `open` gives with the processor, and measures their speed.
///
/// # Errors
/// When there is no machine, it fails, or its task differs from the core's in a single bit.
pub fn bench_cuda(options: &Options, open: impl Fn() -> Result<Box<dyn Machine>> + Sync) -> Result<Report> {
    let mut machine = open()?;
    let mut networks = Vec::new();
    for rule in ["none", "hebbian", "simple", "retroactive"] {
        let config = maze(options, rule)?;
        let model = Trainer::new(config.clone(), MazeCourse::new(&config)?)?.model().clone();
        networks.push(network(machine.as_mut(), &config, &model, false)?);
    }
    let name = machine.name()?;
    let config = maze(options, "simple")?;
    let (curve, trained) = compare_training(&config, &MazeCourse::new(&config)?, machine)?;
    networks.push(network(open()?.as_mut(), &config, &trained, true)?);
    let near = |network: &Network| {
        let Distance {
            hidden,
            modulator,
            gradient,
            ..
        } = network.distance;
        hidden <= ACTIVITY && modulator <= ACTIVITY && gradient <= GRADIENT
    };
    let agrees = networks.iter().all(near) && curve.first <= FIRST && curve.quarter <= QUARTER;
    Ok(Report {
        machine: name,
        networks,
        curve,
        speed: speed(options, open)?,
        agrees,
    })
}

/// The paper's maze with its 30 lifetimes, by the recipe of the small one but for a gentle Adam. With a small epsilon every
/// gradient that is nearly 0 moves its parameter by a whole step, and rounding decides which way: curves part after five iterations.
fn maze(options: &Options, rule: &str) -> Result<Config> {
    let settings = [
        format!("network.rule={rule}"),
        format!("network.hidden={}", options.hidden),
        format!("training.iterations={}", options.iterations),
        "training.batch=30".into(),
        "training.learning_rate=1e-3".into(),
        "training.adam_epsilon=1e-2".into(),
        "task.size=11".into(),
        "curriculum.sizes=[]".into(),
    ];
    Config::load("maze-small", &settings)
}

fn network(machine: &mut dyn Machine, config: &Config, model: &Model, trained: bool) -> Result<Network> {
    let path = config.run.kernel.resolve()?;
    Ok(Network {
        rule: model.rule_word(),
        trained,
        distance: compare(machine, model, config.task()?, config.run.seed, COMPARED, &config.training, path)?,
    })
}

/// Trainings side by side, each with a machine and a thread of its own, from the moment all are ready.
fn speed(options: &Options, open: impl Fn() -> Result<Box<dyn Machine>> + Sync) -> Result<Speed> {
    let mut config = maze(options, "simple")?;
    config.training.batch = options.lifetimes;
    config.training.iterations = options.measured + 1;
    let steps = config.task()?.steps();
    let trainers = (1..=options.seeds).map(|seed| {
        let mut config = config.clone();
        config.run.seed = seed;
        let course = MazeCourse::new(&config)?;
        let mut trainer = Trainer::with_machine(config, course, Some(open()?))?;
        trainer.iterate()?;
        Ok(trainer)
    });
    let trainers = trainers.collect::<Result<Vec<_>>>()?;
    let ready = &Barrier::new(trainers.len() + 1);
    let seconds = std::thread::scope(|scope| {
        let work = |mut trainer: Trainer<MazeCourse>| {
            ready.wait();
            (0..options.measured).try_for_each(|_| trainer.iterate().map(|_| ()))
        };
        let threads: Vec<_> = trainers.into_iter().map(|trainer| scope.spawn(move || work(trainer))).collect();
        ready.wait();
        let start = Instant::now();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        })?;
        anyhow::Ok(start.elapsed().as_secs_f64())
    })?;
    let lived = f64::from(steps) * options.lifetimes as f64 * options.seeds as f64 * f64::from(options.measured);
    Ok(Speed {
        hidden: options.hidden,
        steps,
        lifetimes: options.lifetimes,
        seeds: options.seeds,
        iterations: options.measured,
        seconds,
        env_steps_per_second: lived / seconds,
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: the maze, tasks equal bit for bit; largest distances from the processor",
            self.machine
        )?;
        writeln!(f, "network                    h         m  gradient   other actions of steps")?;
        for Network { rule, trained, distance } in &self.networks {
            writeln!(
                f,
                "{rule:<12}{:<10} {:>8.1e}  {:>8.1e}  {:>8.1e}  {:>14} {:>8}",
                if *trained { "trained" } else { "untrained" },
                distance.hidden,
                distance.modulator,
                distance.gradient,
                distance.other_actions,
                distance.steps,
            )?;
        }
        let CurveDistance {
            iterations,
            first,
            quarter,
        } = self.curve;
        writeln!(
            f,
            "training curve of {iterations} iterations: gradient norm at first within {first:.1e}, mean reward of its quarters within {:.1}%",
            100.0 * quarter
        )?;
        let Speed {
            hidden,
            lifetimes,
            seeds,
            env_steps_per_second,
            ..
        } = self.speed;
        writeln!(
            f,
            "{env_steps_per_second:.0} env-steps/s, {hidden} neurons, simple, {seeds} seeds side by side, {lifetimes} lifetimes an iteration"
        )?;
        write!(
            f,
            "{}",
            if self.agrees {
                "agrees"
            } else {
                "does NOT agree within its tolerances"
            }
        )
    }
}
