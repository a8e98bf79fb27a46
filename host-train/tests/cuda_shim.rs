//! The CUDA kernels, compiled as host code by the system's C++ compiler, against this crate: tasks, networks, gradients, training.

use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::Result;
use assert_cmd::Command as Program;
use backpropamine_train::bench::cuda::{Options, bench_cuda};
use backpropamine_train::config::Config;
use backpropamine_train::cuda::compare::{Distance, compare};
use backpropamine_train::cuda::{Job, Lives, Machine, Record, Shape, World, play};
use backpropamine_train::model::Model;
use backpropamine_train::recurrence::Kernel;
use backpropamine_train::rollout::Course;
use backpropamine_train::task::{CueCourse, MazeCourse};
use backpropamine_train::train::Trainer;
use tempfile::TempDir;

/// The kernels as a program, which holds what they leave.
struct Shim {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    in_shared: bool,
    shape: Option<Shape>,
    /// Holds the program.
    _folder: TempDir,
}

impl Shim {
    fn new(in_shared: bool) -> Self {
        Self::with_threads(in_shared, 1, &[])
    }

    /// With so many threads per block; `flags` are the compiler's.
    fn with_threads(in_shared: bool, threads: u32, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("shim");
        compile(&program, flags);
        let mut child = Command::new(&program)
            .arg(threads.to_string())
            .env("TSAN_OPTIONS", "halt_on_error=1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
            in_shared,
            shape: None,
            _folder: folder,
        }
    }

    fn floats(&mut self, count: usize) -> Result<Vec<f32>> {
        Ok(self.words(count)?.into_iter().map(f32::from_ne_bytes).collect())
    }

    fn ints(&mut self, count: usize) -> Result<Vec<i32>> {
        Ok(self.words(count)?.into_iter().map(i32::from_ne_bytes).collect())
    }

    fn words(&mut self, count: usize) -> Result<Vec<[u8; 4]>> {
        let mut bytes = vec![0; 4 * count];
        self.output.read_exact(&mut bytes)?;
        Ok(bytes.as_chunks().0.to_vec())
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_ne_bytes()).collect()
}

impl Machine for Shim {
    fn name(&self) -> Result<String> {
        Ok("this processor".into())
    }

    fn live(&mut self, job: &Job) -> Result<Lives> {
        let mut shape = job.shape;
        shape.in_shared = self.in_shared;
        let mut message = vec![b'l'];
        let (shape_words, world_words) = (shape.words(), job.world.words());
        message.extend(shape_words.iter().chain(&world_words).flat_map(|word| word.to_ne_bytes()));
        message.extend(bytes(&job.parameters));
        self.input.write_all(&message)?;
        self.shape = Some(shape);
        let rows = shape.rows();
        Ok(Lives {
            heads: self.floats(rows * (shape.actions as usize + 1))?,
            actions: self.ints(rows)?,
            rewards: self.floats(rows)?,
            trials: self.ints(rows)?,
        })
    }

    fn record(&mut self) -> Result<Record> {
        let shape = self.shape.unwrap();
        self.input.write_all(b"r")?;
        let mut rows = |width: u32| self.floats(shape.rows() * width as usize);
        Ok(Record {
            inputs: rows(shape.inputs)?,
            hidden: rows(shape.neurons)?,
            modulator: rows(shape.modulators)?,
        })
    }

    fn learn(&mut self, by_heads: &[f32]) -> Result<Vec<f32>> {
        self.input.write_all(b"g")?;
        self.input.write_all(&bytes(by_heads))?;
        self.floats(self.shape.unwrap().parameters())
    }
}

fn compile(program: &Path, flags: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kernels = format!("-DKERNELS={:?}", folder.join("src/cuda/kernels.cu"));
    let status = Command::new("c++")
        .args(["-std=c++17", "-O2", "-pthread", &kernels])
        .args(flags)
        .arg(folder.join("tests/cuda/shim.cpp"))
        .arg("-o")
        .arg(program)
        .status();
    assert!(status.expect("c++ (gcc) is installed").success());
}

fn trainer<C: Course>(config: &Config, course: Result<C>) -> Trainer<C> {
    Trainer::new(config.clone(), course.unwrap()).unwrap()
}

/// The untrained network of a configuration, or with parameters of its own for a lively test: traces that reach their clip.
fn network(config: &Config, lively: bool) -> Model {
    let mut model = match config.task["name"].as_str() {
        Some("maze") => trainer(config, MazeCourse::new(config)).model().clone(),
        _ => trainer(config, CueCourse::new(config)).model().clone(),
    };
    if lively {
        for (name, parameter) in &mut model.parameters {
            let (centre, factor) = match name.as_str() {
                "recurrent.alpha" => (0.1, 6.0),
                "modulator.weight" | "policy.weight" => (0.0, 4.0),
                _ => (0.0, 1.0),
            };
            parameter.values.iter_mut().for_each(|x| *x = centre + factor * *x);
        }
    }
    model
}

fn distance(shim: &mut Shim, preset: &str, settings: &[&str], lively: bool, lifetimes: u32) -> Distance {
    let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
    let config = Config::load(preset, &settings).unwrap();
    let (model, task) = (network(&config, lively), config.task().unwrap());
    let path = Kernel::Portable.resolve().unwrap();
    let distance = compare(shim, &model, task, config.run.seed, lifetimes, &config.training, path);
    distance.unwrap_or_else(|error| panic!("{preset} {settings:?}: {error:#}"))
}

#[test]
fn tasks_are_the_cores_bit_for_bit() {
    let mut shim = Shim::new(true);
    let cue: [&[&str]; 9] = [
        &[],
        &["task.cues=2", "task.bits=1"],
        &["task.cues=16", "task.bits=32", "task.flip=0.3"],
        &["task.fixed=true", "task.time_input=false"],
        &["task.variant=paper", "task.bits=3", "run.seed=999999"],
        &["task.variant=paper", "task.fixed=true"],
        &["task.variant=paper", "task.longest_trial=7"],
        &["task.longest_trial=16"],
        &["task.cues=3", "task.bits=2", "task.steps=1"],
    ];
    let maze: [&[&str]; 6] = [
        &[],
        &["task.size=5", "task.wall_penalty=0.25"],
        &["task.size=31", "task.random_start=true", "task.time_input=false"],
        &["task.variant=paper", "task.goal_moves_every=7", "task.reward=3.5"],
        &["task.size=7", "task.goal_moves_every=1", "task.random_start=true"],
        &["task.size=13", "task.steps=777"],
    ];
    let cases = cue.map(|settings| ("cue-small", settings)).into_iter();
    for (preset, settings) in cases.chain(maze.map(|settings| ("maze-small", settings))) {
        let settings = [settings, &["network.hidden=5"]].concat();
        let distance = distance(&mut shim, preset, &settings, false, 20);
        // One in ten million draws is that close to a threshold.
        assert_eq!(distance.other_actions, 0, "{preset} {settings:?}");
    }
}

#[test]
fn networks_and_gradients_are_this_crates() {
    let mut settings: Vec<Vec<String>> = vec![vec!["network.rule=none".into(), "network.hidden=7".into()]];
    for granularity in ["single", "neuron", "connection"] {
        for rule in ["hebbian", "simple", "retroactive"] {
            let of = |coefficient: &str| format!("network.{coefficient}={granularity}");
            settings.push(vec![
                format!("network.rule={rule}"),
                of("alpha"),
                of("eta"),
                "network.clip=0.4".into(),
            ]);
        }
    }
    for (rule, squash) in [("simple", "sigmoid"), ("retroactive", "identity")] {
        let words = [format!("network.rule={rule}"), format!("network.squash={squash}")];
        let more = ["network.modulators=3", "network.fan_out=true", "network.hidden=12"];
        settings.push(words.into_iter().chain(more.map(Into::into)).collect());
    }
    for in_shared in [false, true] {
        let mut shim = Shim::new(in_shared);
        for settings in &settings {
            for steps in ["1", "11", "40"] {
                let steps = format!("task.steps={steps}");
                let mut all = vec!["network.hidden=9", "init.eta_hebbian=0.6", &steps];
                all.extend(settings.iter().map(String::as_str));
                let distance = distance(&mut shim, "cue-small", &all, true, 3);
                println!("{all:?} {distance:?}");
                assert!(distance.hidden < 2e-5 && distance.modulator < 2e-5, "{all:?}: {distance:?}");
                assert!(distance.gradient < 2e-4, "{all:?}: {distance:?}");
            }
        }
    }
}

/// Everything that a machine gives for a batch.
fn everything(shim: &mut Shim, config: &Config) -> (Lives, Record, Vec<f32>) {
    let world = World::new(config.task().unwrap(), config.run.seed, 7);
    let lives = play(shim, &network(config, true), world, 3).unwrap();
    let by_heads: Vec<f32> = lives.heads.iter().map(|y| y.sin()).collect();
    let gradient = shim.learn(&by_heads).unwrap();
    (lives, shim.record().unwrap(), gradient)
}

#[test]
fn threads_of_a_block_neither_race_nor_change_a_bit() {
    for in_shared in [true, false] {
        let mut alone = Shim::new(in_shared);
        // The sanitizer ends the program at the first race. With more optimisation it overlooks some.
        let mut together = Shim::with_threads(in_shared, 7, &["-fsanitize=thread", "-g", "-O1"]);
        for (preset, rule) in [
            ("cue-small", "none"),
            ("maze-small", "hebbian"),
            ("cue-small", "simple"),
            ("maze-small", "retroactive"),
        ] {
            let rule = format!("network.rule={rule}");
            let config = Config::load(preset, &[rule, "network.hidden=11".into(), "task.steps=18".into()]).unwrap();
            assert_eq!(everything(&mut alone, &config), everything(&mut together, &config), "{preset}");
        }
    }
}

#[test]
fn the_check_for_gpus_holds_here() {
    let options = Options {
        hidden: 16,
        iterations: 40,
        lifetimes: 3,
        seeds: 2,
        measured: 2,
    };
    let report = bench_cuda(&options, || Ok(Box::new(Shim::new(true)))).unwrap();
    println!("{report}");
    assert!(report.agrees, "{report}");
    assert!(report.speed.env_steps_per_second > 0.0);
}

#[test]
fn without_a_gpu_commands_say_what_is_missing() {
    for arguments in [["bench", "cuda", "--device", "cuda:999"], ["train", "cue", "--device", "cuda:999"]] {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Program::cargo_bin("backpropamine").unwrap();
        let output = program.args(arguments).current_dir(&folder).assert().code(4).get_output().clone();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("use --device cpu") || said.contains("libcuda"), "{said}");
        assert_eq!(
            folder.path().read_dir().unwrap().count(),
            0,
            "nothing is made for a run that cannot be"
        );
    }
}
