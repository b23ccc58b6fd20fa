// The SIMD type: a compiler vector extension of the width this translation unit is compiled for.
#pragma once

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
#elif defined(__AVX2__)
constexpr bool kHasMaskedLoad = true;
template <class T>
using Mask = IntVec<T>;

template <class T>
inline Mask<T> lane_mask(int begin, int end) {
    Mask<T> mask;
    for (int i = 0; i < kLanes<T>; ++i) mask[i] = i >= begin && i < end ? -1 : 0;
    return mask;
}
inline Vec<float> masked_load(const float* p, Mask<float> mask) {
    return (Vec<float>)_mm256_maskload_ps(p, (__m256i)mask);
}
inline Vec<double> masked_load(const double* p, Mask<double> mask) {
    return (Vec<double>)_mm256_maskload_pd(p, (__m256i)mask);
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
#endif

template <class T>
inline Vec<T> bitwise_or(Vec<T> a, Vec<T> b) {
    return (Vec<T>)((IntVec<T>)a | (IntVec<T>)b);
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
