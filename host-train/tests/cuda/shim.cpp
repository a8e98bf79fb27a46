// A server that runs the CUDA kernels as host code: commands and numbers in by stdin, numbers out by stdout.
// argv[1]: threads of a block.
#include "host.h"

template <typename T> static void get(std::vector<T> &values) {
    if (fread(values.data(), sizeof(T), values.size(), stdin) != values.size()) exit(1);
}

template <typename T> static void put(const std::vector<T> &values) { fwrite(values.data(), sizeof(T), values.size(), stdout); }

int main(int, char **argv) {
    int threads = atoi(argv[1]);
    std::vector<Shape> shape(1);
    std::vector<World> world(1);
    std::vector<float> parameters, inputs, hidden, modulator, head, reward, gradient, sum, scratch;
    std::vector<int> action, trial;
    Shape &s = shape[0];
    for (int command; (command = getchar()) != EOF; fflush(stdout)) {
        size_t state = s.in_shared ? traces(s) * matrix(s) : 0;
        if (command == 'l') {
            get(shape);
            get(world);
            size_t rows = (size_t)s.steps * s.lifetimes, checkpoints = (s.steps + s.interval - 1) / s.interval;
            state = s.in_shared ? traces(s) * matrix(s) : 0;
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
            scratch.assign(s.lifetimes * traces(s) * matrix(s) * (checkpoints + s.interval + 2), NAN);
            launch(s.lifetimes, threads, 3 * s.neurons + s.inputs + readouts(s) + state, [&] {
                live(s, world[0], parameters.data(), inputs.data(), hidden.data(), modulator.data(), head.data(), action.data(),
                     reward.data(), trial.data(), scratch.data());
            });
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
            launch(s.lifetimes, threads, 6 * s.neurons + readouts(s) + state, [&] {
                learn(s, parameters.data(), inputs.data(), hidden.data(), modulator.data(), head.data(), zeros.data(), gradient.data(),
                      scratch.data());
            });
            launch((parts(s).count + WIDTH - 1) / WIDTH, threads, 0, [&] { total(s, gradient.data(), sum.data()); });
            put(sum);
        }
    }
}
