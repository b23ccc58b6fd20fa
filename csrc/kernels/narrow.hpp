// Operands of 8 and 16 bits as the micro-kernel multiplies them: words of 32 bits that hold one
// float, or several integers ("members") of consecutive channels.
//
// Sums of integers are exact modulo 2**32 in any order. What does not fit the multiplier is shifted
// by a zero point: x = x' + zx and w = w' + zw, so that
//     sum x*w = sum x'*w' + zw * sum x' + zx * sum w.
#pragma once

#include "kernels/half.hpp"
#include "kernels/vec.hpp"
#include "problem.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Four bytes a word, unsigned times signed, where one instruction adds them up without saturating
// (vpdpbusd). vpmaddubsw saturates at 16 bits and is no substitute: elsewhere bytes are widened.
#if defined(__AVX512VNNI__)
constexpr bool kHasQuads = true;
#else
constexpr bool kHasQuads = false;
#endif

// How T is stored: Word, members to a word, and for integers what is exclusive-ored to subtract
// the zero points of x and w.
template <class T>
struct Narrow;
template <>
struct Narrow<std::int8_t> {
    using Word = std::int32_t;
    static constexpr int members = kHasQuads ? 4 : 2;
    static constexpr std::uint32_t flip_x = kHasQuads ? 0x80 : 0, flip_w = 0;
    static constexpr std::int32_t zero_x = kHasQuads ? -128 : 0, zero_w = 0;
};
template <>
struct Narrow<std::uint8_t> {
    using Word = std::int32_t;
    static constexpr int members = kHasQuads ? 4 : 2;
    static constexpr std::uint32_t flip_x = 0, flip_w = kHasQuads ? 0x80 : 0;
    static constexpr std::int32_t zero_x = 0, zero_w = kHasQuads ? 128 : 0;
};
template <>
struct Narrow<std::int16_t> {
    using Word = std::int32_t;
    static constexpr int members = 2;
    static constexpr std::uint32_t flip_x = 0, flip_w = 0;
    static constexpr std::int32_t zero_x = 0, zero_w = 0;
};
template <>
struct Narrow<std::uint16_t> {
    using Word = std::int32_t;
    static constexpr int members = 2;
    static constexpr std::uint32_t flip_x = 0x8000, flip_w = 0x8000;
    static constexpr std::int32_t zero_x = 0x8000, zero_w = 0x8000;
};
// Floats are widened on their way into scratch, and rounded once, at the end.
template <>
struct Narrow<Float16> {
    using Word = float;
    static constexpr int members = 1;
    static constexpr std::int32_t zero_x = 0, zero_w = 0;
};
template <>
struct Narrow<Bfloat16> {
    using Word = float;
    static constexpr int members = 1;
    static constexpr std::int32_t zero_x = 0, zero_w = 0;
};

template <class T>
using WordOf = typename Narrow<T>::Word;
template <class T>
constexpr int kMembers = Narrow<T>::members;
template <class T>
constexpr bool kIsFloat = Narrow<T>::members == 1;

using Words = Vec<std::int32_t>;

// Wraps around, which signed arithmetic may not.
inline Words plus(Words a, Words b) {
    return (Words)((BitsVec)a + (BitsVec)b);
}
inline Vec<float> plus(Vec<float> a, Vec<float> b) {
    return a + b;
}
inline Words times(Words a, std::int32_t b) {
    return (Words)((BitsVec)a * Bits(b));
}

// sum + the products of the members of x and w. The one case in which the sum of two products of
// 16 bits leaves 32 bits, four times -32768, wraps around in all of these instructions.
template <int MEMBERS>
inline Words dot(Words sum, Words x, Words w) {
    static_assert(MEMBERS == 2 || (kHasQuads && MEMBERS == 4));
#if defined(__AVX512VNNI__)
    if constexpr (MEMBERS == 4) {
        return (Words)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)w);
    } else {
        return (Words)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)x, (__m512i)w);
    }
#elif defined(__AVX512BW__)
    return plus(sum, (Words)_mm512_madd_epi16((__m512i)x, (__m512i)w));
#elif defined(__AVX2__)
    return plus(sum, (Words)_mm256_madd_epi16((__m256i)x, (__m256i)w));
#elif defined(__SSE2__)
    return plus(sum, (Words)_mm_madd_epi16((__m128i)x, (__m128i)w));
#else
    const Words low_x = (Words)((BitsVec)x << 16) >> 16, low_w = (Words)((BitsVec)w << 16) >> 16;
    const Words low = low_x * low_w;
    const Words high = (x >> 16) * (w >> 16);
    return plus(sum, plus(low, high));
#endif
}

template <int MEMBERS>
inline Vec<float> dot(Vec<float> sum, Vec<float> x, Vec<float> w) {
    static_assert(MEMBERS == 1);
    return sum + x * w;
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
