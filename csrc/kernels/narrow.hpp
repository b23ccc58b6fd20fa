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
// How T is stored: the word and its sums, members to a word, and for integers what is
// exclusive-ored to subtract the zero points of x and w, and these.
template <class WORD, class SUM, int MEMBERS, std::uint32_t FLIP_X = 0, std::uint32_t FLIP_W = 0,
          std::int32_t ZERO_X = 0, std::int32_t ZERO_W = 0>
struct Form {
    using Word = WORD;
    using Sum = SUM;
    static constexpr int members = MEMBERS;
    static constexpr std::uint32_t flip_x = FLIP_X, flip_w = FLIP_W;
    static constexpr std::int32_t zero_x = ZERO_X, zero_w = ZERO_W;
};
template <int MEMBERS, std::uint32_t FLIP_X = 0, std::uint32_t FLIP_W = 0, std::int32_t ZERO_X = 0,
          std::int32_t ZERO_W = 0>
using Integers = Form<std::int32_t, std::int32_t, MEMBERS, FLIP_X, FLIP_W, ZERO_X, ZERO_W>;
// Floats are widened on their way into scratch, and rounded once, at the end.
using Widened = Form<float, float, 1>;

template <class T>
struct Narrow;
#if defined(__AVX512VNNI__)
template <>
struct Narrow<std::int8_t> : Integers<4, 0x80, 0, -128, 0> {};
template <>
struct Narrow<std::uint8_t> : Integers<4, 0, 0x80, 0, 128> {};
#else
template <>
struct Narrow<std::int8_t> : Integers<2> {};
template <>
struct Narrow<std::uint8_t> : Integers<2> {};
#endif
template <>
struct Narrow<std::int16_t> : Integers<2> {};
template <>
struct Narrow<std::uint16_t> : Integers<2, 0x8000, 0x8000, 0x8000, 0x8000> {};
template <>
struct Narrow<Float16> : Widened {};
// Pairs of bfloat16 are multiplied as they are where precision="fast" asks for it: these kernels
// are compiled for nothing else.
#if defined(__AVX512BF16__)
template <>
struct Narrow<Bfloat16> : Form<std::int32_t, float, 2> {};
#else
template <>
struct Narrow<Bfloat16> : Widened {};
#endif

template <class T>
using WordOf = typename Narrow<T>::Word;
template <class T>
constexpr int kMembers = Narrow<T>::members;
template <class T>
using SumOf = typename Narrow<T>::Sum;

template <class A, class B>
constexpr bool kSame = false;
template <class A>
constexpr bool kSame<A, A> = true;
template <class T>
constexpr bool kIsFloat = kSame<SumOf<T>, float>;
template <class T>
constexpr bool kWidens = kSame<WordOf<T>, float>;

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
    static_assert(MEMBERS == 2 || MEMBERS == 4);
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

// The first `count` lanes.
inline void store_some(float* to, Vec<float> v, Index count) {
    store_first(to, v, count);
}
inline void store_some(std::int32_t* to, Words v, Index count) {
    store_first(reinterpret_cast<float*>(to), (Vec<float>)v, count);
}

template <int MEMBERS>
inline Vec<float> dot(Vec<float> sum, Vec<float> x, Vec<float> w) {
    static_assert(MEMBERS == 1);
    return sum + x * w;
}

#if defined(__AVX512BF16__)
template <int MEMBERS>
inline Vec<float> dot(Vec<float> sum, Words x, Words w) {
    static_assert(MEMBERS == 2);
    return (Vec<float>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)x, (__m512bh)w);
}
#endif

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
