// A machine that runs CUDA kernels on one CPU core, as a fiber per CUDA thread, to find mistakes.
//
// Blocks run one after another, in any order. Within a block a thread runs until it reaches a
// barrier (or, in the preemptive schedule, any access to shared memory), then another one is
// chosen: the order of the threads is as unfavourable as CUDA permits. Reported as faults, with
// the offending thread:
//   - shared memory: out of bounds, misaligned vectors, read before it was written, two threads on
//     one item without a barrier between them (whatever the order they happened to run in);
//   - global memory: outside the arrays, misaligned, an item of the result stored twice;
//   - barriers that not all threads of a block reach, or reach at different places.
//
// This is what a kernel sees of it; machine.cpp is compiled once for all kernels.
#pragma once

#include <cstddef>

namespace host {

struct Block {
    unsigned index, threads, grid;
    unsigned thread;  // the one that runs
    // Barriers passed so far: accesses in one epoch are not ordered among threads.
    int epoch;
};

extern Block block;
extern bool detects_races;

void barrier(int line);

// Any moment at which another thread may overtake this one.
void maybe_preempt();

// The block's copy of a shared array, told apart by its place in the source.
void* shared_memory(int line, std::size_t model_bytes, std::size_t device_bytes,
                    void (*construct)(void*));

void check_load(const void* address, std::size_t size);
void check_store(const void* address, std::size_t size);

// Ends the launch; this thread never runs again.
[[noreturn]] void fail(const char* format, ...);

// One thread of the kernel; defined beside it, in run_kernel.cpp.
void run_thread(const void* parameters);

}  // namespace host
