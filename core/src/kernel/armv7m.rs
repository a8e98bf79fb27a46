//! q15 rows on processors with ARMv7-M's instructions and none on pairs of 16-bit numbers (Cortex-M3; Cortex-M33 and others with
//! ARMv8-M's main line run them too): what [`quads`](super::quads) calls, and
//! changes of a row of traces.
//!
//! Four rows at once share the reads of x, and find each other by their distance: `[r0, r4, lsl #1]` is two rows further on. That
//! leaves a register for everything. Instructions per synapse, loops not included: static 2.25, plastic 7.5, an update of H 7, of
//! H and E 12.
//!
//! The functions are naked because they use all registers. They keep to the procedure call standard: r4 to r11 are saved,
//! arguments arrive in r0 to r3 and then on the stack, where they may be changed.
#![allow(unsafe_code, reason = "naked functions that read and write rows through pointers")]

use super::Traces;
use super::fixed::drift_factors;
use crate::scalar::Q15;
use core::arch::naked_asm;

/// Adds increments to a row of H: [`super::bump_each`].
pub fn bump_row(hebb: &mut [Q15], gain: i16, factors: &[Q15], format: u32) {
    let columns = hebb.len().min(factors.len());
    // SAFETY: both rows have that many columns.
    unsafe { add_increments(hebb.as_mut_ptr(), factors.as_ptr(), columns, gain.into(), format) }
}

/// The retroactive change of a row: [`super::write_each`].
pub fn write_row(traces: Traces<'_, Q15>, modulator: i16, eta: i16, post: Q15, pre: &[Q15], format: u32) {
    let Traces { hebb, eligibility } = traces;
    let columns = hebb.len().min(eligibility.len()).min(pre.len());
    let (kept, gain) = drift_factors(eta, post);
    let (hebb, eligibility) = (hebb.as_mut_ptr(), eligibility.as_mut_ptr());
    // SAFETY: all rows have that many columns.
    unsafe { write(hebb, eligibility, pre.as_ptr(), columns, modulator.into(), format, kept, gain) }
}

/// One column of one static row: the sum `$sum` grows by w·x. r10 is x.
#[rustfmt::skip]
macro_rules! dot_lane {
    ($sum:literal, $at:literal) => {
        concat!("ldrsh r12, [r0", $at, "\n mla ", $sum, ", r12, r10, ", $sum, "\n")
    };
}

/// One column of one plastic row: the sum `$sum` grows by w·x and by the upper half of alpha·H·x. r10 is x, r11 x·2^16.
#[rustfmt::skip]
macro_rules! plastic_lane {
    ($sum:literal, $at:literal) => {
        concat!(
            "ldrsh r12, [r1", $at, "\n ldrsh lr, [r2", $at, "\n mul r12, r12, lr\n smull lr, r12, r12, r11\n",
            "ldrsh lr, [r0", $at, "\n add ", $sum, ", ", $sum, ", r12\n mla ", $sum, ", lr, r10, ", $sum, "\n",
        )
    };
}

/// One column of four rows, of which the first moves on last. `$x` makes of x in r10 what the lanes need besides.
#[rustfmt::skip]
macro_rules! quad_column {
    ($lane:ident, $x:literal) => {
        concat!(
            "ldrsh r10, [r3], #2\n", $x,
            $lane!("r7", ", r4]"), $lane!("r8", ", r4, lsl #1]"), $lane!("r9", ", r5]"), $lane!("r6", "], #2"),
        )
    };
}

/// Begins a block: the sums are zero.
macro_rules! clear {
    () => {
        "mov r6, #0\n mov r7, #0\n mov r8, #0\n mov r9, #0\n"
    };
}

/// Ends a block of one row: `$sum` goes where r12 points. lr is the scale.
#[rustfmt::skip]
macro_rules! add_block {
    ($sum:literal) => { concat!("ldrd r10, r11, [r12]\n smlal r10, r11, ", $sum, ", lr\n strd r10, r11, [r12], #8\n") };
}

/// A function that adds the products of four rows to their sums, in blocks of 32 columns, each with sums of 32 bits: r6 to r9.
/// r0 to r2 are weights, alpha and H, r3 x; a row has r4 bytes, three have r5.
macro_rules! four_rows {
    ($(#[$doc:meta])* $name:ident, $column:expr) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// Every matrix that is read has four rows of `bytes` bytes, as x has, which are four or a multiple of it.
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name(
            weight: *const i16, alpha: *const i16, hebb: *const Q15, x: *const Q15, bytes: usize, scale: i32, sums: &mut [i64; 4],
        ) {
            naked_asm!(
                "push {{r2-r11, lr}}", // at sp: where x will be after groups of 8 columns, and after the block
                "ldr r4, [sp, #44]",
                "add r5, r4, r4, lsl #1",
                "mov r12, r4",
                "add lr, r3, r4",
                "str lr, [sp, #44]", // where x ends
                "2:", // r12 bytes are left
                "cmp r12, #64",
                "blo 8f",
                "add r12, r3, #64",
                "strd r12, r12, [sp]",
                "3:",
                clear!(),
                "4:",
                $column, $column, $column, $column, $column, $column, $column, $column,
                "ldr r12, [sp]",
                "cmp r3, r12",
                "bne 4b",
                "6:",
                "ldr r12, [sp, #4]",
                "cmp r3, r12",
                "bne 5f",
                "ldrd lr, r12, [sp, #48]", // scale, sums
                add_block!("r6"), add_block!("r7"), add_block!("r8"), add_block!("r9"),
                "ldr r12, [sp, #44]",
                "subs r12, r12, r3",
                "bne 2b",
                "pop {{r2-r11, pc}}",
                "5:",
                $column, $column,
                "b 6b",
                "8:", // the last block is short
                "bic lr, r12, #15",
                "add lr, lr, r3",
                "add r12, r12, r3",
                "strd lr, r12, [sp]",
                "cmp lr, r3",
                "bne 3b",
                clear!(),
                "b 6b",
            )
        }
    };
}

four_rows!(
    /// `sums_j += scale·Σ weight_j·x`; alpha and H are not read.
    dot_rows,
    quad_column!(dot_lane, "")
);
four_rows!(
    /// `sums_j += scale·Σ (weight_j + alpha_j·hebb_j)·x`.
    plastic_rows,
    quad_column!(plastic_lane, "lsl r11, r10, #16\n")
);

/// `$column` for as many columns as `$count` says, eight at a time.
#[rustfmt::skip]
macro_rules! each_column {
    ($count:literal, $column:expr) => {
        concat!(
            "subs ", $count, ", #8\n blo 3f\n",
            "2:\n", $column, $column, $column, $column, $column, $column, $column, $column,
            "subs ", $count, ", #8\n bhs 2b\n",
            "3:\n adds ", $count, ", #8\n beq 5f\n",
            "4:\n", $column, "subs ", $count, ", #1\n bne 4b\n",
            "5:\n",
        )
    };
}

/// `hebb ← sat16(hebb + round(gain·factors, format))`.
///
/// # Safety
/// Both rows have `columns` numbers.
#[unsafe(naked)]
unsafe extern "C" fn add_increments(hebb: *mut Q15, factors: *const Q15, columns: usize, gain: i32, format: u32) {
    naked_asm!(
        "push {{r4-r7, lr}}",
        "ldr r5, [sp, #20]",
        "movs r4, #1",
        "lsls r4, r5",
        "lsrs r4, r4, #1", // one half
        each_column!(
            "r2",
            concat!(
                "ldrsh r6, [r1], #2\n ldrsh r7, [r0]\n mla r6, r6, r3, r4\n asrs r6, r5\n",
                "adds r7, r6\n ssat r7, #16, r7\n strh r7, [r0], #2\n",
            )
        ),
        "pop {{r4-r7, pc}}",
    )
}

/// `hebb ← sat16(hebb + round(modulator·eligibility, format))`, then `eligibility ← sat16((kept·eligibility + gain·pre + 2^14) >> 15)`.
///
/// # Safety
/// All rows have `columns` numbers.
#[unsafe(naked)]
unsafe extern "C" fn write(
    hebb: *mut Q15,
    eligibility: *mut Q15,
    pre: *const Q15,
    columns: usize,
    modulator: i32,
    format: u32,
    kept: i32,
    gain: i32,
) {
    naked_asm!(
        "push {{r4-r11, lr}}",
        "add r12, sp, #36",
        "ldm r12, {{r4-r7}}",
        "mov r8, #1",
        "lsl r8, r8, r5",
        "lsr r8, r8, #1", // one half
        "mov r9, #0x4000",
        each_column!(
            "r3",
            concat!(
                "ldrsh r10, [r1]\n ldrsh r11, [r0]\n mla r12, r10, r4, r8\n asr r12, r12, r5\n",
                "add r11, r11, r12\n ssat r11, #16, r11\n strh r11, [r0], #2\n",
                "ldrsh r11, [r2], #2\n mla r11, r11, r7, r9\n mla r11, r10, r6, r11\n",
                "ssat r11, #16, r11, asr #15\n strh r11, [r1], #2\n",
            )
        ),
        "pop {{r4-r11, pc}}",
    )
}
