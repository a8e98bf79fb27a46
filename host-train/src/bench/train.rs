//! CPU time of a meta-training iteration, beside what this processor could do, and what step-by-step automatic
//! differentiation takes for its gradient alone.

use std::fmt;
use std::time::Instant;

use anyhow::{Result, anyhow};
use backpropamine::rng::Rng;
use backpropamine::rule::Rule;
use candle_core::{Device, Tensor, Var};
use cpu_time::ProcessTime;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::Serialize;

use crate::a2c;
use crate::config::Config;
use crate::recurrence::oracle::{self, ClipGradient};
use crate::recurrence::{Kernel, Parameters, Path, Spec, Work, bytes_per_second, count, multiply_adds_per_second};
use crate::rollout::{Course, Player};
use crate::task::{CueCourse, MazeCourse};
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
    /// Pairs of runs with one and with two threads; 0 leaves them out.
    pub pairs: usize,
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
            pairs: 5,
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
    /// What one core can do, one entry for each kernel it has.
    pub peaks: Vec<Peak>,
    /// One entry per shape.
    pub shapes: Vec<Measurement>,
    /// The largest resident set of the process after training and before the automatic differentiation, in MiB; Linux only.
    pub peak_memory_mib: Option<f64>,
}

/// What one core can do with a kernel, measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Peak {
    /// The kernel.
    pub kernel: Kernel,
    /// Multiply-adds of one number each per second.
    pub operations: f64,
    /// Bytes per second within 24 KiB.
    pub l1_bytes: f64,
    /// Bytes per second within 512 KiB.
    pub l2_bytes: f64,
}

/// One shape of network and task.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// `cue` or `maze`.
    pub task: &'static str,
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
    /// Iterations per CPU second.
    pub per_second: f64,
    /// What the passes of an iteration do, counted.
    #[serde(flatten)]
    pub work: Work,
    /// These operations as a share of what the kernel could do in `seconds`.
    pub operations_share: f64,
    /// These bytes, likewise, at `level`.
    pub bytes_share: f64,
    /// The level of memory that holds the matrices of a lifetime, `l1` or `l2`.
    pub level: &'static str,
    /// Wall time of an iteration in one thread over that in two, the median of the pairs.
    pub two_threads: Option<f64>,
    /// CPU seconds that automatic differentiation takes, step by step, for the recurrence's gradient alone.
    pub oracle_seconds: Option<f64>,
    /// Lifetimes that were given to it; `oracle_seconds` is scaled up to the whole batch.
    pub oracle_lifetimes: Option<usize>,
    /// How many times the iteration is cheaper than that.
    pub ratio: Option<f64>,
}

/// A task and the size of a network for it.
#[derive(Clone, Copy)]
struct Shape {
    task: &'static str,
    hidden: usize,
    steps: usize,
    /// For so many lifetimes the oracle's graph fits into memory.
    oracle_lifetimes: usize,
}

const SHAPES: [Shape; 4] = [
    shape("cue", 32, 120, BATCH),
    shape("maze", 32, 200, 10),
    shape("maze", 100, 200, 3),
    shape("cue", 200, 120, 1),
];

const fn shape(task: &'static str, hidden: usize, steps: usize, oracle_lifetimes: usize) -> Shape {
    Shape {
        task,
        hidden,
        steps,
        oracle_lifetimes,
    }
}

const RULES: [(Rule, &str); 2] = [(Rule::Modulated, "simple"), (Rule::Retroactive, "retroactive")];

/// Lifetimes of an iteration.
const BATCH: usize = 30;

/// Lifetimes whose work is counted, enough to share what is shared.
const COUNTED: usize = 2;

/// Measures the cue task at 32 and 200 neurons and the maze at 32 and 100, simple and retroactive.
///
/// # Errors
/// When the kernel does not exist on this machine.
pub fn bench_train(options: &Options) -> Result<Report> {
    let kernel = options.kernel.resolve()?.kernel();
    let pool = pool(options.threads)?;
    let peaks: Vec<Peak> = Kernel::paths().map(peak).collect();
    let peak = *peaks
        .iter()
        .find(|peak| peak.kernel == kernel)
        .ok_or_else(|| anyhow!("no kernel {kernel}"))?;
    let chosen = || {
        let fitting = SHAPES.into_iter().filter(|shape| shape.hidden <= options.largest);
        fitting.flat_map(|shape| RULES.map(|rule| (shape, rule)))
    };
    let mut shapes = Vec::new();
    for (shape, (rule, word)) in chosen() {
        let config = config(options, word, shape)?;
        let timing = match shape.task {
            "maze" => timing(options, &pool, config.clone(), MazeCourse::new(&config)?)?,
            _ => timing(options, &pool, config.clone(), CueCourse::new(&config)?)?,
        };
        shapes.push(measurement(&peak, shape, rule, word, &timing));
    }
    let peak_memory_mib = peak_memory_mib();
    if options.oracle {
        for (measured, (shape, (rule, _))) in shapes.iter_mut().zip(chosen()) {
            let seconds = pool.install(|| differentiation(rule, shape))? * BATCH as f64 / shape.oracle_lifetimes as f64;
            measured.oracle_seconds = Some(seconds);
            measured.oracle_lifetimes = Some(shape.oracle_lifetimes);
            measured.ratio = Some(seconds / measured.seconds);
        }
    }
    Ok(Report {
        kernel,
        threads: options.threads,
        peaks,
        shapes,
        peak_memory_mib,
    })
}

fn pool(threads: usize) -> Result<ThreadPool> {
    Ok(ThreadPoolBuilder::new().num_threads(threads).build()?)
}

fn peak(path: Path) -> Peak {
    Peak {
        kernel: path.kernel(),
        operations: multiply_adds_per_second(path),
        l1_bytes: bytes_per_second(path, 24),
        l2_bytes: bytes_per_second(path, 512),
    }
}

/// The full task in one stage.
fn config(options: &Options, rule: &str, shape: Shape) -> Result<Config> {
    let settings = [
        format!("network.rule=\"{rule}\""),
        format!("network.hidden={}", shape.hidden),
        format!("task.steps={}", shape.steps),
        format!("training.batch={BATCH}"),
        format!("run.kernel=\"{}\"", options.kernel),
        "curriculum.cues=[]".to_owned(),
        "curriculum.sizes=[]".to_owned(),
    ];
    Config::load(&format!("{}-small", shape.task), &settings)
}

/// What is measured of one shape.
struct Timing {
    seconds: f64,
    two_threads: Option<f64>,
    work: Work,
}

fn timing<C: Course + Clone + Send>(options: &Options, pool: &ThreadPool, config: Config, course: C) -> Result<Timing> {
    let mut trainer = Trainer::new(config, course.clone())?;
    let work = count_work(&trainer, &course)?;
    pool.install(|| trainer.iterate())?;
    let seconds = (0..options.iterations.max(1))
        .map(|_| {
            let start = ProcessTime::now();
            pool.install(|| trainer.iterate())?;
            Ok(start.elapsed().as_secs_f64())
        })
        .collect::<Result<Vec<f64>>>()?;
    Ok(Timing {
        seconds: median(seconds).unwrap_or_default(),
        two_threads: two_threads(options, &mut trainer)?,
        work,
    })
}

/// What the passes of an iteration do.
fn count_work<C: Course>(trainer: &Trainer<C>, course: &C) -> Result<Work> {
    let (model, training) = (trainer.model(), &trainer.config().training);
    let mut played = Ok(());
    let work = count(|path| {
        played = Player::new(model, path).map(|player| {
            let episodes = player.play_batch(course, 0, Rng::new(0), 0, COUNTED as u32);
            a2c::gradients(&player, &episodes, training);
        });
    })?;
    played?;
    Ok(work * (BATCH as f64 / COUNTED as f64))
}

/// Wall time of iterations in one thread over that in two, the median of alternating pairs.
fn two_threads<C: Course + Send>(options: &Options, trainer: &mut Trainer<C>) -> Result<Option<f64>> {
    let pools = [pool(1)?, pool(2)?];
    let ratios = (0..options.pairs).map(|_| {
        let mut seconds = [0.0; 2];
        for (pool, seconds) in pools.iter().zip(&mut seconds) {
            let start = Instant::now();
            for _ in 0..options.iterations.max(1) {
                pool.install(|| trainer.iterate())?;
            }
            *seconds = start.elapsed().as_secs_f64();
        }
        Ok(seconds[0] / seconds[1])
    });
    Ok(median(ratios.collect::<Result<_>>()?))
}

/// The middle one, if there are any.
fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied()
}

fn measurement(peak: &Peak, shape: Shape, rule: Rule, word: &'static str, timing: &Timing) -> Measurement {
    let (seconds, work) = (timing.seconds, timing.work);
    // w, alpha, H and E, and the gradients by the last three.
    let matrices = if rule.has_eligibility() { 7 } else { 5 };
    let fits = matrices * shape.hidden * shape.hidden.next_multiple_of(16) * size_of::<f32>() <= 32 * 1024;
    let (level, bandwidth) = if fits { ("l1", peak.l1_bytes) } else { ("l2", peak.l2_bytes) };
    Measurement {
        task: shape.task,
        rule: word,
        hidden: shape.hidden,
        steps: shape.steps,
        batch: BATCH,
        seconds,
        per_second: 1.0 / seconds,
        work,
        operations_share: work.operations / seconds / peak.operations,
        bytes_share: work.bytes / seconds / bandwidth,
        level,
        two_threads: timing.two_threads,
        oracle_seconds: None,
        oracle_lifetimes: None,
        ratio: None,
    }
}

/// CPU seconds of one gradient by automatic differentiation of the recurrence, in f32.
fn differentiation(rule: Rule, shape: Shape) -> Result<f64> {
    let Shape {
        hidden,
        steps,
        oracle_lifetimes: lifetimes,
        ..
    } = shape;
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
        writeln!(f, "one core, per second:   multiply-adds   bytes in L1   bytes in L2")?;
        for peak in &self.peaks {
            let [operations, l1, l2] = [peak.operations, peak.l1_bytes, peak.l2_bytes].map(|rate| rate / 1e9);
            writeln!(f, "{:<20} {operations:>12.1} G {l1:>11.0} G {l2:>11.0} G", peak.kernel)?;
        }
        writeln!(
            f,
            "\nCPU time of an iteration of {BATCH} lifetimes, kernel {}, {} thread(s); operations and bytes of its passes, and\n\
             as shares of what the kernel could do in that time",
            self.kernel, self.threads
        )?;
        writeln!(
            f,
            "task rule        neurons steps  iteration  per s   operations   share        bytes   share      2 threads   autograd (gradient alone)"
        )?;
        for shape in &self.shapes {
            writeln!(f, "{shape}")?;
        }
        match self.peak_memory_mib {
            Some(peak) => writeln!(f, "peak memory of training: {peak:.0} MiB"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<4} {:<11} {:>7} {:>5} {:>7.2} ms {:>6.0} {:>10.1} M {:>5.0} % {:>10.1} M {:>5.0} % {} ",
            self.task,
            self.rule,
            self.hidden,
            self.steps,
            1e3 * self.seconds,
            self.per_second,
            self.work.operations / 1e6,
            100.0 * self.operations_share,
            self.work.bytes / 1e6,
            100.0 * self.bytes_share,
            self.level.to_uppercase(),
        )?;
        match self.two_threads {
            Some(ratio) => write!(f, "{ratio:>8.2} ×")?,
            None => write!(f, "{:>10}", "-")?,
        }
        if let (Some(seconds), Some(lifetimes), Some(ratio)) = (self.oracle_seconds, self.oracle_lifetimes, self.ratio) {
            let scaled = if lifetimes < BATCH {
                format!(" (from {lifetimes})")
            } else {
                String::new()
            };
            write!(f, " {:>8.0} ms{scaled}, {ratio:.0} times", 1e3 * seconds)?;
        }
        Ok(())
    }
}
