// The CUDA kernels as host code: KERNELS is their file.
#define HOST_SHIM
#include KERNELS
#include <cstdio>
#include <cstdlib>
#include <pthread.h>
#include <thread>
#include <vector>

static thread_local pthread_barrier_t *host_meeting;

static void host_barrier() {
    if (host_meeting) pthread_barrier_wait(host_meeting);
}

// Numbers behind shared memory that nobody may touch.
enum { GUARD = 16 };

// Runs a kernel: its blocks one after another, each by so many real threads, with so many shared numbers of rubbish.
template <typename Kernel> static void launch(int blocks, int threads, size_t shared, Kernel kernel) {
    const float rubbish = -1e30f;
    std::vector<float> memory(shared + GUARD, rubbish);
    pthread_barrier_t meeting;
    pthread_barrier_init(&meeting, nullptr, threads);
    auto work = [&](int thread) {
        host_thread = thread;
        host_threads = threads;
        host_shared = memory.data();
        host_meeting = threads > 1 ? &meeting : nullptr;
        for (host_block = 0; host_block < blocks; ++host_block) {
            kernel();
            host_barrier();
        }
    };
    std::vector<std::thread> others;
    for (int thread = 1; thread < threads; ++thread) others.emplace_back(work, thread);
    work(0);
    for (std::thread &other : others) other.join();
    pthread_barrier_destroy(&meeting);
    for (int i = 0; i < GUARD; ++i) {
        if (memory[shared + i] == rubbish) continue;
        fprintf(stderr, "a kernel writes behind its shared memory\n");
        abort();
    }
}
