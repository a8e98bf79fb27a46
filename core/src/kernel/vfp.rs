//! f32 rows on processors with an FPU for f32: the bits of the portable twin in [`super`], which other targets run.
//!
//! Each product is rounded before it is added, in ascending order, as `core/FORMAT.md` says. Eight numbers at once share the
//! loads and stores. Instructions per synapse: static 2.5, plastic 4.8, an update of H 5, or 8 where one of eight is clipped
//! (one chain of conditional comparisons asks for all of them).
#![allow(unsafe_code, reason = "naked functions that read and write rows through pointers")]

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

/// `acc + Σ weight·x` over the leading groups of a row, and what is left of it.
pub fn dot<'a>(acc: f32, weight: &'a [f32], x: &'a [f32]) -> (f32, [&'a [f32]; 2]) {
    let groups = weight.len().min(x.len()) / GROUP;
    // SAFETY: both rows have `groups` groups or more.
    let acc = unsafe { dot_groups(weight.as_ptr(), x.as_ptr(), groups, acc) };
    (acc, [weight, x].map(|row| after(row, groups)))
}

/// `acc + Σ (weight + alpha·hebb)·x` over the leading groups of a row, and what is left of it.
pub fn plastic_dot<'a>(acc: f32, rows: [&'a [f32]; 4]) -> (f32, [&'a [f32]; 4]) {
    let [weight, alpha, hebb, x] = rows;
    let groups = weight.len().min(alpha.len()).min(hebb.len()).min(x.len()) / GROUP;
    // SAFETY: all rows have `groups` groups or more.
    let acc = unsafe { plastic_dot_groups(weight.as_ptr(), alpha.as_ptr(), hebb.as_ptr(), x.as_ptr(), groups, acc) };
    (acc, rows.map(|row| after(row, groups)))
}

/// A row without its leading groups.
fn after(row: &[f32], groups: usize) -> &[f32] {
    row.get(groups * GROUP..).unwrap_or_default()
}

/// The sum s0 grows by the products s8 to s15 with s24 to s31, one after the other.
macro_rules! sum_up {
    () => {
        concat!(
            "vmul.f32 s8, s8, s24\n vmul.f32 s9, s9, s25\n vmul.f32 s10, s10, s26\n vmul.f32 s11, s11, s27\n",
            "vmul.f32 s12, s12, s28\n vmul.f32 s13, s13, s29\n vmul.f32 s14, s14, s30\n vmul.f32 s15, s15, s31\n",
            "vadd.f32 s0, s0, s8\n vadd.f32 s0, s0, s9\n vadd.f32 s0, s0, s10\n vadd.f32 s0, s0, s11\n",
            "vadd.f32 s0, s0, s12\n vadd.f32 s0, s0, s13\n vadd.f32 s0, s0, s14\n vadd.f32 s0, s0, s15\n",
        )
    };
}

/// # Safety
/// The pointers point to `groups` times 8 numbers.
#[unsafe(naked)]
unsafe extern "C" fn dot_groups(weight: *const f32, x: *const f32, groups: usize, acc: f32) -> f32 {
    naked_asm!(
        ".fpu fpv4-sp-d16",
        "cbz r2, 3f",
        "vpush {{s24-s31}}",
        "2:",
        "vldmia r0!, {{s8-s15}}",
        "vldmia r1!, {{s24-s31}}",
        sum_up!(),
        "subs r2, #1",
        "bne 2b",
        "vpop {{s24-s31}}",
        "3:",
        "bx lr",
    )
}

/// # Safety
/// The pointers point to `groups` times 8 numbers.
#[unsafe(naked)]
unsafe extern "C" fn plastic_dot_groups(
    weight: *const f32,
    alpha: *const f32,
    hebb: *const f32,
    x: *const f32,
    groups: usize,
    acc: f32,
) -> f32 {
    naked_asm!(
        ".fpu fpv4-sp-d16",
        "ldr r12, [sp]", // groups
        "cmp r12, #0",
        "beq 3f",
        "vpush {{s16-s31}}",
        "2:",
        "vldmia r0!, {{s8-s15}}",
        "vldmia r1!, {{s16-s23}}",
        "vldmia r2!, {{s24-s31}}",
        "vmul.f32 s16, s16, s24",
        "vmul.f32 s17, s17, s25",
        "vmul.f32 s18, s18, s26",
        "vmul.f32 s19, s19, s27",
        "vmul.f32 s20, s20, s28",
        "vmul.f32 s21, s21, s29",
        "vmul.f32 s22, s22, s30",
        "vmul.f32 s23, s23, s31",
        "vldmia r3!, {{s24-s31}}",
        "vadd.f32 s8, s8, s16",
        "vadd.f32 s9, s9, s17",
        "vadd.f32 s10, s10, s18",
        "vadd.f32 s11, s11, s19",
        "vadd.f32 s12, s12, s20",
        "vadd.f32 s13, s13, s21",
        "vadd.f32 s14, s14, s22",
        "vadd.f32 s15, s15, s23",
        sum_up!(),
        "subs r12, #1",
        "bne 2b",
        "vpop {{s16-s31}}",
        "3:",
        "bx lr",
    )
}
