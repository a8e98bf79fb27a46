// Runs the CUDA kernels as host code, one block after the other. A server: commands and numbers in by stdin, numbers out by stdout.
#define HOST_SHIM
#include KERNELS
#include <cstdio>
#include <cstdlib>
#include <vector>

template <typename T> static void get(std::vector<T> &values) {
    if (fread(values.data(), sizeof(T), values.size(), stdin) != values.size()) exit(1);
}

template <typename T> static void put(const std::vector<T> &values) { fwrite(values.data(), sizeof(T), values.size(), stdout); }

int main() {
    std::vector<Shape> shape(1);
    std::vector<World> world(1);
    std::vector<float> parameters, inputs, hidden, modulator, head, reward, gradient, sum, shared, scratch;
    std::vector<int> action, trial;
    Shape &s = shape[0];
    for (int command; (command = getchar()) != EOF; fflush(stdout)) {
        if (command == 'l') {
            get(shape);
            get(world);
            size_t rows = (size_t)s.steps * s.lifetimes, checkpoints = (s.steps + s.interval - 1) / s.interval;
            parameters.resize(parts(s).count);
            get(parameters);
            // Rubbish where the kernels have to initialise or write.
            inputs.assign(rows * s.inputs, NAN);
            hidden.assign(rows * s.neurons, NAN);
            modulator.assign(rows * s.modulators, NAN);
            head.assign(rows * heads(s), NAN);
            reward.assign(rows, NAN);
            action.assign(rows, -9);
            trial.assign(rows, -9);
            gradient.assign(s.lifetimes * parts(s).count, NAN);
            sum.assign(parts(s).count, NAN);
            shared.assign(6 * s.neurons + s.inputs + readouts(s) + traces(s) * matrix(s), NAN);
            scratch.assign(s.lifetimes * traces(s) * matrix(s) * (checkpoints + s.interval + 2), NAN);
            host_shared = shared.data();
            for (host_block = 0; host_block < s.lifetimes; ++host_block)
                live(s, world[0], parameters.data(), inputs.data(), hidden.data(), modulator.data(), head.data(), action.data(),
                     reward.data(), trial.data(), scratch.data());
            put(head);
            put(action);
            put(reward);
            put(trial);
        } else if (command == 'r') {
            put(inputs);
            put(hidden);
            put(modulator);
        } else {
            std::vector<float> zeros(s.neurons);
            get(head);
            for (host_block = 0; host_block < s.lifetimes; ++host_block)
                learn(s, parameters.data(), inputs.data(), hidden.data(), modulator.data(), head.data(), zeros.data(), gradient.data(),
                      scratch.data());
            for (host_block = 0; (long)host_block * WIDTH < parts(s).count; ++host_block) total(s, gradient.data(), sum.data());
            put(sum);
        }
    }
}
