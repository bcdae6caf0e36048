// Runs a kernel: every block of the grid, every thread of a block.
#pragma once

#include <csignal>
#include <link.h>
#include <tuple>
#include <type_traits>
#include <utility>

#include "block.h"

// What the C library finds a variable of a thread with.
extern "C" void* __tls_get_addr(size_t place[2]);

namespace emulator {

enum Order : uint32_t { FORWARD, BACKWARD, RANDOM };

// As `Launch` in the Rust part has it.
struct Launch {
    uint32_t grid[3];
    uint32_t block[3];
    uint32_t shared_bytes;
    uint32_t order;
    uint64_t seed;
    // a letter for each argument: p pointer, f float, d double, u 32 bits, l 64 bits
    const char* kinds;
    void** arguments;
    char* report;
    size_t report_size;
};

// What memory holds that nobody wrote: not-a-number, and a number far outside of every buffer.
constexpr int POISON = 0xff;

// All shared memory that the kernels of this file declare: they are variables of a thread (see cuda.h), the only ones that
// this library has, so they stand together.
struct Shared {
    char* start = nullptr;
    size_t size = 0;
};

inline int find_shared(dl_phdr_info* library, size_t, void* found) {
    const auto here = reinterpret_cast<ElfW(Addr)>(&find_shared);
    bool ours = false;
    const ElfW(Phdr)* variables = nullptr;
    for (unsigned i = 0; i < library->dlpi_phnum; i++) {
        const ElfW(Phdr)& part = library->dlpi_phdr[i];
        const ElfW(Addr) start = library->dlpi_addr + part.p_vaddr;
        if (part.p_type == PT_LOAD && here >= start && here < start + part.p_memsz) ours = true;
        if (part.p_type == PT_TLS) variables = &part;
    }
    if (!ours || !variables) return ours;
    size_t place[2] = {library->dlpi_tls_modid, 0};
    *static_cast<Shared*>(found) = {static_cast<char*>(__tls_get_addr(place)), variables->p_memsz};
    return 1;
}

inline Shared shared;

inline uint64_t random_state;

inline uint64_t next_random() {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

inline void arrange(uint32_t order) {
    const unsigned n = block.threads;
    for (unsigned i = 0; i < n; i++) block.order[i] = order == BACKWARD ? n - 1 - i : i;
    if (order != RANDOM) return;
    for (unsigned i = n; i > 1; i--) std::swap(block.order[i - 1], block.order[next_random() % i]);
}

inline void (*body)();

inline void enter() {
    body();
    block.current->state = State::done;
    Context::change(block.current->context, block.scheduler);
}

inline void run_block(uint32_t order) {
    if (shared.start) memset(shared.start, POISON, shared.size);
    for (unsigned i = 0; i < block.threads; i++) {
        Thread& thread = block.thread[i];
        thread.context.begin(stack_of(i), enter);
        thread.index = {i % block.size.x, i / block.size.x % block.size.y, i / (block.size.x * block.size.y)};
        thread.number = i;
        thread.state = State::ready;
        thread.exchanges = 0;
    }
    do {
        arrange(order);
        for (unsigned i = 0; i < block.threads; i++) {
            Thread& thread = block.thread[block.order[i]];
            if (thread.state != State::ready) continue;
            block.current = &thread;
            Context::change(block.scheduler, thread.context);
        }
        block.current = nullptr;
    } while (release());
}

inline struct sigaction former[2];

// A thread that touches what it must not: the launch ends. Somebody else's fault is left to whoever handled it before.
inline void on_fault(int signal, siginfo_t* info, void*) {
    if (block.running && block.current) fail("touches memory outside of its buffers, at %p", info->si_addr);
    sigaction(signal, &former[signal == SIGBUS], nullptr);
}

inline void watch_faults(bool on) {
    static char stack[64 << 10];
    static stack_t former_stack;
    if (on) {
        stack_t own = {};
        own.ss_sp = stack;
        own.ss_size = sizeof stack;
        sigaltstack(&own, &former_stack);
        struct sigaction action = {};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        sigaction(SIGSEGV, &action, &former[0]);
        sigaction(SIGBUS, &action, &former[1]);
    } else {
        sigaction(SIGSEGV, &former[0], nullptr);
        sigaction(SIGBUS, &former[1], nullptr);
        sigaltstack(&former_stack, nullptr);
    }
}

template <class T>
constexpr char kind_of() {
    if (std::is_pointer<T>::value) return 'p';
    if (std::is_same<T, float>::value) return 'f';
    if (std::is_same<T, double>::value) return 'd';
    return sizeof(T) == 8 ? 'l' : 'u';
}

// One launch; 0 when all threads came to their end, otherwise the report says what happened.
inline int run(const Launch& launch, const char* kinds, void (*kernel)()) {
    block.report = launch.report;
    block.report_size = launch.report_size;
    block.current = nullptr;
    block.grid = {launch.grid[0], launch.grid[1], launch.grid[2]};
    block.size = {launch.block[0], launch.block[1], launch.block[2]};
    const uint64_t threads = uint64_t(launch.block[0]) * launch.block[1] * launch.block[2];
    if (sigsetjmp(block.escape, 1)) {
        block.running = false;
        watch_faults(false);
        free(block.dynamic_shared);
        block.dynamic_shared = nullptr;
        return 1;
    }
    block.dynamic_shared = nullptr;
    watch_faults(true);
    if (strcmp(kinds, launch.kinds) != 0) fail("the kernel takes arguments '%s', not '%s'", kinds, launch.kinds);
    if (threads == 0 || threads > MOST_THREADS) fail("a block has 1 to 1024 threads");
    if (launch.shared_bytes) {
        const size_t size = (launch.shared_bytes + 255) / 256 * 256;
        block.dynamic_shared = static_cast<char*>(aligned_alloc(256, size));
    }
    shared = {};
    dl_iterate_phdr(find_shared, &shared);
    block.threads = static_cast<unsigned>(threads);
    block.running = true;
    body = kernel;
    random_state = launch.seed * 2 + 1;
    const uint64_t blocks = uint64_t(launch.grid[0]) * launch.grid[1] * launch.grid[2];
    for (uint64_t i = 0; i < blocks; i++) {
        const uint64_t b = launch.order == BACKWARD ? blocks - 1 - i : i;
        block.index = {unsigned(b % launch.grid[0]), unsigned(b / launch.grid[0] % launch.grid[1]),
                       unsigned(b / (uint64_t(launch.grid[0]) * launch.grid[1]))};
        if (block.dynamic_shared) memset(block.dynamic_shared, POISON, launch.shared_bytes);
        run_block(launch.order);
    }
    block.running = false;
    watch_faults(false);
    free(block.dynamic_shared);
    block.dynamic_shared = nullptr;
    return 0;
}

// A kernel with the arguments of this launch.
template <auto kernel, class... A>
struct Bound {
    inline static void** arguments;
    static constexpr char kinds[] = {kind_of<A>()..., '\0'};

    template <size_t... I>
    static void with(std::index_sequence<I...>) {
        kernel(*static_cast<std::remove_cv_t<A>*>(arguments[I])...);
    }
    static void call() { with(std::index_sequence_for<A...>()); }
    static int launch(const Launch& launch) {
        arguments = launch.arguments;
        return run(launch, kinds, call);
    }
};

template <auto kernel, class... A>
int launch(const Launch& launch, void (*)(A...)) {
    return Bound<kernel, A...>::launch(launch);
}

}  // namespace emulator

// Makes a kernel known to the Rust part.
#define EMULATED(kernel)                                                      \
    extern "C" int emulated_##kernel(const emulator::Launch* launch) {        \
        return emulator::launch<kernel>(*launch, kernel);                     \
    }
