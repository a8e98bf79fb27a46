//! What each rule does to one connection, forwards and backwards: sixteen connections of a row at a time.
//!
//! A new rule, or another way to bound the trace, is another implementation of [`Plasticity`].

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

/// Where the derivatives through an update go, besides the traces. Each is added to.
pub(super) struct Sinks<V> {
    /// To `h_i(t-1)`; summed over `j`.
    pub pre: V,
    /// Summed over `i`; [`Plasticity::row_gradient`] knows what they mean.
    pub sums: [V; 3],
    /// To each connection's own eta.
    pub eta: V,
}

/// The hard clip.
#[derive(Clone, Copy)]
pub(super) struct Limits<V> {
    low: V,
    high: V,
}

impl<V> Limits<V> {
    #[inline(always)]
    pub fn new<F: Real>(limit: F) -> Self
    where
        V: Vector<F>,
    {
        Self {
            low: V::splat(-limit),
            high: V::splat(limit),
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
    /// How many of [`Sinks::sums`] are used.
    const SUMS: usize;

    /// The traces after the update; `pre` is `h_i(t-1)`, `eta` the connection's own.
    fn write<F: Real, V: Vector<F>>(row: &Row<V>, eta: V, traces: Traces<V>, pre: V, limits: Limits<V>) -> Traces<V>;

    /// From the derivatives by the traces after the update to those by the traces before it.
    /// `traces` holds `H` after the update (the clip shows in it) and `E` before it (which was what wrote `H`).
    fn reverse<F: Real, V: Vector<F>>(
        row: &Row<V>,
        eta: V,
        traces: Traces<V>,
        pre: V,
        limits: Limits<V>,
        gradient: Traces<V>,
        sinks: &mut Sinks<V>,
    ) -> Traces<V>;

    /// The derivatives by the coefficients of sixteen rows, from their complete sums.
    fn row_gradient<F: Real, V: Vector<F>>(rows: &Row<V>, sums: [V; 3]) -> Row<V>;
}

/// No traces.
pub(super) struct Still;

/// `H ← clip(H + rate·h_j·h_i)`: Eq. 3 with `rate = M_j`; Eq. 1-2 with `rate = eta_j`.
pub(super) struct Outer;

/// `H ← clip(H + eta_ji·h_j·h_i)`: Eq. 1-2 with one eta per connection.
pub(super) struct OuterDense;

/// `H ← clip(H + M_j·E)`, then `E ← (1 - eta_j)·E + eta_j·h_j·h_i` (Eq. 4-5).
pub(super) struct Traced;

/// As [`Traced`], with one eta per connection.
pub(super) struct TracedDense;

impl Plasticity for Still {
    const HEBB: bool = false;
    const ELIGIBILITY: bool = false;
    const DENSE: bool = false;
    const SUMS: usize = 0;

    #[inline(always)]
    fn write<F: Real, V: Vector<F>>(_: &Row<V>, _: V, traces: Traces<V>, _: V, _: Limits<V>) -> Traces<V> {
        traces
    }

    #[inline(always)]
    fn reverse<F: Real, V: Vector<F>>(
        _: &Row<V>,
        _: V,
        _: Traces<V>,
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
        traces: Traces<V>,
        pre: V,
        limits: Limits<V>,
        gradient: Traces<V>,
        sinks: &mut Sinks<V>,
    ) -> Traces<V> {
        let h = limits.unclip(gradient.h, traces.h);
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
        traces: Traces<V>,
        pre: V,
        limits: Limits<V>,
        gradient: Traces<V>,
        sinks: &mut Sinks<V>,
    ) -> Traces<V> {
        let h = limits.unclip(gradient.h, traces.h);
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

/// `(1 - eta)·e + increment`
#[inline(always)]
fn decay<F: Real, V: Vector<F>>(e: V, eta: V, increment: V) -> V {
    V::splat(F::ONE).sub(eta).mul_add(e, increment)
}

impl Plasticity for Traced {
    const HEBB: bool = true;
    const ELIGIBILITY: bool = true;
    const DENSE: bool = false;
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
        traces: Traces<V>,
        pre: V,
        limits: Limits<V>,
        gradient: Traces<V>,
        sinks: &mut Sinks<V>,
    ) -> Traces<V> {
        let h = limits.unclip(gradient.h, traces.h);
        sinks.pre = gradient.e.mul_add(row.eta.mul(row.post), sinks.pre);
        sinks.sums[0] = h.mul_add(traces.e, sinks.sums[0]);
        sinks.sums[1] = gradient.e.mul_add(pre, sinks.sums[1]);
        sinks.sums[2] = gradient.e.mul_add(traces.e, sinks.sums[2]);
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

impl Plasticity for TracedDense {
    const HEBB: bool = true;
    const ELIGIBILITY: bool = true;
    const DENSE: bool = true;
    const SUMS: usize = 2;

    #[inline(always)]
    fn write<F: Real, V: Vector<F>>(row: &Row<V>, eta: V, traces: Traces<V>, pre: V, limits: Limits<V>) -> Traces<V> {
        Traces {
            h: limits.clip(row.rate.mul_add(traces.e, traces.h)),
            e: decay(traces.e, eta, eta.mul(row.post).mul(pre)),
        }
    }

    #[inline(always)]
    fn reverse<F: Real, V: Vector<F>>(
        row: &Row<V>,
        eta: V,
        traces: Traces<V>,
        pre: V,
        limits: Limits<V>,
        gradient: Traces<V>,
        sinks: &mut Sinks<V>,
    ) -> Traces<V> {
        let h = limits.unclip(gradient.h, traces.h);
        sinks.pre = gradient.e.mul_add(eta.mul(row.post), sinks.pre);
        sinks.sums[0] = h.mul_add(traces.e, sinks.sums[0]);
        sinks.sums[1] = gradient.e.mul_add(eta.mul(pre), sinks.sums[1]);
        sinks.eta = gradient.e.mul_add(row.post.mul(pre).sub(traces.e), sinks.eta);
        Traces {
            h,
            e: decay(gradient.e, eta, row.rate.mul(h)),
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
