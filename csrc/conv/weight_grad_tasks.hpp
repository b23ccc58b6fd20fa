// What gradients of w have in common beside their tasks: memory, threads, sums of chunks.
#pragma once

#include <algorithm>
#include <type_traits>

#include "conv/tasks.hpp"
#include "conv/weight_grad.hpp"

namespace fastconv {

// Operands of 16 bits are widened to floats box by box, and results rounded once, from sums.
template <class S>
constexpr bool kHalf = sizeof(S) == 2;
template <class S>
using GradSum = std::conditional_t<kHalf<S>, float, S>;

// What the threads of a gradient share, and the elements that each has to itself.
struct GradShares {
    Index tasks, chunks;
    int threads;
    Index each, partial;

    Index elements() const { return threads * each + partial; }
    template <class T>
    Footprint footprint() const {
        return {elements() * Index(sizeof(T)), threads};
    }
};

template <class S>
GradShares grad_shares(const Problem& problem, Index tasks, Index chunks, int threads, Index each) {
    return {tasks, chunks, int(std::clamp<Index>(tasks, 1, threads)), each,
            partial_elements(problem, chunks, kHalf<S>)};
}

// Runs the tasks of a job, which `prepare` has given all but its arrays, by the function it
// returns.
template <class S, class Job, class Prepare>
Status run_grad(Job& job, const WeightGradOperands<S>& arrays, const GradShares& shares,
                const Interrupt& interrupt, const Prepare& prepare) {
    using T = GradSum<S>;
    T* memory = static_cast<T*>(thread_workspace(std::size_t(shares.elements()) * sizeof(T)));
    if (!memory) return Status::kNoMemory;
    if (shares.partial) job.partial = memory + shares.threads * shares.each;
    const auto run_all = [&](auto function, const auto& of) {
        return parallel_for(
            shares.tasks, shares.threads,
            [&](Index task, int thread) { function(of, task, memory + thread * shares.each); },
            interrupt);
    };
    bool completed;
    if constexpr (kHalf<S>) {
        completed = run_all(prepare(job), HalfJob<S, Job>{job, arrays.x, arrays.gy});
    } else {
        job.x = arrays.x;
        job.gy = arrays.gy;
        job.gw = arrays.gw;
        completed = run_all(prepare(job), job);
    }
    if (!completed) return Status::kInterrupted;
    if (!shares.partial) return Status::kOk;
    return add_chunks<T>(job.problem, arrays.gw, job.partial, shares.chunks, shares.threads,
                         interrupt);
}

}  // namespace fastconv
