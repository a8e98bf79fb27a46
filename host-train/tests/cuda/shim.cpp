// Runs the CUDA kernels as host code, one block after the other: reads a case from argv[1], writes results to argv[2].
#define HOST_SHIM
#include KERNELS
#include <cstdio>
#include <vector>

static std::vector<float> numbers(FILE *file, size_t count) {
    std::vector<float> values(count);
    if (fread(values.data(), sizeof(float), count, file) != count) throw "the case is cut short";
    return values;
}

static void put(FILE *file, const std::vector<float> &values) { fwrite(values.data(), sizeof(float), values.size(), file); }

int main(int, char **argv) {
    FILE *in = fopen(argv[1], "rb"), *out = fopen(argv[2], "wb");
    Shape s;
    if (!in || !out || fread(&s, sizeof s, 1, in) != 1) return 1;
    int lifetimes = s.episodes;
    size_t count = parts(s).count, vectors = (size_t)s.steps * lifetimes * s.neurons;
    std::vector<float> parameters = numbers(in, count), drive = numbers(in, vectors), by_hidden = numbers(in, vectors);
    std::vector<float> hidden(vectors), modulator((size_t)s.steps * lifetimes * s.modulators);
    std::vector<float> zeros(s.neurons), by_drive(vectors), gradient(count * lifetimes);
    // Rubbish where the kernels have to initialise.
    std::vector<float> shared(6 * s.neurons + s.modulators + 2 * matrix(s), NAN);
    int checkpoints = (s.steps + s.interval - 1) / s.interval;
    std::vector<float> scratch(lifetimes * traces(s) * matrix(s) * (checkpoints + s.interval + 2), NAN);
    host_shared = shared.data();
    for (host_block = 0; host_block < lifetimes; ++host_block)
        plastic_forward(s, parameters.data(), drive.data(), hidden.data(), modulator.data(), scratch.data(), lifetimes);
    for (host_block = 0; host_block < lifetimes; ++host_block)
        plastic_backward(s, parameters.data(), hidden.data(), modulator.data(), by_hidden.data(), zeros.data(), by_drive.data(),
                         gradient.data(), scratch.data(), lifetimes);
    put(out, hidden);
    put(out, modulator);
    put(out, by_drive);
    put(out, gradient);
    return fclose(out) ? 1 : 0;
}
