// How the matrix product that is the gradient of w is cut into tasks.
#pragma once

#include "cpu.hpp"

namespace fastconv {

// Elements of scratch that a task needs.
using GradScratchSize = Index (*)(const Problem& problem, const WeightGradBlocking& blocking);

// The fastest way for so many threads whose tasks' scratch has at most `thread_bytes`.
template <class T>
WeightGradBlocking cut_weight_grad(const Problem& problem, int threads, Index thread_bytes,
                                   GradScratchSize scratch);

// Whether no tap meets the border.
bool taps_lie_inside(const Problem& problem);

}  // namespace fastconv
