// One block at a time: its threads as fibers, its barriers, its shared memory.
//
// Threads run one after another, each up to its next barrier, in an order that the caller chooses. A kernel that lacks a
// barrier gives other results in another order, and one whose threads don't all come to a barrier is stopped.
#pragma once

#include <csetjmp>
#include <cstdarg>
#include <cstring>

#include "fiber.h"

namespace emulator {

struct Index {
    unsigned x, y, z;
};

constexpr unsigned LANES = 32;
constexpr unsigned MOST_THREADS = 1024;

enum class State { ready, at_block_barrier, at_warp_barrier, done };

struct Thread {
    Context context;
    Index index;
    unsigned number;
    State state;
    // which of two sets of places the next exchange of the warp uses
    unsigned exchanges;
};

// What every lane of a warp shows the others; two sets, so that one barrier an exchange is enough.
struct Warp {
    uint64_t shown[2][LANES];
    const void* lent[LANES];
};

struct Block {
    Index grid, size, index;
    unsigned threads;
    Thread thread[MOST_THREADS];
    Warp warp[MOST_THREADS / LANES];
    unsigned order[MOST_THREADS];
    Context scheduler;
    Thread* current;
    char* dynamic_shared;
    // where a fault or a misused barrier ends the launch
    sigjmp_buf escape;
    char* report;
    size_t report_size;
    bool running;
};

inline Block block;

// Ends the launch with a report of what went wrong, and where.
[[noreturn]] inline void fail(const char* format, ...) {
    int written = 0;
    if (block.current) {
        const Index &b = block.index, &t = block.current->index;
        written = snprintf(block.report, block.report_size, "block (%u, %u, %u), thread (%u, %u, %u): ", b.x, b.y, b.z,
                           t.x, t.y, t.z);
    }
    va_list arguments;
    va_start(arguments, format);
    if (written >= 0 && static_cast<size_t>(written) < block.report_size)
        vsnprintf(block.report + written, block.report_size - written, format, arguments);
    va_end(arguments);
    siglongjmp(block.escape, 1);
}

inline void wait(State state) {
    Thread* self = block.current;
    self->state = state;
    Context::change(self->context, block.scheduler);
}

inline void block_barrier() { wait(State::at_block_barrier); }
inline void warp_barrier() { wait(State::at_warp_barrier); }

inline Warp& own_warp() { return block.warp[block.current->number / LANES]; }
inline unsigned own_lane() { return block.current->number % LANES; }

// Shows eight bytes to the warp; what all lanes show.
inline const uint64_t* show(uint64_t mine) {
    uint64_t* shown = own_warp().shown[block.current->exchanges++ % 2];
    shown[own_lane()] = mine;
    warp_barrier();
    return shown;
}

// What every lane of the warp has in `mine`: for instructions that a warp carries out together.
template <class T>
inline void gather(const T& mine, T (&all)[LANES]) {
    Warp& warp = own_warp();
    warp.lent[own_lane()] = &mine;
    warp_barrier();
    for (unsigned lane = 0; lane < LANES; lane++) all[lane] = *static_cast<const T*>(warp.lent[lane]);
    warp_barrier();
}

// Lets those go on who wait for nobody any more. False when nobody can.
inline bool release() {
    unsigned at_block = 0, done = 0;
    bool any = false;
    for (unsigned first = 0; first < block.threads; first += LANES) {
        const unsigned end = first + LANES < block.threads ? first + LANES : block.threads;
        unsigned at_warp = 0;
        for (unsigned i = first; i < end; i++) {
            at_block += block.thread[i].state == State::at_block_barrier;
            at_warp += block.thread[i].state == State::at_warp_barrier;
            done += block.thread[i].state == State::done;
        }
        if (at_warp == end - first) {
            any = true;
            for (unsigned i = first; i < end; i++) block.thread[i].state = State::ready;
        }
    }
    if (at_block == block.threads) {
        any = true;
        for (unsigned i = 0; i < block.threads; i++) block.thread[i].state = State::ready;
    }
    if (!any && done < block.threads) {
        block.current = nullptr;
        fail("block (%u, %u, %u): of %u threads %u ended and %u wait at __syncthreads: not all come to a barrier",
             block.index.x, block.index.y, block.index.z, block.threads, done, at_block);
    }
    return any;
}

}  // namespace emulator
