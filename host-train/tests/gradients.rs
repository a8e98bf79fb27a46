//! The fused recurrence against finite differences, against step-by-step automatic differentiation, and against itself
//! in single precision, on other instructions and on other numbers of threads.

use std::sync::Arc;

use backpropamine::digest::Digest;
use backpropamine::rule::{Granularity, Rule, Squash};
use backpropamine_train::recurrence::oracle::{self, ClipGradient};
use backpropamine_train::recurrence::{
    Backward, Clip, Forward, Kernel, Mask, Parameters, Path, Real, RecurrenceOp, Spec, Trajectory, Weights, backward,
};
use candle_core::{Device, Tensor, Var};

/// Inputs of the projection in front of the recurrence: neither the number of neurons nor of modulators.
const INPUTS: usize = 5;

/// A network and lifetimes to take gradients on: `x` goes through `Win x + b` into the recurrence, and the loss is
/// `Σ c·h` with fixed `c`.
struct Case {
    name: String,
    spec: Spec,
    steps: usize,
    batch: usize,
    parameters: Parameters<f64>,
    /// `[H, I]`
    input_weight: Vec<f64>,
    /// `[H]`
    input_bias: Vec<f64>,
    /// `[T, B, I]`
    x: Vec<f64>,
    /// `dL/dh`, `[T, B, H]`
    by_hidden: Vec<f64>,
}

/// What the clip decided for one connection at one update: whether it cut, and whether the soft clip took a positive increment.
type Decision = (bool, bool);

/// Uniform numbers in [-1, 1): a 64-bit linear congruential generator (Knuth's constants), upper half.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as f64 / 2f64.powi(31) - 1.0
    }

    fn many(&mut self, count: usize, scale: f64) -> Vec<f64> {
        (0..count).map(|_| scale * self.next()).collect()
    }
}

impl Case {
    fn new(name: &str, spec: Spec, steps: usize, batch: usize) -> Self {
        let mut noise = Noise(spec.hidden as u64 + 1000 * steps as u64);
        let mut parameters = Parameters::zeros(&spec);
        let hidden = spec.hidden;
        for (tensor, values) in parameters.tensors_mut() {
            let (centre, spread) = match tensor {
                "recurrent.weight" => (0.0, 1.2 / (hidden as f64).sqrt()),
                "recurrent.alpha" => (0.1, 0.4),
                "recurrent.eta" | "recurrent.hebbian_eta" => (0.5, 0.3),
                "modulator.fan_out.weight" => (0.5, 1.0),
                _ => (0.3, 0.7),
            };
            *values = noise.many(values.len(), spread).into_iter().map(|value| centre + value).collect();
        }
        Self {
            name: name.to_owned(),
            steps,
            batch,
            parameters,
            input_weight: noise.many(hidden * INPUTS, 0.7),
            input_bias: noise.many(hidden, 0.3),
            x: noise.many(steps * batch * INPUTS, 1.0),
            by_hidden: noise.many(steps * batch * hidden, 1.0),
            spec,
        }
    }

    /// The same network writing so much more at a time.
    fn with_rates_times(mut self, factor: f64) -> Self {
        for (tensor, values) in self.parameters.tensors_mut() {
            let is_rate = match self.spec.rule {
                Rule::Retroactive => tensor.starts_with("modulator.fan_out"),
                _ => tensor.starts_with("modulator.fan_out") || tensor.ends_with("eta"),
            };
            if is_rate {
                values.iter_mut().for_each(|value| *value *= factor);
            }
        }
        self
    }

    /// `Win x + b`, `[T, B, H]`.
    fn drive(&self) -> Vec<f64> {
        let rows = self.x.chunks_exact(INPUTS);
        rows.flat_map(|x| {
            self.input_weight
                .chunks_exact(INPUTS)
                .zip(&self.input_bias)
                .map(move |(weights, bias)| bias + weights.iter().zip(x).map(|(w, x)| w * x).sum::<f64>())
        })
        .collect()
    }

    fn weights<F: Real>(&self, parameters: &Parameters<f64>, path: Path) -> Weights<F> {
        let packed: Vec<F> = parameters.pack().into_iter().map(F::real).collect();
        let parameters = Parameters::unpack(&self.spec, &packed).unwrap();
        Weights::new(&self.spec, &parameters, path).unwrap()
    }

    fn run<F: Real>(&self, weights: &Weights<F>, drive: &[f64]) -> Vec<Trajectory<F>> {
        let neurons = self.spec.hidden;
        let lifetime = |b: usize| {
            let mut forward = Forward::new(weights, self.steps);
            for t in 0..self.steps {
                let drive: Vec<F> = drive[(t * self.batch + b) * neurons..][..neurons]
                    .iter()
                    .map(|&x| F::real(x))
                    .collect();
                forward.step(&drive);
            }
            forward.finish()
        };
        (0..self.batch).map(lifetime).collect()
    }

    fn gradient<F: Real>(&self, path: Path) -> Backward<F> {
        let weights = self.weights::<F>(&self.parameters, path);
        let trajectories = self.run(&weights, &self.drive());
        let by_hidden: Vec<F> = self.by_hidden.iter().map(|&value| F::real(value)).collect();
        backward(&weights, &trajectories, &by_hidden)
    }

    /// The loss, and what the clip decided for every connection and update.
    fn loss(&self, parameters: &Parameters<f64>, drive: &[f64]) -> (f64, Vec<Decision>) {
        let weights = self.weights::<f64>(parameters, portable());
        let (limit, soft) = (f64::from(self.spec.clip.limit()), self.spec.clip == Clip::Soft);
        let neurons = self.spec.hidden;
        let (mut loss, mut decisions) = (0.0, Vec::new());
        for b in 0..self.batch {
            let mut before = vec![0.0; neurons * neurons];
            let mut forward = Forward::new(&weights, self.steps);
            for t in 0..self.steps {
                let row = (t * self.batch + b) * neurons;
                let h = forward.step(&drive[row..][..neurons]);
                loss += h.iter().zip(&self.by_hidden[row..]).map(|(h, c)| h * c).sum::<f64>();
                let hebb = (0..neurons * neurons).filter_map(|index| forward.hebb(index / neurons, index % neurons));
                for (value, before) in hebb.zip(&mut before) {
                    decisions.push((value.abs() >= limit, soft && value > *before));
                    *before = value;
                }
            }
        }
        (loss, decisions)
    }

    fn share_cut(&self) -> f64 {
        let (_, decisions) = self.loss(&self.parameters, &self.drive());
        decisions.iter().filter(|(cut, _)| *cut).count() as f64 / decisions.len().max(1) as f64
    }
}

fn portable() -> Path {
    Kernel::Portable.resolve().unwrap()
}

fn paths() -> Vec<Path> {
    [Kernel::Portable, Kernel::Avx2, Kernel::Avx512, Kernel::Neon]
        .into_iter()
        .filter_map(|kernel| kernel.resolve().ok())
        .collect()
}

fn difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let distance = norm(&mut a.iter().zip(b).map(|(a, b)| a - b));
    distance / norm(&mut b.iter().copied()).max(f64::MIN_POSITIVE)
}

fn wide<F: Real>(values: &[F]) -> Vec<f64> {
    values.iter().map(|value| value.to_f64()).collect()
}

fn modulated(hidden: usize, rule: Rule, change: impl Fn(&mut Spec)) -> Spec {
    let mut spec = Spec::new(hidden, rule);
    change(&mut spec);
    spec
}

fn mask(hidden: usize, eta: Granularity) -> Option<Mask> {
    Some(Mask {
        modulated: (0..hidden).map(|j| j % 5 != 1 && j % 7 != 2).collect(),
        eta,
    })
}

/// A name and what it changes.
type Variant<'a> = (&'a str, &'a dyn Fn(&mut Spec));

/// Every rule, with every option of it, in sizes that a transposition or a padding mistake cannot survive.
fn cases() -> Vec<Case> {
    use Granularity::{PerConnection, PerNeuron, Single};
    let mut cases = vec![
        Case::new("non-plastic", Spec::new(7, Rule::NonPlastic), 9, 3),
        Case::new("non-plastic, 3 blocks", Spec::new(35, Rule::NonPlastic), 5, 2),
    ];
    for eta in [Single, PerNeuron, PerConnection] {
        for (hidden, steps, batch, alpha) in [(7, 9, 3, PerConnection), (18, 7, 2, PerNeuron)] {
            for rule in [Rule::Hebbian, Rule::Retroactive] {
                let spec = modulated(hidden, rule, |spec| (spec.eta, spec.alpha) = (eta, alpha));
                cases.push(Case::new(&format!("{rule:?}, eta {eta:?}, alpha {alpha:?}"), spec, steps, batch));
            }
        }
    }
    for (rule, eta) in [
        (Rule::Modulated, Granularity::Absent),
        (Rule::Retroactive, Single),
        (Rule::Retroactive, PerConnection),
    ] {
        let base = |change: &dyn Fn(&mut Spec)| {
            modulated(9, rule, |spec| {
                spec.eta = eta;
                change(spec);
            })
        };
        let options: [Variant; 8] = [
            ("plain", &|_| {}),
            ("two modulators", &|spec| spec.modulators = 2),
            ("fan-out", &|spec| spec.fan_out = true),
            ("fan-out of three sigmoid modulators", &|spec| {
                (spec.modulators, spec.fan_out, spec.squash) = (3, true, Squash::Sigmoid);
            }),
            ("identity, clip 2", &|spec| {
                (spec.squash, spec.clip) = (Squash::Identity, Clip::Hard(2.0))
            }),
            ("partly modulated", &|spec| (spec.mask, spec.alpha) = (mask(9, Single), Single)),
            ("partly modulated, fan-out", &|spec| {
                (spec.mask, spec.fan_out) = (mask(9, PerNeuron), true)
            }),
            ("partly modulated, a Hebbian rate per connection", &|spec| {
                spec.mask = mask(9, PerConnection);
            }),
        ];
        for (name, change) in options {
            cases.push(Case::new(&format!("{rule:?}, eta {eta:?}, {name}"), base(change), 10, 3));
        }
    }
    // 67 neurons: four blocks of columns and a fifth, the widths in which the reverse sweep walks.
    for rule in [Rule::Hebbian, Rule::Modulated, Rule::Retroactive] {
        cases.push(Case::new(&format!("{rule:?}, 5 blocks"), Spec::new(67, rule), 8, 1));
    }
    cases
}

/// Every clip that is not hard with every rule that it suits, at everyday rates and at ones that are cut at the limit.
fn shaped_cases() -> Vec<Case> {
    use Granularity::{PerConnection, PerNeuron, Single};
    let mut cases = Vec::new();
    for clip in [Clip::Soft, Clip::Decay, Clip::Oja] {
        for (rule, eta, hidden) in [
            (Rule::Hebbian, Single, 7),
            (Rule::Hebbian, PerConnection, 18),
            (Rule::Modulated, Granularity::Absent, 9),
            (Rule::Retroactive, PerNeuron, 7),
            (Rule::Retroactive, PerConnection, 18),
        ] {
            let base = modulated(hidden, rule, |spec| (spec.clip, spec.eta) = (clip, eta));
            if !clip.kind().suits(rule) {
                continue;
            }
            cases.push(Case::new(&format!("{clip:?}, {rule:?}, eta {eta:?}"), base.clone(), 9, 2));
            let mut strong = base.clone();
            strong.fan_out = rule.is_modulated();
            cases.push(
                Case::new(&format!("{clip:?}, {rule:?}, eta {eta:?}, strong"), strong, 9, 2).with_rates_times(if rule.has_eligibility() {
                    15.0
                } else {
                    6.0
                }),
            );
            if rule.is_modulated() {
                for eta in [Single, PerConnection] {
                    let mut masked = base.clone();
                    (masked.mask, masked.modulators, masked.fan_out) = (mask(hidden, eta), 2, true);
                    cases.push(Case::new(&format!("{clip:?}, {rule:?}, masked, eta {eta:?}"), masked, 9, 2));
                }
            }
        }
        // Five blocks of columns, walked in panels of different widths.
        let wide = modulated(67, Rule::Modulated, |spec| spec.clip = clip);
        cases.push(Case::new(&format!("{clip:?}, 5 blocks"), wide, 8, 1));
    }
    cases
}

/// Those of them whose updates are large enough to be cut.
fn strong_cases() -> Vec<Case> {
    shaped_cases().into_iter().filter(|case| case.name.ends_with("strong")).collect()
}

#[test]
fn strong_rates_are_cut_whatever_the_clip() {
    for case in strong_cases() {
        let share = case.share_cut();
        assert!(share > 0.02 && share < 0.9, "{}: {share:.3} of the updates are cut", case.name);
    }
}

/// The same cases with a limit so tight that more than a fifth of all updates are cut.
fn tight_cases() -> Vec<Case> {
    let tighten = |mut case: Case| {
        case.spec.clip = Clip::Hard(0.03);
        case.name += ", tight clip";
        case
    };
    cases()
        .into_iter()
        .filter(|case| case.spec.rule.is_plastic())
        .map(tighten)
        .collect()
}

#[test]
fn tight_limits_cut_more_than_a_fifth_of_the_updates() {
    for case in tight_cases() {
        let share = case.share_cut();
        assert!(share > 0.2 && share < 0.9, "{}: {share:.3} of the updates are cut", case.name);
    }
}

/// Central differences of the coordinates of one tensor, where some perturbation changes no clip decision.
fn finite_differences(count: usize, loss: impl Fn(usize, f64) -> (f64, Vec<Decision>)) -> Vec<Option<f64>> {
    let difference = |index: usize, step: f64| {
        let ((above, cut_above), (below, cut_below)) = (loss(index, step), loss(index, -step));
        (cut_above == cut_below).then_some((above - below) / (2.0 * step))
    };
    (0..count)
        .map(|index| difference(index, 1e-5).or_else(|| difference(index, 1e-6)))
        .collect()
}

fn assert_finite_differences(case: &Case, tensor: &str, gradient: &[f64], loss: impl Fn(usize, f64) -> (f64, Vec<Decision>)) {
    let differences = finite_differences(gradient.len(), loss);
    let (measured, computed): (Vec<f64>, Vec<f64>) = differences
        .iter()
        .zip(gradient)
        .filter_map(|(difference, &gradient)| difference.map(|d| (d, gradient)))
        .unzip();
    let left_out = gradient.len() - measured.len();
    assert!(
        left_out * 10 <= gradient.len(),
        "{}: {tensor}: {left_out} of {} coordinates flip the clip",
        case.name,
        gradient.len()
    );
    let error = difference(&computed, &measured);
    assert!(
        error <= 1e-6,
        "{}: {tensor}: {error:.2e} off finite differences ({left_out} left out)",
        case.name
    );
}

fn check_finite_differences(case: &Case) {
    let gradient = case.gradient::<f64>(portable());
    let drive = case.drive();
    for (index, (tensor, values)) in gradient.parameters.tensors().into_iter().enumerate() {
        if values.is_empty() {
            continue;
        }
        assert_finite_differences(case, tensor, values, |coordinate, step| {
            let mut parameters = case.parameters.clone();
            parameters.tensors_mut()[index].1[coordinate] += step;
            case.loss(&parameters, &drive)
        });
    }
    assert_finite_differences(case, "drive", &gradient.drive, |coordinate, step| {
        let mut drive = drive.clone();
        drive[coordinate] += step;
        case.loss(&case.parameters, &drive)
    });
}

#[test]
fn every_gradient_agrees_with_finite_differences() {
    cases()
        .iter()
        .filter(|case| case.spec.hidden < 30)
        .for_each(check_finite_differences);
}

#[test]
fn every_clip_agrees_with_finite_differences() {
    shaped_cases()
        .iter()
        .filter(|case| case.spec.hidden < 30)
        .for_each(check_finite_differences);
}

#[test]
fn every_gradient_agrees_with_finite_differences_where_the_clip_cuts() {
    tight_cases()
        .iter()
        .filter(|case| case.spec.hidden < 30)
        .for_each(check_finite_differences);
}

/// Gradients of input weights, input bias and packed parameters, and `h`, through a Candle graph around `recurrence`.
fn through_candle(case: &Case, recurrence: impl Fn(&Tensor, &Tensor) -> Tensor) -> [(&'static str, Vec<f64>); 4] {
    let device = Device::Cpu;
    let (neurons, rows) = (case.spec.hidden, case.steps * case.batch);
    let var = |values: &[f64], shape: &[usize]| Var::from_tensor(&Tensor::from_slice(values, shape, &device).unwrap()).unwrap();
    let input_weight = var(&case.input_weight, &[neurons, INPUTS]);
    let input_bias = var(&case.input_bias, &[neurons]);
    let packed_values = case.parameters.pack();
    let packed = var(&packed_values, &[packed_values.len()]);

    let x = Tensor::from_slice(&case.x, (rows, INPUTS), &device).unwrap();
    let drive = x.matmul(&input_weight.t().unwrap()).unwrap().broadcast_add(&input_bias).unwrap();
    let drive = drive.reshape((case.steps, case.batch, neurons)).unwrap();
    let hidden = recurrence(&drive, &packed);
    let by_hidden = Tensor::from_slice(&case.by_hidden, hidden.shape(), &device).unwrap();
    let store = (&hidden * by_hidden).unwrap().sum_all().unwrap().backward().unwrap();
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    [
        ("h", flat(&hidden)),
        ("input.weight", flat(store.get(&input_weight).unwrap())),
        ("input.bias", flat(store.get(&input_bias).unwrap())),
        ("parameters", flat(store.get(&packed).unwrap())),
    ]
}

/// The largest relative difference between the fused operation and the oracle, over `h` and every gradient.
fn off_the_oracle(case: &Case, path: Path, clip: ClipGradient) -> (f64, String) {
    let fused = through_candle(case, |drive, packed| {
        let weights = Arc::new(case.weights::<f64>(&case.parameters, path));
        let trajectories = Arc::new(case.run(&weights, &wide(&drive.flatten_all().unwrap().to_vec1::<f64>().unwrap())));
        RecurrenceOp::new(weights, trajectories).apply(drive, packed).unwrap()
    });
    let expected = through_candle(case, |drive, packed| {
        oracle::hidden::<f64>(&case.spec, drive, packed, clip).unwrap()
    });
    let mut worst = (0.0, String::new());
    let mut compare = |tensor: &str, fused: &[f64], expected: &[f64]| {
        let error = difference(fused, expected);
        if error > worst.0 || error.is_nan() {
            worst = (error, format!("{}: {tensor}: {error:.2e} off the oracle", case.name));
        }
    };
    for ((tensor, fused), (_, expected)) in fused[..3].iter().zip(&expected) {
        compare(tensor, fused, expected);
    }
    let unpack = |packed: &[f64]| Parameters::unpack(&case.spec, packed).unwrap();
    let (fused, expected) = (unpack(&fused[3].1), unpack(&expected[3].1));
    for ((tensor, fused), (_, expected)) in fused.tensors().into_iter().zip(expected.tensors()) {
        compare(tensor, fused, expected);
    }
    worst
}

#[test]
fn every_gradient_agrees_with_step_by_step_differentiation() {
    for case in cases().iter().chain(&tight_cases()).chain(&shaped_cases()) {
        for path in paths() {
            let (error, report) = off_the_oracle(case, path, ClipGradient::Masked);
            assert!(error <= 1e-9, "{:?}: {report}", path.kernel());
        }
    }
}

#[test]
fn a_lost_clip_mask_is_noticed() {
    for case in tight_cases().into_iter().chain(strong_cases()) {
        let (error, _) = off_the_oracle(&case, portable(), ClipGradient::Everywhere);
        assert!(error > 1e-3, "{}: the mask made a difference of {error:.2e} only", case.name);
    }
}

#[test]
fn single_precision_agrees_with_double() {
    for case in cases().iter().chain(&tight_cases()).chain(&shaped_cases()) {
        let expected = case.gradient::<f64>(portable());
        for path in paths() {
            let found = case.gradient::<f32>(path);
            let tensors = found.parameters.tensors().into_iter().zip(expected.parameters.tensors());
            for ((tensor, found), (_, expected)) in tensors {
                let error = difference(&wide(found), expected);
                assert!(error <= 1e-3, "{:?}: {}: {tensor}: {error:.2e} off f64", path.kernel(), case.name);
            }
            let error = difference(&wide(&found.drive), &expected.drive);
            assert!(error <= 1e-3, "{:?}: {}: drive: {error:.2e} off f64", path.kernel(), case.name);
        }
    }
}

/// All paths that fuse multiplication and addition share one order of operations, so they share their bits.
#[test]
fn fused_paths_agree_bit_for_bit() {
    let fused: Vec<Path> = paths().into_iter().filter(|path| path.kernel() != Kernel::Portable).collect();
    for case in cases().iter().chain(&shaped_cases()) {
        let gradients: Vec<Vec<f32>> = fused.iter().map(|&path| case.gradient::<f32>(path).parameters.pack()).collect();
        assert!(gradients.windows(2).all(|pair| pair[0] == pair[1]), "{}", case.name);
    }
}

/// The bits of every path are the same on all machines that have it, and the fused paths of x86-64 and of Arm share theirs.
/// After a change of the order of operations, the message has the new digest.
#[test]
fn bits_are_those_of_every_other_machine() {
    for path in paths() {
        let mut digest = Digest::new();
        for rule in [Rule::Hebbian, Rule::Modulated, Rule::Retroactive] {
            let gradient = Case::new("pinned", Spec::new(33, rule), 20, 7).gradient::<f32>(path);
            let values = gradient.parameters.pack().into_iter().chain(gradient.drive);
            values.for_each(|value| digest.word(value.to_bits()));
        }
        let expected = match path.kernel() {
            Kernel::Portable => 0x48f4_3a8c_fea7_83bb,
            _ => 0x5c5a_53d1_0fa0_9aeb,
        };
        assert_eq!(digest.value(), expected, "{:?}: {:#018x}", path.kernel(), digest.value());
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let case = Case::new("retroactive", Spec::new(33, Rule::Retroactive), 20, 7);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let gradient = pool.install(|| case.gradient::<f32>(Kernel::Auto.resolve().unwrap()));
        (gradient.parameters.pack(), gradient.drive)
    };
    let one = run(1);
    assert!(one == run(2) && one == run(3), "the gradient depends on the number of threads");
}

#[test]
fn nonsense_is_refused_by_a_sentence() {
    let refused = |spec: Spec| {
        Weights::new(&spec, &Parameters::<f32>::zeros(&spec), portable())
            .unwrap_err()
            .to_string()
    };
    let sentences = [
        (modulated(4, Rule::Hebbian, |spec| spec.fan_out = true), "fan-out"),
        (modulated(4, Rule::Hebbian, |spec| spec.modulators = 1), "modulators"),
        (modulated(4, Rule::Modulated, |spec| spec.modulators = 0), "modulators"),
        (modulated(4, Rule::Modulated, |spec| spec.eta = Granularity::Single), "eta"),
        (modulated(4, Rule::NonPlastic, |spec| spec.alpha = Granularity::Single), "alpha"),
        (
            modulated(4, Rule::Retroactive, |spec| spec.mask = mask(3, Granularity::Single)),
            "mask",
        ),
        (modulated(4, Rule::Retroactive, |spec| spec.clip = Clip::Hard(0.0)), "limit"),
        (modulated(4, Rule::Hebbian, |spec| spec.mask = mask(4, Granularity::Single)), "mask"),
        (
            modulated(4, Rule::Modulated, |spec| spec.mask = mask(4, Granularity::Absent)),
            "Hebbian rate",
        ),
        (modulated(4, Rule::Retroactive, |spec| spec.clip = Clip::Decay), "eligibility"),
        (modulated(4, Rule::Retroactive, |spec| spec.clip = Clip::Oja), "eligibility"),
    ];
    for (spec, word) in sentences {
        let sentence = refused(spec);
        assert!(sentence.contains(word), "{sentence}");
    }
    let spec = Spec::new(4, Rule::Modulated);
    let short = Parameters::<f32> {
        alpha: vec![0.0; 3],
        ..Parameters::zeros(&spec)
    };
    let sentence = Weights::new(&spec, &short, portable()).unwrap_err().to_string();
    assert_eq!(sentence, "recurrent.alpha: expected 16 numbers, found 3");
}
