//! CPU time of a meta-training iteration, beside what step-by-step automatic differentiation takes for its gradient alone.

use std::fmt;

use anyhow::{Result, anyhow};
use backpropamine::rule::Rule;
use candle_core::{Device, Tensor, Var};
use cpu_time::ProcessTime;
use serde::Serialize;

use crate::config::Config;
use crate::recurrence::oracle::{self, ClipGradient};
use crate::recurrence::{Kernel, Parameters, Spec};
use crate::task::CueCourse;
use crate::train::Trainer;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// The kernel to train with.
    pub kernel: Kernel,
    /// Threads to train with. CPU time counts all of them.
    pub threads: usize,
    /// Iterations per shape; the median is reported.
    pub iterations: usize,
    /// Whether to run the automatic differentiation too.
    pub oracle: bool,
    /// Networks with more neurons are left out.
    pub largest: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            kernel: Kernel::Auto,
            threads: 1,
            iterations: 30,
            oracle: true,
            largest: usize::MAX,
        }
    }
}

/// The measurements, and on what.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The kernel that ran, never `auto`.
    pub kernel: Kernel,
    /// Threads used.
    pub threads: usize,
    /// One entry per shape.
    pub shapes: Vec<Measurement>,
    /// The largest resident set of the process after training and before the automatic differentiation, in MiB; Linux only.
    pub peak_memory_mib: Option<f64>,
}

/// One shape of network and task.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// The learning rule, as in a configuration.
    pub rule: &'static str,
    /// Neurons.
    pub hidden: usize,
    /// Steps of a lifetime.
    pub steps: usize,
    /// Lifetimes of an iteration.
    pub batch: usize,
    /// CPU seconds of a whole iteration: rollout, gradient, Adam. The median.
    pub seconds: f64,
    /// CPU seconds that automatic differentiation takes, step by step, for the recurrence's gradient alone.
    pub oracle_seconds: Option<f64>,
    /// Lifetimes that were given to it; `oracle_seconds` is scaled up to the whole batch.
    pub oracle_lifetimes: Option<usize>,
    /// How many times the iteration is cheaper than that.
    pub ratio: Option<f64>,
}

/// Neurons, steps, and for how many lifetimes the oracle's graph fits into memory.
const SHAPES: [(usize, usize, usize); 3] = [(32, 120, BATCH), (100, 200, 3), (200, 120, 1)];

const RULES: [(Rule, &str); 2] = [(Rule::Modulated, "simple"), (Rule::Retroactive, "retroactive")];

/// Lifetimes of an iteration.
const BATCH: usize = 30;

/// Measures the cue task at 32 and 200 neurons and lifetimes as long as the maze's at 100, simple and retroactive.
///
/// # Errors
/// When the kernel does not exist on this machine.
pub fn bench_train(options: &Options) -> Result<Report> {
    let kernel = options.kernel.resolve()?.kernel();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build()?;
    let chosen = || SHAPES.iter().copied().filter(|(hidden, ..)| *hidden <= options.largest);
    let mut shapes = Vec::new();
    for (hidden, steps, _) in chosen() {
        for (_, rule) in RULES {
            let seconds = pool.install(|| iteration(options, rule, hidden, steps))?;
            shapes.push(Measurement {
                rule,
                hidden,
                steps,
                batch: BATCH,
                seconds,
                oracle_seconds: None,
                oracle_lifetimes: None,
                ratio: None,
            });
        }
    }
    let peak_memory_mib = peak_memory_mib();
    if options.oracle {
        let oracles = chosen().flat_map(|shape| RULES.map(|(rule, _)| (shape, rule)));
        for (measured, ((hidden, steps, lifetimes), rule)) in shapes.iter_mut().zip(oracles) {
            let seconds = pool.install(|| differentiation(rule, hidden, steps, lifetimes))? * BATCH as f64 / lifetimes as f64;
            measured.oracle_seconds = Some(seconds);
            measured.oracle_lifetimes = Some(lifetimes);
            measured.ratio = Some(seconds / measured.seconds);
        }
    }
    Ok(Report {
        kernel,
        threads: options.threads,
        shapes,
        peak_memory_mib,
    })
}

/// CPU seconds of an iteration of the full cue task, the median.
fn iteration(options: &Options, rule: &str, hidden: usize, steps: usize) -> Result<f64> {
    let settings = [
        format!("network.rule=\"{rule}\""),
        format!("network.hidden={hidden}"),
        format!("task.steps={steps}"),
        format!("training.batch={BATCH}"),
        format!("run.kernel=\"{}\"", options.kernel),
        "curriculum.cues=[]".to_owned(),
    ];
    let config = Config::load("cue-small", &settings)?;
    let course = CueCourse::new(&config)?;
    let mut trainer = Trainer::new(config, course)?;
    trainer.iterate()?;
    let mut seconds = (0..options.iterations.max(1))
        .map(|_| {
            let start = ProcessTime::now();
            trainer.iterate()?;
            Ok(start.elapsed().as_secs_f64())
        })
        .collect::<Result<Vec<f64>>>()?;
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

/// CPU seconds of one gradient by automatic differentiation of the recurrence, in f32.
fn differentiation(rule: Rule, hidden: usize, steps: usize, lifetimes: usize) -> Result<f64> {
    let spec = Spec::new(hidden, rule);
    let count = Parameters::<f32>::zeros(&spec).pack().len();
    let spread = |count: usize| {
        (0..count)
            .map(|index| (index as f32 * 0.7).sin() / (hidden as f32).sqrt())
            .collect::<Vec<f32>>()
    };
    let packed = Var::from_tensor(&Tensor::from_vec(spread(count), count, &Device::Cpu)?)?;
    let drive = Tensor::from_vec(spread(steps * lifetimes * hidden), (steps, lifetimes, hidden), &Device::Cpu)?;
    let drive = Var::from_tensor(&drive)?;
    let start = ProcessTime::now();
    let hidden = oracle::hidden::<f32>(&spec, &drive, &packed, ClipGradient::Masked)?;
    let store = hidden.sum_all()?.backward()?;
    store.get(&packed).ok_or_else(|| anyhow!("the oracle has no gradient"))?;
    Ok(start.elapsed().as_secs_f64())
}

/// The largest resident set this process had, from `/proc`.
fn peak_memory_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "CPU seconds per iteration of {BATCH} lifetimes, kernel {}, {} thread(s)",
            self.kernel, self.threads
        )?;
        writeln!(
            f,
            "rule         neurons  steps  iteration   autograd (gradient alone)   times cheaper"
        )?;
        for shape in &self.shapes {
            write!(
                f,
                "{:<12} {:>7} {:>6} {:>8.2} ms",
                shape.rule,
                shape.hidden,
                shape.steps,
                1e3 * shape.seconds
            )?;
            if let (Some(seconds), Some(lifetimes), Some(ratio)) = (shape.oracle_seconds, shape.oracle_lifetimes, shape.ratio) {
                let scaled = if lifetimes < BATCH {
                    format!(" (from {lifetimes})")
                } else {
                    String::new()
                };
                write!(f, " {:>9.0} ms{scaled:<10} {ratio:>15.0}", 1e3 * seconds)?;
            }
            writeln!(f)?;
        }
        match self.peak_memory_mib {
            Some(peak) => writeln!(f, "peak memory of training: {peak:.0} MiB"),
            None => Ok(()),
        }
    }
}
