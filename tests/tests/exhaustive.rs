//! Is every rounding and saturation what `core/FORMAT.md` says? The elementary operations of fixed point against the same
//! sentences in 64-bit integers without shifts: on every input where there are at most 2^32, and else on every combination of
//! the numbers at which something can happen.
//!
//! | operation | inputs tried |
//! |---|---|
//! | q15 `sat16(H + d)`, `round(g·x, 15)`, gain | all 2^32 pairs |
//! | q7 `sat8(H + near(g·x, G))`, gain, E | all of both 8-bit numbers and all or [`notable`] 16-bit ones |
//! | q15 soft, decay, Oja, E; any G | [`notable`] numbers in every place |
//! | `from_f32` | all 2^32 bit patterns |
//! | outputs of 64-bit accumulators | [`notable`] numbers at every scale |

use std::thread;

use backpropamine::scalar::{Q7, Q15, Q16, Scalar};

// The kernels' trait is private; through the bound they can be called all the same.
fn bump<S: Scalar>(hebb: S, gain: S::Gain, factor: S, bounds: S::Bounds) -> S {
    S::bump(hebb, gain, factor, bounds)
}
fn soft<S: Scalar>(hebb: S, gain: S::Gain, factor: S, bounds: S::Bounds) -> S {
    S::soft(hebb, gain, factor, bounds)
}
fn decay<S: Scalar>(hebb: S, rate: S::Gain, post: S, pre: S, bounds: S::Bounds) -> S {
    S::decay(hebb, rate, post, pre, bounds)
}
fn oja<S: Scalar>(hebb: S, rate: S::Gain, post: S, pre: S, bounds: S::Bounds) -> S {
    S::oja(hebb, rate, post, pre, bounds)
}
fn drift<S: Scalar>(eligibility: S, eta: S::Rate, post: S, pre: S) -> S {
    S::drift(eligibility, eta, post, pre)
}
fn times<S: Scalar>(gain: S::Gain, post: S) -> S::Gain {
    S::times(gain, post)
}
fn output<S: Scalar>(acc: S::Accumulator) -> S::Output {
    S::output(acc)
}
fn activity<S: Scalar>(acc: S::Accumulator) -> S {
    S::activity(acc)
}

/// `value / 2^shift` to the nearest, ties up: FORMAT's `round`.
fn round(value: i64, shift: u32) -> i64 {
    (2 * value + (1 << shift)).div_euclid(2 << shift)
}

/// `value / 2^shift` to the nearest, ties away from zero: FORMAT's `near`.
fn near(value: i64, shift: u32) -> i64 {
    value.signum() * ((2 * value.abs() + (1 << shift)) / (2 << shift))
}

fn floor(value: i64, shift: u32) -> i64 {
    value.div_euclid(1 << shift)
}

fn sat8(value: i64) -> i64 {
    value.clamp(-128, 127)
}

fn sat16(value: i64) -> i64 {
    value.clamp(-32_768, 32_767)
}

fn sat32(value: i64) -> i64 {
    value.clamp(i32::MIN.into(), i32::MAX.into())
}

/// FORMAT's `round32`.
fn round32(value: i64, shift: u32) -> i64 {
    floor(sat32(value + ((1 << shift) / 2)), shift)
}

fn q15(bits: i64) -> Q15 {
    Q15::from_bits(i16::try_from(bits).unwrap())
}

fn q7(bits: i64) -> Q7 {
    Q7::from_bits(i8::try_from(bits).unwrap())
}

fn wide(number: Q15) -> i64 {
    number.to_bits().into()
}

fn narrow(number: Q7) -> i64 {
    number.to_bits().into()
}

/// Every number of so many bits.
fn all(bits: u32) -> impl Iterator<Item = i64> {
    -(1 << (bits - 1))..1 << (bits - 1)
}

/// Numbers of so many bits where something can happen: both ends, zero, powers of two, halves and thirds of the range, and
/// their neighbours.
fn notable(bits: u32) -> Vec<i64> {
    let largest = (1i64 << (bits - 1)) - 1;
    let powers = (0..bits - 1).map(|bit| 1i64 << bit);
    let around = powers
        .chain([0, largest, largest / 3, largest / 5 * 3])
        .flat_map(|n| [n - 1, n, n + 1]);
    let mut numbers: Vec<i64> = around
        .flat_map(|n| [n, -n])
        .filter(|n| (-largest - 1..=largest).contains(n))
        .collect();
    numbers.push(-largest - 1);
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Formats of gains: the ends, the usual ones, and one with nothing left of most increments.
const GAINS: [u32; 6] = [0, 1, 7, 14, 15, 30];

/// Hands every number of so many bits to `check`, on all cores.
fn for_all(bits: u32, check: impl Fn(i64) + Sync) {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for first in 0..threads {
            let check = &check;
            scope.spawn(move || all(bits).skip(first).step_by(threads).for_each(check));
        }
    });
}

#[test]
fn q15_adds_with_saturation_for_every_pair() {
    for_all(16, |hebb| {
        for increment in all(16) {
            // A factor of one unit at format 0: the gain itself is added.
            let found = wide(bump(q15(hebb), increment as i16, q15(1), 0));
            assert_eq!(found, sat16(hebb + increment), "{hebb} + {increment}");
        }
    });
}

#[test]
fn q15_rounds_every_product_to_the_nearest() {
    for_all(16, |gain| {
        for factor in all(16) {
            let found = wide(bump(q15(0), gain as i16, q15(factor), 15));
            assert_eq!(found, sat16(round(gain * factor, 15)), "{gain} · {factor}");
        }
    });
}

/// An activity is never -32768: the one product that would not fit is never asked for.
#[test]
fn q15_gains_are_rounded_for_every_pair() {
    for_all(16, |gain| {
        for post in all(16).skip(1) {
            let found = i64::from(times(gain as i16, q15(post)));
            assert_eq!(found, round(gain * post, 15), "{gain} · {post}");
        }
    });
}

#[test]
fn q15_increments_are_exact_at_every_format() {
    for format in 0..=30 {
        for gain in notable(16) {
            for factor in notable(16) {
                for hebb in [-32_768, -32_767, -1, 0, 1, 32_766, 32_767] {
                    let found = wide(bump(q15(hebb), gain as i16, q15(factor), format));
                    let exact = sat16(hebb + round(gain * factor, format));
                    assert_eq!(found, exact, "{hebb} + {gain} · {factor} / 2^{format}");
                }
            }
        }
    }
}

#[test]
fn q15_soft_increments_are_exact() {
    for format in GAINS {
        for (gain, factor) in pairs(16) {
            let p = gain * factor;
            for hebb in notable(16) {
                let s = floor(sat32(2 * p) * hebb, 16);
                let moved = if p > 0 { sat32(p - s) } else { sat32(p + s) };
                let exact = sat16(hebb + round32(moved, format));
                let found = wide(soft(q15(hebb), gain as i16, q15(factor), format));
                assert_eq!(found, exact, "{hebb}, {gain} · {factor} / 2^{format}");
            }
        }
    }
}

#[test]
fn q15_decay_and_oja_are_exact() {
    let few: Vec<i64> = notable(16).into_iter().step_by(3).collect();
    for format in GAINS {
        for (rate, post) in pairs(16).filter(|(_, post)| *post != -32_768) {
            let gain = round(rate * post, 15);
            for hebb in &few {
                for pre in &few {
                    let arguments = (q15(*hebb), rate as i16, q15(post), q15(*pre));
                    let (h, r, p, x) = arguments;
                    let exact = sat16(hebb + round32(sat32(gain * pre - rate * hebb), format));
                    assert_eq!(wide(decay(h, r, p, x, format)), exact, "decay {arguments:?} / 2^{format}");
                    let exact = sat16(hebb + round32(gain * (pre - round(post * hebb, 15)), format));
                    assert_eq!(wide(oja(h, r, p, x, format)), exact, "oja {arguments:?} / 2^{format}");
                }
            }
        }
    }
}

/// Rates of E: 0 to 1, of which 32768 is exactly 1.
fn rates() -> impl Iterator<Item = i64> {
    let inside = notable(16).into_iter().filter(|rate| *rate >= 0);
    inside.chain([32_768])
}

#[test]
fn q15_eligibilities_are_exact() {
    for eta in rates() {
        for (post, pre) in pairs(16) {
            for eligibility in notable(16) {
                let gain = round(eta * post, 15);
                let exact = sat16(round((32_768 - eta) * eligibility + gain * pre, 15));
                let found = wide(drift(q15(eligibility), eta as u16 as i16, q15(post), q15(pre)));
                assert_eq!(found, exact, "eta {eta}, E {eligibility}, {post} · {pre}");
            }
        }
    }
}

/// Every pair of notable numbers.
fn pairs(bits: u32) -> impl Iterator<Item = (i64, i64)> {
    notable(bits)
        .into_iter()
        .flat_map(move |first| notable(bits).into_iter().map(move |second| (first, second)))
}

#[test]
fn q7_increments_are_exact_for_every_trace_and_factor() {
    for format in 0..=30 {
        for gain in notable(16) {
            for factor in all(8) {
                let increment = near(gain * factor, format);
                for hebb in all(8) {
                    let found = narrow(bump(q7(hebb), gain as i16, q7(factor), format));
                    assert_eq!(found, sat8(hebb + increment), "{hebb} + {gain} · {factor} / 2^{format}");
                }
            }
        }
    }
}

#[test]
fn q7_gains_are_rounded_for_every_pair() {
    for gain in all(16) {
        for post in all(8).skip(1) {
            let found = i64::from(times(gain as i16, q7(post)));
            assert_eq!(found, near(gain * post, 7), "{gain} · {post}");
        }
    }
}

#[test]
fn q7_soft_increments_are_exact_for_every_trace_and_factor() {
    for format in GAINS {
        for gain in notable(16) {
            for factor in all(8) {
                let p = gain * factor;
                for hebb in all(8) {
                    let room = if p > 0 { 128 - hebb } else { 128 + hebb };
                    let exact = sat8(hebb + near(floor(p * room, 7), format));
                    let found = narrow(soft(q7(hebb), gain as i16, q7(factor), format));
                    assert_eq!(found, exact, "{hebb}, {gain} · {factor} / 2^{format}");
                }
            }
        }
    }
}

#[test]
fn q7_decay_and_oja_are_exact() {
    for format in GAINS {
        for rate in notable(16) {
            for (post, pre) in pairs(8).filter(|(post, _)| *post != -128) {
                let gain = near(rate * post, 7);
                for hebb in notable(8) {
                    let arguments = (q7(hebb), rate as i16, q7(post), q7(pre));
                    let (h, r, p, x) = arguments;
                    let exact = sat8(hebb + near(gain * pre - rate * hebb, format));
                    assert_eq!(narrow(decay(h, r, p, x, format)), exact, "decay {arguments:?} / 2^{format}");
                    let exact = sat8(hebb + near(gain * (pre - near(post * hebb, 7)), format));
                    assert_eq!(narrow(oja(h, r, p, x, format)), exact, "oja {arguments:?} / 2^{format}");
                }
            }
        }
    }
}

#[test]
fn q7_eligibilities_are_exact_for_every_triple() {
    let rates: Vec<i64> = rates().step_by(4).chain([1, 32_767, 32_768]).collect();
    for_all(8, |eligibility| {
        for &eta in &rates {
            for post in all(8) {
                for pre in all(8) {
                    let exact = sat8(near((32_768 - eta) * eligibility * 128 + eta * post * pre, 22));
                    let found = narrow(drift(q7(eligibility), eta as u16 as i16, q7(post), q7(pre)));
                    assert_eq!(found, exact, "eta {eta}, E {eligibility}, {post} · {pre}");
                }
            }
        }
    });
}

/// Numbers at every scale that an accumulator can have, and around the ends of what an output holds.
fn accumulators() -> impl Iterator<Item = i64> {
    let ends = [31, 32, 34, 35, 45, 46, 52].map(|bit| 1i64 << bit);
    let near_ends = ends.into_iter().flat_map(|end| (-70_000..70_000).step_by(7).map(move |n| end + n));
    notable(54).into_iter().chain(near_ends.flat_map(|n| [n, -n]))
}

#[test]
fn outputs_are_rounded_and_saturated() {
    for acc in accumulators() {
        let exact = sat32(round(acc, 14));
        assert_eq!(i64::from(output::<Q15>(acc).to_bits()), exact, "{acc}");
        assert_eq!(output::<Q7>(acc), Q16::from_bits(exact as i32), "{acc}");
    }
}

/// Every argument that a q15 activity can tell from its neighbours, rounded once more.
#[test]
fn q7_activities_are_q15_s_rounded() {
    for z in (-(1i64 << 33)..1 << 33).step_by(256) {
        let exact = sat8(near(wide(activity::<Q15>(z)), 8)).max(-127);
        assert_eq!(narrow(activity::<Q7>(z)), exact, "{z}");
    }
}

/// The whole number nearest to `value`, saturated; 0 for what is not a number.
fn nearest(value: f64, bits: u32) -> i64 {
    let limit = 2f64.powi(bits as i32 - 1);
    if value.is_nan() {
        0
    } else {
        value.round().clamp(-limit, limit - 1.0) as i64
    }
}

#[test]
fn every_f32_becomes_the_nearest_fraction() {
    for_all(16, |high| {
        for low in 0..1u32 << 16 {
            let value = f32::from_bits((high as u32) << 16 | low);
            let real = f64::from(value);
            assert_eq!(wide(Q15::from_f32(value)), nearest(real * 32_768.0, 16), "{value:e}");
            assert_eq!(narrow(Q7::from_f32(value)), nearest(real * 128.0, 8), "{value:e}");
            assert_eq!(i64::from(Q16::from_f32(value).to_bits()), nearest(real * 65_536.0, 32), "{value:e}");
        }
    });
}
