// Pixels of other numbers than those computed with, converted as they are copied: every value of
// the types below is one of the wider floating-point type too.
#pragma once

#include "kernels/copy.hpp"
#include "kernels/vec.hpp"
#include "problem.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Copies `count` elements `step` apart as T.
template <class T, class S>
inline void convert_strided(T* to, const S* from, Index step, Index count) {
    constexpr Index kL = kLanes<T>;
    typedef S Narrow __attribute__((vector_size(kL * sizeof(S)), aligned(alignof(S)), may_alias));
    typedef int Whole __attribute__((vector_size(kL * sizeof(int))));
    const auto convert = [&](Index i) {
        const Narrow v = *reinterpret_cast<const Narrow*>(from + i);
        if constexpr (sizeof(S) < sizeof(int)) {  // what instructions there are start from int
            store(to + i, __builtin_convertvector(__builtin_convertvector(v, Whole), Vec<T>));
        } else {
            store(to + i, __builtin_convertvector(v, Vec<T>));
        }
    };
    if (step != 1 || count < kL) {
        for (Index i = 0; i < count; ++i) to[i] = T(from[i * step]);
        return;
    }
    for (Index i = 0; i + kL < count; i += kL) convert(i);
    convert(count - kL);  // over the last whole vector's end, with the same values
}

template <class T>
inline void convert_strided(T* to, const T* from, Index step, Index count) {
    copy_strided(to, from, step, count);
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
