// The implicit GEMM as a list of tasks, for what runs those of several problems together.
#pragma once

#include "conv/algorithm.hpp"
#include "conv/gemm_packing.hpp"
#include "cpu.hpp"

namespace fastconv {

template <class T>
struct GemmTasks {
    GemmJob<T> job;
    int threads;         // that it is worth
    Index thread_bytes;  // of scratch

    void run(Index task, char* scratch) const {
        kernels_for<T>().im2col_gemm_task(job, task, scratch);
    }
};

template <class T>
GemmTasks<T> im2col_gemm_tasks(const Problem& problem, const Operands<T>& arrays,
                               const Resources& resources, const OutputTaps& taps = {});

// The packing of `packed_bytes` of weights.
template <class T>
GemmPacking<T> im2col_gemm_packing(const Problem& problem, const View<const T>& w, void* packed);

}  // namespace fastconv
