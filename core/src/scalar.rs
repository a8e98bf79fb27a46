//! The arithmetics a network can run in: `f32`, [`Q15`] and [`Q7`] fixed point, and `f64` for host tools.
//!
//! ```
//! use backpropamine::scalar::Q15;
//! assert_eq!(Q15::from_f32(0.5).to_bits(), 0x4000);
//! assert_eq!(Q15::from_f32(1.0).to_bits(), 0x7fff); // +1.0 saturates
//! ```

use crate::image::{Header, Numeric};
use crate::kernel::Kernel;
use bytemuck::{Pod, Zeroable};
use core::convert::identity;

pub use core::primitive::{f32, f64};

/// A fraction in an integer: the type, its largest value as a float's power of two, and how 32 bits saturate to it.
macro_rules! fraction {
    ($(#[$doc:meta])* $name:ident($bits:ty), $unit:literal, $saturate:path) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[repr(transparent)]
        pub struct $name($bits);

        impl $name {
            #[doc = concat!("The number `bits / ", $unit, "`.")]
            pub const fn from_bits(bits: $bits) -> Self {
                Self(bits)
            }

            /// The raw fraction.
            pub const fn to_bits(self) -> $bits {
                self.0
            }

            /// The nearest number (ties away from zero), saturated; NaN gives 0.
            pub const fn from_f32(value: f32) -> Self {
                Self($saturate(round_to_i32(value * $unit)))
            }

            /// Exactly the same number.
            pub const fn to_f32(self) -> f32 {
                self.0 as f32 * (1.0 / $unit)
            }
        }
    };
}

fraction!(
    /// A fixed-point number in [-1, 1): 16 bits, 15 of them fractional. Activities, traces and inputs of a q15 network.
    ///
    /// Inputs and traces have a scale of their own (the image's input scale, the clip limit); the type holds the raw fraction.
    Q15(i16), 32768.0, saturate16
);
fraction!(
    /// A fixed-point number in [-1, 1): 8 bits, 7 of them fractional. Activities, traces and inputs of a q7 network, which
    /// takes half the memory of a q15 one.
    ///
    /// Scales are as in [`Q15`].
    ///
    /// ```
    /// use backpropamine::scalar::Q7;
    /// assert_eq!(Q7::from_f32(0.5).to_bits(), 0x40);
    /// assert_eq!(Q7::from_f32(1.0).to_bits(), 0x7f); // +1.0 saturates
    /// ```
    Q7(i8), 128.0, saturate8
);

/// A fixed-point number with 16 integer and 16 fractional bits: logits, value and modulator of a q15 network, in real units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(transparent)]
pub struct Q16(i32);

impl Q16 {
    /// The number `bits / 2^16`.
    pub const fn from_bits(bits: i32) -> Self {
        Self(bits)
    }

    /// The raw number.
    pub const fn to_bits(self) -> i32 {
        self.0
    }

    /// The nearest number (ties away from zero), saturated; NaN gives 0.
    pub const fn from_f32(value: f32) -> Self {
        Self(round_to_i32(value * 65536.0))
    }

    /// The nearest f32.
    pub const fn to_f32(self) -> f32 {
        self.0 as f32 * (1.0 / 65536.0)
    }
}

/// f32 whose `tanh` is micromath's: for comparing what a coarse function costs and saves. Everything else is as in `f32`.
#[cfg(feature = "micromath")]
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Pod, Zeroable)]
#[repr(transparent)]
pub struct FastF32(f32);

#[cfg(feature = "micromath")]
impl FastF32 {
    /// The number itself.
    pub const fn new(value: f32) -> Self {
        Self(value)
    }

    /// The number itself.
    pub const fn get(self) -> f32 {
        self.0
    }
}

/// Nearest whole number, ties away from zero, saturated; NaN gives 0. Exact: the difference to the truncated value is.
const fn round_to_i32(value: f32) -> i32 {
    let whole = value as i32;
    let rest = value - whole as f32;
    if rest >= 0.5 {
        whole.saturating_add(1)
    } else if rest <= -0.5 {
        whole.saturating_sub(1)
    } else {
        whole
    }
}

pub(crate) const fn saturate16(value: i32) -> i16 {
    if value > i16::MAX as i32 {
        i16::MAX
    } else if value < i16::MIN as i32 {
        i16::MIN
    } else {
        value as i16
    }
}

pub(crate) const fn saturate8(value: i32) -> i8 {
    if value > i8::MAX as i32 {
        i8::MAX
    } else if value < i8::MIN as i32 {
        i8::MIN
    } else {
        value as i8
    }
}

/// `value / 2^shift` to the nearest (ties up), saturated to 32 bits.
pub(crate) const fn round_shift(value: i64, shift: u32) -> i32 {
    let rounded = (value + ((1i64 << shift) >> 1)) >> shift;
    let low = rounded as i32;
    if low as i64 == rounded {
        low
    } else {
        (rounded >> 63) as i32 ^ i32::MAX
    }
}

/// An arithmetic that networks run in. Sealed: `f32`, `f64`, [`Q15`], [`Q7`] and, with the feature `micromath`, `FastF32`.
///
/// The hot loops behind it are in the private `kernel` module; `core/FORMAT.md` defines every rounding.
pub trait Scalar: Kernel + Pod + PartialOrd + core::fmt::Debug {
    /// The arithmetic of the images that this type runs. `f64` runs f32 images.
    const NUMERIC: Numeric;
    /// What a number is converted to in real units.
    type Real: Copy + PartialOrd + core::fmt::Debug + Into<f64>;

    /// An activity in real units.
    fn to_real(self) -> Self::Real;
    /// A trace in real units.
    fn trace_to_real(self, header: &Header) -> Self::Real;
    /// A logit, value or modulator in real units.
    fn output_to_real(output: Self::Output) -> Self::Real;
    /// The 32 bits that a digest takes in for an activity or a trace.
    fn digest_word(self) -> u32;
    /// The 32 bits that a digest takes in for an output.
    fn output_digest_word(output: Self::Output) -> u32;
    /// An input in the image's input scale, and whether it lay outside the range (or was not a number) and was clamped.
    fn from_input(value: f32, header: &Header) -> (Self, bool);
    /// One draw against the softmax of the logits.
    fn sample(logits: &[Self::Output], draw: u32) -> usize;
}

/// Largest input magnitude of the floating-point arithmetics: finite weights times it stay finite.
const FLOAT_INPUT_LIMIT: f32 = 65536.0;

fn limit_input(value: f32) -> (f32, bool) {
    if (-FLOAT_INPUT_LIMIT..=FLOAT_INPUT_LIMIT).contains(&value) {
        (value, false)
    } else if value > 0.0 {
        (FLOAT_INPUT_LIMIT, true)
    } else if value < 0.0 {
        (-FLOAT_INPUT_LIMIT, true)
    } else {
        (0.0, true)
    }
}

/// The two arithmetics of f32 images on a device differ in their functions only.
macro_rules! f32_scalar {
    ($scalar:ty, $new:expr, $get:expr) => {
        impl Scalar for $scalar {
            const NUMERIC: Numeric = Numeric::F32;
            type Real = f32;

            fn to_real(self) -> f32 {
                $get(self)
            }

            fn trace_to_real(self, _: &Header) -> f32 {
                $get(self)
            }

            fn output_to_real(output: f32) -> f32 {
                output
            }

            fn digest_word(self) -> u32 {
                $get(self).to_bits()
            }

            fn output_digest_word(output: f32) -> u32 {
                output.to_bits()
            }

            fn from_input(value: f32, _: &Header) -> ($scalar, bool) {
                let (value, clamped) = limit_input(value);
                ($new(value), clamped)
            }

            fn sample(logits: &[f32], draw: u32) -> usize {
                crate::policy::sample_f32(logits.iter().copied(), draw)
            }
        }
    };
}

f32_scalar!(f32, identity, identity);
#[cfg(feature = "micromath")]
f32_scalar!(FastF32, FastF32::new, FastF32::get);

impl Scalar for f64 {
    const NUMERIC: Numeric = Numeric::F32;
    type Real = f64;

    fn to_real(self) -> f64 {
        self
    }

    fn trace_to_real(self, _: &Header) -> f64 {
        self
    }

    fn output_to_real(output: f64) -> f64 {
        output
    }

    fn digest_word(self) -> u32 {
        (self as f32).to_bits()
    }

    fn output_digest_word(output: f64) -> u32 {
        (output as f32).to_bits()
    }

    fn from_input(value: f32, _: &Header) -> (f64, bool) {
        let (value, clamped) = limit_input(value);
        (f64::from(value), clamped)
    }

    fn sample(logits: &[f64], draw: u32) -> usize {
        crate::policy::sample_f32(logits.iter().map(|logit| *logit as f32), draw)
    }
}

/// The arithmetics of fixed point differ in the width of their fractions only.
macro_rules! fixed_scalar {
    ($scalar:ident, $numeric:path, $fraction:literal, $saturate:path) => {
        impl Scalar for $scalar {
            const NUMERIC: Numeric = $numeric;
            type Real = f32;

            fn to_real(self) -> f32 {
                self.to_f32()
            }

            fn trace_to_real(self, header: &Header) -> f32 {
                self.to_f32() * header.clip
            }

            fn output_to_real(output: Q16) -> f32 {
                output.to_f32()
            }

            fn digest_word(self) -> u32 {
                self.0 as u32
            }

            fn output_digest_word(output: Q16) -> u32 {
                output.to_bits() as u32
            }

            fn from_input(value: f32, header: &Header) -> ($scalar, bool) {
                let raw = round_to_i32(value * power_of_two($fraction - i32::from(header.formats.input_scale)));
                // Exactly +1.0 of the range is its largest number, not an overflow.
                let clamped = !(-(1 << $fraction)..=1 << $fraction).contains(&raw) || value.is_nan();
                ($scalar($saturate(raw)), clamped)
            }

            fn sample(logits: &[Q16], draw: u32) -> usize {
                crate::policy::sample_q16(logits, draw)
            }
        }
    };
}

fixed_scalar!(Q15, Numeric::Q15, 15, saturate16);
fixed_scalar!(Q7, Numeric::Q7, 7, saturate8);

/// `2^exponent` for -126 <= exponent <= 127, exactly.
const fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32 & 0xff) << 23)
}
