// A strided, dilated axis of the kernel as several unstrided ones; see kernels/padded_rows.hpp.
#pragma once

#include <algorithm>
#include <numeric>

#include "problem.hpp"

namespace fastconv {

struct Phases {
    Index period, step, used;

    Index reach(Index taps) const { return (taps - 1) / period * step; }
};

inline Phases make_phases(Index taps, Index stride, Index dilation) {
    const Index divisor = std::gcd(stride, dilation);
    return {stride / divisor, dilation / divisor, std::min(stride / divisor, taps)};
}

}  // namespace fastconv
