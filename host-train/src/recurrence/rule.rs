//! What each rule does to one connection, forwards and backwards: sixteen connections of a row at a time.
//!
//! A new rule, or another way to bound the trace, is another implementation of [`Plasticity`].

use std::marker::PhantomData;

use super::kernel::Vector;
use super::real::Real;

/// What one row (postsynaptic neuron `j`) writes with at one step, or the derivatives by it.
#[derive(Clone, Copy)]
pub(super) struct Row<X> {
    /// `M_j(t)`, or the Hebbian rate of `j`.
    pub rate: X,
    /// `h_j(t)`
    pub post: X,
    /// The rate of `E`; not used where it is one per connection.
    pub eta: X,
}

/// The traces of sixteen connections, or the derivatives by them. What a rule has not is carried along and optimised away.
#[derive(Clone, Copy)]
pub(super) struct Traces<V> {
    /// Hebbian.
    pub h: V,
    /// Eligibility.
    pub e: V,
}

/// What the gradient of an update needs of the traces around it.
#[derive(Clone, Copy)]
pub(super) struct Past<V> {
    /// `H` after the update: the clip shows in it.
    pub after: V,
    /// `H` before the update; not used unless [`Plasticity::BEFORE`].
    pub before: V,
    /// `E` before the update, which was what wrote `H`.
    pub e: V,
}

/// Where the derivatives through an update go, besides the traces. Each is added to.
pub(super) struct Sinks<V> {
    /// To `h_i(t-1)`; summed over `j`.
    pub pre: V,
    /// Summed over `i`; [`Plasticity::row_gradient`] knows what they mean.
    pub sums: [V; 3],
    /// To each connection's own eta.
    pub eta: V,
}

/// What bounds the trace: the limit, which every clip ends with, and how it forgets.
#[derive(Clone, Copy)]
pub(super) struct Limits<V> {
    low: V,
    high: V,
    /// 1 if forgetting is Oja's, 0 if it is decay.
    oja: V,
}

impl<V> Limits<V> {
    #[inline(always)]
    pub fn new<F: Real>(limit: F, oja: F) -> Self
    where
        V: Vector<F>,
    {
        Self {
            low: V::splat(-limit),
            high: V::splat(limit),
            oja: V::splat(oja),
        }
    }

    #[inline(always)]
    fn clip<F>(self, h: V) -> V
    where
        V: Vector<F>,
    {
        h.clip(self.low, self.high)
    }

    /// The gradient before the clip: 0 where `h`, the value after it, is a limit.
    #[inline(always)]
    fn unclip<F>(self, gradient: V, h: V) -> V
    where
        V: Vector<F>,
    {
        gradient.where_inside(h, self.low, self.high)
    }
}

/// How a rule changes the traces of a connection at step t, once `h(t)` and `M(t)` are known.
pub(super) trait Plasticity {
    /// Whether there is a Hebbian trace.
    const HEBB: bool;
    /// Whether there is an eligibility trace.
    const ELIGIBILITY: bool;
    /// Whether eta is one per connection.
    const DENSE: bool;
    /// Whether the gradient needs `H` as it was before the update.
    const BEFORE: bool;
    /// How many of [`Sinks::sums`] are used.
    const SUMS: usize;

    /// The traces after the update; `pre` is `h_i(t-1)`, `eta` the connection's own.
    fn write<F: Real, V: Vector<F>>(row: &Row<V>, eta: V, traces: Traces<V>, pre: V, limits: Limits<V>) -> Traces<V>;

    /// From the derivatives by the traces after the update to those by the traces before it.
    fn reverse<F: Real, V: Vector<F>>(
        row: &Row<V>,
        eta: V,
        past: Past<V>,
        pre: V,
        limits: Limits<V>,
        gradient: Traces<V>,
        sinks: &mut Sinks<V>,
    ) -> Traces<V>;

    /// The derivatives by the coefficients of sixteen rows, from their complete sums.
    fn row_gradient<F: Real, V: Vector<F>>(rows: &Row<V>, sums: [V; 3]) -> Row<V>;
}

/// How an increment `d = gain·factor` gets into the trace, before it is cut to the limit.
pub(super) trait Intake {
    /// Whether the gradient needs `H` as it was before.
    const BEFORE: bool;

    /// `H` and what it takes of `d`.
    fn add<F: Real, V: Vector<F>>(h: V, gain: V, factor: V) -> V;

    /// From the derivative by that to those by `H` before and by `d`.
    fn reverse<F: Real, V: Vector<F>>(gradient: V, before: V, gain: V, factor: V) -> (V, V);
}

/// All of it: `H + d`.
pub(super) struct Hard;

/// As much as there is room for: `H + d·(1-H)` where `d > 0`, else `H + d·(1+H)`.
pub(super) struct Soft;

impl Intake for Hard {
    const BEFORE: bool = false;

    #[inline(always)]
    fn add<F: Real, V: Vector<F>>(h: V, gain: V, factor: V) -> V {
        gain.mul_add(factor, h)
    }

    #[inline(always)]
    fn reverse<F: Real, V: Vector<F>>(gradient: V, _: V, _: V, _: V) -> (V, V) {
        (gradient, gradient)
    }
}

impl Intake for Soft {
    const BEFORE: bool = true;

    #[inline(always)]
    fn add<F: Real, V: Vector<F>>(h: V, gain: V, factor: V) -> V {
        let increment = gain.mul(factor);
        increment.mul_add(room(h, increment), h)
    }

    #[inline(always)]
    fn reverse<F: Real, V: Vector<F>>(gradient: V, before: V, gain: V, factor: V) -> (V, V) {
        let increment = gain.mul(factor);
        (gradient.mul(room(increment, increment)), gradient.mul(room(before, increment)))
    }
}

/// `1 - x` where the increment is positive, else `1 + x`.
#[inline(always)]
fn room<F: Real, V: Vector<F>>(x: V, increment: V) -> V {
    let one = V::splat(F::ONE);
    one.sub(x).where_positive(increment, one.add(x))
}

/// How an update at some rate, which the hard clip does not describe, changes the trace before it is cut to the limit.
pub(super) trait Law {
    /// `H` after the update.
    fn write<F: Real, V: Vector<F>>(h: V, rate: V, post: V, pre: V, limits: Limits<V>) -> V;

    /// Its derivatives; `h` is `H` before the update.
    fn slopes<F: Real, V: Vector<F>>(h: V, rate: V, post: V, pre: V, limits: Limits<V>) -> Slopes<V>;
}

/// The derivatives of an update by all that it depends on.
pub(super) struct Slopes<V> {
    h: V,
    rate: V,
    post: V,
    pre: V,
}

impl Law for Soft {
    #[inline(always)]
    fn write<F: Real, V: Vector<F>>(h: V, rate: V, post: V, pre: V, _: Limits<V>) -> V {
        Self::add(h, rate.mul(post), pre)
    }

    #[inline(always)]
    fn slopes<F: Real, V: Vector<F>>(h: V, rate: V, post: V, pre: V, _: Limits<V>) -> Slopes<V> {
        let gain = rate.mul(post);
        let (h, taken) = Self::reverse(V::splat(F::ONE), h, gain, pre);
        Slopes {
            h,
            rate: taken.mul(post.mul(pre)),
            post: taken.mul(rate.mul(pre)),
            pre: taken.mul(gain),
        }
    }
}

/// `(1 - rate·q)·H + rate·h_j·h_i`: with decay `q = 1`; Oja's rule takes away what the neuron already says about its input,
/// `q = h_j²`.
pub(super) struct Forget;

impl Forget {
    #[inline(always)]
    fn share<F: Real, V: Vector<F>>(post: V, oja: V) -> V {
        post.mul(post).mul_add(oja, V::splat(F::ONE).sub(oja))
    }

    #[inline(always)]
    fn kept<F: Real, V: Vector<F>>(rate: V, share: V) -> V {
        V::splat(F::ONE).sub(rate.mul(share))
    }
}

impl Law for Forget {
    #[inline(always)]
    fn write<F: Real, V: Vector<F>>(h: V, rate: V, post: V, pre: V, limits: Limits<V>) -> V {
        let kept = Self::kept(rate, Self::share(post, limits.oja));
        rate.mul(post).mul_add(pre, kept.mul(h))
    }

    #[inline(always)]
    fn slopes<F: Real, V: Vector<F>>(h: V, rate: V, post: V, pre: V, limits: Limits<V>) -> Slopes<V> {
        let share = Self::share(post, limits.oja);
        let by_share = limits.oja.mul(post.add(post));
        Slopes {
            h: Self::kept(rate, share),
            rate: post.mul(pre).sub(share.mul(h)),
            post: rate.mul(pre.sub(by_share.mul(h))),
            pre: rate.mul(post),
        }
    }
}

/// No traces.
pub(super) struct Still;

/// `H ← clip(H + rate·h_j·h_i)`: Eq. 3 with `rate = M_j`; Eq. 1-2 with `rate = eta_j`.
pub(super) struct Outer;

/// `H ← clip(H + eta_ji·h_j·h_i)`: Eq. 1-2 with one eta per connection.
pub(super) struct OuterDense;

/// As [`Outer`] and [`OuterDense`] in one, at `rate + eta_ji`, by another law. So one loop has to be compiled for each law.
pub(super) struct Shaped<L>(PhantomData<L>);

/// `H ← clip(H + M_j·E)`, then `E ← (1 - eta_j)·E + eta_j·h_j·h_i` (Eq. 4-5).
pub(super) struct Traced;

/// As [`Traced`], with one eta per connection, and the increment as `I` takes it.
pub(super) struct TracedDense<I>(PhantomData<I>);

impl Plasticity for Still {
    const HEBB: bool = false;
    const ELIGIBILITY: bool = false;
    const DENSE: bool = false;
    const BEFORE: bool = false;
    const SUMS: usize = 0;

    #[inline(always)]
    fn write<F: Real, V: Vector<F>>(_: &Row<V>, _: V, traces: Traces<V>, _: V, _: Limits<V>) -> Traces<V> {
        traces
    }

    #[inline(always)]
    fn reverse<F: Real, V: Vector<F>>(
        _: &Row<V>,
        _: V,
        _: Past<V>,
        _: V,
        _: Limits<V>,
        gradient: Traces<V>,
        _: &mut Sinks<V>,
    ) -> Traces<V> {
        gradient
    }

    #[inline(always)]
    fn row_gradient<F: Real, V: Vector<F>>(_: &Row<V>, _: [V; 3]) -> Row<V> {
        let zero = V::splat(F::ZERO);
        Row {
            rate: zero,
            post: zero,
            eta: zero,
        }
    }
}

impl Plasticity for Outer {
    const HEBB: bool = true;
    const ELIGIBILITY: bool = false;
    const DENSE: bool = false;
    const BEFORE: bool = false;
    const SUMS: usize = 1;

    #[inline(always)]
    fn write<F: Real, V: Vector<F>>(row: &Row<V>, _: V, traces: Traces<V>, pre: V, limits: Limits<V>) -> Traces<V> {
        let gain = row.rate.mul(row.post);
        Traces {
            h: limits.clip(gain.mul_add(pre, traces.h)),
            e: traces.e,
        }
    }

    #[inline(always)]
    fn reverse<F: Real, V: Vector<F>>(
        row: &Row<V>,
        _: V,
        past: Past<V>,
        pre: V,
        limits: Limits<V>,
        gradient: Traces<V>,
        sinks: &mut Sinks<V>,
    ) -> Traces<V> {
        let h = limits.unclip(gradient.h, past.after);
        sinks.pre = h.mul_add(row.rate.mul(row.post), sinks.pre);
        sinks.sums[0] = h.mul_add(pre, sinks.sums[0]);
        Traces { h, e: gradient.e }
    }

    #[inline(always)]
    fn row_gradient<F: Real, V: Vector<F>>(rows: &Row<V>, [product, ..]: [V; 3]) -> Row<V> {
        Row {
            rate: rows.post.mul(product),
            post: rows.rate.mul(product),
            eta: V::splat(F::ZERO),
        }
    }
}

impl Plasticity for OuterDense {
    const HEBB: bool = true;
    const ELIGIBILITY: bool = false;
    const DENSE: bool = true;
    const BEFORE: bool = false;
    const SUMS: usize = 1;

    #[inline(always)]
    fn write<F: Real, V: Vector<F>>(row: &Row<V>, eta: V, traces: Traces<V>, pre: V, limits: Limits<V>) -> Traces<V> {
        Traces {
            h: limits.clip(eta.mul(row.post).mul_add(pre, traces.h)),
            e: traces.e,
        }
    }

    #[inline(always)]
    fn reverse<F: Real, V: Vector<F>>(
        row: &Row<V>,
        eta: V,
        past: Past<V>,
        pre: V,
        limits: Limits<V>,
        gradient: Traces<V>,
        sinks: &mut Sinks<V>,
    ) -> Traces<V> {
        let h = limits.unclip(gradient.h, past.after);
        sinks.pre = h.mul_add(eta.mul(row.post), sinks.pre);
        sinks.sums[0] = h.mul_add(eta.mul(pre), sinks.sums[0]);
        sinks.eta = h.mul_add(row.post.mul(pre), sinks.eta);
        Traces { h, e: gradient.e }
    }

    #[inline(always)]
    fn row_gradient<F: Real, V: Vector<F>>(_: &Row<V>, [post, ..]: [V; 3]) -> Row<V> {
        Row {
            rate: V::splat(F::ZERO),
            post,
            eta: V::splat(F::ZERO),
        }
    }
}

impl<L: Law> Plasticity for Shaped<L> {
    const HEBB: bool = true;
    const ELIGIBILITY: bool = false;
    const DENSE: bool = true;
    const BEFORE: bool = true;
    const SUMS: usize = 2;

    #[inline(always)]
    fn write<F: Real, V: Vector<F>>(row: &Row<V>, eta: V, traces: Traces<V>, pre: V, limits: Limits<V>) -> Traces<V> {
        Traces {
            h: limits.clip(L::write(traces.h, row.rate.add(eta), row.post, pre, limits)),
            e: traces.e,
        }
    }

    #[inline(always)]
    fn reverse<F: Real, V: Vector<F>>(
        row: &Row<V>,
        eta: V,
        past: Past<V>,
        pre: V,
        limits: Limits<V>,
        gradient: Traces<V>,
        sinks: &mut Sinks<V>,
    ) -> Traces<V> {
        let h = limits.unclip(gradient.h, past.after);
        let slopes = L::slopes(past.before, row.rate.add(eta), row.post, pre, limits);
        sinks.pre = h.mul_add(slopes.pre, sinks.pre);
        sinks.sums[0] = h.mul_add(slopes.rate, sinks.sums[0]);
        sinks.sums[1] = h.mul_add(slopes.post, sinks.sums[1]);
        sinks.eta = h.mul_add(slopes.rate, sinks.eta);
        Traces {
            h: h.mul(slopes.h),
            e: gradient.e,
        }
    }

    #[inline(always)]
    fn row_gradient<F: Real, V: Vector<F>>(_: &Row<V>, [rate, post, _]: [V; 3]) -> Row<V> {
        Row {
            rate,
            post,
            eta: V::splat(F::ZERO),
        }
    }
}

/// `(1 - eta)·e + increment`
#[inline(always)]
fn decay<F: Real, V: Vector<F>>(e: V, eta: V, increment: V) -> V {
    V::splat(F::ONE).sub(eta).mul_add(e, increment)
}

impl Plasticity for Traced {
    const HEBB: bool = true;
    const ELIGIBILITY: bool = true;
    const DENSE: bool = false;
    const BEFORE: bool = false;
    const SUMS: usize = 3;

    #[inline(always)]
    fn write<F: Real, V: Vector<F>>(row: &Row<V>, _: V, traces: Traces<V>, pre: V, limits: Limits<V>) -> Traces<V> {
        Traces {
            h: limits.clip(row.rate.mul_add(traces.e, traces.h)),
            e: decay(traces.e, row.eta, row.eta.mul(row.post).mul(pre)),
        }
    }

    #[inline(always)]
    fn reverse<F: Real, V: Vector<F>>(
        row: &Row<V>,
        _: V,
        past: Past<V>,
        pre: V,
        limits: Limits<V>,
        gradient: Traces<V>,
        sinks: &mut Sinks<V>,
    ) -> Traces<V> {
        let h = limits.unclip(gradient.h, past.after);
        sinks.pre = gradient.e.mul_add(row.eta.mul(row.post), sinks.pre);
        sinks.sums[0] = h.mul_add(past.e, sinks.sums[0]);
        sinks.sums[1] = gradient.e.mul_add(pre, sinks.sums[1]);
        sinks.sums[2] = gradient.e.mul_add(past.e, sinks.sums[2]);
        Traces {
            h,
            e: decay(gradient.e, row.eta, row.rate.mul(h)),
        }
    }

    #[inline(always)]
    fn row_gradient<F: Real, V: Vector<F>>(rows: &Row<V>, [rate, product, decayed]: [V; 3]) -> Row<V> {
        Row {
            rate,
            post: rows.eta.mul(product),
            eta: rows.post.mul(product).sub(decayed),
        }
    }
}

impl<I: Intake> Plasticity for TracedDense<I> {
    const HEBB: bool = true;
    const ELIGIBILITY: bool = true;
    const DENSE: bool = true;
    const BEFORE: bool = I::BEFORE;
    const SUMS: usize = 2;

    #[inline(always)]
    fn write<F: Real, V: Vector<F>>(row: &Row<V>, eta: V, traces: Traces<V>, pre: V, limits: Limits<V>) -> Traces<V> {
        Traces {
            h: limits.clip(I::add(traces.h, row.rate, traces.e)),
            e: decay(traces.e, eta, eta.mul(row.post).mul(pre)),
        }
    }

    #[inline(always)]
    fn reverse<F: Real, V: Vector<F>>(
        row: &Row<V>,
        eta: V,
        past: Past<V>,
        pre: V,
        limits: Limits<V>,
        gradient: Traces<V>,
        sinks: &mut Sinks<V>,
    ) -> Traces<V> {
        let (h, increment) = I::reverse(limits.unclip(gradient.h, past.after), past.before, row.rate, past.e);
        sinks.pre = gradient.e.mul_add(eta.mul(row.post), sinks.pre);
        sinks.sums[0] = increment.mul_add(past.e, sinks.sums[0]);
        sinks.sums[1] = gradient.e.mul_add(eta.mul(pre), sinks.sums[1]);
        sinks.eta = gradient.e.mul_add(row.post.mul(pre).sub(past.e), sinks.eta);
        Traces {
            h,
            e: decay(gradient.e, eta, row.rate.mul(increment)),
        }
    }

    #[inline(always)]
    fn row_gradient<F: Real, V: Vector<F>>(_: &Row<V>, [rate, post, _]: [V; 3]) -> Row<V> {
        Row {
            rate,
            post,
            eta: V::splat(F::ZERO),
        }
    }
}
