// The SIMD type: a compiler vector extension of the width this translation unit is compiled for.
#pragma once

#include "problem.hpp"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <class T>
struct IntOf;
template <>
struct IntOf<float> {
    using type = int;
};
template <>
struct IntOf<double> {
    using type = long long;
};

template <>
struct IntOf<int> {
    using type = int;
};
template <>
struct IntOf<unsigned> {
    using type = int;
};

template <class T>
struct VecOf {
    typedef T type __attribute__((vector_size(FASTCONV_VECTOR_BYTES)));
    // The same vector at an address of any alignment, free to alias arrays of T.
    typedef T unaligned
        __attribute__((vector_size(FASTCONV_VECTOR_BYTES), aligned(alignof(T)), may_alias));
    typedef typename IntOf<T>::type int_type __attribute__((vector_size(FASTCONV_VECTOR_BYTES)));
    static constexpr int lanes = FASTCONV_VECTOR_BYTES / int(sizeof(T));
};

template <class T>
using Vec = typename VecOf<T>::type;
template <class T>
using IntVec = typename VecOf<T>::int_type;
template <class T>
constexpr int kLanes = VecOf<T>::lanes;

// Lane numbers as template arguments, for shuffles.
template <int... LANE>
struct LaneList {};
template <int COUNT, int... LANE>
struct LanesBelow : LanesBelow<COUNT - 1, COUNT - 1, LANE...> {};
template <int... LANE>
struct LanesBelow<0, LANE...> {
    using type = LaneList<LANE...>;
};
template <int COUNT>
using AllLanes = typename LanesBelow<COUNT>::type;

template <class T>
inline Vec<T> load(const T* p) {
    return *reinterpret_cast<const typename VecOf<T>::unaligned*>(p);
}

template <class T>
inline void store(T* p, Vec<T> v) {
    *reinterpret_cast<typename VecOf<T>::unaligned*>(p) = v;
}

template <class T>
inline Vec<T> splat(T value) {
    return value - Vec<T>{};  // x - 0 is x, also for -0, and folds to a broadcast; 0 + x is neither
}

// Loads of some lanes, the others zero; memory under lanes that are off is not touched.
#if defined(__AVX512F__)
constexpr bool kHasMaskedLoad = true;
template <class T>
using Mask = unsigned;

template <class T>
inline Mask<T> lane_mask(int begin, int end) {
    return ((1u << end) - 1) & ~((1u << begin) - 1);
}
inline Vec<float> masked_load(const float* p, Mask<float> mask) {
    return (Vec<float>)_mm512_maskz_loadu_ps((__mmask16)mask, p);
}
inline Vec<double> masked_load(const double* p, Mask<double> mask) {
    return (Vec<double>)_mm512_maskz_loadu_pd((__mmask8)mask, p);
}
// The same with the lanes of v, which are zero where the mask is on, under those that are off.
inline Vec<float> merged_load(Vec<float> v, const float* p, Mask<float> mask) {
    return (Vec<float>)_mm512_mask_loadu_ps((__m512)v, (__mmask16)mask, p);
}
inline Vec<double> merged_load(Vec<double> v, const double* p, Mask<double> mask) {
    return (Vec<double>)_mm512_mask_loadu_pd((__m512d)v, (__mmask8)mask, p);
}
inline void masked_store(float* p, Vec<float> v, Mask<float> mask) {
    _mm512_mask_storeu_ps(p, (__mmask16)mask, (__m512)v);
}
inline void masked_store(double* p, Vec<double> v, Mask<double> mask) {
    _mm512_mask_storeu_pd(p, (__mmask8)mask, (__m512d)v);
}
#elif defined(__AVX2__)
constexpr bool kHasMaskedLoad = true;
template <class T>
using Mask = IntVec<T>;

template <class T>
inline Mask<T> lane_mask(int begin, int end) {
    Mask<T> lane;
    for (int i = 0; i < kLanes<T>; ++i) lane[i] = i;
    return (lane >= begin) & (lane < end);
}
inline Vec<float> masked_load(const float* p, Mask<float> mask) {
    return (Vec<float>)_mm256_maskload_ps(p, (__m256i)mask);
}
inline Vec<double> masked_load(const double* p, Mask<double> mask) {
    return (Vec<double>)_mm256_maskload_pd(p, (__m256i)mask);
}
template <class T>
inline Vec<T> merged_load(Vec<T> v, const T* p, Mask<T> mask) {
    return (Vec<T>)((IntVec<T>)v | (IntVec<T>)masked_load(p, mask));
}
inline void masked_store(float* p, Vec<float> v, Mask<float> mask) {
    _mm256_maskstore_ps(p, (__m256i)mask, (__m256)v);
}
inline void masked_store(double* p, Vec<double> v, Mask<double> mask) {
    _mm256_maskstore_pd(p, (__m256i)mask, (__m256d)v);
}
#else
constexpr bool kHasMaskedLoad = false;
template <class T>
using Mask = unsigned;

template <class T>
inline Mask<T> lane_mask(int, int) {
    return 0;
}
template <class T>
inline Vec<T> masked_load(const T*, Mask<T>) {
    return Vec<T>{};
}
template <class T>
inline void masked_store(T*, Vec<T>, Mask<T>) {}
template <class T>
inline Vec<T> merged_load(Vec<T> v, const T*, Mask<T>) {
    return v;
}
#endif

// Those of the lanes that are even.
template <class T>
inline Mask<T> even_mask(Mask<T> mask) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    IntVec<T> lane;
    for (int i = 0; i < kLanes<T>; ++i) lane[i] = i;
    return mask & ((lane & 1) == 0);
#else
    return mask & 0x55555555u;
#endif
}

// The first `count` lanes, 0 <= count <= lanes; memory beyond them is not touched.
template <class T>
inline Vec<T> load_first(const T* p, Index count) {
    if (count == kLanes<T>) return load(p);
    if constexpr (kHasMaskedLoad) return masked_load(p, lane_mask<T>(0, int(count)));
    Vec<T> v{};
    for (Index lane = 0; lane < count; ++lane) v[lane] = p[lane];
    return v;
}
template <class T>
inline void store_first(T* p, Vec<T> v, Index count) {
    if (count == kLanes<T>) {
        store(p, v);
    } else if constexpr (kHasMaskedLoad) {
        masked_store(p, v, lane_mask<T>(0, int(count)));
    } else {
        for (Index lane = 0; lane < count; ++lane) p[lane] = v[lane];
    }
}

// Puts the COUNT elements from p on, a part of a vector, into the lanes from `first` on.
template <int COUNT, class T>
inline void load_part(Vec<T>& v, const T* p, int first) {
#if defined(__AVX512F__)
    // broadcasts of a part touch no other line of memory, where a masked load of the whole does
    constexpr int kBytes = COUNT * int(sizeof(T)), kWords = int(sizeof(T)) / 4;
    const unsigned of_words = ((1u << COUNT * kWords) - 1) << first * kWords;
    const __mmask8 mask = (__mmask8)((1u << kBytes / 8) - 1) << first * kWords / 2;
    if constexpr (kBytes == 4) {
        v = (Vec<T>)_mm512_mask_broadcastss_ps((__m512)v, (__mmask16)of_words, _mm_load_ss(p));
    } else if constexpr (kBytes == 8) {
        v = (Vec<T>)_mm512_mask_broadcastsd_pd((__m512d)v, mask, _mm_load_sd((const double*)p));
    } else if constexpr (kBytes == 16) {
        v = (Vec<T>)_mm512_mask_broadcast_f64x2((__m512d)v, mask, _mm_loadu_pd((const double*)p));
    } else {
        v = (Vec<T>)_mm512_mask_broadcast_f64x4((__m512d)v, mask,
                                                _mm256_loadu_pd((const double*)p));
    }
#else
    for (int i = 0; i < COUNT; ++i) v[first + i] = p[i];
#endif
}

// The same with `count` elements.
template <class T>
inline void load_lanes(Vec<T>& v, const T* p, int first, int count) {
    if constexpr (kHasMaskedLoad) {
        v = merged_load(v, p - first, lane_mask<T>(first, first + count));
    } else {
        for (int i = 0; i < count && first + i < kLanes<T>; ++i) v[first + i] = p[i];
    }
}

template <class T>
inline Vec<T> bitwise_or(Vec<T> a, Vec<T> b) {
    return (Vec<T>)((IntVec<T>)a | (IntVec<T>)b);
}

// Every second lane of two vectors, from lane `first` on.
template <class T, int FIRST, int... LANE>
inline Vec<T> alternate(Vec<T> a, Vec<T> b, LaneList<LANE...>) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, (2 * LANE + FIRST)...);
#else
    return __builtin_shuffle(a, b, IntVec<T>{(2 * LANE + FIRST)...});
#endif
}
template <class T>
inline Vec<T> even_lanes(Vec<T> a, Vec<T> b) {
    return alternate<T, 0>(a, b, AllLanes<kLanes<T>>{});
}
template <class T>
inline Vec<T> odd_lanes(Vec<T> a, Vec<T> b) {
    return alternate<T, 1>(a, b, AllLanes<kLanes<T>>{});
}

// The lanes of a half of either vector, from lane FIRST on, in turn.
template <class T, int FIRST, int... LANE>
inline Vec<T> zip(Vec<T> a, Vec<T> b, LaneList<LANE...>) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, (LANE % 2 * kLanes<T> + FIRST + LANE / 2)...);
#else
    return __builtin_shuffle(a, b, IntVec<T>{(LANE % 2 * kLanes<T> + FIRST + LANE / 2)...});
#endif
}
template <class T>
inline Vec<T> zip_low(Vec<T> a, Vec<T> b) {
    return zip<T, 0>(a, b, AllLanes<kLanes<T>>{});
}
template <class T>
inline Vec<T> zip_high(Vec<T> a, Vec<T> b) {
    return zip<T, kLanes<T> / 2>(a, b, AllLanes<kLanes<T>>{});
}
// Lane i is lane index[i] of v.
template <class T>
inline Vec<T> permute(Vec<T> v, IntVec<T> index) {
#if defined(__AVX512F__)
    // masks that say nothing, as in convert.hpp
    if constexpr (sizeof(T) == 4) {
        return (Vec<T>)_mm512_maskz_permutexvar_epi32(0xffff, (__m512i)index, (__m512i)v);
    } else {
        return (Vec<T>)_mm512_maskz_permutexvar_epi64(0xff, (__m512i)index, (__m512i)v);
    }
#else
#if defined(__AVX2__)
    if constexpr (sizeof(T) == 4) {
        return (Vec<T>)_mm256_permutevar8x32_epi32((__m256i)v, (__m256i)index);
    }
#endif
    Vec<T> permuted;
    for (int i = 0; i < kLanes<T>; ++i) permuted[i] = v[index[i]];
    return permuted;
#endif
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
