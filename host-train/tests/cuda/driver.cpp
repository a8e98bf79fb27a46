// A CUDA driver and run-time compiler for machines without a GPU: what this project asks of them, with the kernels as host code.
// It checks what a real one would punish: sizes of blocks and copies, memory that is not there, writing beside one's own.
#include "host.h"
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>

typedef int Result;
typedef uint64_t Pointer;
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101 };
enum Kernel { LIVE = 1, LEARN, TOTAL };

static void require(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "driver of the tests: %s\n", what);
    abort();
}

static size_t setting(const char *name, size_t otherwise) {
    const char *text = getenv(name);
    return text ? strtoul(text, nullptr, 10) : otherwise;
}

static size_t shared_limit() { return setting("TEST_DRIVER_SHARED", 227 * 1024); }

// ---- Memory, with margins that nobody may touch ----

enum { MARGIN = 64, MARK = 0xa5 };
static std::mutex memory_lock;
static std::map<Pointer, size_t> memory;

static void check_margins() {
    std::lock_guard<std::mutex> guard(memory_lock);
    for (auto [at, size] : memory) {
        const unsigned char *bytes = (const unsigned char *)at;
        for (int i = 1; i <= MARGIN; ++i) require(bytes[-i] == MARK && bytes[size + i - 1] == MARK, "a kernel writes beside an array");
    }
}

static void require_inside(Pointer at, size_t size) {
    std::lock_guard<std::mutex> guard(memory_lock);
    auto found = memory.upper_bound(at);
    require(found != memory.begin() && (--found, at + size <= found->first + found->second), "a copy leaves its array");
}

extern "C" {
Result cuMemAllocAsync(Pointer *at, size_t size, void *) {
    if (size == 0) return INVALID_VALUE;
    if (size > setting("TEST_DRIVER_MEMORY", SIZE_MAX)) return OUT_OF_MEMORY;
    unsigned char *bytes = (unsigned char *)malloc(size + 2 * MARGIN);
    memset(bytes, MARK, size + 2 * MARGIN);
    *at = (Pointer)(bytes + MARGIN);
    std::lock_guard<std::mutex> guard(memory_lock);
    memory[*at] = size;
    return OK;
}

Result cuMemFreeAsync(Pointer at, void *) {
    std::lock_guard<std::mutex> guard(memory_lock);
    require(memory.erase(at) == 1, "memory is freed that is not there");
    free((unsigned char *)at - MARGIN);
    return OK;
}

Result cuMemsetD8Async(Pointer at, unsigned char value, size_t size, void *) {
    require_inside(at, size);
    memset((void *)at, value, size);
    return OK;
}

Result cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t size, void *) {
    require_inside(to, size);
    memcpy((void *)to, from, size);
    return OK;
}

Result cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t size, void *) {
    require_inside(from, size);
    memcpy(to, (const void *)from, size);
    return OK;
}

// ---- One device ----

Result cuInit(unsigned) { return OK; }
Result cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return ordinal == 0 ? OK : INVALID_DEVICE;
}
Result cuDeviceGetName(char *name, int size, int) {
    snprintf(name, size, "driver of the tests");
    return OK;
}
Result cuDeviceGetAttribute(int *value, int attribute, int) {
    enum { MAJOR = 75, MINOR = 76, SHARED_OPTIN = 97, MEMORY_POOLS = 115 };
    *value = attribute == MAJOR ? 9 : attribute == SHARED_OPTIN ? shared_limit() : attribute == MEMORY_POOLS ? 1 : 0;
    return OK;
}
Result cuDevicePrimaryCtxRetain(void **context, int) {
    *context = (void *)1;
    return OK;
}
Result cuDevicePrimaryCtxRelease_v2(int) { return OK; }
Result cuCtxGetCurrent(void **context) {
    *context = (void *)1;
    return OK;
}
Result cuCtxSetCurrent(void *) { return OK; }
Result cuCtxSynchronize() { return OK; }
Result cuStreamCreate(void **stream, unsigned) {
    *stream = (void *)1;
    return OK;
}
Result cuStreamDestroy_v2(void *) { return OK; }
Result cuStreamSynchronize(void *) { return OK; }
Result cuStreamWaitEvent(void *, void *, unsigned) { return OK; }
Result cuEventCreate(void **event, unsigned) {
    *event = (void *)1;
    return OK;
}
Result cuEventRecord(void *, void *) { return OK; }
Result cuEventSynchronize(void *) { return OK; }
Result cuEventDestroy_v2(void *) { return OK; }
Result cuGetErrorName(Result, const char **text) {
    *text = "ERROR";
    return OK;
}
Result cuGetErrorString(Result error, const char **text) {
    *text = error == OUT_OF_MEMORY ? "out of memory" : error == INVALID_DEVICE ? "no such device" : "invalid";
    return OK;
}

// ---- Kernels ----

Result cuModuleLoadData(void **module, const void *image) {
    require(strcmp((const char *)image, "PTX of the tests") == 0, "the module is not what the compiler made");
    *module = (void *)1;
    return OK;
}
Result cuModuleUnload(void *) { return OK; }
Result cuModuleGetFunction(void **function, void *, const char *name) {
    Kernel kernel = strcmp(name, "live") == 0 ? LIVE : strcmp(name, "learn") == 0 ? LEARN : TOTAL;
    require(kernel != TOTAL || strcmp(name, "total") == 0, "no such kernel");
    *function = (void *)(intptr_t)kernel;
    return OK;
}

static size_t shared_allowed[4] = {0, 48 * 1024, 48 * 1024, 48 * 1024};
// As registers limit them: `learn` is the greedy one.
static int threads_allowed(void *function) { return (intptr_t)function == LEARN ? 96 : 1024; }

Result cuFuncSetAttribute(void *function, int attribute, int value) {
    enum { MAX_DYNAMIC_SHARED = 8 };
    if (attribute == MAX_DYNAMIC_SHARED && (size_t)value <= shared_limit()) shared_allowed[(intptr_t)function] = value;
    return OK;
}
Result cuFuncGetAttribute(int *value, int, void *function) {
    *value = threads_allowed(function);
    return OK;
}

Result cuLaunchKernel(void *function, unsigned blocks, unsigned, unsigned, unsigned threads, unsigned, unsigned, unsigned shared, void *,
                      void **arguments, void **) {
    if (blocks == 0 || threads == 0 || threads > (unsigned)threads_allowed(function)) return INVALID_VALUE;
    if (shared > shared_allowed[(intptr_t)function]) return INVALID_VALUE;
    Shape s = *(Shape *)arguments[0];
    auto array = [&](int index) { return *(float **)arguments[index]; };
    auto whole = [&](int index) { return *(int **)arguments[index]; };
    launch(blocks, 1, shared / sizeof(float), [&] {
        switch ((intptr_t)function) {
        case LIVE:
            return live(s, *(World *)arguments[1], array(2), array(3), array(4), array(5), array(6), whole(7), array(8), whole(9), array(10));
        case LEARN: return learn(s, array(1), array(2), array(3), array(4), array(5), array(6), array(7), array(8));
        default: return total(s, array(1), array(2));
        }
    });
    check_margins();
    return OK;
}

// ---- The compiler ----

Result nvrtcCreateProgram(void **program, const char *source, const char *, int, const char *const *, const char *const *) {
    require(strstr(source, "KERNEL live(") != nullptr, "that is not the kernels' source");
    *program = (void *)1;
    return OK;
}
Result nvrtcCompileProgram(void *, int count, const char *const *options) {
    require(count == 1 && strcmp(options[0], "--gpu-architecture=compute_90") == 0, "other options than expected");
    return OK;
}
Result nvrtcGetPTXSize(void *, size_t *size) {
    *size = sizeof "PTX of the tests";
    return OK;
}
Result nvrtcGetPTX(void *, char *text) {
    strcpy(text, "PTX of the tests");
    return OK;
}
Result nvrtcDestroyProgram(void **) { return OK; }
}
