//! The CUDA kernels, compiled as host code by the system's C++ compiler, against the passes of this crate.

use std::fs;
use std::path::Path;
use std::process::Command;

use backpropamine::rule::{Granularity, Rule, Squash};
use backpropamine_train::recurrence::cuda::{Shape, fold, spread};
use backpropamine_train::recurrence::{Clip, Forward, Kernel, Parameters, Spec, Trajectory, Weights, backward};

/// Uniform numbers in [-1, 1): a 64-bit linear congruential generator (Knuth's constants), upper half.
struct Noise(u64);

impl Noise {
    fn many(&mut self, count: usize, centre: f32, spread: f32) -> Vec<f32> {
        let mut next = || {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 32) as f32 / 2f32.powi(31) - 1.0
        };
        (0..count).map(|_| centre + spread * next()).collect()
    }
}

fn parameters(spec: &Spec, noise: &mut Noise) -> Parameters<f32> {
    let mut parameters = Parameters::zeros(spec);
    for (tensor, values) in parameters.tensors_mut() {
        let (centre, spread) = match tensor {
            "recurrent.weight" => (0.0, 1.2 / (spec.hidden as f32).sqrt()),
            "recurrent.alpha" => (0.1, 0.4),
            "recurrent.eta" => (0.5, 0.3),
            _ => (0.3, 0.7),
        };
        *values = noise.many(values.len(), centre, spread);
    }
    parameters
}

fn specs() -> Vec<Spec> {
    let mut all = vec![Spec::new(7, Rule::NonPlastic)];
    for granularity in [Granularity::Single, Granularity::PerNeuron, Granularity::PerConnection] {
        for rule in [Rule::Hebbian, Rule::Modulated, Rule::Retroactive] {
            let mut spec = Spec::new(9, rule);
            spec.alpha = granularity;
            spec.clip = Clip::Hard(0.4);
            if rule.has_eta() {
                spec.eta = granularity;
            }
            all.push(spec);
        }
    }
    for (rule, squash) in [(Rule::Modulated, Squash::Sigmoid), (Rule::Retroactive, Squash::Identity)] {
        let mut spec = Spec::new(12, rule);
        (spec.modulators, spec.fan_out, spec.squash) = (3, true, squash);
        all.push(spec);
    }
    all
}

fn compile(program: &Path) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kernels = format!("-DKERNELS={:?}", folder.join("src/recurrence/cuda/kernels.cu"));
    let status = Command::new("c++")
        .args(["-std=c++17", "-O1", &kernels])
        .arg(folder.join("tests/cuda/shim.cpp"))
        .arg("-o")
        .arg(program)
        .status();
    assert!(status.expect("c++ (gcc) is installed").success());
}

fn close(what: &str, ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let largest = theirs.iter().fold(1.0f32, |largest, x| largest.max(x.abs()));
    for (index, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= tolerance * largest, "{what}[{index}]: {a} on the shim, {b} here");
    }
}

/// A forward pass over all lifetimes.
fn lifetimes(weights: &Weights<f32>, drive: &[f32], steps: usize, batch: usize) -> Vec<Trajectory<f32>> {
    let neurons = weights.spec().hidden;
    let one = |b: usize| {
        let mut forward = Forward::new(weights, steps);
        for t in 0..steps {
            forward.step(&drive[(t * batch + b) * neurons..][..neurons]);
        }
        forward.finish()
    };
    (0..batch).map(one).collect()
}

fn compare(program: &Path, spec: &Spec, steps: usize, batch: usize, in_shared: i32) {
    let mut noise = Noise(spec.hidden as u64 + 1000 * steps as u64);
    let parameters = parameters(spec, &mut noise);
    let vectors = steps * batch * spec.hidden;
    let (drive, by_hidden) = (noise.many(vectors, 0.0, 1.0), noise.many(vectors, 0.0, 1.0));
    let mut shape = Shape::new(spec, steps, batch).unwrap();
    shape.in_shared = in_shared;
    let numbers = [spread(spec, &parameters), drive.clone(), by_hidden.clone()].concat();
    let mut case = shape.bytes();
    case.extend(numbers.iter().flat_map(|x| x.to_ne_bytes()));
    let (input, output) = (program.with_extension("in"), program.with_extension("out"));
    fs::write(&input, case).unwrap();
    assert!(Command::new(program).args([&input, &output]).status().unwrap().success());
    let result = fs::read(&output).unwrap();
    let result: Vec<f32> = result.chunks_exact(4).map(|b| f32::from_ne_bytes(b.try_into().unwrap())).collect();

    let weights = Weights::new(spec, &parameters, Kernel::Portable.resolve().unwrap()).unwrap();
    let ours = lifetimes(&weights, &drive, steps, batch);
    let every = || (0..steps).flat_map(|t| ours.iter().map(move |one| (one, t)));
    let hidden: Vec<f32> = every().flat_map(|(one, t)| one.hidden(t)).copied().collect();
    let modulator: Vec<f32> = every().flat_map(|(one, t)| one.modulator(t)).copied().collect();
    let (their_hidden, rest) = result.split_at(vectors);
    let (their_modulator, rest) = rest.split_at(modulator.len());
    let (their_drive, their_gradient) = rest.split_at(vectors);
    close("h", their_hidden, &hidden, 2e-5);
    close("m", their_modulator, &modulator, 2e-5);
    let gradient = backward(&weights, &ours, &by_hidden);
    close("drive", their_drive, &gradient.drive, 2e-4);
    let folded = fold(spec, their_gradient);
    for ((name, theirs), (_, here)) in folded.tensors().into_iter().zip(gradient.parameters.tensors()) {
        close(name, theirs, here, 2e-4);
    }
}

#[test]
fn kernels_as_host_code_agree_with_this_crate() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("shim");
    compile(&program);
    for spec in specs() {
        for (steps, in_shared) in [(1, 0), (11, 0), (16, 1)] {
            compare(&program, &spec, steps, 3, in_shared);
        }
    }
}
