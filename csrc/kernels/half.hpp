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

inline Vec<float> widen(const Bfloat16* from) {
    return (Vec<float>)(load_shorts(from) << 16);
}

inline ShortVec rounded(Vec<float> v, Bfloat16) {
    const BitsVec bits = (BitsVec)v;
    const BitsVec nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const BitsVec quiet = (bits >> 16) | 0x40;  // NaN keeps its sign and stays NaN
    return __builtin_convertvector(v == v ? nearest : quiet, ShortVec);
}

#if defined(__AVX512F__)
// Masked, and all lanes on: GCC 12 warns of the undefined vector that it merges into otherwise.
inline Vec<float> widen(const Float16* from) {
    return (Vec<float>)_mm512_maskz_cvtph_ps(
        __mmask16(0xffff), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
inline ShortVec rounded(Vec<float> v, Float16) {
    return (ShortVec)_mm512_maskz_cvtps_ph(__mmask16(0xffff), (__m512)v, _MM_FROUND_TO_NEAREST_INT);
}
// Half a vector.
inline __m256 widen_half(const Float16* from) {
    return _mm256_maskz_cvtph_ps(__mmask8(0xff),
                                 _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
inline __m256 widen_half(const Bfloat16* from) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
#elif defined(__F16C__)
inline Vec<float> widen(const Float16* from) {
    return (Vec<float>)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
inline ShortVec rounded(Vec<float> v, Float16) {
    return (ShortVec)_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT);
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

inline ShortVec rounded(Vec<float> v, Float16) {
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
    return __builtin_convertvector(half | sign, ShortVec);
}
#endif

template <class T>
inline void round_to(T* to, Vec<float> v) {
    *reinterpret_cast<ShortVecUnaligned*>(to) = rounded(v, T{});
}

inline float widen_one(Bfloat16 value) {
    const Bits bits = Bits(value.bits) << 16;
    float wide;
    __builtin_memcpy(&wide, &bits, sizeof wide);
    return wide;
}
inline float widen_one(Float16 value) {
#if defined(__AVX512F__)
    return _mm_cvtss_f32(_mm_maskz_cvtph_ps(__mmask8(0xf), _mm_cvtsi32_si128(value.bits)));
#elif defined(__F16C__)
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(value.bits)));
#else
    Float16 lanes[kLanes<float>] = {value};
    return widen(lanes)[0];
#endif
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
