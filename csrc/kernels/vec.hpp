// The SIMD type: a compiler vector extension of the width this translation unit is compiled for.
#pragma once

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

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
