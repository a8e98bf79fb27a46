//! What the functions in assembly have in common: how they go along a row, whole blocks of 16 words and then what is left by the
//! bits of its length; how they change rows of fixed-point traces; and `tanh` in fixed point.
//!
//! The formatter skips the macros of these functions: it would give every operand a line.

/// What is left of a row after its last whole block: the lower four bits of `$count` say how many words. `$group` takes four,
/// `$pair` two, `$one` one; `$again` moves the lower two bits of the length into carry and sign. None of
/// them may change the flags.
#[rustfmt::skip]
macro_rules! rest {
    ($count:literal, $again:expr, $group:expr, $pair:expr, $one:expr) => {
        concat!(
            "lsls ", $count, ", ", $count, ", #29\n bcc 4f\n", $group, $group,
            "4:\n bpl 5f\n", $group,
            "5:\n", $again, "bcc 6f\n", $pair,
            "6:\n bpl 7f\n", $one,
            "7:\n",
        )
    };
}

/// A row of `$count` words: `$block` for every 16 of them, and what is left after `$begin`.
#[rustfmt::skip]
macro_rules! sweep {
    ($count:literal, $block:expr, $begin:literal, $group:expr, $pair:expr, $one:expr) => {
        concat!(
            "subs ", $count, ", #16\n blo 3f\n 2:\n", $block, "subs ", $count, ", #16\n bhs 2b\n 3:\n", $begin,
            rest!($count, concat!("lsls ", $count, ", ", $count, ", #2\n"), $group, $pair, $one),
        )
    };
}

/// The upper number of a pair is in `$upper`, the lower one in lr, both with 15 fractional bits: the pair of whole numbers, in
/// `$upper`.
#[rustfmt::skip]
macro_rules! pack_15 {
    ($upper:literal) => { concat!("asr lr, lr, #15\n pkhbt ", $upper, ", lr, ", $upper, ", lsl #1\n") };
}

/// [`pack_15!`] with 16 fractional bits.
#[rustfmt::skip]
macro_rules! pack_16 {
    ($upper:literal) => { concat!("pkhtb ", $upper, ", ", $upper, ", lr, asr #16\n") };
}

/// A function that changes rows of traces: r0 the traces, r1 what changes them, r2 words. For each row `$post` loads an activity
/// into r5 and moves r4 on, and `$factor` makes a factor of it and of r3, the rate; it may go to label 9 to leave the row alone.
#[rustfmt::skip]
macro_rules! change_rows {
    (
        $(#[$doc:meta])* $name:ident($scalar:ty $(, $shift:ident: u32)?),
        $setup:expr, $post:literal, $factor:expr, $group:expr, $pair:expr, $one:expr
    ) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// There are `rows` rows of traces, one at least, and activities, and `with` and each row have `words` words.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(
            traces: *mut $scalar, with: *const $scalar, words: usize, rate: i32, post: *const $scalar, rows: usize, $($shift: u32)?
        ) {
            naked_asm!(
                "push {{r1-r11, lr}}",
                $setup,
                "8:",
                "ldr r4, [sp, #48]", // post
                $post,
                "str r4, [sp, #48]",
                "ldm sp, {{r1-r3}}",
                $factor,
                sweep!("r2", concat!($group, $group, $group, $group), "", $group, $pair, $one),
                "10:",
                "ldr r4, [sp, #52]", // rows
                "subs r4, #1",
                "str r4, [sp, #52]",
                "bne 8b",
                "pop {{r1-r11, pc}}",
                "9:", // nothing changes
                "add r0, r0, r2, lsl #2",
                "b 10b",
            )
        }
    };
}

/// `tanh` of an accumulator: [`tanh_q15`](crate::math::tanh_q15) of all but three of its bits, into r0 by way of r1 to r3. For
/// rounding, the accumulator began with 4 more.
#[rustfmt::skip]
macro_rules! tanh {
    ($low:literal, $high:literal) => {
        concat!(
            "lsrs r0, ", $low, ", #3\n orr r0, r0, ", $high, ", lsl #29\n",
            "asrs r2, ", $high, ", #2\n cmp r2, r0, asr #31\n", // do the bits beyond 32 say what the sign says?
            "itt ne\n mvnne r0, #0x80000000\n eorne r0, r0, ", $high, ", asr #31\n",
            "asrs r1, r0, #31\n eors r0, r1\n qsub r0, r0, r1\n usat r0, #30, r0\n", // sign and magnitude
            "movw r3, #:lower16:{table}\n movt r3, #:upper16:{table}\n",
            "lsrs r2, r0, #21\n add r3, r3, r2, lsl #1\n ubfx r0, r0, #5, #16\n",
            "ldrsh r2, [r3]\n ldrsh r3, [r3, #2]\n subs r3, r3, r2\n muls r0, r3, r0\n",
            "add r0, r0, #0x8000\n add r0, r2, r0, asr #16\n",
            "eors r0, r1\n subs r0, r0, r1\n",
        )
    };
}
