// Where a padded index comes from: numpy.pad's modes in closed form (fastconv/borders.py).
#pragma once

#include "problem.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

inline Index least(Index a, Index b) {
    return a < b ? a : b;
}
inline Index most(Index a, Index b) {
    return a > b ? a : b;
}
inline Index ceil_div(Index a, Index b) {
    return (a + b - 1) / b;
}

inline Index modulo(Index a, Index b) {
    const Index rest = a % b;
    return rest < 0 ? rest + b : rest;
}

// Index into an axis of `size` elements, or -1 where the border is a constant zero.
inline Index source_index(Index i, Index size, PadMode mode) {
    if (i >= 0 && i < size) return i;
    switch (mode) {
        case PadMode::kConstant:
            return -1;
        case PadMode::kEdge:
            return i < 0 ? 0 : size - 1;
        case PadMode::kWrap:
            return modulo(i, size);
        case PadMode::kSymmetric: {
            const Index folded = modulo(i, 2 * size);
            return least(folded, 2 * size - 1 - folded);
        }
        case PadMode::kReflect:
            break;
    }
    if (size == 1) return 0;
    const Index folded = modulo(i, 2 * (size - 1));
    return least(folded, 2 * (size - 1) - folded);
}

// Lanes [begin, end) of a run read inside the image; the others read the border.
struct Inside {
    Index begin, end;
};

inline Inside inside_lanes(Index first, Index step, Index length, Index size) {
    const Index begin = first >= 0 ? 0 : least(length, ceil_div(-first, step));
    const Index end = first >= size ? 0 : least(length, ceil_div(size - first, step));
    return {begin, most(begin, end)};
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
