// Short copies of exact length: packing moves runs of a few to a few dozen elements, for which a
// call to memcpy costs more than the copy, and may not touch a byte beyond either end.
#pragma once

#include "kernels/vec.hpp"
#include "problem.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <class T, int N>
struct Chunk {
    T item[N];
};

// Copies `count` < 2 * N elements with two chunks of N that may overlap, or with smaller ones.
template <class T, int N>
inline void copy_short(T* to, const T* from, Index count) {
    if constexpr (N == 1) {
        if (count) *to = *from;
    } else {
        if (count < N) return copy_short<T, N / 2>(to, from, count);
        Chunk<T, N> head, tail;
        __builtin_memcpy(&head, from, sizeof head);
        __builtin_memcpy(&tail, from + count - N, sizeof tail);
        __builtin_memcpy(to, &head, sizeof head);
        __builtin_memcpy(to + count - N, &tail, sizeof tail);
    }
}

template <class T>
inline void copy_run(T* to, const T* from, Index count) {
    constexpr int kL = kLanes<T>;
    Index i = 0;
    for (; i + 2 * kL <= count; i += kL) store(to + i, load(from + i));
    copy_short<T, kL>(to + i, from + i, count - i);
}

template <class T>
inline void fill_zero(T* to, Index count) {
    for (Index i = 0; i < count; ++i) to[i] = T(0);
}

// Gathers `count` elements `step` apart; the steps of real networks get loops of their own, which
// the compiler turns into shuffles.
template <class T>
inline void copy_strided(T* to, const T* from, Index step, Index count) {
    if (step == 1) {
        copy_run(to, from, count);
    } else if (step == 2) {
        for (Index i = 0; i < count; ++i) to[i] = from[2 * i];
    } else {
        for (Index i = 0; i < count; ++i) to[i] = from[step * i];
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
