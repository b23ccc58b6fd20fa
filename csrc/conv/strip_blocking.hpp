// How the strip GEMM cuts a problem: the fold, blocks, tasks and scratch.
#pragma once

#include "kernels/strip_kernels.hpp"
#include "problem.hpp"

namespace fastconv {

// What the kernels of one type look like from outside.
struct StripShape {
    Index members, rows, lanes, vectors;
    bool ones, keeps_sums, turns;
    Index item_bytes;
};

StripBlocking make_strip_blocking(const Problem& problem, const StripShape& shape, int threads,
                                  Index thread_bytes, bool packed);

// What packing weights needs of it: a function of neither the image's size nor the batch.
StripBlocking make_strip_panels(const Problem& problem, const StripShape& shape);

}  // namespace fastconv
