// Sums of int32 as quantised bytes.
#pragma once

#include "kernels/strip_kernels.hpp"
#include "parallel.hpp"
#include "workspace.hpp"

namespace fastconv {

// Sums in rows of `length`, whose scales are those of row modulo `scales`, or, with `each`, of the
// elements of every row.
struct Requantisation {
    const std::int32_t* sums;
    std::uint8_t* out;
    Index elements, length;
    const float* scale;
    Index scales;
    bool each;
    Rescaling to;
};

FASTCONV_FOR_PYTHON Status requantise(const Requantisation& job, int threads,
                                      const Interrupt& interrupt);

}  // namespace fastconv
