// Types of a depthwise convolution: what operands of each type are widened to, summed up in and
// rounded from.
#pragma once

#include "kernels/narrow.hpp"
#include "problem.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// What operands of E are summed up in. Integers of 8 bits and signed ones of 16 are multiplied as
// the lower halves of words, whose upper halves are zero in weights: one instruction, unlike a
// product of 32 bits.
template <class E>
struct SumFor {
    using type = SumOf<E>;
};
template <>
struct SumFor<float> {
    using type = float;
};
template <>
struct SumFor<double> {
    using type = double;
};
template <>
struct SumFor<std::uint16_t> {
    using type = std::uint32_t;
};
template <class E>
using DepthwiseSum = typename SumFor<E>::type;

template <class E>
inline DepthwiseSum<E> widen_value(E value) {
    if constexpr (kSame<E, Float16> || kSame<E, Bfloat16>) {
        return widen_one(value);
    } else {
        return DepthwiseSum<E>(value);
    }
}
template <class E>
inline DepthwiseSum<E> widen_weight(E value) {
    if constexpr (kSame<DepthwiseSum<E>, std::int32_t>) return std::uint16_t(value);
    return widen_value(value);
}

// What a tile reads, multiplies with, sums up and writes: pixels as they are, or widened by a copy.
template <class X, class W, class T, class Y>
struct Numbers {
    using Pixel = X;
    using Weight = W;
    using Sum = T;
    using Result = Y;
    static constexpr bool rounds = kSame<Y, Float16> || kSame<Y, Bfloat16>;
    static constexpr bool plain = !rounds && !kSame<Y, std::int32_t>;  // float or double throughout
};
template <class E>
struct WeightFor {
    using type = DepthwiseSum<E>;
};
#if defined(__AVX512F__)
template <>
struct WeightFor<Bfloat16> {  // see BfloatPairs
    using type = Bfloat16;
};
#endif
template <class E>
using ChannelWeight = typename WeightFor<E>::type;
template <class E>
using InPlace = Numbers<E, ChannelWeight<E>, DepthwiseSum<E>, ResultOf<E>>;
template <class E>
using Copied = Numbers<DepthwiseSum<E>, DepthwiseSum<E>, DepthwiseSum<E>, ResultOf<E>>;

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
