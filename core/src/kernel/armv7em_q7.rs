//! q7 rows on processors with ARMv7E-M's instructions on pairs of 16-bit numbers, after the manner of [`super::armv7em`]: the bits
//! of the portable twin in [`super::q7`].
//!
//! A lane is four numbers. `sxtb16` makes pairs of 16-bit numbers of the even ones and, rotated, of the odd ones; cleared of the even
//! ones, a lane holds the odd ones in the upper bytes of such pairs, 256 times as large. Instructions per synapse: static 1.8,
//! plastic 5.8, an update of H 2.9 (3.4 for large gains), of E 6.9.
#![allow(unsafe_code, reason = "naked functions that read and write rows through pointers")]

use super::operands::{Operands, is_whole};
use super::q7::Scale;
use super::{Coefficient, Increment, Layer, Traces};
use crate::math::TANH_TABLE;
use crate::scalar::Q7;
use core::arch::naked_asm;
use core::mem::offset_of;

/// What aligns both sums of a block: `Σ w·x` and `Σ alpha·H·x`.
#[repr(C)]
struct Scales {
    fixed: Scale,
    plastic: Scale,
}

impl Scales {
    fn new(format: u16) -> Self {
        Self {
            fixed: Scale::new(format, 7),
            plastic: Scale::new(format >> 8, 14),
        }
    }
}

/// The activities of all neurons: [`super::act`]. `None`, and nothing has changed, if it is left to the twin.
pub fn act(layer: &Layer<'_, Q7>, next: &mut [Q7]) -> Option<()> {
    let mut operands = Operands::new(layer, next, Scales::new)?;
    // SAFETY: the operands are complete, and there is a neuron.
    unsafe {
        match layer.plastic {
            Some(_) => act_plastic(&mut operands),
            None => act_static(&mut operands),
        }
    }
    Some(())
}

/// `Σ weight·x`, aligned with an accumulator; 0 if the rows are not whole words, as rows of a matrix are.
pub fn dot(weight: &[i8], x: &[Q7], format: u16) -> i64 {
    let scales = Scales::new(format);
    let words = if is_whole(weight, x) { weight.len().min(x.len()) / 4 } else { 0 };
    // SAFETY: both rows have that many words.
    unsafe { dot_row(weight.as_ptr(), x.as_ptr(), words, &scales) }
}

/// Applies an increment with gains of `format` fractional bits to rows of traces. `None`, and nothing has changed, if it is
/// left to the twin: coefficients per connection, gains of almost 1 and more, whose increments do not fit 8 bits, and traces that
/// are not whole words, such as one that somebody looks at.
pub fn learn(traces: &mut Traces<'_, Q7>, increment: Increment<'_, Q7>, post: &[Q7], pre: &[Q7], format: u32) -> Option<()> {
    let (hebb, eligibility) = (&mut *traces.hebb, &mut *traces.eligibility);
    let is_matrix = |traces: &[Q7]| traces.len() == post.len() * pre.len() && is_whole(traces, pre);
    if post.is_empty() || !is_matrix(hebb) {
        return None;
    }
    match increment {
        Increment::Rate(rate) => bump(hebb, pre, rate, post, format),
        Increment::Retroactive {
            modulator,
            eta: Coefficient::Uniform(eta),
        } => {
            // With an eta of at most 1 and no activity of -1, which no `tanh` gives, eligibilities stay in range. And 1-eta has to
            // be less than 1.
            let lowest = Q7::from_bits(i8::MIN);
            let in_range = (1..=0x8000).contains(&(eta as u16)) && !post.contains(&lowest) && !pre.contains(&lowest);
            if !in_range || !is_matrix(eligibility) {
                return None;
            }
            // All rows are one to the change of H. The negative modulator times -1 is the modulator, whichever it is.
            bump(hebb, eligibility, modulator.wrapping_neg(), &[lowest], format)?;
            // SAFETY: eligibilities have a row of as many words as `pre` for each `post`, and there is one.
            unsafe {
                drift_rows(
                    eligibility.as_mut_ptr(),
                    pre.as_ptr(),
                    pre.len() / 4,
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

/// `hebb_j ← sat8(hebb_j + near(gain_j·factors))` with `gain_j = rate·post_j`, for rows of whole words. `None`, and nothing has
/// changed, for a rate of almost 1 and more.
#[inline(always)]
fn bump(hebb: &mut [Q7], factors: &[Q7], rate: i16, post: &[Q7], format: u32) -> Option<()> {
    // From 24 bits on every increment is below one half: the product of a gain and a factor has 22.
    if rate == 0 || format >= 24 {
        return Some(());
    }
    let magnitude = u32::from(rate.unsigned_abs());
    let (bump_rows, bits): (unsafe extern "C" fn(_, _, _, _, _, _, _), _) = match () {
        () if 2 * magnitude < 1 << format => (bump_rows_below_half, 16),
        () if 256 * magnitude < 255 << format => (bump_rows, 15),
        () => return None,
    };
    // SAFETY: there are as many rows of traces as in `post`, with as many words as the factors have.
    unsafe {
        bump_rows(
            hebb.as_mut_ptr(),
            factors.as_ptr(),
            factors.len() / 4,
            rate.into(),
            post.as_ptr(),
            post.len(),
            8 + bits - format,
        );
    }
    Some(())
}

/// The accumulator at sp grows by a sum, aligned by the scale at the operands' `$scale`.
#[rustfmt::skip]
macro_rules! add_aligned {
    ($sum:literal, $scale:literal) => {
        concat!(
            "ldr r4, [sp, #12]\n ldrd r5, r6, [r4, #", $scale, "]\n smull r7, r8, ", $sum, ", r5\n",
            "lsr r7, r7, r6\n rsb r5, r6, #32\n lsl r5, r8, r5\n orr r7, r7, r5\n asr r8, r8, r6\n",
            "ldrd r4, r5, [sp]\n adds r4, r4, r7\n adc r5, r5, r8\n strd r4, r5, [sp]\n",
        )
    };
}

/// `lr += Σ weight·x` over a lane.
#[rustfmt::skip]
macro_rules! dot_lane {
    ($weight:literal, $x:literal) => {
        concat!(
            "sxtb16 r3, ", $x, "\n sxtb16 r12, ", $weight, "\n smlad lr, r3, r12, lr\n",
            "sxtb16 ", $x, ", ", $x, ", ror #8\n sxtb16 ", $weight, ", ", $weight, ", ror #8\n",
            "smlad lr, ", $x, ", ", $weight, ", lr\n",
        )
    };
}

/// Four lanes of a static row.
#[rustfmt::skip]
macro_rules! dot_group {
    () => {
        concat!(
            "ldm r1!, {{r4-r7}}\n ldm r0!, {{r8-r11}}\n",
            dot_lane!("r8", "r4"), dot_lane!("r9", "r5"), dot_lane!("r10", "r6"), dot_lane!("r11", "r7"),
        )
    };
}

/// A static row: r0 weights, r1 x, r2 words. At sp are the accumulator, a free word and the address of what holds the scale.
#[rustfmt::skip]
macro_rules! dot_row {
    ($scale:literal) => {
        concat!(
            sweep!(
                "r2",
                concat!(
                    "mov.w lr, #0\n", dot_group!(), dot_group!(), dot_group!(), dot_group!(), add_aligned!("lr", $scale),
                ),
                "mov.w lr, #0\n",
                dot_group!(),
                concat!("ldrd r4, r5, [r1], #8\n ldrd r8, r9, [r0], #8\n", dot_lane!("r8", "r4"), dot_lane!("r9", "r5")),
                concat!("ldr r4, [r1], #4\n ldr r8, [r0], #4\n", dot_lane!("r8", "r4"))
            ),
            add_aligned!("lr", $scale),
        )
    };
}

/// A lane of a plastic row, of which `$x` is h: `lr += Σ weight·x`, `r12 += Σ alpha·hebb·x`. r0 weights, r1 alpha, r2 H.
#[rustfmt::skip]
macro_rules! plastic_lane {
    ($x:literal) => {
        concat!(
            "sxtb16 r6, ", $x, "\n sxtb16 ", $x, ", ", $x, ", ror #8\n", // even and odd
            "ldr r7, [r0], #4\n sxtb16 r9, r7\n sxtb16 r7, r7, ror #8\n",
            "smlad lr, r9, r6, lr\n smlad lr, r7, ", $x, ", lr\n",
            "ldr r7, [r1], #4\n ldr r8, [r2], #4\n",
            "sxtb16 r9, r7\n sxtb16 r10, r8\n smulbb r11, r9, r10\n smultt r9, r9, r10\n",
            "smlabb r12, r11, r6, r12\n smlabt r12, r9, r6, r12\n",
            "sxtb16 r7, r7, ror #8\n sxtb16 r8, r8, ror #8\n smulbb r11, r7, r8\n smultt r7, r7, r8\n",
            "smlabb r12, r11, ", $x, ", r12\n smlabt r12, r7, ", $x, ", r12\n",
        )
    };
}

/// Two lanes of a plastic row; r3 points to h.
#[rustfmt::skip]
macro_rules! plastic_pair {
    () => { concat!("ldrd r4, r5, [r3], #8\n", plastic_lane!("r4"), plastic_lane!("r5")) };
}

/// The row of inputs of a neuron: the accumulator at sp is its bias and what the inputs add. r4 is the operands' address then.
#[rustfmt::skip]
macro_rules! inputs {
    () => {
        concat!(
            "ldr r5, [sp, #12]\n ldm r5, {{r0-r3}}\n",
            "ldr r4, [r3], #4\n str r3, [r5, #{bias}]\n lsls r6, r4, #10\n adds r6, #4\n asrs r7, r4, #22\n strd r6, r7, [sp]\n",
            dot_row!("{input_scale}"),
            "ldr r4, [sp, #12]\n str r0, [r4]\n",
        )
    };
}

/// The activity of the accumulator r4 and r5, `near(tanh, 8)` within ±127, is stored. On to the next neuron, at label 8.
#[rustfmt::skip]
macro_rules! next_neuron {
    () => {
        concat!(
            tanh!("r4", "r5"),
            "asrs r1, r0, #31\n add r0, r1, r0, lsl #1\n add r0, r0, #0x100\n asrs r0, r0, #9\n",
            "ssat r0, #8, r0\n cmn r0, #127\n it lt\n mvnlt r0, #126\n",
            "ldr r4, [sp, #12]\n ldrd r1, r2, [r4, #{next}]\n strb r0, [r1], #1\n subs r2, #1\n strd r1, r2, [r4, #{next}]\n bne 8b\n",
        )
    };
}

/// # Safety
/// `weight` and `x` point to `words` words each.
#[unsafe(naked)]
unsafe extern "C" fn dot_row(weight: *const i8, x: *const Q7, words: usize, scales: *const Scales) -> i64 {
    naked_asm!(
        "push {{r3-r11, lr}}",
        "movs r4, #0",
        "movs r5, #0",
        "push {{r4-r6}}", // the accumulator
        dot_row!("{fixed}"),
        "pop {{r0-r2}}",
        "pop {{r3-r11, pc}}",
        fixed = const offset_of!(Scales, fixed),
    )
}

/// # Safety
/// The operands are complete, and there is a neuron.
#[unsafe(naked)]
unsafe extern "C" fn act_static(operands: *mut Operands<Q7, Scales>) {
    naked_asm!(
        "push {{r0, r4-r11, lr}}",
        "sub sp, #12",
        "8:",
        inputs!(),
        "ldr r0, [r4, #{weight}]",
        "ldrd r1, r2, [r4, #{h}]", // h, words
        dot_row!("{scale}"),
        "ldr r6, [sp, #12]",
        "str r0, [r6, #{weight}]",
        next_neuron!(),
        "add sp, #12",
        "pop {{r0, r4-r11, pc}}",
        bias = const offset_of!(Operands<Q7, Scales>, bias),
        input_scale = const offset_of!(Operands<Q7, Scales>, input_scale),
        weight = const offset_of!(Operands<Q7, Scales>, weight),
        h = const offset_of!(Operands<Q7, Scales>, h),
        scale = const offset_of!(Operands<Q7, Scales>, scale),
        next = const offset_of!(Operands<Q7, Scales>, next),
        table = sym TANH_TABLE,
    )
}

/// # Safety
/// The operands are complete and plastic, and there is a neuron.
#[unsafe(naked)]
unsafe extern "C" fn act_plastic(operands: *mut Operands<Q7, Scales>) {
    naked_asm!(
        "push {{r0, r4-r11, lr}}",
        "sub sp, #12",
        "8:",
        inputs!(),
        "ldr r6, [r4, #{words}]",
        "add lr, r4, #{weight}",
        "ldm lr, {{r0-r3}}", // weights, alpha, H, h
        "subs r6, #16",
        "str r6, [sp, #8]", // words to come less 16
        "blo 3f",
        "2:",
        "mov.w lr, #0",
        "mov.w r12, #0",
        plastic_pair!(),
        plastic_pair!(),
        plastic_pair!(),
        plastic_pair!(),
        plastic_pair!(),
        plastic_pair!(),
        plastic_pair!(),
        plastic_pair!(),
        add_aligned!("lr", "{scale}"),
        add_aligned!("r12", "{plastic_scale}"),
        "ldr r6, [sp, #8]",
        "subs r6, #16",
        "str r6, [sp, #8]",
        "bhs 2b",
        "3:",
        "mov.w lr, #0",
        "mov.w r12, #0",
        rest!(
            "r6",
            "ldr r6, [sp, #8]\n lsls r6, r6, #31\n",
            concat!(plastic_pair!(), plastic_pair!()),
            plastic_pair!(),
            concat!("ldr r4, [r3], #4\n", plastic_lane!("r4"))
        ),
        add_aligned!("lr", "{scale}"),
        add_aligned!("r12", "{plastic_scale}"),
        "ldr r6, [sp, #12]",
        "str r0, [r6, #{weight}]",
        "strd r1, r2, [r6, #{alpha}]",
        next_neuron!(),
        "add sp, #12",
        "pop {{r0, r4-r11, pc}}",
        bias = const offset_of!(Operands<Q7, Scales>, bias),
        input_scale = const offset_of!(Operands<Q7, Scales>, input_scale),
        weight = const offset_of!(Operands<Q7, Scales>, weight),
        alpha = const offset_of!(Operands<Q7, Scales>, alpha),
        words = const offset_of!(Operands<Q7, Scales>, words),
        scale = const offset_of!(Operands<Q7, Scales>, scale),
        plastic_scale = const offset_of!(Operands<Q7, Scales>, scale) + offset_of!(Scales, plastic),
        next = const offset_of!(Operands<Q7, Scales>, next),
        table = sym TANH_TABLE,
    )
}

/// H of a lane: `sat8(hebb + near(gain·factor))`. r3 is the gain; r12 and r11 are one half, for even and for odd numbers.
#[rustfmt::skip]
macro_rules! bump_lane {
    ($pack:ident, $hebb:literal, $factor:literal) => {
        concat!(
            "sxtb16 r10, ", $factor, "\n bic ", $factor, ", ", $factor, ", #0x00ff00ff\n",
            "smlawb lr, r3, r10, r12\n smlawt r10, r3, r10, r12\n", $pack!("r10"),
            "smlawb lr, r3, ", $factor, ", r11\n smlawt ", $factor, ", r3, ", $factor, ", r11\n", $pack!($factor),
            "sel ", $factor, ", ", $factor, ", r10\n qadd8 ", $hebb, ", ", $hebb, ", ", $factor, "\n",
        )
    };
}

/// Eligibilities `$e` of even or of odd numbers, which are in the upper bytes of pairs as `$pre` is:
/// `near((1-eta)·e + (eta·post)·pre)`. r3 and r11 are the rates, r12 one half for both.
#[rustfmt::skip]
macro_rules! drift_pair {
    ($e:literal, $pre:literal) => {
        concat!(
            "smulwb lr, r3, ", $e, "\n smlawb lr, r11, ", $pre, ", lr\n add lr, lr, lr, asr #31\n", // ties away from zero
            "smulwt ", $e, ", r3, ", $e, "\n smlawt ", $e, ", r11, ", $pre, ", ", $e, "\n add ", $e, ", ", $e, ", ", $e, ", asr #31\n",
            pack_15!($e), "qadd16 ", $e, ", ", $e, ", r12\n",
        )
    };
}

/// E of a lane.
#[rustfmt::skip]
macro_rules! drift_lane {
    ($_:ident, $e:literal, $pre:literal) => {
        concat!(
            "lsl r6, ", $e, ", #8\n bic r6, r6, #0x00ff00ff\n lsl r7, ", $pre, ", #8\n bic r7, r7, #0x00ff00ff\n",
            drift_pair!("r6", "r7"),
            "bic ", $e, ", ", $e, ", #0x00ff00ff\n bic ", $pre, ", ", $pre, ", #0x00ff00ff\n",
            drift_pair!($e, $pre),
            "lsr r6, r6, #8\n sel ", $e, ", ", $e, ", r6\n",
        )
    };
}

/// [`change_rows!`] two lanes at a time. `sel` takes the odd bytes of its first operand: no other instruction of a row changes the
/// flags that say so.
#[rustfmt::skip]
macro_rules! change_q7 {
    ($(#[$doc:meta])* $name:ident($($shift:ident: u32)?), $halves:literal, $factor:expr, $lane:ident, $pack:ident) => {
        change_rows!(
            $(#[$doc])* $name(Q7 $(, $shift: u32)?), concat!("mov.w r4, #0xff00ff00\n uadd8 r4, r4, r4\n", $halves),
            "ldrsb r5, [r4], #1", $factor,
            concat!(change_q7!(@pair $lane, $pack), change_q7!(@pair $lane, $pack)),
            change_q7!(@pair $lane, $pack),
            concat!("ldr r4, [r0]\n ldr r8, [r1], #4\n", $lane!($pack, "r4", "r8"), "str r4, [r0], #4\n")
        );
    };
    (@pair $lane:ident, $pack:ident) => {
        concat!(
            "ldrd r4, r5, [r0]\n ldrd r8, r9, [r1], #8\n", $lane!($pack, "r4", "r8"), $lane!($pack, "r5", "r9"),
            "strd r4, r5, [r0], #8\n",
        )
    };
}

/// The gain `near(rate·post, 7)` in 16 bits; then, shifted as far as the last argument says, a factor a little larger than the gain:
/// of the products that lie halfway between two numbers it makes such that are nearer to the outer one.
#[rustfmt::skip]
macro_rules! gain {
    () => {
        concat!(
            "smulbb r3, r3, r5\n asrs r4, r3, #31\n add r3, r4, r3, lsl #1\n adds r3, #0x80\n sbfx r3, r3, #8, #16\n",
            "cmp r3, #0\n beq 9f\n",
            "asrs r4, r3, #31\n orr r4, r4, #1\n add r3, r4, r3, lsl #8\n ldr r4, [sp, #56]\n lsls r3, r3, r4\n",
        )
    };
}

/// `1-eta` and `eta·post` as factors of what is in the upper bytes of pairs.
macro_rules! rates {
    () => {
        "mul r5, r3, r5\n lsl r11, r5, #9\n rsb r3, r3, #0x8000\n lsls r3, r3, #16\n"
    };
}

change_q7!(
    /// `traces_j ← sat8(traces_j + near(gain_j·with))`.
    bump_rows(shift: u32), "mov.w r12, #0x4000\n mov.w r11, #0x400000\n", gain!(), bump_lane, pack_15
);
change_q7!(
    /// [`bump_rows`] with one fractional bit more, which saves an instruction.
    bump_rows_below_half(shift: u32), "mov.w r12, #0x8000\n mov.w r11, #0x800000\n", gain!(), bump_lane, pack_16
);
change_q7!(
    /// `traces_j ← near((1-eta)·traces_j + (eta·post_j)·with)`.
    drift_rows(), "mov.w r12, #0x00800080\n", rates!(), drift_lane, pack_15
);
