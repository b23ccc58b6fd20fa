// Sums of quantised products as bytes: scaled in float, rounded half to even, saturated.
#pragma once

#include "kernels/strip_kernels.hpp"
#include "kernels/vec.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

typedef std::uint8_t ByteVec __attribute__((vector_size(kLanes<float>)));
typedef std::uint8_t ByteVecUnaligned
    __attribute__((vector_size(kLanes<float>), aligned(1), may_alias));

// A number below 2^22 is rounded by adding this, and is then in the last bits of the sum: its
// lowest byte, plus the zero point modulo 256, is the result.
constexpr float kRounding = 12582912.0f;  // 1.5 * 2^23

inline void requantise_vector(const std::int32_t* sums, Vec<float> scale, const Rescaling& to,
                              std::uint8_t* out) {
    Vec<float> value = __builtin_convertvector(load(sums), Vec<float>) * scale;
    const Vec<float> low = splat(to.low), high = splat(to.high);
    value = value < low ? low : value;
    value = value > high ? high : value;
    const IntVec<float> bits = (IntVec<float>)(value + splat(kRounding));
    *reinterpret_cast<ByteVecUnaligned*>(out) = __builtin_convertvector(bits, ByteVec) + to.zero;
}

void requantise(const std::int32_t* sums, Index count, const float* scale, bool each,
                const Rescaling& to, std::uint8_t* out) {
    constexpr Index kL = kLanes<float>;
    Index i = 0;
    for (; i + kL <= count; i += kL) {
        requantise_vector(sums + i, each ? load(scale + i) : splat(*scale), to, out + i);
    }
    if (i == count) return;
    std::int32_t last[kL] = {};
    float factors[kL] = {};
    std::uint8_t bytes[kL];
    for (Index lane = 0; lane < count - i; ++lane) {
        last[lane] = sums[i + lane];
        factors[lane] = scale[each ? i + lane : 0];
    }
    requantise_vector(last, load(factors), to, bytes);
    for (Index lane = 0; lane < count - i; ++lane) out[i + lane] = bytes[lane];
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
