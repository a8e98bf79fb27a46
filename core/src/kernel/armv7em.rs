//! q15 rows on processors with ARMv7E-M's instructions on pairs of 16-bit numbers (Cortex-M4 and M7): each function here gives the
//! bits of its portable twin in [`super`], which other targets run. The build script names the targets.
//!
//! `ldm` loads four lanes at the cost of one instruction, a block is unrolled, and what is left after the last whole block is
//! taken by the bits of its length. Instructions per synapse: static 0.9, plastic 3.4, an update of H 2.4 (2.9 for large gains),
//! of H and E 5.8 (6.3). A whole neuron is one call: inputs, recurrence and `tanh`.
//!
//! The functions are naked because they use all registers. They keep to the procedure call standard: r4 to r11 are
//! saved, arguments arrive in r0 to r3 and then on the stack, and a result of 64 bits leaves in r0 and r1. The formatter skips
//! the macros: it would give every operand a line.
#![allow(unsafe_code, reason = "naked functions that read and write rows through pointers")]

use super::fixed::scale;
use super::{Coefficient, Increment, Layer};
use crate::math::TANH_TABLE;
use crate::rule::Granularity;
use crate::scalar::Q15;
use bytemuck::Pod;
use core::arch::naked_asm;
use core::mem::offset_of;
use core::slice;

/// Where the neurons that are still to be computed find their rows: the functions move it on. They load most of it by `ldm`, so
/// the order of the fields is theirs.
#[repr(C)]
struct Operands {
    input_weight: *const i16,
    input: *const Q15,
    /// Words of a row of inputs.
    input_lanes: usize,
    bias: *const i32,
    next: *mut Q15,
    neurons: usize,
    input_scale: i32,
    weight: *const i16,
    alpha: *const i16,
    hebb: *const Q15,
    h: *const Q15,
    /// Words of a row of the recurrence.
    lanes: usize,
    scale: i32,
}

/// The activities of all neurons: [`super::act`]. `None`, and nothing has changed, if it is left to the twin: where not every
/// connection has an alpha of its own.
pub fn act(layer: &Layer<'_, Q15>, next: &mut [Q15]) -> Option<()> {
    let neurons = next.len();
    let (input, h) = (layer.input, layer.h);
    let is_matrix = |matrix: &[i16], x: &[Q15]| matrix.len() == neurons * x.len() && is_whole(matrix, x);
    let (alpha, hebb) = match layer.plastic {
        None => (&[][..], &[][..]),
        Some((alpha, hebb)) if matches!(alpha.granularity, Granularity::PerConnection) => (alpha.values, hebb),
        _ => return None,
    };
    let plastic = layer.plastic.is_some();
    let complete = neurons > 0
        && layer.bias.len() == neurons
        && is_matrix(layer.input_weight, input)
        && is_matrix(layer.weight, h)
        && (!plastic || is_matrix(alpha, h) && hebb.len() == alpha.len() && is_whole(hebb, h));
    if !complete {
        return None;
    }
    let mut operands = Operands {
        input_weight: layer.input_weight.as_ptr(),
        input: input.as_ptr(),
        input_lanes: input.len() / 2,
        bias: layer.bias.as_ptr(),
        next: next.as_mut_ptr(),
        neurons,
        input_scale: scale(layer.formats.input),
        weight: layer.weight.as_ptr(),
        alpha: alpha.as_ptr(),
        hebb: hebb.as_ptr(),
        h: h.as_ptr(),
        lanes: h.len() / 2,
        scale: scale(layer.formats.recurrent),
    };
    // SAFETY: all matrices have a row for each neuron, rows are as long as the operands say and begin on a word. Each function
    // is called if there is a neuron for it, and leaves the operands at the neurons that are still to be computed.
    unsafe {
        if plastic {
            act_plastic(&mut operands);
        } else {
            if neurons > 1 {
                act_static_pairs(&mut operands);
            }
            if neurons % 2 == 1 {
                act_static(&mut operands);
            }
        }
    }
    Some(())
}

/// Whether two rows of 16-bit numbers are whole words.
#[inline(always)]
fn is_whole<A: Pod, B: Pod>(a: &[A], b: &[B]) -> bool {
    const { assert!(size_of::<A>() == 2 && size_of::<B>() == 2) };
    (a.len() | b.len()) % 2 == 0 && (a.as_ptr() as usize | b.as_ptr() as usize) % 4 == 0
}

/// `scale·Σ weight·x`, with a sum of 32 bits for each block.
pub fn dot(weight: &[i16], x: &[Q15], scale: i32) -> i64 {
    let (weight, x) = (words(weight), words(x));
    let lanes = weight.len().min(x.len());
    // SAFETY: both rows have `lanes` words or more.
    unsafe { dot_row(weight.as_ptr(), x.as_ptr(), lanes, scale) }
}

/// The words of a row of 16-bit numbers; none if it does not begin on a word, as rows of a matrix do.
fn words<T: Pod>(row: &[T]) -> &[u32] {
    const { assert!(size_of::<T>() == 2) };
    let first = row.as_ptr().cast::<u32>();
    if first.is_aligned() {
        // SAFETY: aligned, within the row, and every bit pattern is a word.
        unsafe { slice::from_raw_parts(first, row.len() / 2) }
    } else {
        &[]
    }
}

/// Applies an increment with gains of `format` fractional bits to a row of traces. `None`, and nothing has changed, if it is
/// left to the twin: coefficients per connection, gains of 1 and more, whose increments do not fit 16 bits, and traces that are
/// not whole words, such as one that somebody looks at.
#[inline(always)]
pub fn learn(hebb: &mut [Q15], eligibility: &mut [Q15], increment: Increment<'_, Q15>, pre: &[Q15], format: u32) -> Option<()> {
    if hebb.len() != pre.len() || !is_whole(hebb, pre) {
        return None;
    }
    match increment {
        Increment::Gain(gain) => bump(hebb, pre, gain, format)?,
        Increment::Retroactive {
            modulator,
            eta: Coefficient::Uniform(eta),
            post,
        } => {
            let rates = rates(eta, post)?;
            if eligibility.len() != pre.len() || !is_whole(eligibility, pre) {
                return None;
            }
            bump(hebb, eligibility, modulator, format)?;
            // SAFETY: both rows have that many words.
            unsafe { drift_row(eligibility.as_mut_ptr(), pre.as_ptr(), pre.len() / 2, rates) };
        }
        _ => return None,
    }
    Some(())
}

/// `hebb ← sat16(hebb + round(gain·factor))` for rows that [are whole](is_whole). `None`, and nothing has changed, for a gain of
/// 1 and more.
#[inline(always)]
fn bump(hebb: &mut [Q15], factors: &[Q15], gain: i16, format: u32) -> Option<()> {
    let (hebb, factors, lanes) = (hebb.as_mut_ptr(), factors.as_ptr(), factors.len() / 2);
    // SAFETY: both rows have `lanes` words.
    match factor(gain, format, 16) {
        Some(gain) => unsafe { bump_row_below_half(hebb, factors, lanes, gain) },
        None => unsafe { bump_row(hebb, factors, lanes, factor(gain, format, 15)?) },
    }
    Some(())
}

/// A gain as the factor of a multiplication that drops 16 bits, so that the increments that it gives have `bits` fractional
/// bits, 15 or 16. `None` if it does not fit: from a gain of 1, or of 1/2, on.
///
/// The bits that are dropped lie below the rounded place, and rounding downwards twice is rounding downwards once.
#[inline(always)]
fn factor(gain: i16, format: u32, bits: u32) -> Option<i32> {
    let limit = (1u32 << format) >> (bits - 15);
    let shift = (16 + bits).saturating_sub(format);
    (u32::from(gain.unsigned_abs()) < limit).then(|| i32::from(gain).wrapping_shl(shift))
}

/// `1-eta` and `eta·post` as the lower and the upper half of a word; `None` if the former is not below 1.
///
/// An eta of at most 1 keeps eligibilities in range, so that they need no clip: `|1-eta| + |eta·post| <= 1`.
#[inline(always)]
fn rates(eta: i16, post: Q15) -> Option<u32> {
    let eta = i32::from(eta as u16);
    let gain = (eta * i32::from(post.to_bits()) + 0x4000) >> 15;
    (1..=0x8000).contains(&eta).then_some((0x8000 - eta) as u32 | (gain as u32) << 16)
}

/// What is left of a row after its last whole block: the lower four bits of `$count` say how many lanes. `$again` moves the lower
/// two of them into carry and sign.
#[rustfmt::skip]
macro_rules! rest {
    ($count:literal, $again:literal, $group:expr, $pair:expr, $lane:expr) => {
        concat!(
            "lsls ", $count, ", ", $count, ", #29\n bcc 4f\n", $group, $group,
            "4:\n bpl 5f\n", $group,
            "5:\n", $again, "bcc 6f\n", $pair,
            "6:\n bpl 7f\n", $lane,
            "7:\n",
        )
    };
}

/// A row of r2 lanes: `$block` for every 16 of them, and what is left after `$begin`.
#[rustfmt::skip]
macro_rules! sweep {
    ($block:expr, $begin:literal, $group:expr, $pair:expr, $lane:expr) => {
        concat!(
            "subs r2, #16\n blo 3f\n 2:\n", $block, "subs r2, #16\n bhs 2b\n 3:\n", $begin,
            rest!("r2", "lsls r2, r2, #2\n", $group, $pair, $lane),
        )
    };
}

/// Four lanes of a static row: r4 to r7 are x, r8 to r11 the weights. The sum is lr; `$first` adds the first product to it.
#[rustfmt::skip]
macro_rules! dot_group {
    ($first:literal) => {
        concat!(
            "ldm r1!, {{r4-r7}}\n ldm r0!, {{r8-r11}}\n", $first,
            "smlad lr, r9, r5, lr\n smlad lr, r10, r6, lr\n smlad lr, r11, r7, lr\n",
        )
    };
    () => { dot_group!("smlad lr, r8, r4, lr\n") };
}

/// A static row: r0 weights, r1 x, r2 lanes. The accumulator r3 (low) and r12 grows by the sum of each block times the scale,
/// which `$scale` loads into r4.
#[rustfmt::skip]
macro_rules! dot_row {
    ($scale:literal) => {
        concat!(
            sweep!(
                concat!(
                    dot_group!("smuad lr, r8, r4\n"), dot_group!(), dot_group!(), dot_group!(),
                    $scale, "smlal r3, r12, lr, r4\n",
                ),
                "mov.w lr, #0\n",
                dot_group!(),
                "ldrd r4, r5, [r1], #8\n ldrd r8, r9, [r0], #8\n smlad lr, r8, r4, lr\n smlad lr, r9, r5, lr\n",
                "ldr r4, [r1], #4\n ldr r8, [r0], #4\n smlad lr, r8, r4, lr\n"
            ),
            $scale, "smlal r3, r12, lr, r4\n",
        )
    };
}

/// Four lanes of two static rows with the sums r3 and lr: r0 and r1 the weights, r2 x. `$mac` and `$first` add a product and the
/// first of a block.
#[rustfmt::skip]
macro_rules! pair_group {
    ($first:literal, $next_first:literal) => {
        concat!(
            "ldm r2!, {{r4-r7}}\n ldm r0!, {{r8-r11}}\n", $first,
            "smlad r3, r9, r5, r3\n smlad r3, r10, r6, r3\n smlad r3, r11, r7, r3\n",
            "ldm r1!, {{r8-r11}}\n", $next_first,
            "smlad lr, r9, r5, lr\n smlad lr, r10, r6, lr\n smlad lr, r11, r7, lr\n",
        )
    };
    () => { pair_group!("smlad r3, r8, r4, r3\n", "smlad lr, r8, r4, lr\n") };
}

/// Two static rows: r0 and r1 the weights, r2 x, r12 lanes. sp points to their two accumulators and the scale.
#[rustfmt::skip]
macro_rules! dot_pair {
    () => {
        concat!(
            "subs r12, #16\n blo 3f\n 2:\n",
            pair_group!("smuad r3, r8, r4\n", "smuad lr, r8, r4\n"), pair_group!(), pair_group!(), pair_group!(),
            "ldm sp, {{r4-r8}}\n smlal r4, r5, r3, r8\n smlal r6, r7, lr, r8\n stm sp, {{r4-r7}}\n subs r12, #16\n bhs 2b\n",
            "3:\n mov.w r3, #0\n mov.w lr, #0\n",
            rest!(
                "r12", "lsls r12, r12, #2\n",
                pair_group!(),
                concat!(
                    "ldrd r4, r5, [r2], #8\n ldrd r6, r7, [r0], #8\n ldrd r8, r9, [r1], #8\n",
                    "smlad r3, r6, r4, r3\n smlad r3, r7, r5, r3\n smlad lr, r8, r4, lr\n smlad lr, r9, r5, lr\n",
                ),
                "ldr r4, [r2], #4\n ldr r6, [r0], #4\n ldr r8, [r1], #4\n smlad r3, r6, r4, r3\n smlad lr, r8, r4, lr\n"
            ),
            "ldm sp, {{r4-r8}}\n smlal r4, r5, r3, r8\n smlal r6, r7, lr, r8\n",
        )
    };
}

/// `lr += alpha·hebb·x` for both columns of a lane.
#[rustfmt::skip]
macro_rules! plastic_lane {
    ($alpha:literal, $hebb:literal, $x:literal) => {
        concat!(
            "smulbb r12, ", $alpha, ", ", $hebb, "\n smultt ", $alpha, ", ", $alpha, ", ", $hebb, "\n",
            "smlawb lr, r12, ", $x, ", lr\n smlawt lr, ", $alpha, ", ", $x, ", lr\n",
        )
    };
}

/// [`plastic_lane`] for two lanes, of which r8 to r11 are alpha and H.
#[rustfmt::skip]
macro_rules! plastic_pair {
    ($x:literal, $next_x:literal) => {
        concat!(
            "ldrd r8, r9, [r1], #8\n ldrd r10, r11, [r2], #8\n",
            plastic_lane!("r8", "r10", $x), plastic_lane!("r9", "r11", $next_x),
        )
    };
}

/// Four lanes of a plastic row: r0 weights, r1 alpha, r2 H, r3 x; the sum is lr.
#[rustfmt::skip]
macro_rules! plastic_group {
    ($first:literal) => {
        concat!(
            "ldm r3!, {{r4-r7}}\n ldm r0!, {{r8-r11}}\n", $first,
            "smlad lr, r9, r5, lr\n smlad lr, r10, r6, lr\n smlad lr, r11, r7, lr\n",
            plastic_pair!("r4", "r5"), plastic_pair!("r6", "r7"),
        )
    };
    () => { plastic_group!("smlad lr, r8, r4, lr\n") };
}

/// `tanh` of an accumulator: [`tanh_q15`](crate::math::tanh_q15) of what is left of it after rounding three bits away, into r0.
#[rustfmt::skip]
macro_rules! tanh {
    ($low:literal, $high:literal) => {
        concat!(
            "adds r0, ", $low, ", #4\n adc r1, ", $high, ", #0\n",
            "lsrs r0, r0, #3\n orr r0, r0, r1, lsl #29\n",
            "asrs r2, r1, #2\n cmp r2, r0, asr #31\n", // do the bits beyond 32 say what the sign says?
            "itt ne\n mvnne r0, #0x80000000\n eorne r0, r0, r1, asr #31\n",
            "asrs r1, r0, #31\n eors r0, r1\n qsub r0, r0, r1\n usat r0, #30, r0\n", // sign and magnitude
            "movw r3, #:lower16:{table}\n movt r3, #:upper16:{table}\n",
            "lsrs r2, r0, #21\n add r3, r3, r2, lsl #1\n ubfx r0, r0, #5, #16\n",
            "ldrsh r2, [r3]\n ldrsh r3, [r3, #2]\n subs r3, r3, r2\n muls r0, r3, r0\n",
            "add r0, r0, #0x8000\n add r0, r2, r0, asr #16\n",
            "eors r0, r1\n subs r0, r0, r1\n",
        )
    };
}

/// # Safety
/// `weight` and `x` point to `lanes` words each.
#[unsafe(naked)]
unsafe extern "C" fn dot_row(weight: *const u32, x: *const u32, lanes: usize, scale: i32) -> i64 {
    naked_asm!(
        "push {{r3-r11, lr}}",
        "movs r3, #0",
        "mov.w r12, #0",
        dot_row!("ldr r4, [sp]\n"),
        "mov r0, r3",
        "mov r1, r12",
        "pop {{r3-r11, pc}}",
    )
}

/// The row of inputs of a neuron: the accumulator, r3 (low) and r12, is its bias and what the inputs add. sp points to the
/// operands' address.
#[rustfmt::skip]
macro_rules! inputs {
    () => {
        concat!(
            "ldr r5, [sp]\n ldm r5, {{r0-r3}}\n",
            "ldr r4, [r3], #4\n str r3, [r5, #{bias}]\n lsls r3, r4, #10\n asr r12, r4, #22\n",
            dot_row!("ldr r4, [sp]\n ldr r4, [r4, #{input_scale}]\n"),
            "ldr r4, [sp]\n str r0, [r4]\n",
        )
    };
}

/// Stores the activity r0 and goes on to the next neuron, at label 8. r4 is the operands' address.
#[rustfmt::skip]
macro_rules! next_neuron {
    () => { "ldrd r1, r2, [r4, #{next}]\n strh r0, [r1], #2\n subs r2, #1\n strd r1, r2, [r4, #{next}]\n bne 8b\n" };
}

/// # Safety
/// The operands' rows are as long as they say, begin on words, and there is one for each neuron, of which there is one at least.
/// Those of alpha and H are not read.
#[unsafe(naked)]
unsafe extern "C" fn act_static(operands: *mut Operands) {
    naked_asm!(
        "push {{r0, r4-r11, lr}}",
        "8:",
        inputs!(),
        "ldr r0, [r4, #{weight}]",
        "ldrd r1, r2, [r4, #{h}]", // h, lanes
        dot_row!("ldr r4, [sp]\n ldr r4, [r4, #{scale}]\n"),
        "ldr r4, [sp]",
        "str r0, [r4, #{weight}]",
        tanh!("r3", "r12"),
        next_neuron!(),
        "pop {{r0, r4-r11, pc}}",
        bias = const offset_of!(Operands, bias),
        input_scale = const offset_of!(Operands, input_scale),
        weight = const offset_of!(Operands, weight),
        h = const offset_of!(Operands, h),
        scale = const offset_of!(Operands, scale),
        next = const offset_of!(Operands, next),
        table = sym TANH_TABLE,
    )
}

/// [`act_static`] for two neurons at a time, which share the reads of x. One neuron of an odd number is left.
///
/// # Safety
/// As for [`act_static`], and there are two neurons at least.
#[unsafe(naked)]
unsafe extern "C" fn act_static_pairs(operands: *mut Operands) {
    naked_asm!(
        "push {{r0, r4-r11, lr}}",
        "sub sp, #20", // the accumulators of both, and a scale
        "8:",
        "ldr r11, [sp, #20]",
        "ldm r11, {{r0, r2, r12, lr}}", // weights, inputs, lanes, biases
        "ldr r8, [r11, #{input_scale}]",
        "ldrd r4, r6, [lr], #8",
        "str lr, [r11, #{bias}]",
        "asrs r5, r4, #22",
        "lsls r4, r4, #10",
        "asrs r7, r6, #22",
        "lsls r6, r6, #10",
        "stm sp, {{r4-r8}}",
        "add r1, r0, r12, lsl #2",
        dot_pair!(),
        "ldr r11, [sp, #20]",
        "str r1, [r11]", // where the second row ends, the next begins
        "ldr r0, [r11, #{weight}]",
        "ldrd r2, r12, [r11, #{h}]", // h, lanes
        "ldr r8, [r11, #{scale}]",
        "stm sp, {{r4-r8}}",
        "add r1, r0, r12, lsl #2",
        dot_pair!(),
        "ldr r11, [sp, #20]",
        "str r1, [r11, #{weight}]",
        tanh!("r4", "r5"),
        "mov r4, r0",
        tanh!("r6", "r7"),
        "pkhbt r0, r4, r0, lsl #16",
        "ldrd r1, r2, [r11, #{next}]",
        "str r0, [r1], #4",
        "subs r2, #2",
        "strd r1, r2, [r11, #{next}]",
        "cmp r2, #1",
        "bhi 8b",
        "add sp, #20",
        "pop {{r0, r4-r11, pc}}",
        bias = const offset_of!(Operands, bias),
        input_scale = const offset_of!(Operands, input_scale),
        weight = const offset_of!(Operands, weight),
        h = const offset_of!(Operands, h),
        scale = const offset_of!(Operands, scale),
        next = const offset_of!(Operands, next),
        table = sym TANH_TABLE,
    )
}

/// # Safety
/// The operands' rows are as long as they say, begin on words, and there is one for each neuron, of which there is one at least.
#[unsafe(naked)]
unsafe extern "C" fn act_plastic(operands: *mut Operands) {
    naked_asm!(
        "push {{r0, r4-r11, lr}}",
        "8:",
        inputs!(),
        "ldrd r6, r7, [r4, #{lanes}]", // lanes, scale
        "add lr, r4, #{weight}",
        "mov r4, r3",
        "mov r5, r12",
        "ldm lr, {{r0-r3}}", // weights, alpha, H, h
        "subs r6, #16",
        "push {{r4-r7}}", // the accumulator, lanes to come less 16, the scale
        "blo 3f",
        "2:",
        plastic_group!("smuad lr, r8, r4\n"),
        plastic_group!(),
        plastic_group!(),
        plastic_group!(),
        "ldm sp, {{r4-r7}}",
        "smlal r4, r5, lr, r7",
        "subs r6, #16",
        "stm sp, {{r4-r6}}",
        "bhs 2b",
        "3:",
        "mov.w lr, #0",
        rest!(
            "r6",
            "ldr r6, [sp, #8]\n lsls r6, r6, #31\n",
            plastic_group!(),
            concat!(
                "ldrd r4, r5, [r3], #8\n ldrd r8, r9, [r0], #8\n smlad lr, r8, r4, lr\n smlad lr, r9, r5, lr\n",
                plastic_pair!("r4", "r5"),
            ),
            concat!(
                "ldr r4, [r3], #4\n ldr r9, [r0], #4\n ldr r8, [r1], #4\n ldr r10, [r2], #4\n smlad lr, r9, r4, lr\n",
                plastic_lane!("r8", "r10", "r4"),
            )
        ),
        "pop {{r4-r7}}",
        "smlal r4, r5, lr, r7",
        "ldr r6, [sp]",
        "str r0, [r6, #{weight}]",
        "strd r1, r2, [r6, #{alpha}]",
        tanh!("r4", "r5"),
        "mov r4, r6",
        next_neuron!(),
        "pop {{r0, r4-r11, pc}}",
        bias = const offset_of!(Operands, bias),
        input_scale = const offset_of!(Operands, input_scale),
        weight = const offset_of!(Operands, weight),
        alpha = const offset_of!(Operands, alpha),
        lanes = const offset_of!(Operands, lanes),
        next = const offset_of!(Operands, next),
        table = sym TANH_TABLE,
    )
}

/// H of both columns of a lane: `sat16(hebb + round(gain·factor))`. r3 is the gain, r12 one half.
#[rustfmt::skip]
macro_rules! bump_lane {
    ($pack:ident, $hebb:literal, $factor:literal) => {
        concat!(
            "smlawb lr, r3, ", $factor, ", r12\n smlawt ", $factor, ", r3, ", $factor, ", r12\n",
            $pack!($factor), "qadd16 ", $hebb, ", ", $hebb, ", lr\n",
        )
    };
}

/// Increments with 15 fractional bits.
#[rustfmt::skip]
macro_rules! pack_15 {
    ($upper:literal) => { concat!("asr lr, lr, #15\n pkhbt lr, lr, ", $upper, ", lsl #1\n") };
}

/// Increments with 16 fractional bits.
#[rustfmt::skip]
macro_rules! pack_16 {
    ($upper:literal) => { concat!("pkhtb lr, ", $upper, ", lr, asr #16\n") };
}

/// E of both columns of a lane: `round((1-eta)·eligibility + (eta·post)·pre)`. r3 is the rates, r12 one half.
#[rustfmt::skip]
macro_rules! drift_lane {
    ($_:ident, $eligibility:literal, $pre:literal) => {
        concat!(
            "pkhbt lr, ", $eligibility, ", ", $pre, ", lsl #16\n",
            "pkhtb ", $eligibility, ", ", $pre, ", ", $eligibility, ", asr #16\n",
            "smlad lr, r3, lr, r12\n smlad ", $eligibility, ", r3, ", $eligibility, ", r12\n",
            "asr lr, lr, #15\n pkhbt ", $eligibility, ", lr, ", $eligibility, ", lsl #1\n",
        )
    };
}

/// A function that changes a row of traces lane by lane: r0 the traces, r1 what changes them.
#[rustfmt::skip]
macro_rules! change_row {
    ($(#[$doc:meta])* $name:ident, $lane:ident, $pack:ident, $factor:ty, $half:literal) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// Both rows have `lanes` words.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(traces: *mut Q15, with: *const Q15, lanes: usize, factor: $factor) {
            naked_asm!(
                "push {{r4-r11, lr}}",
                concat!("mov.w r12, #", $half),
                change_rows!(concat!(
                    "ldm r0, {{r4-r7}}\n ldm r1!, {{r8-r11}}\n",
                    $lane!($pack, "r4", "r8"), $lane!($pack, "r5", "r9"), $lane!($pack, "r6", "r10"), $lane!($pack, "r7", "r11"),
                    "stm r0!, {{r4-r7}}\n",
                ), concat!(
                    "ldrd r4, r5, [r0]\n ldrd r8, r9, [r1], #8\n",
                    $lane!($pack, "r4", "r8"), $lane!($pack, "r5", "r9"),
                    "strd r4, r5, [r0], #8\n",
                ), concat!(
                    "ldr r4, [r0]\n ldr r8, [r1], #4\n", $lane!($pack, "r4", "r8"), "str r4, [r0], #4\n",
                )),
                "pop {{r4-r11, pc}}",
            )
        }
    };
}

/// [`sweep`] in blocks of four groups.
#[rustfmt::skip]
macro_rules! change_rows {
    ($group:expr, $pair:expr, $lane:expr) => { sweep!(concat!($group, $group, $group, $group), "", $group, $pair, $lane) };
}

change_row!(
    /// `traces ← sat16(traces + round(factor·with))`.
    bump_row, bump_lane, pack_15, i32, "0x4000"
);
change_row!(
    /// [`bump_row`] with one fractional bit more, which saves an instruction.
    bump_row_below_half, bump_lane, pack_16, i32, "0x8000"
);
change_row!(
    /// `traces ← round((1-eta)·traces + (eta·post)·with)`, both factors in one word.
    drift_row, drift_lane, pack_15, u32, "0x4000"
);
