// Products of integers of 8 and 16 bits, several steps of the reduction in every 32-bit lane.
//
// Sums are exact modulo 2**32 in any order. What does not fit the multiplier is shifted by a zero
// point: x = x' + zx and w = w' + zw, so that
//     sum x*w = sum x'*w' + zw * sum x' + zx * sum w.
#pragma once

#include "kernels/vec.hpp"
#include "problem.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

using Words = Vec<std::int32_t>;

// Four bytes a word, unsigned times signed, where one instruction adds them up without saturating
// (vpdpbusd). vpmaddubsw saturates at 16 bits and is no substitute: elsewhere bytes are widened.
#if defined(__AVX512VNNI__)
constexpr bool kHasQuads = true;
#else
constexpr bool kHasQuads = false;
#endif

template <class T>
constexpr int kMembers = kHasQuads && sizeof(T) == 1 ? 4 : 2;

// How T is stored in words of kMembers: `flip_x` and `flip_w` are exclusive-ored to subtract the
// zero points `zero_x` and `zero_w`.
template <class T>
struct Shift;
template <>
struct Shift<std::int8_t> {
    static constexpr std::uint32_t flip_x = kHasQuads ? 0x80 : 0, flip_w = 0;
    static constexpr std::int32_t zero_x = kHasQuads ? -128 : 0, zero_w = 0;
};
template <>
struct Shift<std::uint8_t> {
    static constexpr std::uint32_t flip_x = 0, flip_w = kHasQuads ? 0x80 : 0;
    static constexpr std::int32_t zero_x = 0, zero_w = kHasQuads ? 128 : 0;
};
template <>
struct Shift<std::int16_t> {
    static constexpr std::uint32_t flip_x = 0, flip_w = 0;
    static constexpr std::int32_t zero_x = 0, zero_w = 0;
};
template <>
struct Shift<std::uint16_t> {
    static constexpr std::uint32_t flip_x = 0x8000, flip_w = 0x8000;
    static constexpr std::int32_t zero_x = 0x8000, zero_w = 0x8000;
};

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
    return sum + (Words)_mm512_madd_epi16((__m512i)x, (__m512i)w);
#elif defined(__AVX2__)
    return sum + (Words)_mm256_madd_epi16((__m256i)x, (__m256i)w);
#elif defined(__SSE2__)
    return sum + (Words)_mm_madd_epi16((__m128i)x, (__m128i)w);
#else
    typedef std::uint32_t Unsigned __attribute__((vector_size(FASTCONV_VECTOR_BYTES)));
    const Words low_x = (Words)((Unsigned)x << 16) >> 16, low_w = (Words)((Unsigned)w << 16) >> 16;
    const Unsigned low = (Unsigned)(low_x * low_w), high = (Unsigned)((x >> 16) * (w >> 16));
    return (Words)((Unsigned)sum + low + high);
#endif
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
