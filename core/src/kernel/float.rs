//! f32 on every target, f64 for host tools, and f32 with micromath's functions: one source, so one order of operations.

use super::Kernel;
#[cfg(all(armv7em, target_abi = "eabihf"))]
use super::{Increment, Layer, Traces, act_each, learn_each, vfp};
use crate::image::Header;
#[cfg(all(armv7em, target_abi = "eabihf"))]
use crate::rule::Clip;
use crate::rule::Squash;
use core::convert::identity;

macro_rules! float_kernel {
    // The scalar, the floating-point number inside it and its bits, how to come from the one to the other, tanh, and
    // methods that a processor does better.
    ($scalar:ty, $float:ty, $bits:ty, $new:expr, $get:expr, $tanh:path $(, $override:item)*) => {
        impl Kernel for $scalar {
            type Weight = f32;
            type Rate = f32;
            type Weights = f32;
            type Values = $float;
            type Bias = f32;
            type Accumulator = $float;
            type Partial = $float;
            type Gain = $float;
            type Bounds = $float;
            type Output = $float;
            const BLOCK: usize = 16;

            fn start(bias: Option<&f32>) -> $float {
                bias.map_or(0.0, |bias| <$float>::from(*bias))
            }

            fn begin(acc: $float) -> $float {
                acc
            }

            fn mac(partial: $float, weight: f32, x: $float) -> $float {
                partial + <$float>::from(weight) * x
            }

            fn plastic_mac(partial: $float, weight: f32, alpha: f32, hebb: $float, x: $float) -> $float {
                partial + (<$float>::from(weight) + <$float>::from(alpha) * hebb) * x
            }

            fn splat(weight: f32) -> f32 {
                weight
            }

            fn end(_: $float, partial: $float, _: u16) -> $float {
                partial
            }

            fn bounds(header: &Header) -> $float {
                <$float>::from(header.clip) + <$float>::from(header.clip_remainder)
            }

            fn bump(hebb: $scalar, gain: $float, factor: $scalar, limit: $float) -> $scalar {
                let hebb = $get(hebb) + gain * $get(factor);
                // The magnitude's bits are in the order of the numbers: one integer comparison, where there may be no FPU.
                if hebb.to_bits() & (<$bits>::MAX >> 1) > limit.to_bits() {
                    $new(if hebb < 0.0 { -limit } else { limit })
                } else {
                    $new(hebb)
                }
            }

            fn soft(hebb: $scalar, gain: $float, factor: $scalar, limit: $float) -> $scalar {
                let increment = gain * $get(factor);
                let room = if increment > 0.0 { 1.0 - $get(hebb) } else { 1.0 + $get(hebb) };
                Self::bump(hebb, increment, $new(room), limit)
            }

            fn decay(hebb: $scalar, rate: $float, post: $scalar, pre: $scalar, limit: $float) -> $scalar {
                let kept = (1.0 - rate) * $get(hebb);
                Self::bump($new(kept), rate * $get(post), pre, limit)
            }

            fn oja(hebb: $scalar, rate: $float, post: $scalar, pre: $scalar, limit: $float) -> $scalar {
                let unsaid = $get(pre) - $get(post) * $get(hebb);
                Self::bump(hebb, rate * $get(post), $new(unsaid), limit)
            }

            fn drift(eligibility: $scalar, eta: f32, post: $scalar, pre: $scalar) -> $scalar {
                let eta = <$float>::from(eta);
                $new((1.0 - eta) * $get(eligibility) + (eta * $get(post)) * $get(pre))
            }

            fn rate(eta: f32) -> $float {
                eta.into()
            }

            fn times(gain: $float, post: $scalar) -> $float {
                gain * $get(post)
            }

            fn is_zero(gain: $float) -> bool {
                gain == 0.0
            }

            fn modulation(m: &[$float], fan_out: Option<&[f32]>, bias: Option<&f32>, _: &Header) -> $float {
                let mut sum = 0.0;
                match fan_out {
                    Some(row) => row.iter().zip(m).for_each(|(factor, m)| sum += <$float>::from(*factor) * m),
                    None => m.iter().for_each(|m| sum += m),
                }
                sum + Self::start(bias)
            }

            $($override)*

            fn activity(acc: $float) -> $scalar {
                $new($tanh(acc))
            }

            fn output(acc: $float) -> $float {
                acc
            }

            fn squash(acc: $float, squash: Squash) -> $float {
                match squash {
                    Squash::Tanh => $tanh(acc),
                    Squash::Sigmoid => 0.5 * $tanh(0.5 * acc) + 0.5,
                    Squash::Identity => acc,
                }
            }
        }
    };
}

float_kernel!(
    f32,
    f32,
    u32,
    identity,
    identity,
    crate::math::tanh_f32,
    #[cfg(all(armv7em, target_abi = "eabihf"))]
    fn act(layer: &Layer<'_, f32>, next: &mut [f32]) {
        if vfp::act(layer, next).is_none() {
            act_each(layer, next);
        }
    },
    #[cfg(all(armv7em, target_abi = "eabihf"))]
    fn dot(acc: f32, weight: &[f32], x: &[f32], _: u16) -> f32 {
        vfp::dot(acc, weight, x)
    },
    #[cfg(all(armv7em, target_abi = "eabihf"))]
    fn learn(mut traces: Traces<'_, f32>, increment: Increment<'_, f32>, post: &[f32], pre: &[f32], header: &Header) {
        // The assembly has the hard clip only.
        let hard = header.clip_kind == Clip::Hard;
        if !hard || vfp::learn(&mut traces, increment, post, pre, Self::bounds(header)).is_none() {
            learn_each(traces, increment, post, pre, header);
        }
    }
);
float_kernel!(f64, f64, u64, identity, identity, libm::tanh);
#[cfg(feature = "micromath")]
float_kernel!(
    crate::scalar::FastF32,
    f32,
    u32,
    crate::scalar::FastF32::new,
    crate::scalar::FastF32::get,
    crate::math::tanh_micromath
);
