// Square blocks of vectors, turned: lanes become rows.
#pragma once

#include "kernels/vec.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define FASTCONV_HAS_SHUFFLE 1
#endif
#endif

#if defined(FASTCONV_HAS_SHUFFLE)
// Exchanges the blocks of SPAN lanes that lie across the diagonal in two rows that are SPAN apart:
// log2(lanes) such passes over all pairs transpose a square of vectors.
template <int SPAN, class T, int... LANE>
inline void exchange(Vec<T>& upper, Vec<T>& lower, LaneList<LANE...>) {
    constexpr int kL = kLanes<T>;
    const Vec<T> a = upper, b = lower;
    upper = __builtin_shufflevector(a, b, (LANE & SPAN ? kL + LANE - SPAN : LANE)...);
    lower = __builtin_shufflevector(a, b, (LANE & SPAN ? kL + LANE : LANE + SPAN)...);
}

template <int SPAN, class T, int ROWS>
inline void exchange_all(Vec<T> (&rows)[ROWS]) {
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
        if (!(i & SPAN)) exchange<SPAN, T>(rows[i], rows[i + SPAN], AllLanes<kLanes<T>>{});
    }
    if constexpr (2 * SPAN < ROWS) exchange_all<2 * SPAN, T>(rows);
}

// Transposes each of the lanes / ROWS squares that lie side by side.
template <class T, int ROWS>
inline void transpose_parts(Vec<T> (&rows)[ROWS]) {
    if constexpr (ROWS > 1) exchange_all<1, T>(rows);
}
#else
template <class T, int ROWS>
inline void transpose_parts(Vec<T> (&rows)[ROWS]) {
    for (int first = 0; first < kLanes<T>; first += ROWS) {
        for (int i = 0; i < ROWS; ++i) {
            for (int j = 0; j < i; ++j) {
                const T kept = rows[i][first + j];
                rows[i][first + j] = rows[j][first + i];
                rows[j][first + i] = kept;
            }
        }
    }
}
#endif

template <class T>
inline void transpose(Vec<T> (&rows)[kLanes<T>]) {
    transpose_parts<T>(rows);
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
