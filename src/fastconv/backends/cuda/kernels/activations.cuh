// The activations, as fastconv.activations defines them; the codes are its codes.
#pragma once

#include "primitives.cuh"

enum Activation {
    ACTIVATION_NONE,
    ACTIVATION_RELU,
    ACTIVATION_RELU6,
    ACTIVATION_LEAKY_RELU,
    ACTIVATION_SIGMOID,
    ACTIVATION_TANH,
    ACTIVATION_SILU,
    ACTIVATION_GELU,
    ACTIVATION_HARDSWISH,
};

// Comparisons are written so that a NaN fails them and is handed on; minimum and maximum drop it.
template <typename T>
DEVICE T clip(T v, T low, T high) {
    return v < low ? low : v > high ? high : v;
}

// exp of a non-positive argument only, so that nothing overflows.
template <typename T>
DEVICE T sigmoid(T v) {
    const T e = exponential(-absolute(v));
    return (v < T(0) ? e : T(1)) / (T(1) + e);
}

// v * f(v) that tends to 0 at -inf, where the product would be -inf * 0.
template <typename T>
DEVICE T gated(T v, T gate) {
    return gate == T(0) ? T(0) : v * gate;
}

template <Activation ACTIVATION_CODE, typename T>
DEVICE T activate(T v) {
    if constexpr (ACTIVATION_CODE == ACTIVATION_RELU) {
        return v < T(0) ? T(0) : v;
    } else if constexpr (ACTIVATION_CODE == ACTIVATION_RELU6) {
        return clip(v, T(0), T(6));
    } else if constexpr (ACTIVATION_CODE == ACTIVATION_LEAKY_RELU) {
        return v < T(0) ? v * T(LEAKY_SLOPE) : v;
    } else if constexpr (ACTIVATION_CODE == ACTIVATION_SIGMOID) {
        return sigmoid(v);
    } else if constexpr (ACTIVATION_CODE == ACTIVATION_TANH) {
        return hyperbolic_tangent(v);
    } else if constexpr (ACTIVATION_CODE == ACTIVATION_SILU) {
        return gated(v, sigmoid(v));
    } else if constexpr (ACTIVATION_CODE == ACTIVATION_GELU) {
        const T sqrt_half = T(0.70710678118654752440);
        return gated(v, complementary_error(-v * sqrt_half) * T(0.5));
    } else if constexpr (ACTIVATION_CODE == ACTIVATION_HARDSWISH) {
        return gated(v, clip(v + T(3), T(0), T(6)) / T(6));
    } else {
        return v;
    }
}
