// The register-only multiply-add loop that "share of peak" refers to.
#pragma once

#include "kernels/gemm_tile.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <class T>
double peak_loop(Index repeats) {
    constexpr int kChains = kRows * kVectors < 12 ? kRows * kVectors : 12;
    Vec<T> acc[kChains];
    Vec<T> factor = splat(T(0.999)), term = splat(T(0.001));
    asm volatile("" : "+m"(factor), "+m"(term));  // values the compiler cannot fold
    for (int i = 0; i < kChains; ++i) acc[i] = splat(T(i));
    for (Index n = 0; n < repeats; ++n) {
#pragma GCC unroll 12
        for (int i = 0; i < kChains; ++i) acc[i] = acc[i] * factor + term;
    }
    Vec<T> sum{};
    for (int i = 0; i < kChains; ++i) sum += acc[i];
    asm volatile("" : : "m"(sum));
    return 2.0 * kLanes<T> * kChains * double(repeats);
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
