// Meta-training on a GPU: whole lifetimes in one launch (`live`: task, network and sampling), their gradients in another
// (`learn`), and the gradients' sum (`total`).
//
// One block is one lifetime; thread j is neuron j. A kernel is a sequence of phases: loops over the neurons with a
// barrier between them, in which no thread reads what another one writes. So the same text is right as host code
// (HOST_SHIM), with one thread per block or with several; the tests compile it so.
//
// Matrices are transposed, [pre][post], so that neighbouring threads read neighbouring numbers, and the rows of those
// in shared memory are of odd length, so that reading them across is free of bank conflicts too.
// No sum depends on the order in which threads run: results have the same bits every time.

#ifdef HOST_SHIM
#include <math.h>
#define KERNEL extern "C" void
#define AT_MOST(threads)
#define DEVICE static inline
static thread_local int host_block, host_thread, host_threads;
static thread_local float *host_shared;
static void host_barrier();
#define BLOCK host_block
#define THREAD host_thread
#define THREADS host_threads
#define BARRIER() host_barrier()
#define SHARED(name) float *name = host_shared
#else
#define KERNEL extern "C" __global__ void
#define AT_MOST(threads) __launch_bounds__(threads)
#define DEVICE static __device__ __forceinline__
#define BLOCK ((int)blockIdx.x)
#define THREAD ((int)threadIdx.x)
#define THREADS ((int)blockDim.x)
#define BARRIER() __syncthreads()
#define SHARED(name) extern __shared__ float name[]
#endif
// An array that no other pointer leads to, so that reads need not wait for writes elsewhere.
#define ALONE __restrict__
#define PHASE(j, count) for (int j = THREAD; j < (count); j += THREADS)
// The last thread, which no neuron has where the launch leaves room for it.
#define ONCE if (THREAD == THREADS - 1)

enum { NONE = 0, HEBBIAN = 1, SIMPLE = 2, RETROACTIVE = 3 };
enum { TANH = 0, SIGMOID = 1, IDENTITY = 2 };

struct Shape {
    int neurons, steps, lifetimes, modulators, inputs, actions;
    int rule, squash;
    // Steps between two checkpoints of the backward sweep.
    int interval;
    // Whether the traces (forwards) or their gradients (backwards) lie in shared memory; else in scratch.
    int in_shared;
    // The hard clip's limit.
    float limit;
};

// The parameters, and the gradient of one lifetime, in one array each. Coarse alpha and eta are spread to one per
// connection by the caller; a fan-out that is not learned is 1 and its bias 0. Readouts: modulators, policy, value.
struct Parts {
    long weight, alpha, eta, readout, readout_bias, fan_out, base, input, input_bias, count;
};

DEVICE int heads(const Shape &s) { return s.actions + 1; }
DEVICE int readouts(const Shape &s) { return s.modulators + heads(s); }

DEVICE Parts parts(const Shape &s) {
    long matrix = (long)s.neurons * s.neurons;
    Parts p;
    p.weight = 0;
    p.alpha = matrix;
    p.eta = 2 * matrix;
    p.readout = 3 * matrix;
    p.readout_bias = p.readout + (long)readouts(s) * s.neurons;
    p.fan_out = p.readout_bias + readouts(s);
    p.base = p.fan_out + (long)s.modulators * s.neurons;
    p.input = p.base + s.neurons;
    p.input_bias = p.input + (long)s.inputs * s.neurons;
    p.count = p.input_bias + s.neurons;
    return p;
}

// ---- Random numbers: Threefry-2x32-20, as the core's `rng` ----

struct Pair {
    unsigned a, b;
};

DEVICE Pair threefry(Pair key, Pair counter) {
    const unsigned rotations[8] = {13, 15, 26, 6, 17, 29, 16, 24};
    const unsigned schedule[3] = {key.a, key.b, 0x1bd11bdau ^ key.a ^ key.b};
    Pair x = {counter.a + key.a, counter.b + key.b};
#pragma unroll
    for (unsigned round = 0; round < 20; ++round) {
        unsigned by = rotations[round % 8], injection = round / 4 + 1;
        x.a += x.b;
        x.b = (x.b << by | x.b >> (32 - by)) ^ x.a;
        if (round % 4 == 3) {
            x.a += schedule[injection % 3];
            x.b += schedule[(injection + 1) % 3] + injection;
        }
    }
    return x;
}

DEVICE unsigned draw(Pair key, unsigned step, unsigned index) {
    Pair two = threefry(key, Pair{step, index >> 1});
    return index & 1 ? two.b : two.a;
}

DEVICE unsigned below(Pair key, unsigned step, unsigned index, unsigned n) {
    return (unsigned)((unsigned long long)draw(key, step, index) * n >> 32);
}

DEVICE float fraction(unsigned bits) { return (float)(bits >> 8) * (1.0f / 16777216.0f); }

// ---- Tasks: the core's `task::cue` and `task::maze`, bit for bit ----

enum { CUE = 0, MAZE = 1 };
enum { CODE = 0, PAPER = 1 };
enum { TRAIN_TASK = 3, TRAIN_ACTION = 4 };
enum { BLANK = -1, GO = -2 };

struct World {
    // The run's seed, and the number of the first lifetime.
    unsigned seed_low, seed_high, first;
    int task, variant, time_input;
    // Cue
    int cues, bits, shortest_trial, longest_trial, fixed;
    float flip;
    // Maze
    unsigned size;
    int random_start, goal_moves_every;
    float reward, wall_penalty;
};

// Counted from the upper left corner of the maze; unsigned, so that outside is a wall on all sides.
struct Square {
    unsigned row, column;
};

// A task between two steps.
struct State {
    Pair key;
    int step, previous_action;
    float previous_reward;
    // Cue: the patterns, and a trial's symbols (the number of a cue, BLANK or GO).
    unsigned cues[16];
    signed char trial[16];
    int length, position, target, target_shown;
    // Maze
    Square place, goal;
};

struct Outcome {
    float reward;
    // 1 or 0 where a trial ended; else -1.
    int trial;
};

DEVICE bool same(Square a, Square b) { return a.row == b.row && a.column == b.column; }

DEVICE void draw_cues(const World &w, State &state) {
    unsigned ones = ~0u >> (32 - w.bits), index = 128;
    for (int count = 0; count < w.cues;) {
        unsigned bits = w.fixed ? 1u << count : draw(state.key, 0, index) & ones;
        bool taken = w.variant == PAPER && (bits == 0 || bits == ones);
        for (int i = 0; i < count; ++i) taken = taken || state.cues[i] == bits;
        if (w.fixed || !taken) state.cues[count++] = bits;
        ++index;
    }
}

// The number of a cue that is not the target, from its rank among those.
DEVICE int other_cue(const State &state, int rank) { return rank + (rank >= state.target); }

// Blank, two different cues and blanks in random order, Go, blank.
DEVICE void begin_trial(const World &w, State &state) {
    enum { LENGTH = 0, FIRST = 1, SECOND = 2, SHOWN = 4, SHUFFLE = 8 };
    Pair key = state.key;
    int step = state.step, others = w.cues - 1;
    int first = below(key, step, FIRST, others), second = BLANK;
    state.length = w.shortest_trial + below(key, step, LENGTH, w.longest_trial - w.shortest_trial + 1);
    state.target_shown = below(key, step, SHOWN, 2);
    if (state.target_shown && others > 1) second = other_cue(state, first);
    if (!state.target_shown && others > 1) {
        int rank = below(key, step, SECOND, others - 1);
        second = other_cue(state, rank + (rank >= first));
    }
    state.position = 0;
    for (int i = 0; i < state.length; ++i) state.trial[i] = BLANK;
    signed char *middle = state.trial + 1;
    middle[0] = state.target_shown ? state.target : other_cue(state, first);
    middle[1] = second;
    for (int last = state.length - 4; last > 0; --last) {
        int other = below(key, step, SHUFFLE + last, last + 1);
        signed char symbol = middle[last];
        middle[last] = middle[other];
        middle[other] = symbol;
    }
    state.trial[state.length - 2] = GO;
}

DEVICE void observe_cue(const World &w, const State &state, float time, float *x) {
    bool code = w.variant == CODE;
    int symbol = state.trial[state.position];
    for (int i = 0; i < w.bits; ++i) {
        float off = code && !w.fixed ? -1 : 0;
        *x++ = symbol >= 0 ? (state.cues[symbol] >> i & 1 ? 1 : off) : symbol == GO && !code;
    }
    if (code) {
        *x++ = symbol == GO;
        *x++ = 1;
    }
    *x++ = time;
    if (code) {
        *x++ = state.previous_reward;
        *x++ = 0;
    }
    *x++ = state.previous_action == 0;
    *x++ = state.previous_action == 1;
    if (!code) *x = state.previous_reward;
}

DEVICE Outcome act_cue(const World &w, State &state, int action) {
    enum { FLIP = 3 };
    Outcome outcome = {0, -1};
    if (state.trial[state.position] == GO) {
        bool correct = (action == 1) == state.target_shown;
        bool flipped = fraction(draw(state.key, state.step, FLIP)) < w.flip;
        outcome.reward = correct != flipped ? 1 : -1;
        outcome.trial = correct;
    }
    return outcome;
}

DEVICE bool is_wall(const World &w, Square square) {
    unsigned middle = w.size / 2, last = w.size - 1;
    bool centre = same(square, Square{middle, middle});
    bool inside = square.row >= 1 && square.row < last && square.column >= 1 && square.column < last;
    return !inside || (square.row % 2 == 0 && square.column % 2 == 0 && !centre);
}

// A free square that is neither of these two, each equally likely.
DEVICE Square draw_square(const World &w, const State &state, unsigned index, Square a, Square b) {
    unsigned count = 0, rank = 0;
    for (int pass = 0; pass < 2; ++pass) {
        for (unsigned row = 0; row < w.size; ++row) {
            for (unsigned column = 0; column < w.size; ++column) {
                Square square = {row, column};
                if (is_wall(w, square) || same(square, a) || same(square, b)) continue;
                if (pass == 0) ++count;
                if (pass == 1 && rank-- == 0) return square;
            }
        }
        rank = below(state.key, state.step, index, count);
    }
    return Square{w.size / 2, w.size / 2};
}

DEVICE void reset_maze(const World &w, State &state) {
    enum { GOAL = 0, START = 1 };
    Square centre = {w.size / 2, w.size / 2}, nowhere = {~0u, ~0u};
    state.goal = draw_square(w, state, GOAL, w.random_start ? nowhere : centre, nowhere);
    state.place = w.random_start ? draw_square(w, state, START, state.goal, nowhere) : centre;
}

DEVICE void observe_maze(const World &w, const State &state, float time, float *x) {
    for (unsigned row = 0; row < 3; ++row)
        for (unsigned column = 0; column < 3; ++column)
            *x++ = is_wall(w, Square{state.place.row + row - 1, state.place.column + column - 1});
    if (w.variant == CODE) {
        *x++ = 0;
        *x++ = 1;
        *x++ = time;
        *x++ = state.previous_reward;
    }
    for (int action = 0; action < 4; ++action) *x++ = state.previous_action == action;
    if (w.variant == PAPER) *x = state.previous_reward;
}

DEVICE Outcome act_maze(const World &w, State &state, int action) {
    enum { TELEPORT = 2, MOVE = 3 };
    Outcome outcome = {0, -1};
    Square nowhere = {~0u, ~0u}, there = state.place;
    there.row += (action == 1) - (action == 0);
    there.column += (action == 3) - (action == 2);
    if (is_wall(w, there)) {
        outcome.reward -= w.wall_penalty;
    } else {
        state.place = there;
    }
    if (same(state.place, state.goal)) {
        outcome.reward = w.reward;
        outcome.trial = 1;
        state.place = draw_square(w, state, TELEPORT, state.goal, nowhere);
    }
    if (w.goal_moves_every > 0 && (state.step + 1) % w.goal_moves_every == 0)
        state.goal = draw_square(w, state, MOVE, state.goal, state.place);
    return outcome;
}

DEVICE void reset(const World &w, State &state, Pair key) {
    enum { TARGET = 64 };
    state.key = key;
    state.step = 0;
    state.previous_action = w.task == MAZE && w.variant == CODE ? 0 : -1;
    state.previous_reward = 0;
    if (w.task == MAZE) return reset_maze(w, state);
    draw_cues(w, state);
    state.target = below(key, 0, TARGET, w.cues);
    begin_trial(w, state);
}

DEVICE void observe(const World &w, const State &state, int steps, float *x) {
    float time = w.time_input ? (float)state.step / (float)steps : 0;
    if (w.task == MAZE) observe_maze(w, state, time, x);
    else observe_cue(w, state, time, x);
}

DEVICE Outcome act(const World &w, State &state, int action) {
    Outcome outcome = w.task == MAZE ? act_maze(w, state, action) : act_cue(w, state, action);
    state.previous_action = action;
    state.previous_reward = outcome.reward;
    ++state.step;
    if (w.task == CUE && ++state.position >= state.length) begin_trial(w, state);
    return outcome;
}

// One draw against the softmax, as the core's `policy::sample_f32`.
DEVICE int sample(const float *logits, int actions, unsigned bits) {
    float largest = logits[0], total = 0, sum = 0;
    for (int a = 1; a < actions; ++a) largest = fmaxf(largest, logits[a]);
    for (int a = 0; a < actions; ++a) total += expf(logits[a] - largest);
    float threshold = fraction(bits) * total;
    for (int a = 0; a < actions; ++a) {
        sum += expf(logits[a] - largest);
        if (threshold < sum) return a;
    }
    return actions - 1;
}

// ---- The network ----

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

// With what neuron j writes: M_j, or the rule's constant.
DEVICE float rate_of(const Shape &s, const float *p, const Parts &at, const float *m, int j) {
    float rate = p[at.base + j];
    for (int k = 0; k < s.modulators; ++k) rate += p[at.fan_out + k * s.neurons + j] * m[k];
    return rate;
}

// Whole lifetimes: inputs [T][B][I], hidden [T][B][N], modulator [T][B][K], head [T][B][A + 1] (logits and value),
// action, reward and trial (see Outcome) [T][B].
// Shared: 3 N + I + readouts, and the traces with in_shared; else they lie in scratch.
KERNEL live(Shape s, World w, const float *ALONE p, float *ALONE inputs, float *ALONE hidden, float *ALONE modulator, float *ALONE head,
            int *ALONE action, float *ALONE reward, int *ALONE trial, float *ALONE scratch) {
    SHARED(shared);
    int n = s.neurons, row = stride(s), block = BLOCK;
    Parts at = parts(s);
    float *before = shared, *now = before + n, *rate = now + n, *x = rate + n, *m = x + s.inputs, *y = m + s.modulators;
    float *h = s.in_shared ? y + heads(s) : scratch + block * traces(s) * matrix(s), *e = h + matrix(s);
    State state;
    Pair chance;
    PHASE(j, n) {
        before[j] = 0;
        for (int i = 0; i < traces(s) * n; ++i) h[i * row + j] = 0;
    }
    ONCE {
        Pair seed = {w.seed_low, w.seed_high};
        chance = threefry(seed, Pair{TRAIN_ACTION, w.first + block});
        reset(w, state, threefry(seed, Pair{TRAIN_TASK, w.first + block}));
        observe(w, state, s.steps, x);
    }
    BARRIER();
    for (int t = 0; t < s.steps; ++t) {
        long here = (long)t * s.lifetimes + block;
        PHASE(j, n) {
            float sum = p[at.input_bias + j];
            for (int i = 0; i < s.inputs; ++i) sum += p[at.input + i * n + j] * x[i];
            for (int i = 0; i < n; ++i) {
                float strength = p[at.weight + i * n + j];
                if (s.rule != NONE) strength += p[at.alpha + i * n + j] * h[i * row + j];
                sum += strength * before[i];
            }
            now[j] = hidden[here * n + j] = tanhf(sum);
        }
        PHASE(i, s.inputs) inputs[here * s.inputs + i] = x[i];
        BARRIER();
        PHASE(k, readouts(s)) {
            float sum = p[at.readout_bias + k];
            for (int i = 0; i < n; ++i) sum += p[at.readout + k * n + i] * now[i];
            if (k < s.modulators) {
                m[k] = modulator[here * s.modulators + k] = squashed(s.squash, sum);
            } else {
                m[k] = head[here * heads(s) + k - s.modulators] = sum;
            }
        }
        BARRIER();
        PHASE(j, n) {
            rate[j] = rate_of(s, p, at, m, j);
            if (s.rule != NONE) write_traces(s, p + at.eta, h, e, before, now[j], rate[j], j);
        }
        ONCE {
            action[here] = sample(y, s.actions, draw(chance, t, 0));
            Outcome outcome = act(w, state, action[here]);
            reward[here] = outcome.reward;
            trial[here] = outcome.trial;
            observe(w, state, s.steps, x);
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
    write_traces(s, p + at.eta, to, to + matrix(s), pre, post[j], rate_of(s, p, at, m, j), j);
}

// Gradients of single lifetimes' shares of the loss: gradient [B][parts], from by_head = dL/dhead [T][B][A + 1].
// zeros: N zeros, h before the first step. Shared: 6 N + readouts, and the gradients of the traces with in_shared.
// Scratch of a lifetime: traces (ceil(T / interval) + interval + 1) matrices, and the traces' gradients without in_shared.
// The bound leaves a thread 96 registers, which is enough, and a multiprocessor four blocks of 100 neurons.
KERNEL AT_MOST(640) learn(Shape s, const float *ALONE p, const float *ALONE inputs, const float *ALONE hidden, const float *ALONE modulator,
             const float *ALONE by_head, const float *ALONE zeros, float *ALONE gradient, float *ALONE scratch) {
    SHARED(shared);
    int n = s.neurons, row = stride(s), kinds = traces(s), block = BLOCK;
    int checkpoints = (s.steps + s.interval - 1) / s.interval;
    Parts at = parts(s);
    long state = kinds * matrix(s);
    float *d = gradient + block * at.count;
    float *by_h = shared, *by_before = by_h + n, *by_sum = by_before + n, *by_rate = by_sum + n, *rate = by_rate + n, *gain = rate + n,
          *by_readout = gain + n;
    float *own = scratch + block * state * (checkpoints + s.interval + 1 + (s.in_shared ? 0 : 1));
    float *segment = own + state * checkpoints;
    float *gh = s.in_shared ? by_readout + readouts(s) : segment + state * (s.interval + 1), *ge = gh + matrix(s);
#define H_OF(t) ((t) < 0 ? zeros : hidden + ((long)(t) * s.lifetimes + block) * n)
#define M_OF(t) (modulator + ((long)(t) * s.lifetimes + block) * s.modulators)
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
        long here = (long)t * s.lifetimes + block;
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
            rate[j] = rate_of(s, p, at, M_OF(t), j);
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
            by_h[j] = by_before[j] + to_post;
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
        PHASE(k, readouts(s)) {
            float sum = 0;
            for (int j = 0; k < s.modulators && j < n; ++j) sum += by_rate[j] * p[at.fan_out + k * n + j];
            by_readout[k] = k < s.modulators ? sum * slope(s.squash, M_OF(t)[k]) : by_head[here * heads(s) + k - s.modulators];
            d[at.readout_bias + k] += by_readout[k];
        }
        BARRIER();
        // Back through the step itself.
        PHASE(j, n) {
            float total = by_h[j];
            d[at.base + j] += by_rate[j];
            for (int k = 0; k < s.modulators; ++k) d[at.fan_out + k * n + j] += by_rate[j] * M_OF(t)[k];
            for (int k = 0; k < readouts(s); ++k) {
                total += by_readout[k] * p[at.readout + k * n + j];
                d[at.readout + k * n + j] += by_readout[k] * post[j];
            }
            float back = by_sum[j] = total * (1 - post[j] * post[j]);
            d[at.input_bias + j] += back;
            for (int i = 0; i < s.inputs; ++i) d[at.input + i * n + j] += back * inputs[here * s.inputs + i];
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

enum { WIDTH = 256 };

// sum [parts] of gradient [B][parts], in the order of the lifetimes. A block has WIDTH of the parts.
KERNEL total(Shape s, const float *gradient, float *sum) {
    long count = parts(s).count;
    PHASE(j, WIDTH) {
        long index = (long)BLOCK * WIDTH + j;
        if (index >= count) continue;
        float all = 0;
        for (int lifetime = 0; lifetime < s.lifetimes; ++lifetime) all += gradient[lifetime * count + index];
        sum[index] = all;
    }
}
