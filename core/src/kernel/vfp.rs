//! f32 rows on processors with an FPU for f32: the bits of the portable twin in [`super`], which other targets run.
//!
//! Each product is rounded before it is added, in ascending order, as `core/FORMAT.md` says: `vmla` does so, unlike the fused
//! `vfma`. A Cortex-M4 needs three cycles for it, so it is used for sums only, each of which waits for the last; elsewhere `vmul` and
//! `vadd` take two. `vldm` loads eight numbers at the cost of one instruction. Instructions per synapse: static 1.4, plastic 3.6,
//! an update of H 4.2 (7 where all are clipped), of E 3.5. All neurons are one call, which calls `tanh` for each.
#![allow(unsafe_code, reason = "naked functions that read and write rows through pointers")]

use super::operands::{Operands, is_whole};
use super::{Coefficient, Increment, Kernel, Layer, Traces};
use crate::math::tanh_f32_inline;
use core::arch::naked_asm;
use core::mem::offset_of;

/// The activities of all neurons: [`super::act`]. `None`, and nothing has changed, if it is left to the twin.
pub fn act(layer: &Layer<'_, f32>, next: &mut [f32]) -> Option<()> {
    let mut operands = Operands::new(layer, next, |_| ())?;
    // SAFETY: the operands are complete, and there is a neuron.
    unsafe {
        match layer.plastic {
            Some(_) => act_plastic(&mut operands),
            None => act_static(&mut operands),
        }
    }
    Some(())
}

/// `acc + Σ weight·x`.
pub fn dot(acc: f32, weight: &[f32], x: &[f32]) -> f32 {
    // SAFETY: both rows have that many numbers.
    unsafe { dot_row(weight.as_ptr(), x.as_ptr(), weight.len().min(x.len()), acc) }
}

/// Applies an increment to rows of traces. `None`, and nothing has changed, if it is left to the twin: coefficients per connection.
pub fn learn(traces: &mut Traces<'_, f32>, increment: Increment<'_, f32>, post: &[f32], pre: &[f32], limit: f32) -> Option<()> {
    let (hebb, eligibility) = (&mut *traces.hebb, &mut *traces.eligibility);
    let is_matrix = |traces: &[f32]| traces.len() == post.len() * pre.len() && is_whole(traces, pre);
    if post.is_empty() || !is_matrix(hebb) {
        return None;
    }
    match increment {
        Increment::Rate(rate) => bump(hebb, pre, rate, post, limit),
        Increment::Retroactive {
            modulator,
            eta: Coefficient::Uniform(eta),
        } if is_matrix(eligibility) => {
            // All rows are one to the change of H, with the modulator as its gain; zero changes what is -0.
            let row = (hebb.as_mut_ptr(), eligibility.as_ptr(), eligibility.len());
            // SAFETY: traces have a row of as many numbers as `pre` for each `post`, and there is one.
            unsafe {
                bump_row(row.0, row.1, row.2, limit.to_bits(), modulator);
                drift_rows(
                    eligibility.as_mut_ptr(),
                    pre.as_ptr(),
                    pre.len(),
                    post.as_ptr(),
                    post.len(),
                    1.0 - eta,
                    eta,
                );
            }
            Some(())
        }
        _ => None,
    }
}

/// `hebb_j ← clip(hebb_j + (rate·post_j)·pre)`, but for rows of a gain of zero.
fn bump(hebb: &mut [f32], pre: &[f32], rate: f32, post: &[f32], limit: f32) -> Option<()> {
    for (hebb, post) in hebb.chunks_exact_mut(pre.len().max(1)).zip(post) {
        let gain = f32::times(rate, *post);
        if !f32::is_zero(gain) {
            // SAFETY: both rows have that many numbers.
            unsafe { bump_row(hebb.as_mut_ptr(), pre.as_ptr(), pre.len(), limit.to_bits(), gain) };
        }
    }
    Some(())
}

/// The sum s0 grows by the products of so many numbers from s8 on with those from s24 on, one after the other.
#[rustfmt::skip]
macro_rules! sum_up {
    (1) => { "vmla.f32 s0, s8, s24\n" };
    (2) => { concat!(sum_up!(1), "vmla.f32 s0, s9, s25\n") };
    (4) => { concat!(sum_up!(2), "vmla.f32 s0, s10, s26\n vmla.f32 s0, s11, s27\n") };
    (8) => {
        concat!(
            sum_up!(4), "vmla.f32 s0, s12, s28\n vmla.f32 s0, s13, s29\n vmla.f32 s0, s14, s30\n vmla.f32 s0, s15, s31\n",
        )
    };
}

/// A static row: r0 weights, r1 x, r2 how many; the sum is s0.
#[rustfmt::skip]
macro_rules! dot_row {
    () => {
        sweep!(
            "r2",
            concat!(
                "vldmia r0!, {{s8-s15}}\n vldmia r1!, {{s24-s31}}\n", sum_up!(8),
                "vldmia r0!, {{s8-s15}}\n vldmia r1!, {{s24-s31}}\n", sum_up!(8),
            ),
            "",
            concat!("vldmia r0!, {{s8-s11}}\n vldmia r1!, {{s24-s27}}\n", sum_up!(4)),
            concat!("vldmia r0!, {{s8-s9}}\n vldmia r1!, {{s24-s25}}\n", sum_up!(2)),
            concat!("vldmia r0!, {{s8}}\n vldmia r1!, {{s24}}\n", sum_up!(1))
        )
    };
}

/// `weight + alpha·hebb` of the first so many of s8 (weights), s16 (alpha) and s24 (H), into s8.
#[rustfmt::skip]
macro_rules! strengths {
    (1) => { "vmul.f32 s16, s16, s24\n vadd.f32 s8, s8, s16\n" };
    (2) => { concat!("vmul.f32 s17, s17, s25\n vadd.f32 s9, s9, s17\n", strengths!(1)) };
    (4) => {
        concat!(
            "vmul.f32 s18, s18, s26\n vmul.f32 s19, s19, s27\n vadd.f32 s10, s10, s18\n vadd.f32 s11, s11, s19\n", strengths!(2),
        )
    };
    (8) => {
        concat!(
            "vmul.f32 s20, s20, s28\n vmul.f32 s21, s21, s29\n vmul.f32 s22, s22, s30\n vmul.f32 s23, s23, s31\n",
            "vadd.f32 s12, s12, s20\n vadd.f32 s13, s13, s21\n vadd.f32 s14, s14, s22\n vadd.f32 s15, s15, s23\n", strengths!(4),
        )
    };
}

/// So many numbers of a plastic row: r0 weights, r1 alpha, r2 H, r3 x; the ends of their registers.
#[rustfmt::skip]
macro_rules! plastic_group {
    ($count:tt, $weight:literal, $alpha:literal, $hebb:literal) => {
        concat!(
            "vldmia r0!, {{s8-", $weight, "}}\n vldmia r1!, {{s16-", $alpha, "}}\n vldmia r2!, {{s24-", $hebb, "}}\n",
            strengths!($count),
            "vldmia r3!, {{s24-", $hebb, "}}\n", sum_up!($count),
        )
    };
    (8) => { plastic_group!(8, "s15", "s23", "s31") };
    (4) => { plastic_group!(4, "s11", "s19", "s27") };
    (2) => { plastic_group!(2, "s9", "s17", "s25") };
    (1) => { plastic_group!(1, "s8", "s16", "s24") };
}

/// The row of inputs of a neuron: s0 is its bias and what the inputs add. r4 points to the operands.
#[rustfmt::skip]
macro_rules! inputs {
    () => { concat!("ldm r4, {{r0-r3}}\n vldmia r3!, {{s0}}\n str r3, [r4, #{bias}]\n", dot_row!(), "str r0, [r4]\n") };
}

/// The activity s0 is `tanh` of the sum; on to the next neuron, at label 8.
#[rustfmt::skip]
macro_rules! next_neuron {
    () => {
        "bl {tanh}\n ldrd r1, r2, [r4, #{next}]\n vstmia r1!, {{s0}}\n subs r2, #1\n strd r1, r2, [r4, #{next}]\n bne 8b\n"
    };
}

/// [`tanh_f32_inline`] for functions in assembly.
extern "C" fn tanh(x: f32) -> f32 {
    tanh_f32_inline(x)
}

/// # Safety
/// The pointers point to `count` numbers.
#[unsafe(naked)]
unsafe extern "C" fn dot_row(weight: *const f32, x: *const f32, count: usize, acc: f32) -> f32 {
    naked_asm!(
        ".fpu fpv4-sp-d16", // what the target has, which a naked function's assembler does not know
        "vpush {{s24-s31}}",
        dot_row!(),
        "vpop {{s24-s31}}",
        "bx lr",
    )
}

/// # Safety
/// The operands are complete, and there is a neuron.
#[unsafe(naked)]
unsafe extern "C" fn act_static(operands: *mut Operands<f32, ()>) {
    naked_asm!(
        ".fpu fpv4-sp-d16",
        "push {{r4, lr}}",
        "vpush {{s16-s31}}",
        "mov r4, r0",
        "8:",
        inputs!(),
        "ldr r0, [r4, #{weight}]",
        "ldrd r1, r2, [r4, #{h}]", // h, words
        dot_row!(),
        "str r0, [r4, #{weight}]",
        next_neuron!(),
        "vpop {{s16-s31}}",
        "pop {{r4, pc}}",
        bias = const offset_of!(Operands<f32, ()>, bias),
        weight = const offset_of!(Operands<f32, ()>, weight),
        h = const offset_of!(Operands<f32, ()>, h),
        next = const offset_of!(Operands<f32, ()>, next),
        tanh = sym tanh,
    )
}

/// # Safety
/// The operands are complete and plastic, and there is a neuron.
#[unsafe(naked)]
unsafe extern "C" fn act_plastic(operands: *mut Operands<f32, ()>) {
    naked_asm!(
        ".fpu fpv4-sp-d16",
        "push {{r4, lr}}",
        "vpush {{s16-s31}}",
        "mov r4, r0",
        "8:",
        inputs!(),
        "ldr r12, [r4, #{words}]",
        "add lr, r4, #{weight}",
        "ldm lr, {{r0-r3}}", // weights, alpha, H, h
        sweep!(
            "r12",
            concat!(plastic_group!(8), plastic_group!(8)),
            "",
            plastic_group!(4),
            plastic_group!(2),
            plastic_group!(1)
        ),
        "str r0, [r4, #{weight}]",
        "strd r1, r2, [r4, #{alpha}]",
        next_neuron!(),
        "vpop {{s16-s31}}",
        "pop {{r4, pc}}",
        bias = const offset_of!(Operands<f32, ()>, bias),
        weight = const offset_of!(Operands<f32, ()>, weight),
        alpha = const offset_of!(Operands<f32, ()>, alpha),
        words = const offset_of!(Operands<f32, ()>, words),
        next = const offset_of!(Operands<f32, ()>, next),
        tanh = sym tanh,
    )
}

/// A number whose magnitude exceeds the limit becomes the limit, with its sign. A NaN is positive, as these FPUs make them.
#[rustfmt::skip]
macro_rules! clip {
    ($number:literal) => { concat!("cmp r12, ", $number, ", lsl #1\n it lo\n bfilo ", $number, ", r3, #0, #31\n") };
}

/// Four traces that are stored at r0: r0 goes on, to `$done` if none is beyond the limit.
#[rustfmt::skip]
macro_rules! clip_group {
    ($done:literal) => {
        concat!(
            "ldm r0!, {{r4-r7}}\n cmp r12, r4, lsl #1\n ittt hs\n cmphs r12, r5, lsl #1\n cmphs r12, r6, lsl #1\n",
            "cmphs r12, r7, lsl #1\n bhs ", $done, "f\n",
            clip!("r4"), clip!("r5"), clip!("r6"), clip!("r7"), "strd r4, r5, [r0, #-16]\n strd r6, r7, [r0, #-8]\n",
            $done, ":\n",
        )
    };
}

/// `hebb + gain·factor` for four numbers.
#[rustfmt::skip]
macro_rules! bump_group {
    () => {
        concat!(
            "vldmia r0, {{s8-s11}}\n vldmia r1!, {{s4-s7}}\n",
            "vmul.f32 s4, s0, s4\n vmul.f32 s5, s0, s5\n vmul.f32 s6, s0, s6\n vmul.f32 s7, s0, s7\n",
            "vadd.f32 s8, s8, s4\n vadd.f32 s9, s9, s5\n vadd.f32 s10, s10, s6\n vadd.f32 s11, s11, s7\n",
            "vstmia r0, {{s8-s11}}\n", clip_group!("9"),
        )
    };
}

/// [`bump_group!`] for eight numbers.
#[rustfmt::skip]
macro_rules! bump_groups {
    () => {
        concat!(
            "vldmia r0, {{s8-s15}}\n vldmia r1!, {{s16-s23}}\n",
            "vmul.f32 s16, s0, s16\n vmul.f32 s17, s0, s17\n vmul.f32 s18, s0, s18\n vmul.f32 s19, s0, s19\n",
            "vmul.f32 s20, s0, s20\n vmul.f32 s21, s0, s21\n vmul.f32 s22, s0, s22\n vmul.f32 s23, s0, s23\n",
            "vadd.f32 s8, s8, s16\n vadd.f32 s9, s9, s17\n vadd.f32 s10, s10, s18\n vadd.f32 s11, s11, s19\n",
            "vadd.f32 s12, s12, s20\n vadd.f32 s13, s13, s21\n vadd.f32 s14, s14, s22\n vadd.f32 s15, s15, s23\n",
            "vstmia r0, {{s8-s15}}\n", clip_group!("9"), clip_group!("9"),
        )
    };
}

/// [`bump_group!`] for one number.
#[rustfmt::skip]
macro_rules! bump_one {
    () => {
        concat!(
            "vldr s8, [r0]\n vldmia r1!, {{s4}}\n vmul.f32 s4, s0, s4\n vadd.f32 s8, s8, s4\n vmov r4, s8\n",
            clip!("r4"), "str r4, [r0], #4\n",
        )
    };
}

/// `hebb ← clip(hebb + gain·factors)`.
///
/// # Safety
/// Both rows have `count` numbers.
#[unsafe(naked)]
unsafe extern "C" fn bump_row(hebb: *mut f32, factors: *const f32, count: usize, limit: u32, gain: f32) {
    naked_asm!(
        ".fpu fpv4-sp-d16",
        "push {{r4-r7}}",
        "vpush {{s16-s23}}",
        "lsl r12, r3, #1", // magnitudes are compared without the sign, at twice their bits
        "subs r2, #8",     // no sweep, which would need the flags of these comparisons
        "blo 3f",
        "2:",
        bump_groups!(),
        "subs r2, #8",
        "bhs 2b",
        "3:",
        "adds r2, #4",
        "bmi 4f",
        bump_group!(),
        "subs r2, #4",
        "4:",
        "adds r2, #4",
        "beq 6f",
        "5:",
        bump_one!(),
        "subs r2, #1",
        "bne 5b",
        "6:",
        "vpop {{s16-s23}}",
        "pop {{r4-r7}}",
        "bx lr",
    )
}

/// E of one number: s2 is 1-eta, s3 eta·post. `$e` becomes `s2·$e + s3·$pre`.
#[rustfmt::skip]
macro_rules! drift {
    ($($e:literal $pre:literal)*) => {
        concat!(
            $("vmul.f32 ", $e, ", s2, ", $e, "\n",)*
            $("vmul.f32 ", $pre, ", s3, ", $pre, "\n",)*
            $("vadd.f32 ", $e, ", ", $e, ", ", $pre, "\n",)*
        )
    };
}

/// [`drift!`] for eight numbers.
#[rustfmt::skip]
macro_rules! drift_group {
    () => {
        concat!(
            "vldmia r0, {{s8-s15}}\n vldmia r1!, {{s16-s23}}\n",
            drift!("s8" "s16" "s9" "s17" "s10" "s18" "s11" "s19" "s12" "s20" "s13" "s21" "s14" "s22" "s15" "s23"),
            "vstmia r0!, {{s8-s15}}\n",
        )
    };
}

/// `eligibility_j ← kept·eligibility_j + (eta·post_j)·pre`, where `kept` is 1-eta.
///
/// # Safety
/// There are `rows` rows of eligibilities, one at least, and activities, and `pre` and each row have `count` numbers.
#[unsafe(naked)]
unsafe extern "C" fn drift_rows(eligibility: *mut f32, pre: *const f32, count: usize, post: *const f32, rows: usize, kept: f32, eta: f32) {
    naked_asm!(
        ".fpu fpv4-sp-d16",
        "push {{r4, r5}}",
        "vpush {{s16-s23}}",
        "ldr r12, [sp, #40]", // rows
        "mov r4, r1",
        "mov r5, r2",
        "vmov.f32 s2, s0",
        "8:",
        "mov r1, r4",
        "mov r2, r5",
        "vldmia r3!, {{s3}}",
        "vmul.f32 s3, s1, s3",
        sweep!(
            "r2",
            concat!(drift_group!(), drift_group!()),
            "",
            concat!(
                "vldmia r0, {{s8-s11}}\n vldmia r1!, {{s16-s19}}\n",
                drift!("s8" "s16" "s9" "s17" "s10" "s18" "s11" "s19"),
                "vstmia r0!, {{s8-s11}}\n",
            ),
            concat!(
                "vldmia r0, {{s8-s9}}\n vldmia r1!, {{s16-s17}}\n",
                drift!("s8" "s16" "s9" "s17"),
                "vstmia r0!, {{s8-s9}}\n"
            ),
            concat!("vldr s8, [r0]\n vldmia r1!, {{s16}}\n", drift!("s8" "s16"), "vstmia r0!, {{s8}}\n")
        ),
        "subs r12, #1",
        "bne 8b",
        "vpop {{s16-s23}}",
        "pop {{r4, r5}}",
        "bx lr",
    )
}
