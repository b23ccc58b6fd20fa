// From stored numbers to the accumulator and back.
#pragma once

#include "primitives.cuh"

template <typename Accumulator, typename Stored>
DEVICE Accumulator widen(Stored value) {
    return static_cast<Accumulator>(value);
}

template <>
DEVICE float widen<float, half_bits>(half_bits value) {
    return half_to_float(value);
}

// Integers are cut off modulo 2**bits, floats rounded once.
template <typename Result, typename Accumulator>
DEVICE Result narrow(Accumulator value) {
    return static_cast<Result>(value);
}

template <>
DEVICE half_bits narrow<half_bits, float>(float value) {
    return float_to_half(value);
}
