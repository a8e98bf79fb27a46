//! f32 rows on processors with an FPU for f32: the bits of the portable twin in [`super`], which other targets run.
//!
//! Each number is multiplied, rounded, added and rounded, as `core/FORMAT.md` says. Eight numbers at once share the loads and
//! stores, and one chain of conditional comparisons asks whether any of them has left the limits: 5 instructions per number
//! where none has, 8 otherwise.
#![allow(unsafe_code, reason = "a naked function that reads and writes rows through pointers")]

use core::arch::naked_asm;

/// Numbers that one round of [`bump_groups`] takes.
const GROUP: usize = 8;

/// `hebb ← clip(hebb + gain·pre)` for the leading groups of a row. What is left is the caller's, with its `pre`.
pub fn bump<'h, 'p>(hebb: &'h mut [f32], pre: &'p [f32], gain: f32, limit: f32) -> (&'h mut [f32], &'p [f32]) {
    let groups = hebb.len().min(pre.len()) / GROUP;
    if groups > 0 {
        // SAFETY: both rows have `groups` groups or more, and there is one at least.
        unsafe { bump_groups(hebb.as_mut_ptr(), pre.as_ptr(), groups, limit.to_bits(), gain) };
    }
    let done = groups * GROUP;
    (hebb.get_mut(done..).unwrap_or_default(), pre.get(done..).unwrap_or_default())
}

/// A number whose magnitude exceeds the limit becomes the limit, with its sign. A NaN is positive, as these FPUs make them.
macro_rules! clip {
    ($number:literal) => {
        concat!("cmp r12, ", $number, ", lsl #1\n it lo\n bfilo ", $number, ", r3, #0, #31\n")
    };
}

/// # Safety
/// `hebb` and `pre` point to `groups` times 8 numbers, and there is a group.
#[unsafe(naked)]
unsafe extern "C" fn bump_groups(hebb: *mut f32, pre: *const f32, groups: usize, limit: u32, gain: f32) {
    naked_asm!(
        ".fpu fpv4-sp-d16", // what the target has, which a naked function's assembler does not know
        "push {{r4-r11, lr}}",
        "lsl r12, r3, #1", // magnitudes are compared without the sign, at twice their bits
        "2:",
        "vldmia r0, {{s8-s15}}",
        "vldmia r1!, {{s4-s7}}",
        "vmul.f32 s4, s0, s4",
        "vmul.f32 s5, s0, s5",
        "vmul.f32 s6, s0, s6",
        "vmul.f32 s7, s0, s7",
        "vadd.f32 s8, s8, s4",
        "vadd.f32 s9, s9, s5",
        "vadd.f32 s10, s10, s6",
        "vadd.f32 s11, s11, s7",
        "vldmia r1!, {{s4-s7}}",
        "vmul.f32 s4, s0, s4",
        "vmul.f32 s5, s0, s5",
        "vmul.f32 s6, s0, s6",
        "vmul.f32 s7, s0, s7",
        "vadd.f32 s12, s12, s4",
        "vadd.f32 s13, s13, s5",
        "vadd.f32 s14, s14, s6",
        "vadd.f32 s15, s15, s7",
        "vmov r4, r5, d4",
        "vmov r6, r7, d5",
        "vmov r8, r9, d6",
        "vmov r10, r11, d7",
        "cmp r12, r4, lsl #1",
        "ittt hs",
        "cmphs r12, r5, lsl #1",
        "cmphs r12, r6, lsl #1",
        "cmphs r12, r7, lsl #1",
        "itttt hs",
        "cmphs r12, r8, lsl #1",
        "cmphs r12, r9, lsl #1",
        "cmphs r12, r10, lsl #1",
        "cmphs r12, r11, lsl #1",
        "blo 4f",
        "3:",
        "stm r0!, {{r4-r11}}",
        "subs r2, #1",
        "bne 2b",
        "pop {{r4-r11, pc}}",
        "4:", // at least one is beyond
        clip!("r4"),
        clip!("r5"),
        clip!("r6"),
        clip!("r7"),
        clip!("r8"),
        clip!("r9"),
        clip!("r10"),
        clip!("r11"),
        "b 3b",
    )
}
