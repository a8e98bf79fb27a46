//! The functions whose bits are pinned in `core/FORMAT.md`: no `std`, no platform maths library, no fused multiply-add.

/// `tanh` in f32, within 3e-7 of the exact value for every input, odd, and exactly ±1 from |x| = 9.2 on.
///
/// Below 2 a rational function of our own fit, `x·P(x²)/Q(x²)` with degrees 3 and 2; from 2 on `1 - 2/(1 + p(x)^8)`,
/// where the polynomial `p` approximates `e^(x/4)`: the subtraction absorbs its error.
/// Finite inputs only; a NaN gives a NaN.
///
/// ```
/// use backpropamine::math::tanh_f32;
/// assert!((tanh_f32(0.5) - 0.46211716).abs() < 3e-7);
/// assert_eq!(tanh_f32(-40.0), -1.0);
/// ```
#[inline(never)]
pub fn tanh_f32(x: f32) -> f32 {
    tanh_f32_inline(x)
}

/// [`tanh_f32`] for callers who want it inlined: a host's compiler vectorises a loop over it. The same bits.
#[inline(always)]
pub fn tanh_f32_inline(x: f32) -> f32 {
    let magnitude = if x < 0.0 { -x } else { x };
    if magnitude < 2.0 {
        let s = x * x;
        let p = ((-5.510_391e-6 * s + 0.001_299_536_7) * s + 0.114_476_94) * s + 1.0;
        let q = (0.017_236_419 * s + 0.447_810_23) * s + 1.0;
        return x * p / q;
    }
    let y = if magnitude > 9.2 { 9.2 } else { magnitude };
    let root = (((0.000_349_616_02 * y + 0.001_359_739_5) * y + 0.035_053_547) * y + 0.244_447_57) * y + 1.003_140_6;
    let square = root * root;
    let fourth = square * square;
    let t = 1.0 - 2.0 / (fourth * fourth + 1.0);
    if x < 0.0 { -t } else { t }
}

/// `tanh` from micromath's approximation of `exp`: smaller and coarser than [`tanh_f32`], within 2e-3 of the exact value.
///
/// ```
/// use backpropamine::math::tanh_micromath;
/// assert!((tanh_micromath(0.5) - 0.46211716).abs() < 2e-3);
/// ```
#[cfg(feature = "micromath")]
pub fn tanh_micromath(x: f32) -> f32 {
    // Beyond 9 the result is 1 in any case, and the exponential would leave its range.
    let y = x.clamp(-9.0, 9.0);
    1.0 - 2.0 / (micromath::F32(2.0 * y).exp().0 + 1.0)
}

/// Intervals of the fixed-point `tanh` table per unit of its argument.
const TANH_PER_UNIT: usize = 64;
/// `tanh` in Q15 over [0, 8], and one more, so that the end of the last interval is one of the table like any other.
pub(crate) static TANH_TABLE: [i16; 8 * TANH_PER_UNIT + 2] = tanh_table();

/// `tanh` in fixed point: argument in Q27 (so ±16, saturating at ±8), result in Q15 within ±32767.
///
/// A table of 512 intervals over [0, 8) with linear interpolation, rounded to nearest; within 2 LSB of the exact value; odd.
///
/// ```
/// use backpropamine::math::tanh_q15;
/// assert_eq!(tanh_q15(0), 0);
/// assert!((i32::from(tanh_q15(1 << 26)) - 15143).abs() <= 2); // tanh(0.5) in Q15
/// assert_eq!(tanh_q15(i32::MIN), -32767);
/// ```
#[inline(never)]
pub fn tanh_q15(z: i32) -> i16 {
    // One instruction where there is saturation; the 2^30 that it leaves below gives the same as 2^30 - 1.
    let z = z.clamp(-(1 << 30), (1 << 30) - 1);
    let magnitude = z.unsigned_abs();
    let index = (magnitude >> 21) as usize;
    let fraction = ((magnitude >> 5) & 0xffff) as i32;
    let low = i32::from(TANH_TABLE.get(index).copied().unwrap_or(i16::MAX));
    let high = i32::from(TANH_TABLE.get(index + 1).copied().unwrap_or(i16::MAX));
    let value = low + (((high - low) * fraction + 0x8000) >> 16);
    let sign = z >> 31;
    ((value ^ sign) - sign) as i16
}

const EXP_INTERVALS: usize = 64;
const EXP_TABLE: [u32; EXP_INTERVALS + 1] = exp2_table();

/// `e^(-d)` in Q30 for a distance `d` in Q16: the weight of an action that lies `d` below the largest logit.
///
/// `2^(-d·log2 e)` by a table of 64 intervals with linear interpolation; relative error below 3e-5 plus one unit.
///
/// ```
/// use backpropamine::math::exp_neg_q16;
/// assert_eq!(exp_neg_q16(0), 1 << 30);
/// assert_eq!(exp_neg_q16(u32::MAX), 0);
/// ```
pub fn exp_neg_q16(distance: u32) -> u32 {
    const LOG2_E_Q30: u64 = 1_549_082_005;
    let exponent = (u64::from(distance) * LOG2_E_Q30) >> 30;
    let whole = exponent >> 16;
    if whole > 30 {
        return 0;
    }
    let fraction = (exponent & 0xffff) as u32;
    let index = (fraction >> 10) as usize;
    let rest = u64::from(fraction & 0x3ff);
    let low = EXP_TABLE.get(index).copied().unwrap_or(0);
    let high = EXP_TABLE.get(index + 1).copied().unwrap_or(0);
    let drop = (u64::from(low.saturating_sub(high)) * rest) >> 10;
    low.saturating_sub(drop as u32) >> whole
}

/// `2^(-quarters/4)` in Q30 of what is left of `quarters` beyond whole fours: the fine part of a q7 scale.
pub(crate) fn exp2_quarters(quarters: u32) -> u32 {
    let index = (quarters % 4) as usize * (EXP_INTERVALS / 4);
    EXP_TABLE.get(index).copied().unwrap_or(0)
}

/// `tanh(i / 64)` in Q15, nearest, at most 32767; made by the compiler, so no pasted numbers.
const fn tanh_table() -> [i16; 8 * TANH_PER_UNIT + 2] {
    let mut table = [0; 8 * TANH_PER_UNIT + 2];
    let mut i = 0;
    while i < table.len() {
        let e = exp_negative(2.0 * i as f64 / TANH_PER_UNIT as f64);
        let value = 32768.0 * (1.0 - e) / (1.0 + e) + 0.5;
        table[i] = if value >= 32767.0 { 32767 } else { value as i16 };
        i += 1;
    }
    table
}

/// `2^(-i/64)` in Q30.
const fn exp2_table() -> [u32; EXP_INTERVALS + 1] {
    let mut table = [0; EXP_INTERVALS + 1];
    let mut i = 0;
    while i < table.len() {
        let value = exp_negative(core::f64::consts::LN_2 * i as f64 / EXP_INTERVALS as f64);
        table[i] = (value * 1_073_741_824.0 + 0.5) as u32;
        i += 1;
    }
    table
}

/// `e^(-x)` for 0 <= x <= 17 at compile time: 16 halvings of the argument, a Taylor polynomial, 16 squarings.
const fn exp_negative(x: f64) -> f64 {
    let y = -x / 65536.0;
    let mut value = 1.0 + y * (1.0 + y * (0.5 + y * (1.0 / 6.0 + y / 24.0)));
    let mut squarings = 0;
    while squarings < 16 {
        value *= value;
        squarings += 1;
    }
    value
}
