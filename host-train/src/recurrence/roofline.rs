//! What bounds the passes: the operations and bytes they take, counted by running them, and how many of each this
//! processor can do in a second.

use std::cell::Cell;
use std::hint::black_box;
use std::ops::{Add, Mul};

use cpu_time::ThreadTime;
use serde::Serialize;

use super::kernel::{Job, LANES, Lanes, Path, Plain, Vector};
use super::real::Real;

/// What a computation takes of the two resources that may bind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Work {
    /// Multiplications, additions, comparisons, minima and maxima of one number each; a multiplication that is added
    /// counts once. Padding counts; tanh, `exp` and what tasks do does not.
    pub operations: f64,
    /// Bytes that vectors move from and to memory, at whichever level of it.
    pub bytes: f64,
}

impl Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            operations: self.operations + other.operations,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl Mul<f64> for Work {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        Self {
            operations: self.operations * factor,
            bytes: self.bytes * factor,
        }
    }
}

thread_local! {
    /// What this thread's [`Counting`] vectors did.
    static DONE: Cell<Work> = const { Cell::new(Work { operations: 0.0, bytes: 0.0 }) };
}

/// What the passes that `job` runs on the path it is given do. It runs in one thread, slowly.
///
/// # Errors
/// When the thread cannot be started.
pub fn count(job: impl FnOnce(Path) + Send) -> Result<Work, rayon::ThreadPoolBuildError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    Ok(pool.install(|| {
        job(Path::counting());
        DONE.take()
    }))
}

/// A vector that counts what is done with it.
#[derive(Clone, Copy)]
pub struct Counting<F>(Plain<F, false>);

impl<F: Real> Counting<F> {
    fn operate(operations: usize) {
        Self::count(operations, 0);
    }

    fn count(operations: usize, bytes: usize) {
        let work = Work {
            operations: operations as f64,
            bytes: bytes as f64,
        };
        DONE.set(DONE.get() + work);
    }
}

impl<F: Real> Vector<F> for Counting<F> {
    fn splat(value: F) -> Self {
        Self(Plain::splat(value))
    }
    fn load(from: &Lanes<F>) -> Self {
        Self::count(0, size_of::<Lanes<F>>());
        Self(Plain::load(from))
    }
    fn store(self, to: &mut Lanes<F>) {
        Self::count(0, size_of::<Lanes<F>>());
        self.0.store(to);
    }
    fn add(self, other: Self) -> Self {
        Self::operate(LANES);
        Self(self.0.add(other.0))
    }
    fn sub(self, other: Self) -> Self {
        Self::operate(LANES);
        Self(self.0.sub(other.0))
    }
    fn mul(self, other: Self) -> Self {
        Self::operate(LANES);
        Self(self.0.mul(other.0))
    }
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        Self::operate(LANES);
        Self(self.0.mul_add(factor.0, addend.0))
    }
    fn clip(self, low: Self, high: Self) -> Self {
        Self::operate(2 * LANES);
        Self(self.0.clip(low.0, high.0))
    }
    fn where_inside(self, value: Self, low: Self, high: Self) -> Self {
        Self::operate(2 * LANES);
        Self(self.0.where_inside(value.0, low.0, high.0))
    }
    fn where_positive(self, value: Self, otherwise: Self) -> Self {
        Self::operate(LANES);
        Self(self.0.where_positive(value.0, otherwise.0))
    }
    fn sum(self) -> F {
        Self::operate(LANES - 1);
        self.0.sum()
    }
    fn sums(rows: &[Lanes<F>; LANES]) -> Self {
        Self::count(LANES * (LANES - 1), size_of_val(rows));
        Self(Plain::sums(rows))
    }
}

/// Multiply-adds of a number each that one core does per second on `path`, in `f32`.
pub fn multiply_adds_per_second(path: Path) -> f64 {
    // How many chains hide the latency without leaving the registers depends on the path.
    let rates = [
        chains_per_second::<2>(path),
        chains_per_second::<3>(path),
        chains_per_second::<5>(path),
        chains_per_second::<10>(path),
    ];
    rates.into_iter().fold(0.0, f64::max)
}

fn chains_per_second<const COUNT: usize>(path: Path) -> f64 {
    best_rate(CHAIN * COUNT * LANES, || {
        black_box(path.run::<f32, _>(Chains::<COUNT>));
    })
}

/// Bytes per second that one core moves on `path` within `kib` KiB of memory, two read for one written as the passes do.
pub fn bytes_per_second(path: Path, kib: usize) -> f64 {
    let blocks = kib * 1024 / 2 / size_of::<Lanes<f32>>();
    let (from, mut to) = (vec![Lanes::default(); blocks], vec![Lanes::default(); blocks]);
    let pass = 3 * size_of_val(&from[..]);
    let passes = (1 << 24) / pass;
    best_rate(passes * pass, || {
        for _ in 0..passes {
            path.run::<f32, _>(Stream { from: &from, to: &mut to });
        }
        black_box(&mut to);
    })
}

/// The best rate of some short measurements, each of which does `work`: the least disturbed one.
fn best_rate(work: usize, mut measured: impl FnMut()) -> f64 {
    let rates = (0..50).map(|_| {
        let start = ThreadTime::now();
        measured();
        work as f64 / start.elapsed().as_secs_f64()
    });
    rates.fold(0.0, f64::max)
}

/// Multiply-adds in a chain.
const CHAIN: usize = 100_000;

/// So many chains of multiply-adds side by side; returns their sum.
struct Chains<const COUNT: usize>;

impl<const COUNT: usize> Job<f32> for Chains<COUNT> {
    type Output = f32;

    #[inline(always)]
    fn run<V: Vector<f32>>(self) -> f32 {
        let (factor, addend) = (V::splat(black_box(0.999)), V::splat(black_box(0.001)));
        let mut sums = [V::splat(black_box(1.0)); COUNT];
        for _ in 0..CHAIN {
            for sum in &mut sums {
                *sum = sum.mul_add(factor, addend);
            }
        }
        let mut total = V::splat(0.0);
        for sum in sums {
            total = total.add(sum);
        }
        total.sum()
    }
}

/// `to ← to·factor + from`
struct Stream<'a> {
    from: &'a [Lanes<f32>],
    to: &'a mut [Lanes<f32>],
}

impl Job<f32> for Stream<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<f32>>(self) {
        let factor = V::splat(black_box(0.999));
        for (to, from) in self.to.iter_mut().zip(self.from) {
            V::load(to).mul_add(factor, V::load(from)).store(to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sweep::Combine;
    use super::*;
    use crate::recurrence::Kernel;

    #[test]
    fn counts_what_a_pass_does() {
        let vectors = vec![Lanes::default(); 3 * 2];
        let (initial, mut out) = (vec![Lanes::default(); 2], vec![Lanes::default(); 2]);
        let work = count(|path| {
            path.run::<f32, _>(Combine {
                initial: &initial,
                factors: &[1.0, 2.0, 3.0],
                vectors: &vectors,
                out: &mut out,
            });
        });
        // Three multiply-adds for each of 32 numbers; three vectors and the initial one read, the sum written.
        let expected = Work {
            operations: 96.0,
            bytes: (3.0 + 2.0) * 128.0,
        };
        assert_eq!(work.unwrap(), expected);
    }

    #[test]
    fn peaks_are_speeds_of_a_processor() {
        let path = Kernel::Auto.resolve().unwrap();
        let rates = [
            multiply_adds_per_second(path),
            bytes_per_second(path, 16),
            bytes_per_second(path, 512),
        ];
        for rate in rates {
            assert!((1e8..1e13).contains(&rate), "{rates:?}");
        }
    }
}
