//! Are the functions that fix the bits what they are said to be? Generator, tanh, softmax and sampling.

use std::thread;

use backpropamine::math::{exp_neg_q16, tanh_f32, tanh_micromath, tanh_q15};
use backpropamine::policy::{Policy, greedy};
use backpropamine::rng::{Rng, Stream, threefry2x32};
use backpropamine::scalar::{Q15, Q16};

/// The known answers that are published with Random123 (Salmon et al., SC 2011): zeros, ones, digits of pi.
#[test]
fn threefry_gives_the_published_answers() {
    for (counter, key, answer) in [
        ([0, 0], [0, 0], [0x6b20_0159, 0x99ba_4efe]),
        ([u32::MAX; 2], [u32::MAX; 2], [0x1cb9_96fc, 0xbb00_2be7]),
        ([0x243f_6a88, 0x85a3_08d3], [0x1319_8a2e, 0x0370_7344], [0xc492_3a9c, 0x483d_f7a0]),
    ] {
        assert_eq!(threefry2x32(key, counter), answer);
    }
}

#[test]
fn draws_differ_in_every_coordinate() {
    let draw = |seed, stream, episode, step, index| Rng::new(seed).lifetime(stream, episode).draw(step, index);
    let first = draw(1, Stream::Task, 0, 0, 0);
    for other in [
        draw(2, Stream::Task, 0, 0, 0),
        draw(1 << 32 | 1, Stream::Task, 0, 0, 0),
        draw(1, Stream::Action, 0, 0, 0),
        draw(1, Stream::Task, 1, 0, 0),
        draw(1, Stream::Task, 0, 1, 0),
        draw(1, Stream::Task, 0, 0, 1),
        draw(1, Stream::Task, 0, 0, 2),
    ] {
        assert_ne!(first, other);
    }
}

#[test]
fn numbers_below_n_are_uniform() {
    let lifetime = Rng::new(5).lifetime(Stream::Task, 0);
    for n in [1, 2, 3, 7] {
        let mut counts = vec![0u32; n as usize];
        (0..30_000).for_each(|step| counts[lifetime.below(step, 0, n) as usize] += 1);
        let p = 1.0 / f64::from(n);
        let deviation = (30_000.0 * p * (1.0 - p)).sqrt();
        for count in counts {
            assert!((f64::from(count) - 30_000.0 * p).abs() <= 5.0 * deviation);
        }
    }
}

fn assert_tanh(bits: u32) {
    let x = f32::from_bits(bits);
    let found = tanh_f32(x);
    let exact = f64::from(x).tanh();
    assert!(
        (f64::from(found) - exact).abs() <= 3e-7,
        "tanh({x:e}) = {found:e}, exactly {exact:e}"
    );
    assert!(found.abs() <= 1.0, "tanh({x:e}) = {found:e}");
    assert_eq!(tanh_f32(-x).to_bits(), (-found).to_bits(), "tanh is odd at {x:e}");
}

/// Every f32 from 2^-13 to 10, both signs. Below, tanh(x) is x to within its last bit, and above it is 1, so that a
/// sample does there.
#[test]
fn tanh_f32_is_within_3e_7_of_every_input() {
    let (low, high) = (2f32.powi(-13).to_bits(), 10f32.to_bits());
    let threads = thread::available_parallelism().map_or(1, usize::from) as u32;
    thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || (low + thread..=high).step_by(threads as usize).for_each(assert_tanh));
        }
    });
    (0..low)
        .step_by(4_001)
        .chain((high..=f32::MAX.to_bits()).step_by(4_001))
        .for_each(assert_tanh);
    assert_tanh(f32::MAX.to_bits());
    assert!(tanh_f32(f32::NAN).is_nan());
}

#[test]
fn micromath_s_tanh_is_coarser_but_within_its_bound() {
    let error = |x: f32| (f64::from(tanh_micromath(x)) - f64::from(x).tanh()).abs();
    let worst = (-200_000..200_000).map(|step| error(step as f32 * 1e-4)).fold(0.0, f64::max);
    assert!((1e-4..2e-3).contains(&worst), "worst error {worst:e}");
}

/// Argument in Q27, result in Q15: every argument. The lowest five bits make no difference, so the exact value is needed at
/// the ends of 32 arguments only, between which it lies.
#[test]
fn tanh_q15_is_within_two_units_of_every_input() {
    let check = |group: i32| {
        let arguments = group << 5..(group << 5) + 32;
        let found = i32::from(tanh_q15(arguments.start));
        for z in arguments.clone() {
            assert_eq!(i32::from(tanh_q15(z)), found, "tanh_q15({z})");
            assert_eq!(i32::from(tanh_q15(-z)), -found, "tanh_q15 is odd at {z}");
        }
        for z in [arguments.start, arguments.end - 1] {
            let exact = 32_768.0 * (f64::from(z) / f64::from(1 << 27)).tanh();
            assert!((f64::from(found) - exact).abs() <= 2.0, "tanh_q15({z}) = {found}, exactly {exact}");
        }
        let next = i32::from(tanh_q15(arguments.end));
        assert!(next >= found, "tanh_q15 never falls, but does at {}", arguments.end);
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for first in 0..threads {
            scope.spawn(move || (0..1 << 25).skip(first).step_by(threads).for_each(check));
        }
    });
    // Beyond 8 it stays what it is at 8.
    for z in (1 << 30..=i32::MAX).step_by(997).chain([i32::MAX]) {
        assert_eq!((tanh_q15(z), tanh_q15(-z)), (32_767, -32_767), "tanh_q15({z})");
    }
    assert_eq!(tanh_q15(i32::MIN), -32_767);
    for knot in 0..512 {
        let exact = (32_768.0 * (f64::from(knot) / 64.0).tanh()).round().min(32_767.0);
        assert_eq!(f64::from(tanh_q15(knot << 21)), exact, "knot {knot}");
    }
}

#[test]
fn the_integer_exponential_is_within_its_bound() {
    let mut before = u32::MAX;
    for distance in 0..25u32 << 16 {
        let found = exp_neg_q16(distance);
        let exact = f64::from(1 << 30) * (-f64::from(distance) / 65_536.0).exp();
        let bound = 3e-5 * exact + 1.0;
        assert!(
            (f64::from(found) - exact).abs() <= bound,
            "exp_neg_q16({distance}) = {found}, exactly {exact}"
        );
        assert!(found <= before, "exp_neg_q16 never rises, but does at {distance}");
        before = found;
    }
}

const LOGITS: [&[f32]; 5] = [
    &[0.0],
    &[0.3, -0.4],
    &[2.0, 2.0, -1.5],
    &[-9.0, 3.0, 1.0, 2.5],
    &[40.0, -40.0, 39.0],
];

fn softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|logit| f64::from(logit - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

/// The share of all 2^32 draws that choose each action, by bisection: the action never falls as the draw rises.
fn shares(actions: usize, sample: impl Fn(u32) -> usize) -> Vec<f64> {
    let first_draw_above = |action: usize| {
        let (mut low, mut high) = (0u64, 1 << 32);
        while low < high {
            let middle = (low + high) / 2;
            if sample(middle as u32) > action {
                high = middle
            } else {
                low = middle + 1
            }
        }
        low as f64 / 2f64.powi(32)
    };
    let mut from = 0.0;
    (0..actions)
        .map(|action| {
            let to = first_draw_above(action);
            let share = to - from;
            from = to;
            share
        })
        .collect()
}

#[test]
fn the_shares_of_the_draws_are_the_softmax() {
    for logits in LOGITS {
        let fixed: Vec<Q16> = logits.iter().map(|&logit| Q16::from_f32(logit)).collect();
        let found_f32 = shares(logits.len(), |draw| Policy::Sample.choose::<f32>(logits, draw));
        let found_q16 = shares(logits.len(), |draw| Policy::Sample.choose::<Q15>(&fixed, draw));
        for ((p, f32), q16) in softmax(logits).into_iter().zip(found_f32).zip(found_q16) {
            assert!((f32 - p).abs() < 5e-7, "{logits:?} in f32: {f32}, exactly {p}");
            assert!((q16 - p).abs() < 3e-5, "{logits:?} in Q16: {q16}, exactly {p}");
        }
    }
}

#[test]
fn an_action_without_weight_is_never_taken() {
    let logits = [-200.0, 0.0, -200.0];
    let fixed = logits.map(Q16::from_f32);
    for draw in [0, 1, 1 << 31, u32::MAX] {
        assert_eq!(Policy::Sample.choose::<f32>(&logits, draw), 1);
        assert_eq!(Policy::Sample.choose::<Q15>(&fixed, draw), 1);
    }
}

#[test]
fn sampled_frequencies_are_the_softmax() {
    let draws = Rng::new(9).lifetime(Stream::Action, 0);
    for logits in LOGITS {
        let mut counts = vec![0u32; logits.len()];
        (0..50_000).for_each(|step| counts[Policy::Sample.choose::<f32>(logits, draws.draw(step, 0))] += 1);
        for (p, count) in softmax(logits).into_iter().zip(counts) {
            let deviation = (50_000.0 * p * (1.0 - p)).sqrt();
            assert!(
                (f64::from(count) - 50_000.0 * p).abs() <= 5.0 * deviation + 1.0,
                "{logits:?}: {count}, p = {p}"
            );
        }
    }
}

#[test]
fn greedy_takes_the_first_of_the_largest() {
    assert_eq!(greedy(&[0.0, -1.0, 0.0]), 0);
    assert_eq!(greedy(&[-3.0, -1.0, -1.0]), 1);
    assert_eq!(greedy(&[Q16::from_f32(1.0), Q16::from_f32(1.5)]), 1);
}

#[test]
fn conversions_round_to_nearest_and_saturate() {
    assert_eq!(Q15::from_f32(1.0).to_bits(), i16::MAX);
    assert_eq!(Q15::from_f32(-1.0).to_bits(), i16::MIN);
    assert_eq!(Q15::from_f32(-7.0).to_bits(), i16::MIN);
    assert_eq!(Q16::from_f32(1e9).to_bits(), i32::MAX);
    for bits in [-32_768i16, -32_767, -3, -1, 0, 1, 2, 12_345, 32_767] {
        assert_eq!(Q15::from_f32(Q15::from_bits(bits).to_f32()).to_bits(), bits);
        let between = (f32::from(bits) + 0.4) / 32_768.0;
        assert_eq!(Q15::from_f32(between).to_bits(), bits);
    }
    // Whole numbers of every f32 binade: a half added before truncating would be lost, or round by itself.
    for bits in (0..31).flat_map(|binade| [(1i32 << binade) + 1, (1 << binade) - 1, -(1 << binade) - 1]) {
        let exact = bits as f32 as i32;
        assert_eq!(Q16::from_f32(Q16::from_bits(exact).to_f32()).to_bits(), exact);
    }
    assert_eq!(Q16::from_f32(0.499_999_97 / 65_536.0).to_bits(), 0);
    assert_eq!(Q16::from_f32(f32::NAN).to_bits(), 0);
}
