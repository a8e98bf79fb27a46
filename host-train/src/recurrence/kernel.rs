//! The hot loops' arithmetic: sixteen numbers at a time, on whichever instructions this processor has.
//!
//! Every kernel is written once, over [`Vector`], and instantiated for each [`Path`]. The order of all operations is
//! fixed by the source: sixteen lanes wherever a row is summed, then halves upon halves. So each path is deterministic;
//! `portable` rounds after every operation and has the same bits on every machine, and the others, which fuse
//! multiplication and addition, have the same bits as each other.
// Vendor intrinsics, calls into functions compiled for processor features that were tested for, and one view of a
// vector of aligned blocks as a slice of numbers: none of them exists in safe Rust.
#![allow(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::real::Real;

/// Numbers per [`Vector`].
pub(super) const LANES: usize = 16;

/// The instructions that training asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kernel {
    /// The fastest this processor has.
    #[default]
    Auto,
    /// Plain Rust without fused operations: the same bits on every machine.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512F.
    Avx512,
    /// 64-bit Arm.
    Neon,
}

/// Instructions this processor lacks, or a name that is none.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KernelError {
    /// The processor does not have what was asked for.
    #[error("this machine has no {0} instructions: choose kernel = \"auto\" or \"portable\"")]
    Missing(Kernel),
    /// No such kernel.
    #[error("unknown kernel \"{0}\": expected auto, portable, avx2, avx512 or neon")]
    Unknown(String),
}

impl Kernel {
    const NAMES: [(Kernel, &'static str); 5] = [
        (Kernel::Auto, "auto"),
        (Kernel::Portable, "portable"),
        (Kernel::Avx2, "avx2"),
        (Kernel::Avx512, "avx512"),
        (Kernel::Neon, "neon"),
    ];

    /// The name used in configurations.
    pub fn name(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(kernel, _)| *kernel == self)
            .map_or("auto", |(_, name)| name)
    }

    /// The path to run: the one asked for, if this processor has it; for `Auto` the fastest it has.
    pub fn resolve(self) -> Result<Path, KernelError> {
        if self == Kernel::Auto {
            let fastest = [Kernel::Avx512, Kernel::Avx2, Kernel::Neon]
                .into_iter()
                .find(|kernel| kernel.exists());
            return Ok(Path(Way::Kernel(fastest.unwrap_or(Kernel::Portable))));
        }
        if self.exists() {
            Ok(Path(Way::Kernel(self)))
        } else {
            Err(KernelError::Missing(self))
        }
    }

    /// Every path that this processor has.
    pub fn paths() -> impl Iterator<Item = Path> {
        let named = Self::NAMES.iter().filter(|(kernel, _)| *kernel != Kernel::Auto);
        named.filter_map(|(kernel, _)| kernel.resolve().ok())
    }

    fn exists(self) -> bool {
        match self {
            Kernel::Auto | Kernel::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => is_x86_feature_detected!("avx512f") && Kernel::Avx2.exists(),
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon => true,
            _ => false,
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kernel {
    type Err = KernelError;

    fn from_str(name: &str) -> Result<Self, KernelError> {
        let known = Self::NAMES.iter().find(|(_, known)| *known == name);
        known
            .map(|(kernel, _)| *kernel)
            .ok_or_else(|| KernelError::Unknown(name.to_owned()))
    }
}

/// A kernel that this processor has been found to have. Only [`Kernel::resolve`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path(Way);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Kernel(Kernel),
    /// As `portable`, and every operation is counted.
    Counting,
}

impl Path {
    /// The path of [`count`](super::roofline::count).
    pub(super) fn counting() -> Self {
        Self(Way::Counting)
    }

    /// The kernel it is, never `Auto`: what belongs into a run's configuration.
    pub fn kernel(self) -> Kernel {
        match self.0 {
            Way::Kernel(kernel) => kernel,
            Way::Counting => Kernel::Portable,
        }
    }

    /// Runs `job` with this path's vectors.
    pub(super) fn run<F: Real, J: Job<F>>(self, job: J) -> J::Output {
        match self.0 {
            // SAFETY: `resolve` found these features on this processor before it made the path.
            #[cfg(target_arch = "x86_64")]
            Way::Kernel(Kernel::Avx512) if F::WIDE => unsafe { run_avx512(job) },
            #[cfg(target_arch = "x86_64")]
            Way::Kernel(Kernel::Avx512 | Kernel::Avx2) => unsafe { run_avx2(job) },
            #[cfg(target_arch = "aarch64")]
            Way::Kernel(Kernel::Neon) => job.run::<Plain<F, true>>(),
            Way::Counting => job.run::<F::Counted>(),
            _ => job.run::<Plain<F, false>>(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn run_avx512<F: Real, J: Job<F>>(job: J) -> J::Output {
    job.run::<F::Avx512>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<F: Real, J: Job<F>>(job: J) -> J::Output {
    job.run::<Plain<F, true>>()
}

/// A loop to be compiled for each path. `run` and all it calls must be `#[inline(always)]`, or the path's instructions do not reach them.
pub(super) trait Job<F> {
    /// What the loop returns.
    type Output;
    /// The loop, over this path's vectors.
    fn run<V: Vector<F>>(self) -> Self::Output;
}

/// Sixteen numbers in memory, aligned so that no access crosses a cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub struct Lanes<F>(pub(super) [F; LANES]);

/// The blocks' numbers, one after another.
pub(super) fn flat<F: Real>(lanes: &[Lanes<F>]) -> &[F] {
    // SAFETY: `Lanes<F>` is `repr(C)` around `[F; 16]`, and 16 numbers of 4 or 8 bytes fill its 64-byte alignment without padding.
    unsafe { std::slice::from_raw_parts(lanes.as_ptr().cast(), lanes.len() * LANES) }
}

/// As [`flat`], to be changed.
pub(super) fn flat_mut<F: Real>(lanes: &mut [Lanes<F>]) -> &mut [F] {
    // SAFETY: as in `flat`; the borrow is exclusive.
    unsafe { std::slice::from_raw_parts_mut(lanes.as_mut_ptr().cast(), lanes.len() * LANES) }
}

/// Sixteen numbers in registers.
pub trait Vector<F>: Copy {
    /// How many of them the processor's registers hold, at least.
    const REGISTERS: usize = 8;

    /// All lanes alike.
    fn splat(value: F) -> Self;
    /// From memory.
    fn load(from: &Lanes<F>) -> Self;
    /// To memory.
    fn store(self, to: &mut Lanes<F>);
    /// `self + other`
    fn add(self, other: Self) -> Self;
    /// `self - other`
    fn sub(self, other: Self) -> Self;
    /// `self · other`
    fn mul(self, other: Self) -> Self;
    /// `self · factor + addend`, rounded once where the path has fused operations, else twice.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// Cut to `[low, high]`; a NaN stays one.
    fn clip(self, low: Self, high: Self) -> Self;
    /// `self` where `low < value < high`, else 0: the gradient of [`clip`](Self::clip).
    fn where_inside(self, value: Self, low: Self, high: Self) -> Self;
    /// `self` where `value > 0`, else `otherwise`.
    fn where_positive(self, value: Self, otherwise: Self) -> Self;
    /// The sum of all lanes: of halves, of quarters, …
    fn sum(self) -> F;
    /// The sums of sixteen rows, in the order of [`sum`](Self::sum).
    fn sums(rows: &[Lanes<F>; LANES]) -> Self;
}

/// Plain Rust, left to the compiler to vectorise; `FUSED` where the processor fuses multiplication and addition.
#[derive(Clone, Copy)]
pub struct Plain<F, const FUSED: bool>([F; LANES]);

impl<F: Real, const FUSED: bool> Plain<F, FUSED> {
    #[inline(always)]
    fn zip(mut self, other: Self, operation: impl Fn(F, F) -> F) -> Self {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a = operation(*a, b);
        }
        self
    }
}

impl<F: Real, const FUSED: bool> Vector<F> for Plain<F, FUSED> {
    #[inline(always)]
    fn splat(value: F) -> Self {
        Self([value; LANES])
    }
    #[inline(always)]
    fn load(from: &Lanes<F>) -> Self {
        Self(from.0)
    }
    #[inline(always)]
    fn store(self, to: &mut Lanes<F>) {
        to.0 = self.0;
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    fn mul_add(mut self, factor: Self, addend: Self) -> Self {
        for ((a, b), c) in self.0.iter_mut().zip(factor.0).zip(addend.0) {
            *a = if FUSED { a.fused(b, c) } else { *a * b + c };
        }
        self
    }
    #[inline(always)]
    fn clip(self, low: Self, high: Self) -> Self {
        let above = self.zip(low, |a, low| if a < low { low } else { a });
        above.zip(high, |a, high| if a > high { high } else { a })
    }
    #[inline(always)]
    fn where_inside(mut self, value: Self, low: Self, high: Self) -> Self {
        for (((a, value), low), high) in self.0.iter_mut().zip(value.0).zip(low.0).zip(high.0) {
            *a = if low < value && value < high { *a } else { F::ZERO };
        }
        self
    }
    #[inline(always)]
    fn where_positive(mut self, value: Self, otherwise: Self) -> Self {
        for ((a, value), otherwise) in self.0.iter_mut().zip(value.0).zip(otherwise.0) {
            *a = if value > F::ZERO { *a } else { otherwise };
        }
        self
    }
    #[inline(always)]
    fn sum(self) -> F {
        let mut lanes = self.0;
        fold_half::<F, 8>(&mut lanes);
        fold_half::<F, 4>(&mut lanes);
        fold_half::<F, 2>(&mut lanes);
        lanes[0] + lanes[1]
    }
    #[inline(always)]
    fn sums(rows: &[Lanes<F>; LANES]) -> Self {
        let mut sums = [F::ZERO; LANES];
        for (sum, row) in sums.iter_mut().zip(rows) {
            *sum = Self(row.0).sum();
        }
        Self(sums)
    }
}

/// Adds the second `HALF` lanes to the first.
#[inline(always)]
fn fold_half<F: Real, const HALF: usize>(lanes: &mut [F; LANES]) {
    let (low, high) = lanes.split_at_mut(HALF);
    for (low, high) in low.iter_mut().zip(&high[..HALF]) {
        *low += *high;
    }
}

#[cfg(target_arch = "x86_64")]
pub use avx512::Wide;

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::{LANES, Lanes, Vector};

    /// One 512-bit register. Spelled out because the compiler, left alone, prefers two of 256 bits.
    ///
    /// Every method is sound only where the processor has AVX-512F; it is reached through [`super::Path::run`] alone,
    /// which has checked, and inlined into a function compiled for it.
    #[derive(Clone, Copy)]
    pub struct Wide(__m512);

    // SAFETY (all blocks below): AVX-512F is there, see the type; loads and stores go through references to 64 aligned bytes.
    impl Vector<f32> for Wide {
        const REGISTERS: usize = 32;

        #[inline(always)]
        fn splat(value: f32) -> Self {
            Self(unsafe { _mm512_set1_ps(value) })
        }
        #[inline(always)]
        fn load(from: &Lanes<f32>) -> Self {
            Self(unsafe { _mm512_load_ps(from.0.as_ptr()) })
        }
        #[inline(always)]
        fn store(self, to: &mut Lanes<f32>) {
            unsafe { _mm512_store_ps(to.0.as_mut_ptr(), self.0) }
        }
        #[inline(always)]
        fn add(self, other: Self) -> Self {
            Self(unsafe { _mm512_add_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            Self(unsafe { _mm512_sub_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            Self(unsafe { _mm512_mul_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn mul_add(self, factor: Self, addend: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
        }
        #[inline(always)]
        fn clip(self, low: Self, high: Self) -> Self {
            // Both return their second operand where one is a NaN.
            Self(unsafe { _mm512_min_ps(high.0, _mm512_max_ps(low.0, self.0)) })
        }
        #[inline(always)]
        fn where_inside(self, value: Self, low: Self, high: Self) -> Self {
            unsafe {
                let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(value.0, low.0);
                let inside = _mm512_mask_cmp_ps_mask::<_CMP_LT_OQ>(above, value.0, high.0);
                Self(_mm512_maskz_mov_ps(inside, self.0))
            }
        }
        #[inline(always)]
        fn where_positive(self, value: Self, otherwise: Self) -> Self {
            unsafe {
                let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(value.0, _mm512_setzero_ps());
                Self(_mm512_mask_mov_ps(otherwise.0, positive, self.0))
            }
        }
        #[inline(always)]
        fn sum(self) -> f32 {
            unsafe {
                let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(self.0)));
                let eight = _mm256_add_ps(_mm512_castps512_ps256(self.0), upper);
                let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
            }
        }
        #[inline(always)]
        fn sums(rows: &[Lanes<f32>; LANES]) -> Self {
            let even = halve_quarters(quarters(rows, 0), quarters(rows, 1));
            let odd = halve_quarters(quarters(rows, 2), quarters(rows, 3));
            unsafe {
                Self(_mm512_add_ps(
                    _mm512_shuffle_ps::<0b10_00_10_00>(even, odd),
                    _mm512_shuffle_ps::<0b11_01_11_01>(even, odd),
                ))
            }
        }
    }

    /// Four rows at a distance of four, a quarter each: `[row r | row r+4 | row r+8 | row r+12]`.
    // Functions, not closures: a closure does not inherit the caller's processor features, and would not be inlined.
    #[inline(always)]
    fn quarters(rows: &[Lanes<f32>; LANES], r: usize) -> __m512 {
        halve_pairs(
            halve(Wide::load(&rows[r]).0, Wide::load(&rows[r + 4]).0),
            halve(Wide::load(&rows[r + 8]).0, Wide::load(&rows[r + 12]).0),
        )
    }

    /// `[a + its upper half | b + its upper half]`
    #[inline(always)]
    fn halve(a: __m512, b: __m512) -> __m512 {
        unsafe {
            _mm512_add_ps(
                _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b),
                _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b),
            )
        }
    }

    /// The same for the two halves of `a` and of `b`.
    #[inline(always)]
    fn halve_pairs(a: __m512, b: __m512) -> __m512 {
        unsafe {
            _mm512_add_ps(
                _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b),
                _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b),
            )
        }
    }

    /// The same for the four quarters of `a` and of `b`: two sums of each, side by side.
    #[inline(always)]
    fn halve_quarters(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(_mm512_shuffle_ps::<0b01_00_01_00>(a, b), _mm512_shuffle_ps::<0b11_10_11_10>(a, b)) }
    }
}
