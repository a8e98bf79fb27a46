//! q15 rows on processors with ARMv7E-M's instructions on pairs of 16-bit numbers (Cortex-M4 and M7): each function here gives the
//! bits of its portable twin in [`super`], which other targets run. The build script names the targets.
//!
//! A loop round takes four lanes, because `ldm` loads four registers at the cost of one instruction, and a block is unrolled.
//! Instructions per synapse: static 0.9, plastic 3.5, an update of H 2.6 (3.1 for large gains), of H and E 6.5 (7.0).
//!
//! The functions are naked because they use all registers. They keep to the procedure call standard: r4 to r11 are
//! saved, arguments arrive in r0 to r3 and then on the stack, and a result of 64 bits leaves in r0 and r1.
#![allow(unsafe_code, reason = "naked functions that read and write rows through pointers")]

use super::{Coefficient, Increment};
use crate::scalar::Q15;
use bytemuck::Pod;
use core::arch::naked_asm;
use core::slice;

/// `scale·Σ weight·x`, with a sum of 32 bits for each block.
pub fn dot(weight: &[i16], x: &[Q15], scale: i32) -> i64 {
    let (weight, x) = (words(weight), words(x));
    let lanes = weight.len().min(x.len());
    // SAFETY: both rows have `lanes` words or more.
    unsafe { dot_rows(weight.as_ptr(), x.as_ptr(), lanes, scale) }
}

/// `scale·Σ (weight + alpha·hebb)·x`, likewise.
pub fn plastic_dot(weight: &[i16], alpha: &[i16], hebb: &[Q15], x: &[Q15], scale: i32) -> i64 {
    let (weight, alpha, hebb, x) = (words(weight), words(alpha), words(hebb), words(x));
    let lanes = weight.len().min(alpha.len()).min(hebb.len()).min(x.len());
    // SAFETY: all rows have `lanes` words or more.
    unsafe { plastic_dot_rows(weight.as_ptr(), alpha.as_ptr(), hebb.as_ptr(), x.as_ptr(), lanes, scale) }
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

/// Like [`words`], but `None` for what is not whole words: one trace that somebody looks at.
fn words_mut(row: &mut [Q15]) -> Option<&mut [u32]> {
    let first = row.as_mut_ptr().cast::<u32>();
    // SAFETY: as in `words`; the row is borrowed as long as its words.
    (first.is_aligned() && row.len() % 2 == 0).then(|| unsafe { slice::from_raw_parts_mut(first, row.len() / 2) })
}

/// Applies an increment with gains of `format` fractional bits to a row of traces. `None`, and nothing has changed, if it is
/// left to the twin: coefficients per connection, and gains of 1 and more, whose increments do not fit 16 bits.
#[inline(always)]
pub fn learn(hebb: &mut [Q15], eligibility: &mut [Q15], increment: Increment<'_, Q15>, pre: &[Q15], format: u32) -> Option<()> {
    let (hebb, pre) = (words_mut(hebb)?, words(pre));
    let lanes = hebb.len();
    if pre.len() != lanes {
        return None;
    }
    match increment {
        Increment::Gain(gain) => {
            let (hebb, pre) = (hebb.as_mut_ptr(), pre.as_ptr());
            // SAFETY: both rows have `lanes` words.
            match factor(gain, format, 16) {
                Some(gain) => unsafe { bump_row_below_half(hebb, pre, lanes, gain) },
                None => unsafe { bump_row(hebb, pre, lanes, factor(gain, format, 15)?) },
            }
        }
        Increment::Retroactive {
            modulator,
            eta: Coefficient::Uniform(eta),
            post,
        } => {
            let eligibility = words_mut(eligibility).filter(|row| row.len() == lanes)?;
            let (modulator, rates) = (factor(modulator, format, 15)?, rates(eta, post)?);
            // SAFETY: all rows have `lanes` words.
            unsafe { drift_row(hebb.as_mut_ptr(), eligibility.as_mut_ptr(), pre.as_ptr(), lanes, modulator, rates) };
        }
        _ => return None,
    }
    Some(())
}

/// A gain as the factor of a multiplication that drops 16 bits, so that the increments that it gives have `bits` fractional
/// bits, 15 or 16. `None` if it does not fit: from a gain of 1, or of 1/2, on.
///
/// The bits that are dropped lie below the rounded place, and rounding downwards twice is rounding downwards once.
fn factor(gain: i16, format: u32, bits: u32) -> Option<i32> {
    let limit = (1u32 << format) >> (bits - 15);
    let shift = (16 + bits).saturating_sub(format);
    (u32::from(gain.unsigned_abs()) < limit).then(|| i32::from(gain).wrapping_shl(shift))
}

/// `1-eta` and `eta·post` as the lower and the upper half of a word; `None` if the former is not below 1.
///
/// An eta of at most 1 keeps eligibilities in range, so that they need no clip: `|1-eta| + |eta·post| <= 1`.
fn rates(eta: i16, post: Q15) -> Option<u32> {
    let eta = i32::from(eta as u16);
    let gain = (eta * i32::from(post.to_bits()) + 0x4000) >> 15;
    (1..=0x8000).contains(&eta).then_some((0x8000 - eta) as u32 | (gain as u32) << 16)
}

/// Four lanes of a static row: r4 to r7 are x, r8 to r11 the weights; the first of a block starts the sum lr.
macro_rules! dot_group {
    ($first:literal) => {
        concat!(
            "ldm r1!, {{r4-r7}}\n ldm r0!, {{r8-r11}}\n",
            $first,
            "smlad lr, r9, r5, lr\n smlad lr, r10, r6, lr\n smlad lr, r11, r7, lr\n",
        )
    };
}

/// # Safety
/// `weight` and `x` point to `lanes` words each.
#[unsafe(naked)]
unsafe extern "C" fn dot_rows(weight: *const u32, x: *const u32, lanes: usize, scale: i32) -> i64 {
    naked_asm!(
        "push {{r4-r11, lr}}",
        "push {{r3}}",   // scale
        "mov.w r12, #0", // the sum of all blocks, r12 and r3
        "movs r3, #0",
        "subs r2, #16",
        "blo 3f",
        "2:",
        dot_group!("smuad lr, r8, r4\n"),
        dot_group!("smlad lr, r8, r4, lr\n"),
        dot_group!("smlad lr, r8, r4, lr\n"),
        dot_group!("smlad lr, r8, r4, lr\n"),
        "ldr r4, [sp]",
        "smlal r12, r3, lr, r4",
        "subs r2, #16",
        "bhs 2b",
        "3:", // the last block, four lanes at a time and then lane by lane
        "mov.w lr, #0",
        "adds r2, #12",
        "bmi 7f",
        "6:",
        dot_group!("smlad lr, r8, r4, lr\n"),
        "subs r2, #4",
        "bpl 6b",
        "7:",
        "adds r2, #4",
        "beq 5f",
        "4:",
        "ldr r4, [r1], #4",
        "ldr r8, [r0], #4",
        "smlad lr, r8, r4, lr",
        "subs r2, #1",
        "bne 4b",
        "5:",
        "pop {{r4}}",
        "smlal r12, r3, lr, r4",
        "mov r0, r12",
        "mov r1, r3",
        "pop {{r4-r11, pc}}",
    )
}

/// `lr += alpha·hebb·x` for both columns of a lane.
macro_rules! plastic_lane {
    ($alpha:literal, $hebb:literal, $x:literal) => {
        concat!(
            "smulbb r12, ",
            $alpha,
            ", ",
            $hebb,
            "\n",
            "smultt ",
            $alpha,
            ", ",
            $alpha,
            ", ",
            $hebb,
            "\n",
            "smlawb lr, r12, ",
            $x,
            ", lr\n",
            "smlawt lr, ",
            $alpha,
            ", ",
            $x,
            ", lr\n",
        )
    };
}

/// Four lanes of a plastic row, after [`dot_group`]'s manner; r8 to r11 are then two lanes of alpha and two of H at a time.
macro_rules! plastic_group {
    ($first:literal) => {
        concat!(
            "ldm r3!, {{r4-r7}}\n ldm r0!, {{r8-r11}}\n",
            $first,
            "smlad lr, r9, r5, lr\n smlad lr, r10, r6, lr\n smlad lr, r11, r7, lr\n",
            "ldrd r8, r9, [r1], #8\n ldrd r10, r11, [r2], #8\n",
            plastic_lane!("r8", "r10", "r4"),
            plastic_lane!("r9", "r11", "r5"),
            "ldrd r8, r9, [r1], #8\n ldrd r10, r11, [r2], #8\n",
            plastic_lane!("r8", "r10", "r6"),
            plastic_lane!("r9", "r11", "r7"),
        )
    };
}

/// # Safety
/// The pointers point to `lanes` words each.
#[unsafe(naked)]
unsafe extern "C" fn plastic_dot_rows(
    weight: *const u32,
    alpha: *const u32,
    hebb: *const u32,
    x: *const u32,
    lanes: usize,
    scale: i32,
) -> i64 {
    naked_asm!(
        "push {{r4-r11, lr}}",
        "movs r4, #0",
        "movs r5, #0",
        "push {{r4, r5}}", // sp: the sum of all blocks; sp + 44: lanes; sp + 48: scale
        "ldr lr, [sp, #44]",
        "subs lr, #16",
        "blo 3f",
        "2:",
        "str lr, [sp, #44]",
        plastic_group!("smuad lr, r8, r4\n"),
        plastic_group!("smlad lr, r8, r4, lr\n"),
        plastic_group!("smlad lr, r8, r4, lr\n"),
        plastic_group!("smlad lr, r8, r4, lr\n"),
        "ldrd r4, r5, [sp]",
        "ldr r6, [sp, #48]",
        "smlal r4, r5, lr, r6",
        "strd r4, r5, [sp]",
        "ldr lr, [sp, #44]",
        "subs lr, #16",
        "bhs 2b",
        "3:", // the last block, four lanes at a time and then lane by lane
        "adds r6, lr, #12",
        "mov.w lr, #0",
        "bmi 7f",
        "str r6, [sp, #44]",
        "6:",
        plastic_group!("smlad lr, r8, r4, lr\n"),
        "ldr r6, [sp, #44]",
        "subs r6, #4",
        "str r6, [sp, #44]",
        "bpl 6b",
        "7:",
        "adds r6, #4",
        "beq 5f",
        "4:",
        "ldr r4, [r3], #4",
        "ldr r9, [r0], #4",
        "ldr r8, [r1], #4",
        "ldr r10, [r2], #4",
        "smlad lr, r9, r4, lr",
        plastic_lane!("r8", "r10", "r4"),
        "subs r6, #1",
        "bne 4b",
        "5:",
        "pop {{r0, r1}}",
        "ldr r2, [sp, #40]",
        "smlal r0, r1, lr, r2",
        "pop {{r4-r11, pc}}",
    )
}

/// H of both columns of a lane: `sat16(hebb + round(gain·factor))`. r12 is one half; `spare` may be `factor` itself.
macro_rules! bump_lane {
    (below_one, $hebb:literal, $gain:literal, $factor:literal, $spare:literal) => {
        concat!(
            "smlawb lr, ",
            $gain,
            ", ",
            $factor,
            ", r12\n",
            "smlawt ",
            $spare,
            ", ",
            $gain,
            ", ",
            $factor,
            ", r12\n",
            "asr lr, lr, #15\n",
            "pkhbt lr, lr, ",
            $spare,
            ", lsl #1\n",
            "qadd16 ",
            $hebb,
            ", ",
            $hebb,
            ", lr\n",
        )
    };
    (below_half, $hebb:literal, $gain:literal, $factor:literal, $spare:literal) => {
        concat!(
            "smlawb lr, ",
            $gain,
            ", ",
            $factor,
            ", r12\n",
            "smlawt ",
            $spare,
            ", ",
            $gain,
            ", ",
            $factor,
            ", r12\n",
            "pkhtb lr, ",
            $spare,
            ", lr, asr #16\n",
            "qadd16 ",
            $hebb,
            ", ",
            $hebb,
            ", lr\n",
        )
    };
}

macro_rules! bump_row {
    ($name:ident, $size:ident, $half:literal) => {
        /// `hebb ← sat16(hebb + round(gain·pre))`.
        ///
        /// # Safety
        /// `hebb` and `pre` point to `lanes` words each.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(hebb: *mut u32, pre: *const u32, lanes: usize, gain: i32) {
            naked_asm!(
                "push {{r4-r11, lr}}",
                concat!("mov.w r12, #", $half),
                "subs r2, #4",
                "blo 3f",
                "2:",
                "ldm r0, {{r4-r7}}",
                "ldm r1!, {{r8-r11}}",
                bump_lane!($size, "r4", "r3", "r8", "r8"),
                bump_lane!($size, "r5", "r3", "r9", "r9"),
                bump_lane!($size, "r6", "r3", "r10", "r10"),
                bump_lane!($size, "r7", "r3", "r11", "r11"),
                "stm r0!, {{r4-r7}}",
                "subs r2, #4",
                "bhs 2b",
                "3:", // what is left, lane by lane
                "adds r2, #4",
                "beq 5f",
                "4:",
                "ldr r4, [r0]",
                "ldr r8, [r1], #4",
                bump_lane!($size, "r4", "r3", "r8", "r8"),
                "str r4, [r0], #4",
                "subs r2, #1",
                "bne 4b",
                "5:",
                "pop {{r4-r11, pc}}",
            )
        }
    };
}

bump_row!(bump_row, below_one, "0x4000");
bump_row!(bump_row_below_half, below_half, "0x8000");

/// E of both columns of a lane: `round((1-eta)·eligibility + (eta·post)·pre)`. r12 is one half, r11 the rates.
macro_rules! drift_lane {
    ($eligibility:literal, $pre:literal) => {
        concat!(
            "smlabb lr, r11, ",
            $eligibility,
            ", r12\n",
            "smlabt r6, r11, ",
            $eligibility,
            ", r12\n",
            "smlatb lr, r11, ",
            $pre,
            ", lr\n",
            "smlatt r6, r11, ",
            $pre,
            ", r6\n",
            "asr lr, lr, #15\n",
            "pkhbt ",
            $eligibility,
            ", lr, r6, lsl #1\n",
        )
    };
}

/// Two lanes of H and E.
macro_rules! drift_pair {
    () => {
        concat!(
            "ldrd r4, r5, [r1]\n ldrd r6, r7, [r0]\n",
            bump_lane!(below_one, "r6", "r10", "r4", "r8"),
            bump_lane!(below_one, "r7", "r10", "r5", "r8"),
            "strd r6, r7, [r0], #8\n ldrd r8, r9, [r2], #8\n",
            drift_lane!("r4", "r8"),
            drift_lane!("r5", "r9"),
            "strd r4, r5, [r1], #8\n",
        )
    };
}

/// `hebb ← sat16(hebb + round(modulator·eligibility))`, then the eligibility's own change.
///
/// # Safety
/// `hebb`, `eligibility` and `pre` point to `lanes` words each.
#[unsafe(naked)]
unsafe extern "C" fn drift_row(hebb: *mut u32, eligibility: *mut u32, pre: *const u32, lanes: usize, modulator: i32, rates: u32) {
    naked_asm!(
        "push {{r4-r11, lr}}",
        "ldrd r10, r11, [sp, #36]", // modulator, rates
        "mov.w r12, #0x4000",
        "subs r3, #4",
        "blo 3f",
        "2:",
        drift_pair!(),
        drift_pair!(),
        "subs r3, #4",
        "bhs 2b",
        "3:", // what is left, lane by lane
        "adds r3, #4",
        "beq 5f",
        "4:",
        "ldr r4, [r1]",
        "ldr r7, [r0]",
        bump_lane!(below_one, "r7", "r10", "r4", "r8"),
        "str r7, [r0], #4",
        "ldr r8, [r2], #4",
        drift_lane!("r4", "r8"),
        "str r4, [r1], #4",
        "subs r3, #1",
        "bne 4b",
        "5:",
        "pop {{r4-r11, pc}}",
    )
}
