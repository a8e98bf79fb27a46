//! q7: 8-bit weights, activities and traces, for half the memory of q15. `core/FORMAT.md` gives the format of every number.
//!
//! Scales come in quarters of a power of two: with few bits, none may be left unused. Products of 8-bit numbers are exact in
//! 32 bits, and so are the sums of a block, whatever the image holds: nothing but activities and traces is rounded. What is
//! rounded is rounded alike on both sides of zero: at 8 bits ties are common.

use super::Kernel;
use super::fixed::modulation;
#[cfg(armv7em)]
use super::{CONSTANT_TIME, Increment, Layer, Traces, act_each, armv7em_q7, learn_each};
use crate::image::Header;
use crate::math::exp2_quarters;
#[cfg(armv7em)]
use crate::rule::Clip;
use crate::rule::Squash;
use crate::scalar::{Q7, Q15, Q16, saturate8};

/// The sums of one block. Weights and alpha have formats of their own, so their products are aligned at its end.
#[derive(Clone, Copy)]
pub struct Sums {
    /// `Σ w·x`.
    fixed: i32,
    /// `Σ alpha·H·x`.
    plastic: i32,
}

impl Kernel for Q7 {
    type Weight = i8;
    type Rate = i16;
    type Weights = u32;
    type Values = u32;
    type Bias = i32;
    type Accumulator = i64;
    type Partial = Sums;
    type Gain = i16;
    type Bounds = u32;
    type Output = Q16;
    const BLOCK: usize = 16;

    fn start(bias: Option<&i32>) -> i64 {
        Q15::start(bias)
    }

    fn begin(_: i64) -> Sums {
        Sums { fixed: 0, plastic: 0 }
    }

    fn mac(sums: Sums, weight: u32, x: u32) -> Sums {
        let product = |place| number(weight, place) * number(x, place);
        Sums {
            fixed: sums.fixed.wrapping_add(over_lane(product)),
            ..sums
        }
    }

    fn plastic_mac(sums: Sums, weight: u32, alpha: u32, hebb: u32, x: u32) -> Sums {
        let product = |place| number(alpha, place) * number(hebb, place) * number(x, place);
        Sums {
            plastic: sums.plastic.wrapping_add(over_lane(product)),
            ..Self::mac(sums, weight, x)
        }
    }

    fn splat(weight: i8) -> u32 {
        u32::from(weight as u8) * 0x0101_0101
    }

    fn end(acc: i64, sums: Sums, format: u16) -> i64 {
        // Products of weights have 7 fractional bits more than these, products of alpha 14.
        let fixed = aligned(sums.fixed, format, 7);
        let plastic = aligned(sums.plastic, format >> 8, 14);
        acc.wrapping_add(fixed).wrapping_add(plastic)
    }

    fn bounds(header: &Header) -> u32 {
        Q15::bounds(header)
    }

    fn bump(hebb: Q7, gain: i16, factor: Q7, gain_format: u32) -> Q7 {
        let increment = round(i32::from(gain) * i32::from(factor.to_bits()), gain_format);
        Q7::from_bits(saturate8(i32::from(hebb.to_bits()).wrapping_add(increment)))
    }

    fn soft(hebb: Q7, gain: i16, factor: Q7, gain_format: u32) -> Q7 {
        let product = i32::from(gain) * i32::from(factor.to_bits());
        let hebb = i32::from(hebb.to_bits());
        let room = if product > 0 { 128 - hebb } else { 128 + hebb };
        // Seven more fractional bits than an increment has; dividing rounds twice, by less than 2^-7 of a unit the first time.
        let increment = round(product.wrapping_mul(room) >> 7, gain_format);
        Q7::from_bits(saturate8(hebb.wrapping_add(increment)))
    }

    fn decay(hebb: Q7, rate: i16, post: Q7, pre: Q7, gain_format: u32) -> Q7 {
        let grown = i32::from(Self::times(rate, post)) * i32::from(pre.to_bits());
        let hebb = i32::from(hebb.to_bits());
        let increment = round(grown.wrapping_sub(i32::from(rate) * hebb), gain_format);
        Q7::from_bits(saturate8(hebb.wrapping_add(increment)))
    }

    fn oja(hebb: Q7, rate: i16, post: Q7, pre: Q7, gain_format: u32) -> Q7 {
        let hebb = i32::from(hebb.to_bits());
        let rest = i32::from(pre.to_bits()) - round(i32::from(post.to_bits()) * hebb, 7);
        let increment = round(i32::from(Self::times(rate, post)) * rest, gain_format);
        Q7::from_bits(saturate8(hebb.wrapping_add(increment)))
    }

    fn drift(eligibility: Q7, eta: i16, post: Q7, pre: Q7) -> Q7 {
        // eta is unsigned: 1.0 is 32768.
        let eta = i32::from(eta as u16);
        let product = i32::from(post.to_bits()) * i32::from(pre.to_bits());
        let kept = (32768 - eta).wrapping_mul(i32::from(eligibility.to_bits()) << 7);
        Q7::from_bits(saturate8(round(kept.wrapping_add(eta.wrapping_mul(product)), 22)))
    }

    fn rate(eta: i16) -> i16 {
        eta
    }

    fn times(gain: i16, post: Q7) -> i16 {
        round(i32::from(gain) * i32::from(post.to_bits()), 7) as i16
    }

    fn is_zero(gain: i16) -> bool {
        gain == 0
    }

    fn modulation(m: &[Q16], fan_out: Option<&[i8]>, bias: Option<&i32>, header: &Header) -> i16 {
        modulation(m, fan_out, bias, header)
    }

    #[cfg(armv7em)]
    fn act(layer: &Layer<'_, Q7>, next: &mut [Q7]) {
        if armv7em_q7::act(layer, next).is_none() {
            act_each(layer, next);
        }
    }

    #[cfg(armv7em)]
    fn dot(acc: i64, weight: &[i8], x: &[Q7], format: u16) -> i64 {
        acc.wrapping_add(armv7em_q7::dot(weight, x, format))
    }

    #[cfg(armv7em)]
    fn learn(mut traces: Traces<'_, Q7>, increment: Increment<'_, Q7>, post: &[Q7], pre: &[Q7], header: &Header) {
        // The assembly has the hard clip only, and leaves rows out.
        let portable = CONSTANT_TIME || header.clip_kind != Clip::Hard;
        if portable || armv7em_q7::learn(&mut traces, increment, post, pre, Self::bounds(header)).is_none() {
            learn_each(traces, increment, post, pre, header);
        }
    }

    fn activity(acc: i64) -> Q7 {
        // As in q15, then rounded; never -128, so that tanh stays odd.
        let tanh = round(Q15::activity(acc).to_bits().into(), 8);
        Q7::from_bits(saturate8(tanh.max(-127)))
    }

    fn output(acc: i64) -> Q16 {
        Q15::output(acc)
    }

    fn squash(acc: i64, squash: Squash) -> Q16 {
        Q15::squash(acc, squash)
    }
}

/// A sum of products with `format / 4 + more` fractional bits, with those of an accumulator.
fn aligned(sum: i32, format: u16, more: u32) -> i64 {
    let Scale { factor, shift } = Scale::new(format, more);
    (i64::from(sum) * i64::from(factor)) >> shift
}

/// What aligns a sum of products with an accumulator: `floor(sum·factor / 2^shift)`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Scale {
    /// At most 2^30.
    factor: u32,
    /// From 7 to 29.
    shift: u32,
}

impl Scale {
    /// For products with `format / 4 + more` fractional bits.
    pub fn new(format: u16, more: u32) -> Self {
        let format = u32::from(format & 63);
        Self {
            factor: exp2_quarters(format),
            shift: format / 4 + more,
        }
    }
}

/// The sum over the four places of a lane.
#[inline(always)]
fn over_lane(product: impl Fn(u32) -> i32) -> i32 {
    product(0)
        .wrapping_add(product(1))
        .wrapping_add(product(2))
        .wrapping_add(product(3))
}

/// A number of a lane; the first has the lowest address.
fn number(lane: u32, place: u32) -> i32 {
    ((lane >> (8 * place)) as i8).into()
}

/// `value / 2^shift` to the nearest, ties away from zero.
fn round(value: i32, shift: u32) -> i32 {
    // Twice the value, so that one half less for a negative one decides a tie and nothing else, at any shift.
    let half = 1 << (shift & 31);
    value.wrapping_mul(2).wrapping_add(half).wrapping_add(value >> 31) >> ((shift + 1) & 31)
}
