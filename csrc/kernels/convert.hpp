// Pixels of other numbers than those computed with, converted as they are copied: every value of
// the types below is one of the wider floating-point type too.
#pragma once

#include "kernels/copy.hpp"
#include "kernels/vec.hpp"
#include "problem.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// A vector of T from as many S. Intrinsics: GCC 12 converts vectors of bytes lane by lane.
#if defined(__AVX2__)
template <class S>
constexpr bool kIsSigned = S(-1) < S(0);

template <class S>
inline __m256i eight_ints(const S* p) {
    if constexpr (sizeof(S) == 1) {
        const __m128i v = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
        return kIsSigned<S> ? _mm256_cvtepi8_epi32(v) : _mm256_cvtepu8_epi32(v);
    } else {
        const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
        return kIsSigned<S> ? _mm256_cvtepi16_epi32(v) : _mm256_cvtepu16_epi32(v);
    }
}
#if defined(__AVX512F__)
// Masks that say nothing: GCC 12 warns of the other forms, whose source it leaves undefined.
constexpr __mmask16 kAll = 0xffff;
constexpr __mmask8 kAllWide = 0xff;

template <class S>
inline __m512i sixteen_ints(const S* p) {
    if constexpr (sizeof(S) == 1) {
        const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
        return kIsSigned<S> ? _mm512_maskz_cvtepi8_epi32(kAll, v)
                            : _mm512_maskz_cvtepu8_epi32(kAll, v);
    } else {
        const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
        return kIsSigned<S> ? _mm512_maskz_cvtepi16_epi32(kAll, v)
                            : _mm512_maskz_cvtepu16_epi32(kAll, v);
    }
}
template <class S>
inline void convert_vector(float* to, const S* p) {
    _mm512_storeu_ps(to, _mm512_maskz_cvtepi32_ps(kAll, sixteen_ints(p)));
}
template <class S>
inline void convert_vector(double* to, const S* p) {
    _mm512_storeu_pd(to, _mm512_maskz_cvtepi32_pd(kAllWide, eight_ints(p)));
}
inline void convert_vector(double* to, const float* p) {
    _mm512_storeu_pd(to, _mm512_maskz_cvtps_pd(kAllWide, _mm256_loadu_ps(p)));
}
#else
template <class S>
inline __m128i four_ints(const S* p) {
    __m128i v;
    if constexpr (sizeof(S) == 1) {
        int bytes;
        __builtin_memcpy(&bytes, p, sizeof bytes);
        v = _mm_cvtsi32_si128(bytes);
        return kIsSigned<S> ? _mm_cvtepi8_epi32(v) : _mm_cvtepu8_epi32(v);
    } else {
        v = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
        return kIsSigned<S> ? _mm_cvtepi16_epi32(v) : _mm_cvtepu16_epi32(v);
    }
}
template <class S>
inline void convert_vector(float* to, const S* p) {
    _mm256_storeu_ps(to, _mm256_cvtepi32_ps(eight_ints(p)));
}
template <class S>
inline void convert_vector(double* to, const S* p) {
    _mm256_storeu_pd(to, _mm256_cvtepi32_pd(four_ints(p)));
}
inline void convert_vector(double* to, const float* p) {
    _mm256_storeu_pd(to, _mm256_cvtps_pd(_mm_loadu_ps(p)));
}
#endif
#else
template <class T, class S>
inline void convert_vector(T* __restrict to, const S* p) {
    for (int i = 0; i < kLanes<T>; ++i) to[i] = T(p[i]);
}
#endif

// Copies `count` elements `step` apart as T.
template <class T, class S>
inline void convert_strided(T* to, const S* from, Index step, Index count) {
    constexpr Index kL = kLanes<T>;
    if (step != 1 || count < kL) {
        for (Index i = 0; i < count; ++i) to[i] = T(from[i * step]);
        return;
    }
    for (Index i = 0; i + kL < count; i += kL) convert_vector(to + i, from + i);
    // the last whole vector meets the one before it in the same values
    convert_vector(to + count - kL, from + count - kL);
}

template <class T>
inline void convert_strided(T* to, const T* from, Index step, Index count) {
    copy_strided(to, from, step, count);
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
