// Floating-point storage of 16 bits: exact widening, and rounding to nearest even that keeps
// subnormals whatever the control register says about them.
#pragma once

#include "kernels/vec.hpp"
#include "problem.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

using Bits = std::uint32_t;
typedef Bits BitsVec __attribute__((vector_size(FASTCONV_VECTOR_BYTES)));
typedef std::uint16_t ShortVec __attribute__((vector_size(FASTCONV_VECTOR_BYTES / 2)));
typedef std::uint16_t ShortVecUnaligned
    __attribute__((vector_size(FASTCONV_VECTOR_BYTES / 2), aligned(2), may_alias));

inline BitsVec load_shorts(const void* from) {
    return __builtin_convertvector(*static_cast<const ShortVecUnaligned*>(from), BitsVec);
}
inline void store_shorts(void* to, BitsVec v) {
    *static_cast<ShortVecUnaligned*>(to) = __builtin_convertvector(v, ShortVec);
}

inline Vec<float> widen(const Bfloat16* from) {
    return (Vec<float>)(load_shorts(from) << 16);
}

inline void round_to(Bfloat16* to, Vec<float> v) {
    const BitsVec bits = (BitsVec)v;
    const BitsVec rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const BitsVec quiet = (bits >> 16) | 0x40;  // NaN keeps its sign and stays NaN
    store_shorts(to, v == v ? rounded : quiet);
}

#if defined(__AVX512F__)
// Masked, and all lanes on: GCC 12 warns of the undefined vector that it merges into otherwise.
inline Vec<float> widen(const Float16* from) {
    return (Vec<float>)_mm512_maskz_cvtph_ps(
        __mmask16(0xffff), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
inline void round_to(Float16* to, Vec<float> v) {
    _mm256_storeu_si256(
        reinterpret_cast<__m256i*>(to),
        _mm512_maskz_cvtps_ph(__mmask16(0xffff), (__m512)v, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__F16C__)
inline Vec<float> widen(const Float16* from) {
    return (Vec<float>)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
inline void round_to(Float16* to, Vec<float> v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
}
#else
// A float16 is 1 + 5 + 10 bits, a float 1 + 8 + 23: shifted into place it is 2**112 times too
// small, and that multiplication is exact, of subnormals too.
inline Vec<float> widen(const Float16* from) {
    const BitsVec half = load_shorts(from);
    const BitsVec magnitude = (half & 0x7fff) << 13, sign = (half & 0x8000) << 16;
    constexpr Bits kScale = (127 + 112) << 23, kInfinity = 0x7f800000, kHalfInfinity = 0x7c00;
    const BitsVec finite = (BitsVec)((Vec<float>)magnitude * (Vec<float>)(BitsVec{} + kScale));
    const BitsVec special = magnitude | kInfinity;
    return (Vec<float>)(((half & 0x7fff) >= kHalfInfinity ? special : finite) | sign);
}

inline void round_to(Float16* to, Vec<float> v) {
    const BitsVec bits = (BitsVec)v, sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
    // from 2**-14 on: round at bit 13, and take 112 off the exponent
    const BitsVec normal = (magnitude + 0xfff + ((magnitude >> 13) & 1) - (Bits(112) << 23)) >> 13;
    // below: one half has an ulp of 2**-24, the distance of subnormals, so that adding it rounds
    constexpr Bits kHalf = 0x3f000000;
    const BitsVec small =
        (BitsVec)((Vec<float>)magnitude + (Vec<float>)(BitsVec{} + kHalf)) - kHalf;
    BitsVec half = magnitude < 0x38800000 ? small : normal;
    half = magnitude >= 0x477ff000 ? BitsVec{} + 0x7c00 : half;  // 65520 and more, infinity
    half = magnitude > 0x7f800000 ? 0x7e00 | (magnitude >> 13 & 0x3ff) : half;
    store_shorts(to, half | sign);
}
#endif

template <class T>
inline float widen_one(T value) {
    T lanes[kLanes<float>] = {value};
    return widen(lanes)[0];
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
