// How many threads a problem is worth, and running its tasks.
#pragma once

#include <algorithm>
#include <thread>

#include "parallel.hpp"
#include "problem.hpp"
#include "workspace.hpp"

namespace fastconv {

inline double multiply_adds(const Problem& problem) {
    return double(problem.n) * double(problem.k) * double(problem.o * problem.p) *
           double(problem.q) * double(problem.c / problem.groups) * double(problem.t * problem.r) *
           double(problem.s);
}

// More than a few threads for each processor only wait for each other, and creating them can fail.
inline int threads_at_most(int threads) {
    constexpr int kThreadsPerProcessor = 4;
    // asking costs more than a small convolution
    static const int processors = std::max(2, int(std::thread::hardware_concurrency()));
    return std::min(threads, kThreadsPerProcessor * processors);
}

// A thread with fewer than `least` multiply-adds costs more to wake than it computes.
inline int useful_threads(const Problem& problem, int threads, double least) {
    const double most = threads_at_most(threads);
    return int(std::max(1.0, std::min(most, multiply_adds(problem) / least)));
}

// Runs the job's tasks, each thread with `elements` elements of scratch of its own.
template <class T, class Job>
Status run_tasks(const Job& job, void (*run_task)(const Job&, Index task, T* scratch), Index tasks,
                 int threads, Index elements, const Interrupt& interrupt) {
    const int used = int(std::min<Index>(threads, tasks));
    T* scratch = static_cast<T*>(thread_workspace(std::size_t(used * elements) * sizeof(T)));
    if (!scratch) return Status::kNoMemory;
    const bool completed = parallel_for(
        tasks, used,
        [&](Index task, int thread) { run_task(job, task, scratch + thread * elements); },
        interrupt);
    return completed ? Status::kOk : Status::kInterrupted;
}

}  // namespace fastconv
