//! q15 rows with ARMv6-M's instructions (Cortex-M0; ARMv8-M's base line has them too): what [`quads`](super::quads) calls, and
//! changes of a row of traces.
//!
//! Arithmetic knows eight registers, of which addresses take five; the others can be added, so that they hold sums and distances.
//! Four rows at once share the reads of x. One index leads through all matrices, down a column and up to the next one's top.
//! Instructions per synapse, loops not included: static 4.25, plastic 13.25, an update of H 10, of E 9.
//!
//! The functions are naked because they use all registers. They keep to the procedure call standard: r4 to r11 are saved,
//! arguments arrive in r0 to r3 and then on the stack.
#![allow(unsafe_code, reason = "naked functions that read and write rows through pointers")]

use super::fixed::drift_factors;
use super::{CONSTANT_TIME, Traces, bump_each, write_each};
use crate::scalar::Q15;
use core::arch::naked_asm;

/// Adds increments to a row of H: [`bump_each`].
pub fn bump_row(hebb: &mut [Q15], gain: i16, factors: &[Q15], format: u32) {
    let columns = hebb.len().min(factors.len());
    // A number that saturates takes a branch. And a connection alone is no pair.
    if CONSTANT_TIME || columns == 0 || columns % 2 == 1 {
        return bump_each(hebb, gain, factors, format);
    }
    // SAFETY: both rows have that many columns.
    unsafe { add_increments(hebb.as_mut_ptr(), factors.as_ptr(), columns, gain.into(), format) }
}

/// The retroactive change of a row: [`write_each`].
pub fn write_row(traces: Traces<'_, Q15>, modulator: i16, eta: i16, post: Q15, pre: &[Q15], format: u32) {
    let columns = traces.eligibility.len().min(pre.len());
    // An eta of at most 1 keeps eligibilities in range, so that they need no clip: |1-eta| + |eta·post| <= 1.
    if CONSTANT_TIME || columns == 0 || columns % 2 == 1 || eta as u16 > 0x8000 {
        return write_each(traces, modulator, eta, post, pre, format);
    }
    bump_row(traces.hebb, modulator, traces.eligibility, format);
    let (kept, gain) = drift_factors(eta, post);
    // SAFETY: both rows have that many columns.
    unsafe { drift(traces.eligibility.as_mut_ptr(), pre.as_ptr(), columns, kept, gain) }
}

/// One column of one static row: the sum `$sum` grows by w·x. r5 is x.
#[rustfmt::skip]
macro_rules! dot_lane {
    ($sum:literal) => { concat!("ldrsh r6, [r0, r4]\n muls r6, r5, r6\n add ", $sum, ", r6\n") };
}

/// One column of one plastic row. With alpha·H = 2^16·upper + lower, the sum `$sum` grows by (w + upper)·x and by the upper half of
/// lower·x. r5 is x.
#[rustfmt::skip]
macro_rules! plastic_lane {
    ($sum:literal) => {
        concat!(
            "ldrsh r6, [r1, r4]\n ldrsh r7, [r2, r4]\n muls r6, r7, r6\n asrs r7, r6, #16\n uxth r6, r6\n",
            "muls r6, r5, r6\n asrs r6, r6, #16\n add ", $sum, ", r6\n",
            "ldrsh r6, [r0, r4]\n adds r7, r7, r6\n muls r7, r5, r7\n add ", $sum, ", r7\n",
        )
    };
}

/// One column of four rows: r12 is the distance of a row to the next, lr that of the last to the first one's next column.
#[rustfmt::skip]
macro_rules! quad_column {
    ($lane:ident) => {
        concat!(
            "ldrsh r5, [r3, r4]\n", $lane!("r8"), "add r4, r12\n", $lane!("r9"), "add r4, r12\n",
            $lane!("r10"), "add r4, r12\n", $lane!("r11"), "add r4, lr\n",
        )
    };
}

/// Ends a block of one row: `$sum` goes where r0 points. r1 is the scale, so small a power of two that the upper half of the
/// sum times it fits 32 bits.
#[rustfmt::skip]
macro_rules! add_block {
    ($sum:literal) => {
        concat!(
            "mov r5, ", $sum, "\n asrs r6, r5, #16\n muls r6, r1, r6\n asrs r6, r6, #16\n muls r5, r1, r5\n",
            "ldr r2, [r0]\n ldr r3, [r0, #4]\n adds r2, r2, r5\n adcs r3, r6\n stm r0!, {{r2, r3}}\n",
        )
    };
}

/// A function that adds the products of four rows to their sums, in blocks of 32 columns, each with sums of 32 bits: r8 to r11.
/// r0 to r2 are weights, alpha and H, r3 x, r4 the index, in bytes.
macro_rules! four_rows {
    ($(#[$doc:meta])* $name:ident, $lane:ident) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// Every matrix that is read has four rows of `bytes` bytes, as x has, which are four or a multiple of it.
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name(
            weight: *const i16, alpha: *const i16, hebb: *const Q15, x: *const Q15, bytes: usize, scale: i32, sums: &mut [i64; 4],
        ) {
            naked_asm!(
                "push {{r4-r7, lr}}",
                "mov r4, r8",
                "mov r5, r9",
                "mov r6, r10",
                "mov r7, r11",
                "push {{r3-r7}}", // at sp, in place of r3: the index after a block
                "push {{r0-r3}}",
                "ldr r5, [sp, #56]", // bytes
                "mov r12, r5",
                "lsls r6, r5, #1",
                "adds r6, r6, r5",
                "movs r5, #2",
                "subs r5, r5, r6",
                "mov lr, r5",
                "movs r4, #0",
                "2:",
                "movs r5, r4",
                "adds r5, #64",
                "ldr r6, [sp, #56]",
                "cmp r5, r6",
                "bls 3f",
                "movs r5, r6",
                "3:",
                "str r5, [sp, #16]",
                "movs r5, #0",
                "mov r8, r5",
                "mov r9, r5",
                "mov r10, r5",
                "mov r11, r5",
                "4:",
                quad_column!($lane),
                quad_column!($lane),
                "ldr r5, [sp, #16]",
                "cmp r4, r5",
                "bne 4b",
                "ldr r1, [sp, #60]", // scale
                "ldr r0, [sp, #64]", // sums
                add_block!("r8"),
                add_block!("r9"),
                add_block!("r10"),
                add_block!("r11"),
                "mov r0, sp",
                "ldm r0, {{r0-r3}}",
                "ldr r5, [sp, #56]",
                "cmp r4, r5",
                "beq 5f",
                "b 2b",
                "5:",
                "add sp, #20",
                "pop {{r4-r7}}",
                "mov r8, r4",
                "mov r9, r5",
                "mov r10, r6",
                "mov r11, r7",
                "pop {{r4-r7, pc}}",
            )
        }
    };
}

four_rows!(
    /// `sums_j += scale·Σ weight_j·x`; alpha and H are not read.
    dot_rows,
    dot_lane
);
four_rows!(
    /// `sums_j += scale·Σ (weight_j + alpha_j·hebb_j)·x`.
    plastic_rows,
    plastic_lane
);

/// One column of an update of H: r0 and r1 the rows, r4 the index, r3 the gain, r7 the format. What a shift drops last is the
/// carry, which is how an increment is rounded; an index never carries, so that there is none where nothing is dropped. `$clip`
/// is where a sum that does not fit becomes one that does.
#[rustfmt::skip]
macro_rules! bump_lane {
    ($clip:literal, $back:literal) => {
        concat!(
            "ldrsh r5, [r1, r4]\n ldrsh r6, [r0, r4]\n muls r5, r3, r5\n asrs r5, r7\n adcs r6, r5\n",
            "sxth r5, r6\n cmp r5, r6\n bne ", $clip, "f\n", $back, ":\n strh r6, [r0, r4]\n adds r4, #2\n",
        )
    };
}

/// The largest number of the sign of r6.
#[rustfmt::skip]
macro_rules! clip {
    ($clip:literal, $back:literal) => { concat!($clip, ":\n asrs r6, r6, #31\n mov r5, r12\n eors r6, r5\n b ", $back, "b\n") };
}

/// `hebb ← sat16(hebb + round(gain·factors, format))`.
///
/// # Safety
/// Both rows have `columns` numbers, an even number that is not zero.
#[unsafe(naked)]
unsafe extern "C" fn add_increments(hebb: *mut Q15, factors: *const Q15, columns: usize, gain: i32, format: u32) {
    naked_asm!(
        "push {{r4-r7, lr}}",
        "ldr r7, [sp, #20]",
        "movs r4, #0",
        "mvns r5, r4",
        "lsrs r5, r5, #17",
        "mov r12, r5",     // 0x7fff
        "adds r2, r2, r2", // bytes; no carry
        "movs r5, #4",
        "tst r2, r5",
        "bne 3f", // two columns more than a multiple of four
        "2:",
        bump_lane!("10", "4"),
        bump_lane!("11", "5"),
        "3:",
        bump_lane!("12", "6"),
        bump_lane!("13", "7"),
        "cmp r4, r2",
        "bne 2b",
        "pop {{r4-r7, pc}}",
        clip!("10", "4"),
        clip!("11", "5"),
        clip!("12", "6"),
        clip!("13", "7"),
    )
}

/// One column of an update of E: r0 and r1 the rows, r4 the index, r2 and r3 the factors, r7 one half.
#[rustfmt::skip]
macro_rules! drift_lane {
    () => {
        concat!(
            "ldrsh r5, [r0, r4]\n ldrsh r6, [r1, r4]\n muls r5, r2, r5\n muls r6, r3, r6\n adds r5, r5, r6\n",
            "adds r5, r5, r7\n asrs r5, r5, #15\n strh r5, [r0, r4]\n adds r4, #2\n",
        )
    };
}

/// `eligibility ← (kept·eligibility + gain·pre + 2^14) >> 15`, which has to fit 16 bits.
///
/// # Safety
/// Both rows have `columns` numbers, an even number that is not zero.
#[unsafe(naked)]
unsafe extern "C" fn drift(eligibility: *mut Q15, pre: *const Q15, columns: usize, kept: i32, gain: i32) {
    naked_asm!(
        "push {{r4-r7, lr}}",
        "lsls r2, r2, #1",
        "mov r12, r2",
        "movs r2, r3",
        "ldr r3, [sp, #20]",
        "movs r7, #1",
        "lsls r7, r7, #14",
        "movs r4, #0",
        "movs r5, #4",
        "mov r6, r12",
        "tst r6, r5",
        "bne 3f", // two columns more than a multiple of four
        "2:",
        drift_lane!(),
        drift_lane!(),
        "3:",
        drift_lane!(),
        drift_lane!(),
        "cmp r4, r12",
        "bne 2b",
        "pop {{r4-r7, pc}}",
    )
}
