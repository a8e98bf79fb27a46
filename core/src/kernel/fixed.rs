//! q15: 16-bit weights, activities and traces. `core/FORMAT.md` gives the format of every number and the proof that a
//! block's 32-bit sum cannot overflow in an image made by the exporter; the wrapping operations keep a forged one harmless.

use super::Kernel;
#[cfg(armv7em)]
use super::{CONSTANT_TIME, Increment, Layer, Traces, act_each, armv7em, learn_each};
#[cfg(any(armv6m, armv7m))]
use super::{Layer, Traces, act_each, assembly, quads};
use crate::image::Header;
#[cfg(armv7em)]
use crate::rule::Clip;
use crate::rule::Squash;
use crate::scalar::{Q15, Q16, round_shift, saturate16};

/// Fractional bits of an accumulator.
const ACCUMULATOR: u32 = 30;
/// Fractional bits of stored biases.
const BIAS: u32 = 20;

impl Kernel for Q15 {
    type Weight = i16;
    type Rate = i16;
    type Weights = i16;
    type Values = i16;
    type Bias = i32;
    type Accumulator = i64;
    type Partial = i32;
    type Gain = i16;
    type Bounds = u32;
    type Output = Q16;
    const BLOCK: usize = crate::image::BLOCK;

    fn start(bias: Option<&i32>) -> i64 {
        bias.map_or(0, |bias| i64::from(*bias) << (ACCUMULATOR - BIAS))
    }

    fn begin(_: i64) -> i32 {
        0
    }

    fn mac(partial: i32, weight: i16, x: i16) -> i32 {
        partial.wrapping_add(i32::from(weight) * i32::from(x))
    }

    fn plastic_mac(partial: i32, weight: i16, alpha: i16, hebb: i16, x: i16) -> i32 {
        Self::mac(partial, weight, x).wrapping_add(multiply_high(i32::from(alpha) * i32::from(hebb), x))
    }

    fn splat(weight: i16) -> i16 {
        weight
    }

    fn end(acc: i64, partial: i32, format: u16) -> i64 {
        acc.wrapping_add(i64::from(partial) * i64::from(scale(format)))
    }

    fn bounds(header: &Header) -> u32 {
        u32::from(header.formats.gain)
    }

    fn bump(hebb: Q15, gain: i16, factor: Q15, gain_format: u32) -> Q15 {
        let product = i32::from(gain) * i32::from(factor.to_bits());
        let increment = product.wrapping_add((1 << gain_format) >> 1) >> gain_format;
        Q15::from_bits(saturate16(i32::from(hebb.to_bits()).wrapping_add(increment)))
    }

    fn soft(hebb: Q15, gain: i16, factor: Q15, gain_format: u32) -> Q15 {
        let increment = i32::from(gain) * i32::from(factor.to_bits());
        // |increment| <= 2^30, and the one product that reaches it is negative times negative: it saturates.
        let share = multiply_high(increment.saturating_mul(2), hebb.to_bits());
        let moved = if increment > 0 {
            increment.saturating_sub(share)
        } else {
            increment.saturating_add(share)
        };
        add(hebb, moved, gain_format)
    }

    fn decay(hebb: Q15, rate: i16, post: Q15, pre: Q15, gain_format: u32) -> Q15 {
        let learned = i32::from(Self::times(rate, post)) * i32::from(pre.to_bits());
        let lost = i32::from(rate) * i32::from(hebb.to_bits());
        add(hebb, learned.saturating_sub(lost), gain_format)
    }

    fn oja(hebb: Q15, rate: i16, post: Q15, pre: Q15, gain_format: u32) -> Q15 {
        let said = (i32::from(post.to_bits()) * i32::from(hebb.to_bits()) + 0x4000) >> 15;
        let unsaid = i32::from(pre.to_bits()) - said;
        add(hebb, i32::from(Self::times(rate, post)) * unsaid, gain_format)
    }

    fn drift(eligibility: Q15, eta: i16, post: Q15, pre: Q15) -> Q15 {
        let (kept, gain) = drift_factors(eta, post);
        let kept = kept.wrapping_mul(eligibility.to_bits().into());
        let sum = kept.wrapping_add(gain.wrapping_mul(pre.to_bits().into()));
        Q15::from_bits(saturate16(sum.wrapping_add(0x4000) >> 15))
    }

    fn rate(eta: i16) -> i16 {
        eta
    }

    fn times(gain: i16, post: Q15) -> i16 {
        ((i32::from(gain) * i32::from(post.to_bits()) + 0x4000) >> 15) as i16
    }

    fn is_zero(gain: i16) -> bool {
        gain == 0
    }

    fn modulation(m: &[Q16], fan_out: Option<&[i16]>, bias: Option<&i32>, header: &Header) -> i16 {
        modulation(m, fan_out, bias, header)
    }

    #[cfg(armv7em)]
    fn act(layer: &Layer<'_, Q15>, next: &mut [Q15]) {
        if armv7em::act(layer, next).is_none() {
            act_each(layer, next);
        }
    }

    #[cfg(armv7em)]
    fn dot(acc: i64, weight: &[i16], x: &[Q15], format: u16) -> i64 {
        acc.wrapping_add(armv7em::dot(weight, x, scale(format)))
    }

    #[cfg(armv7em)]
    fn learn(mut traces: Traces<'_, Q15>, increment: Increment<'_, Q15>, post: &[Q15], pre: &[Q15], header: &Header) {
        // The assembly has the hard clip only, and leaves rows out.
        let portable = CONSTANT_TIME || header.clip_kind != Clip::Hard;
        if portable || armv7em::learn(&mut traces, increment, post, pre, Self::bounds(header)).is_none() {
            learn_each(traces, increment, post, pre, header);
        }
    }

    #[cfg(any(armv6m, armv7m))]
    fn act(layer: &Layer<'_, Q15>, next: &mut [Q15]) {
        if quads::act(layer, next).is_none() {
            act_each(layer, next);
        }
    }

    #[cfg(any(armv6m, armv7m))]
    fn bump_row(hebb: &mut [Q15], gain: i16, factors: &[Q15], gain_format: u32) {
        assembly::bump_row(hebb, gain, factors, gain_format);
    }

    #[cfg(any(armv6m, armv7m))]
    fn write_row(traces: Traces<'_, Q15>, modulator: i16, eta: i16, post: Q15, pre: &[Q15], gain_format: u32) {
        assembly::write_row(traces, modulator, eta, post, pre, gain_format);
    }

    fn activity(acc: i64) -> Q15 {
        Q15::from_bits(crate::math::tanh_q15(round_shift(acc, 3)))
    }

    fn output(acc: i64) -> Q16 {
        Q16::from_bits(round_shift(acc, 14))
    }

    fn squash(acc: i64, squash: Squash) -> Q16 {
        let tanh = |shift| i32::from(crate::math::tanh_q15(round_shift(acc, shift)));
        match squash {
            Squash::Tanh => Q16::from_bits(2 * tanh(3)),
            Squash::Sigmoid => Q16::from_bits(tanh(4) + 32768),
            Squash::Identity => Self::output(acc),
        }
    }
}

/// The factors of E and of pre in what becomes of E: `1-eta` and `eta·post`.
pub(super) fn drift_factors(eta: i16, post: Q15) -> (i32, i32) {
    // eta is unsigned: 1.0 is 32768.
    let eta = i32::from(eta as u16);
    (32768 - eta, (eta * i32::from(post.to_bits()) + 0x4000) >> 15)
}

/// `hebb` plus an increment with `gain_format` fractional bits more, to the nearest. Both sums saturate.
fn add(hebb: Q15, increment: i32, gain_format: u32) -> Q15 {
    let increment = increment.saturating_add((1 << gain_format) >> 1) >> gain_format;
    Q15::from_bits(saturate16(i32::from(hebb.to_bits()).saturating_add(increment)))
}

/// `M_j` as a gain, with the fan-out weights of any width.
pub(super) fn modulation<W: Copy + Into<i64>>(m: &[Q16], fan_out: Option<&[W]>, bias: Option<&i32>, header: &Header) -> i16 {
    let product = |factor: i64, m: &Q16| factor.wrapping_mul(m.to_bits().into());
    let sum = match fan_out {
        Some(row) => row
            .iter()
            .zip(m)
            .fold(0i64, |sum, (factor, m)| sum.wrapping_add(product((*factor).into(), m))),
        None => m
            .iter()
            .fold(0i64, |sum, m| sum.wrapping_add(product(header.unit_fan_out.into(), m))),
    };
    let format = if fan_out.is_some() { header.formats.fan_out } else { 14 };
    // The masks change nothing; with them, shifts of 64 bits need no case of 32 and more.
    let aligned = sum
        .wrapping_shl(14u32.saturating_sub(format.into()) & 15)
        .wrapping_add(Q15::start(bias));
    let shift = ACCUMULATOR.saturating_sub(header.formats.gain.into()) & 31;
    let rounded = aligned.wrapping_add(i64::from((1u32 << shift) >> 1)) >> shift;
    i32::try_from(rounded).map_or(if rounded < 0 { i16::MIN } else { i16::MAX }, saturate16)
}

/// What aligns a block's sum with the accumulator.
pub(super) fn scale(format: u16) -> i32 {
    1 << 15u32.saturating_sub(format.into())
}

/// `floor(a·b / 2^16)`.
#[cfg(target_has_atomic = "32")]
fn multiply_high(a: i32, b: i16) -> i32 {
    // The upper word of a product takes no shift to reach.
    ((i64::from(a) * i64::from(i32::from(b) << 16)) >> 32) as i32
}

/// `floor(a·b / 2^16)` from two short products, for a Cortex-M0: it has no long product (and no atomics, by which it is told).
#[cfg(not(target_has_atomic = "32"))]
fn multiply_high(a: i32, b: i16) -> i32 {
    let b = i32::from(b);
    (a >> 16) * b + (((a & 0xffff) * b) >> 16)
}
