//! q15 rows on processors with ARMv7E-M's instructions on pairs of 16-bit numbers (Cortex-M4 and M7): each function here gives the
//! bits of its portable twin in [`super`], which other targets run. The build script names the targets.
//!
//! `ldm` loads four lanes at the cost of one instruction, a block is unrolled, and what is left after the last whole block is
//! taken by the bits of its length. Instructions per synapse: static 0.9, plastic 3.4, an update of H 2.4 (2.9 for large gains),
//! of H and E 5.8 (6.3). A whole neuron is one call: inputs, recurrence and `tanh`.
//!
//! The functions are naked because they use all registers. They keep to the procedure call standard: r4 to r11 are
//! saved, arguments arrive in r0 to r3 and then on the stack, and a result of 64 bits leaves in r0 and r1.
#![allow(unsafe_code, reason = "naked functions that read and write rows through pointers")]

use super::fixed::scale;
use super::operands::{Operands, is_whole};
use super::{Coefficient, Increment, Layer, Traces};
use crate::math::TANH_TABLE;
use crate::scalar::Q15;
use bytemuck::Pod;
use core::arch::naked_asm;
use core::mem::offset_of;
use core::slice;

/// The activities of all neurons: [`super::act`]. `None`, and nothing has changed, if it is left to the twin.
pub fn act(layer: &Layer<'_, Q15>, next: &mut [Q15]) -> Option<()> {
    let mut operands = Operands::new(layer, next, scale)?;
    // SAFETY: the operands are complete. Each function is called if there is a neuron for it, and leaves them at the neurons that
    // are still to be computed.
    unsafe {
        if layer.plastic.is_some() {
            act_plastic(&mut operands);
        } else {
            if next.len() > 1 {
                act_static_pairs(&mut operands);
            }
            if next.len() % 2 == 1 {
                act_static(&mut operands);
            }
        }
    }
    Some(())
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

/// Applies an increment with gains of `format` fractional bits to rows of traces. `None`, and nothing has changed, if it is
/// left to the twin: coefficients per connection, gains of 1 and more, whose increments do not fit 16 bits, and traces that are
/// not whole words, such as one that somebody looks at.
pub fn learn(traces: &mut Traces<'_, Q15>, increment: Increment<'_, Q15>, post: &[Q15], pre: &[Q15], format: u32) -> Option<()> {
    let (hebb, eligibility) = (&mut *traces.hebb, &mut *traces.eligibility);
    let is_matrix = |traces: &[Q15]| traces.len() == post.len() * pre.len() && is_whole(traces, pre);
    if post.is_empty() || !is_matrix(hebb) {
        return None;
    }
    match increment {
        Increment::Rate(rate) => bump(hebb, pre, rate, post, format),
        Increment::Retroactive {
            modulator,
            eta: Coefficient::Uniform(eta),
        } => {
            // An eta of at most 1 keeps eligibilities in range, so that they need no clip: |1-eta| + |eta·post| <= 1. And 1-eta
            // has to fit 16 bits.
            if !(1..=0x8000).contains(&(eta as u16)) || !is_matrix(eligibility) {
                return None;
            }
            // All rows are one to the change of H. The negative modulator times -1 is the modulator, whichever it is.
            bump(hebb, eligibility, modulator.wrapping_neg(), &[Q15::from_bits(i16::MIN)], format)?;
            let lanes = pre.len() / 2;
            // SAFETY: eligibilities have a row of `lanes` words, as `pre` has, for each `post`, and there is one.
            unsafe {
                drift_rows(
                    eligibility.as_mut_ptr(),
                    pre.as_ptr(),
                    lanes,
                    (eta as u16).into(),
                    post.as_ptr(),
                    post.len(),
                );
            }
            Some(())
        }
        _ => None,
    }
}

/// `hebb_j ← sat16(hebb_j + round(gain_j·factors))` with `gain_j = rate·post_j`, for rows of whole words. `None`, and nothing has
/// changed, for a rate of 1 and more.
#[inline(always)]
fn bump(hebb: &mut [Q15], factors: &[Q15], rate: i16, post: &[Q15], format: u32) -> Option<()> {
    if rate == 0 {
        return Some(());
    }
    // Gains become factors of a multiplication that drops 16 bits, so that the increments have 15 or 16 fractional bits. The bits
    // that are dropped lie below the rounded place, and rounding downwards twice is rounding downwards once.
    let fits = |limit: u32| u32::from(rate.unsigned_abs()) < limit;
    let (bump_rows, bits): (unsafe extern "C" fn(_, _, _, _, _, _, _), _) = match () {
        () if fits((1 << format) >> 1) => (bump_rows_below_half, 16),
        () if fits(1 << format) => (bump_rows, 15),
        () => return None,
    };
    let shift = (16 + bits - format) % 32;
    // SAFETY: there are as many rows of traces as in `post`, with as many words as the factors have.
    unsafe {
        bump_rows(
            hebb.as_mut_ptr(),
            factors.as_ptr(),
            factors.len() / 2,
            rate.into(),
            post.as_ptr(),
            post.len(),
            shift,
        );
    }
    Some(())
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
                "r2",
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
/// operands' address, which r5 is then.
#[rustfmt::skip]
macro_rules! inputs {
    () => {
        concat!(
            "ldr r5, [sp]\n ldm r5, {{r0-r3}}\n",
            "ldr r4, [r3], #4\n str r3, [r5, #{bias}]\n lsls r3, r4, #10\n adds r3, #4\n asr r12, r4, #22\n", // 4 for the rounding of `tanh!`
            dot_row!("ldr r5, [sp]\n ldr r4, [r5, #{input_scale}]\n"),
            "str r0, [r5]\n",
        )
    };
}

/// Stores the activity r0 and goes on to the next neuron, at label 8. r6 is the operands' address.
#[rustfmt::skip]
macro_rules! next_neuron {
    () => { "ldrd r1, r2, [r6, #{next}]\n strh r0, [r1], #2\n subs r2, #1\n strd r1, r2, [r6, #{next}]\n bne 8b\n" };
}

/// # Safety
/// The operands are complete, and there is a neuron.
#[unsafe(naked)]
unsafe extern "C" fn act_static(operands: *mut Operands<Q15, i32>) {
    naked_asm!(
        "push {{r0, r4-r11, lr}}",
        "8:",
        inputs!(),
        "ldr r0, [r5, #{weight}]",
        "ldrd r1, r2, [r5, #{h}]", // h, lanes
        dot_row!("ldr r6, [sp]\n ldr r4, [r6, #{scale}]\n"),
        "str r0, [r6, #{weight}]",
        tanh!("r3", "r12"),
        next_neuron!(),
        "pop {{r0, r4-r11, pc}}",
        bias = const offset_of!(Operands<Q15, i32>, bias),
        input_scale = const offset_of!(Operands<Q15, i32>, input_scale),
        weight = const offset_of!(Operands<Q15, i32>, weight),
        h = const offset_of!(Operands<Q15, i32>, h),
        scale = const offset_of!(Operands<Q15, i32>, scale),
        next = const offset_of!(Operands<Q15, i32>, next),
        table = sym TANH_TABLE,
    )
}

/// [`act_static`] for two neurons at a time, which share the reads of x. One neuron of an odd number is left.
///
/// # Safety
/// The operands are complete, and there are two neurons.
#[unsafe(naked)]
unsafe extern "C" fn act_static_pairs(operands: *mut Operands<Q15, i32>) {
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
        "adds r4, #4", // for the rounding of `tanh!`
        "asrs r7, r6, #22",
        "lsls r6, r6, #10",
        "adds r6, #4",
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
        bias = const offset_of!(Operands<Q15, i32>, bias),
        input_scale = const offset_of!(Operands<Q15, i32>, input_scale),
        weight = const offset_of!(Operands<Q15, i32>, weight),
        h = const offset_of!(Operands<Q15, i32>, h),
        scale = const offset_of!(Operands<Q15, i32>, scale),
        next = const offset_of!(Operands<Q15, i32>, next),
        table = sym TANH_TABLE,
    )
}

/// # Safety
/// The operands are complete and plastic, and there is a neuron.
#[unsafe(naked)]
unsafe extern "C" fn act_plastic(operands: *mut Operands<Q15, i32>) {
    naked_asm!(
        "push {{r0, r4-r11, lr}}",
        "8:",
        inputs!(),
        "ldrd r6, r7, [r5, #{words}]", // lanes, scale
        "subs r6, #16",
        "push {{r6, r7}}",
        "push {{r3, r12}}", // at sp now: the accumulator, lanes to come less 16, the scale
        "add r5, r5, #{weight}",
        "ldm r5, {{r0-r3}}", // weights, alpha, H, h
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
        next_neuron!(),
        "pop {{r0, r4-r11, pc}}",
        bias = const offset_of!(Operands<Q15, i32>, bias),
        input_scale = const offset_of!(Operands<Q15, i32>, input_scale),
        weight = const offset_of!(Operands<Q15, i32>, weight),
        alpha = const offset_of!(Operands<Q15, i32>, alpha),
        words = const offset_of!(Operands<Q15, i32>, words),
        next = const offset_of!(Operands<Q15, i32>, next),
        table = sym TANH_TABLE,
    )
}

/// H of both columns of a lane: `sat16(hebb + round(gain·factor))`. r3 is the gain, r12 one half.
#[rustfmt::skip]
macro_rules! bump_lane {
    ($pack:ident, $hebb:literal, $factor:literal) => {
        concat!(
            "smlawb lr, r3, ", $factor, ", r12\n smlawt ", $factor, ", r3, ", $factor, ", r12\n",
            $pack!($factor), "qadd16 ", $hebb, ", ", $hebb, ", ", $factor, "\n",
        )
    };
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

/// [`change_rows!`] with so many fractional bits of increments, or of E.
#[rustfmt::skip]
macro_rules! change_q15 {
    ($(#[$doc:meta])* $name:ident($($shift:ident: u32)?), $factor:expr, $lane:ident, $pack:ident, $half:literal) => {
        change_rows!(
            $(#[$doc])* $name(Q15 $(, $shift: u32)?), concat!("mov.w r12, #", $half),
            "ldrsh r5, [r4], #2", $factor,
            concat!(
                "ldm r0, {{r4-r7}}\n ldm r1!, {{r8-r11}}\n",
                $lane!($pack, "r4", "r8"), $lane!($pack, "r5", "r9"), $lane!($pack, "r6", "r10"), $lane!($pack, "r7", "r11"),
                "stm r0!, {{r4-r7}}\n",
            ),
            concat!(
                "ldrd r4, r5, [r0]\n ldrd r8, r9, [r1], #8\n",
                $lane!($pack, "r4", "r8"), $lane!($pack, "r5", "r9"),
                "strd r4, r5, [r0], #8\n",
            ),
            concat!("ldr r4, [r0]\n ldr r8, [r1], #4\n", $lane!($pack, "r4", "r8"), "str r4, [r0], #4\n")
        );
    };
}

/// The gain `(rate·post + 2^14) >> 15` in 16 bits, shifted as far as the last argument says.
macro_rules! gain {
    () => {
        "smulbb r3, r3, r5\n add r3, r3, #0x4000\n sbfx r3, r3, #15, #16\n ldr r4, [sp, #56]\n lsls r3, r3, r4\n beq 9f\n"
    };
}

/// `1-eta` in the lower half, `(eta·post + 2^14) >> 15` in the upper one.
macro_rules! rates {
    () => {
        "mul r5, r3, r5\n add r5, r5, #0x4000\n asr r5, r5, #15\n rsb r3, r3, #0x8000\n pkhbt r3, r3, r5, lsl #16\n"
    };
}

change_q15!(
    /// `traces_j ← sat16(traces_j + round(gain_j·with))`.
    bump_rows(shift: u32), gain!(), bump_lane, pack_15, "0x4000"
);
change_q15!(
    /// [`bump_rows`] with one fractional bit more, which saves an instruction.
    bump_rows_below_half(shift: u32), gain!(), bump_lane, pack_16, "0x8000"
);
change_q15!(
    /// `traces_j ← round((1-eta)·traces_j + (eta·post_j)·with)`.
    drift_rows(), rates!(), drift_lane, pack_15, "0x4000"
);
