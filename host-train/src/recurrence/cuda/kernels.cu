// The plastic recurrence, forwards and backwards, each in one launch for whole lifetimes.
//
// One block is one lifetime; thread j is neuron j. A kernel is a sequence of phases: loops over the neurons with a
// barrier between them, in which no thread reads what another one writes. So the same text is right as host code,
// where a block is one plain loop after the other (HOST_SHIM); a test compiles it so.
//
// Matrices are transposed, [pre][post], so that neighbouring threads read neighbouring numbers, and the rows of those
// in shared memory are of odd length, so that reading them across is free of bank conflicts too.
// No sum depends on the order in which threads run: results have the same bits every time.

#ifdef HOST_SHIM
#include <math.h>
#define KERNEL extern "C" void
#define DEVICE static inline
#define PHASE(j, count) for (int j = 0; j < (count); ++j)
#define BARRIER()
#define BLOCK host_block
#define SHARED(name) float *name = host_shared
static int host_block;
static float *host_shared;
#else
#define KERNEL extern "C" __global__ void
#define DEVICE static __device__ __forceinline__
#define PHASE(j, count) for (int j = threadIdx.x; j < (count); j += blockDim.x)
#define BARRIER() __syncthreads()
#define BLOCK ((int)blockIdx.x)
#define SHARED(name) extern __shared__ float name[]
#endif

enum { NONE = 0, HEBBIAN = 1, SIMPLE = 2, RETROACTIVE = 3 };
enum { TANH = 0, SIGMOID = 1, IDENTITY = 2 };

struct Shape {
    int neurons, steps, episodes, modulators;
    int rule, squash;
    // Steps between two checkpoints of the backward sweep.
    int interval;
    // Whether the traces (forwards) or their gradients (backwards) lie in shared memory; else in scratch.
    int in_shared;
    // The hard clip's limit.
    float limit;
};

// The parameters of one seed, and the gradient of one lifetime, in one array each. Coarse alpha and eta are spread to
// one per connection by the caller; a fan-out that is not learned is 1 and its bias 0.
struct Parts {
    long weight, alpha, eta, modulator, bias, fan_out, base, count;
};

DEVICE Parts parts(const Shape &s) {
    long matrix = (long)s.neurons * s.neurons, fan = (long)s.modulators * s.neurons;
    Parts p;
    p.weight = 0;
    p.alpha = matrix;
    p.eta = 2 * matrix;
    p.modulator = 3 * matrix;
    p.bias = p.modulator + fan;
    p.fan_out = p.bias + s.modulators;
    p.base = p.fan_out + fan;
    p.count = p.base + s.neurons;
    return p;
}

DEVICE int stride(const Shape &s) { return s.neurons | 1; }
DEVICE long matrix(const Shape &s) { return (long)s.neurons * stride(s); }
DEVICE int traces(const Shape &s) { return s.rule == NONE ? 0 : s.rule == RETROACTIVE ? 2 : 1; }

DEVICE float squashed(int kind, float x) {
    return kind == TANH ? tanhf(x) : kind == SIGMOID ? 0.5f + 0.5f * tanhf(0.5f * x) : x;
}

DEVICE float slope(int kind, float m) { return kind == TANH ? 1 - m * m : kind == SIGMOID ? m * (1 - m) : 1; }

// What one step writes into the column of thread j.
DEVICE void write_traces(const Shape &s, const float *eta, float *h, float *e, const float *pre, float post, float rate, int j) {
    int n = s.neurons, row = stride(s);
    for (int i = 0; i < n; ++i) {
        float rated = s.rule == HEBBIAN ? eta[i * n + j] : rate, old = h[i * row + j];
        if (s.rule == RETROACTIVE) {
            float trace = e[i * row + j], decay = eta[i * n + j];
            old += rated * trace;
            e[i * row + j] = (1 - decay) * trace + decay * post * pre[i];
        } else {
            old += rated * post * pre[i];
        }
        h[i * row + j] = fminf(fmaxf(old, -s.limit), s.limit);
    }
}

// hidden [T][B][N] and modulator [T][B][K] from drive [T][B][N]. Shared: 3 N + K, and the traces with in_shared.
KERNEL plastic_forward(Shape s, const float *parameters, const float *drive, float *hidden, float *modulator, float *scratch,
                       int lifetimes) {
    SHARED(shared);
    int n = s.neurons, row = stride(s), block = BLOCK;
    Parts at = parts(s);
    const float *p = parameters + block / s.episodes * at.count;
    float *before = shared, *now = before + n, *rate = now + n, *m = rate + n;
    float *h = s.in_shared ? m + s.modulators : scratch + block * traces(s) * matrix(s), *e = h + matrix(s);
    PHASE(j, n) {
        before[j] = 0;
        for (int i = 0; i < traces(s) * n; ++i) h[i * row + j] = 0;
    }
    BARRIER();
    for (int t = 0; t < s.steps; ++t) {
        long here = (long)t * lifetimes + block;
        PHASE(j, n) {
            float sum = drive[here * n + j];
            for (int i = 0; i < n; ++i) {
                float strength = p[at.weight + i * n + j];
                if (s.rule != NONE) strength += p[at.alpha + i * n + j] * h[i * row + j];
                sum += strength * before[i];
            }
            now[j] = hidden[here * n + j] = tanhf(sum);
        }
        BARRIER();
        PHASE(k, s.modulators) {
            float sum = p[at.bias + k];
            for (int i = 0; i < n; ++i) sum += p[at.modulator + k * n + i] * now[i];
            m[k] = modulator[here * s.modulators + k] = squashed(s.squash, sum);
        }
        BARRIER();
        PHASE(j, n) {
            rate[j] = p[at.base + j];
            for (int k = 0; k < s.modulators; ++k) rate[j] += p[at.fan_out + k * n + j] * m[k];
            if (s.rule != NONE) write_traces(s, p + at.eta, h, e, before, now[j], rate[j], j);
        }
        BARRIER();
        PHASE(j, n) before[j] = now[j];
        BARRIER();
    }
}

// What the traces were before step t + 1, from what they were before step t.
DEVICE void replay(const Shape &s, const float *p, const Parts &at, const float *post, const float *pre, const float *m,
                   const float *from, float *to, int j) {
    int n = s.neurons, row = stride(s);
    for (int i = 0; i < traces(s) * n; ++i) to[i * row + j] = from ? from[i * row + j] : 0;
    if (!post) return;
    float rate = p[at.base + j];
    for (int k = 0; k < s.modulators; ++k) rate += p[at.fan_out + k * n + j] * m[k];
    write_traces(s, p + at.eta, to, to + matrix(s), pre, post[j], rate, j);
}

// Gradients of one lifetime's loss: gradient [B][parts], by_drive [T][B][N], from by_hidden = dL/dh [T][B][N].
// zeros: N zeros, h before the first step. Shared: 6 N + K, and the gradients of the traces with in_shared.
// Scratch of a lifetime: traces (ceil(T / interval) + interval + 1) matrices, and the traces' gradients without in_shared.
KERNEL plastic_backward(Shape s, const float *parameters, const float *hidden, const float *modulator, const float *by_hidden,
                        const float *zeros, float *by_drive, float *gradient, float *scratch, int lifetimes) {
    SHARED(shared);
    int n = s.neurons, row = stride(s), kinds = traces(s), block = BLOCK;
    int checkpoints = (s.steps + s.interval - 1) / s.interval;
    Parts at = parts(s);
    long state = kinds * matrix(s);
    const float *p = parameters + block / s.episodes * at.count;
    float *d = gradient + block * at.count;
    float *by_h = shared, *by_before = by_h + n, *by_sum = by_before + n, *by_rate = by_sum + n, *rate = by_rate + n, *gain = rate + n,
          *by_m = gain + n;
    float *own = scratch + block * state * (checkpoints + s.interval + 1 + (s.in_shared ? 0 : 1));
    float *segment = own + state * checkpoints;
    float *gh = s.in_shared ? by_m + s.modulators : segment + state * (s.interval + 1), *ge = gh + matrix(s);
#define H_OF(t) ((t) < 0 ? zeros : hidden + ((long)(t) * lifetimes + block) * n)
#define M_OF(t) (modulator + ((long)(t) * lifetimes + block) * s.modulators)
    PHASE(j, n) {
        by_before[j] = 0;
        for (int i = 0; i < kinds * n; ++i) gh[i * row + j] = 0;
    }
    PHASE(index, at.count) d[index] = 0;
    // The checkpoints: the state before each interval, walked to in the segment's first two slots. A thread's column
    // depends on no other thread's.
    if (s.rule != NONE) {
        PHASE(j, n) {
            replay(s, p, at, 0, 0, 0, 0, own, j);
            for (int t = 0; t + 1 < s.steps; ++t) {
                const float *from = t % s.interval ? segment + t % 2 * state : own + t / s.interval * state;
                float *to = (t + 1) % s.interval ? segment + (t + 1) % 2 * state : own + (t + 1) / s.interval * state;
                replay(s, p, at, H_OF(t), H_OF(t - 1), M_OF(t), from, to, j);
            }
        }
    }
    BARRIER();
    for (int t = s.steps - 1; t >= 0; --t) {
        int slot = t % s.interval, start = t - slot;
        const float *post = H_OF(t), *pre = H_OF(t - 1);
        long here = (long)t * lifetimes + block;
        if (s.rule != NONE && (t == s.steps - 1 || slot == s.interval - 1)) {
            PHASE(j, n) {
                replay(s, p, at, 0, 0, 0, own + start / s.interval * state, segment, j);
                for (int u = start; u <= t; ++u)
                    replay(s, p, at, H_OF(u), H_OF(u - 1), M_OF(u), segment + (u - start) * state, segment + (u - start + 1) * state, j);
            }
            BARRIER();
        }
        const float *h = segment + slot * state, *e = h + matrix(s), *after = h + state;
        // Back through the write of step t: thread j has the connections into neuron j.
        PHASE(j, n) {
            float to_rate = 0, to_post = 0;
            rate[j] = p[at.base + j];
            for (int k = 0; k < s.modulators; ++k) rate[j] += p[at.fan_out + k * n + j] * M_OF(t)[k];
            for (int i = 0; s.rule != NONE && i < n; ++i) {
                int cell = i * row + j, flat = i * n + j;
                float eta = p[at.eta + flat], g = fabsf(after[cell]) < s.limit ? gh[cell] : 0;
                gh[cell] = g;
                if (s.rule == RETROACTIVE) {
                    to_rate += g * e[cell];
                    to_post += ge[cell] * eta * pre[i];
                    d[at.eta + flat] += ge[cell] * (post[j] * pre[i] - e[cell]);
                } else if (s.rule == HEBBIAN) {
                    to_post += g * eta * pre[i];
                    d[at.eta + flat] += g * post[j] * pre[i];
                } else {
                    to_rate += g * post[j] * pre[i];
                    to_post += g * rate[j] * pre[i];
                }
            }
            by_rate[j] = to_rate;
            by_h[j] = by_hidden[here * n + j] + by_before[j] + to_post;
        }
        BARRIER();
        // The same connections by where they come from: thread i has those out of neuron i.
        PHASE(i, n) {
            float sum = 0;
            for (int j = 0; s.rule != NONE && j < n; ++j) {
                float eta = p[at.eta + i * n + j], g = s.rule == RETROACTIVE ? ge[i * row + j] : gh[i * row + j];
                sum += g * (s.rule == SIMPLE ? rate[j] : eta) * post[j];
            }
            gain[i] = sum;
        }
        PHASE(k, s.modulators) {
            float sum = 0;
            for (int j = 0; j < n; ++j) {
                sum += by_rate[j] * p[at.fan_out + k * n + j];
                d[at.fan_out + k * n + j] += by_rate[j] * M_OF(t)[k];
            }
            by_m[k] = sum * slope(s.squash, M_OF(t)[k]);
            d[at.bias + k] += by_m[k];
        }
        BARRIER();
        // Back through the step itself.
        PHASE(j, n) {
            float total = by_h[j];
            d[at.base + j] += by_rate[j];
            for (int k = 0; k < s.modulators; ++k) {
                total += by_m[k] * p[at.modulator + k * n + j];
                d[at.modulator + k * n + j] += by_m[k] * post[j];
            }
            float back = total * (1 - post[j] * post[j]);
            by_sum[j] = by_drive[here * n + j] = back;
            for (int i = 0; i < n; ++i) {
                int cell = i * row + j, flat = i * n + j;
                d[at.weight + flat] += back * pre[i];
                if (s.rule == NONE) continue;
                d[at.alpha + flat] += back * h[cell] * pre[i];
                if (s.rule == RETROACTIVE) ge[cell] = (1 - p[at.eta + flat]) * ge[cell] + rate[j] * gh[cell];
                gh[cell] += back * p[at.alpha + flat] * pre[i];
            }
        }
        BARRIER();
        PHASE(i, n) {
            float sum = gain[i];
            for (int j = 0; j < n; ++j) {
                float strength = p[at.weight + i * n + j];
                if (s.rule != NONE) strength += p[at.alpha + i * n + j] * h[i * row + j];
                sum += by_sum[j] * strength;
            }
            by_before[i] = sum;
        }
        BARRIER();
    }
}
