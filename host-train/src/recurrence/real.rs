//! The two number types of meta-training: `f32` for work, `f64` for the tests of the gradients.

use std::fmt::Debug;
use std::ops::{Add, Div, Mul, Neg, Sub};

use backpropamine::math::tanh_f32_inline;

use super::backward::{ByDrive, ByHidden, reverse};
use super::forward::{Forward, Trajectory};
#[cfg(target_arch = "x86_64")]
use super::kernel::Wide;
use super::kernel::{Plain, Vector};
use super::roofline::Counting;
use super::spec::Gradients;
use super::weights::Weights;

/// A floating-point type the recurrence can be computed in.
pub trait Real:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + candle_core::WithDType
    + 'static
{
    /// 0
    const ZERO: Self;
    /// 1
    const ONE: Self;
    /// The nearest value of this type.
    fn real(value: f64) -> Self;
    /// Hyperbolic tangent; in `f32` the core's own, so that training and the device see one function.
    fn tanh(self) -> Self;
    /// `self · factor + addend`, rounded once.
    fn fused(self, factor: Self, addend: Self) -> Self;
    /// The vectors used where there is AVX-512, if `WIDE`.
    #[cfg(target_arch = "x86_64")]
    type Avx512: Vector<Self>;
    /// The vectors that count what they do, where there is anything to count.
    type Counted: Vector<Self>;
    /// Whether AVX-512 has vectors of its own; else it runs as AVX2.
    const WIDE: bool;

    /// [`Forward::step`](super::Forward::step), but for its result. A method of each type rather than a generic function,
    /// so that this crate compiles all kernels, once, and no crate that uses it.
    fn step(forward: &mut Forward<'_, Self>, drive: &[Self]);
    /// [`backward_lifetimes`](super::backward_lifetimes), likewise.
    fn backward(
        weights: &Weights<Self>,
        trajectories: &[&Trajectory<Self>],
        by_hidden: ByHidden<Self>,
        by_drive: ByDrive<Self>,
    ) -> Gradients<Self>;
}

/// The methods that only have to be compiled for each type.
macro_rules! compiled_here {
    () => {
        fn step(forward: &mut Forward<'_, Self>, drive: &[Self]) {
            forward.advance(drive);
        }
        fn backward(
            weights: &Weights<Self>,
            trajectories: &[&Trajectory<Self>],
            by_hidden: ByHidden<Self>,
            by_drive: ByDrive<Self>,
        ) -> Gradients<Self> {
            reverse(weights, trajectories, by_hidden, by_drive)
        }
    };
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    fn real(value: f64) -> Self {
        value as f32
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        tanh_f32_inline(self)
    }
    #[inline(always)]
    fn fused(self, factor: Self, addend: Self) -> Self {
        self.mul_add(factor, addend)
    }
    #[cfg(target_arch = "x86_64")]
    type Avx512 = Wide;
    type Counted = Counting<f32>;
    const WIDE: bool = true;
    compiled_here!();
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    fn real(value: f64) -> Self {
        value
    }
    fn tanh(self) -> Self {
        libm::tanh(self)
    }
    #[inline(always)]
    fn fused(self, factor: Self, addend: Self) -> Self {
        self.mul_add(factor, addend)
    }
    // Double precision is for tests: what the compiler makes of plain Rust is fast enough.
    #[cfg(target_arch = "x86_64")]
    type Avx512 = Plain<f64, true>;
    type Counted = Plain<f64, false>;
    const WIDE: bool = false;
    compiled_here!();
}
