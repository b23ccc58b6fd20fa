// The ladder: which algorithm computes a problem, specific to general.
#pragma once

#include "parallel.hpp"
#include "problem.hpp"

namespace fastconv {

struct Resources {
    int threads;         // most threads to use
    Index thread_bytes;  // most scratch for each
};

struct Plan {
    const char* algorithm;
    Index scratch_bytes;  // of all threads together
    int threads;
};

// Pure functions of the problem and the processor; results never depend on `threads`.
template <class T>
Plan plan_im2col_gemm(const Problem& problem, const Resources& resources);

template <class T>
Status run_im2col_gemm(const Problem& problem, const Operands<T>& arrays,
                       const Resources& resources, const Interrupt& interrupt);

inline bool is_empty(const Problem& problem) {
    return problem.n == 0 || problem.k == 0;
}

template <class T>
Plan plan_conv2d(const Problem& problem, const Resources& resources) {
    if (is_empty(problem)) return {"empty", 0, 1};
    return plan_im2col_gemm<T>(problem, resources);
}

template <class T>
Status run_conv2d(const Problem& problem, const Operands<T>& arrays, const Resources& resources,
                  const Interrupt& interrupt) {
    if (is_empty(problem)) return Status::kOk;
    return run_im2col_gemm<T>(problem, arrays, resources, interrupt);
}

}  // namespace fastconv
