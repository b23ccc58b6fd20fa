// Where a padded index comes from: the closed form of numpy.pad's modes.
#pragma once

#include "primitives.cuh"

// In the order of fastconv.borders.PAD_MODES.
enum PadMode { PAD_CONSTANT, PAD_EDGE, PAD_REFLECT, PAD_SYMMETRIC, PAD_WRAP };

// Remainder in [0, period), also for negative numbers.
template <typename Index>
DEVICE Index floor_modulo(Index value, Index period) {
    const Index remainder = value % period;
    return remainder < 0 ? remainder + period : remainder;
}

// Index into [0, size), or -1 where a zero is read.
template <PadMode MODE, typename Index>
DEVICE Index source_index(Index index, Index size) {
    if (index >= 0 && index < size) {
        return index;
    }
    if constexpr (MODE == PAD_EDGE) {
        return index < 0 ? 0 : size - 1;
    } else if constexpr (MODE == PAD_WRAP) {
        return floor_modulo(index, size);
    } else if constexpr (MODE == PAD_SYMMETRIC) {
        const Index folded = floor_modulo(index, 2 * size);
        return folded < size ? folded : 2 * size - 1 - folded;
    } else if constexpr (MODE == PAD_REFLECT) {
        if (size == 1) {
            return 0;
        }
        const Index folded = floor_modulo(index, 2 * (size - 1));
        return folded < size ? folded : 2 * (size - 1) - folded;
    } else {
        return -1;
    }
}
