// The last pass over a tile of y while it is still in cache: bias, then activation.
#pragma once

#include "kernels/vec.hpp"
#include "problem.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <class T>
struct ExpConstants;
// `shift` is 1.5 * 2^mantissa: adding it rounds to an integer and leaves that integer in the low
// bits. ln2 is split so that n * ln2_high is exact for every n that occurs.
template <>
struct ExpConstants<float> {
    static constexpr float shift = 12582912.0f, log2_e = 1.44269504088896341f;
    static constexpr float ln2_high = 0.693145751953125f, ln2_low = 1.42860682030941723e-6f;
    static constexpr float lowest = -87.0f;
    static constexpr int mantissa_bits = 23, bias = 127, terms = 7;
};
template <>
struct ExpConstants<double> {
    static constexpr double shift = 6755399441055744.0, log2_e = 1.44269504088896340736;
    static constexpr double ln2_high = 0.693147180369123816490,
                            ln2_low = 1.90821492927058770002e-10;
    static constexpr double lowest = -708.0;
    static constexpr int mantissa_bits = 52, bias = 1023, terms = 13;
};

template <class T>
struct ExpParts {
    Vec<T> scale;  // 2^n
    Vec<T> expm1;  // exp(r) - 1 with |r| <= ln(2) / 2
};

// exp(v) = scale * (1 + expm1) for lowest <= v <= 0 (lower values are taken as lowest). Taylor
// series: the first term left out is below a quarter of the unit roundoff on |r| <= 0.3466.
template <class T>
inline ExpParts<T> exp_of_nonpositive(Vec<T> v) {
    using C = ExpConstants<T>;
    v = v < splat(C::lowest) ? splat(C::lowest) : v;
    const Vec<T> shifted = v * C::log2_e + C::shift;
    const Vec<T> n = shifted - C::shift;
    const Vec<T> r = (v - n * C::ln2_high) - n * C::ln2_low;
    T coefficient = 1;
    T inverse_factorial[C::terms + 1];
    for (int i = 1; i <= C::terms; ++i) inverse_factorial[i] = coefficient /= T(i);
    Vec<T> series = splat(inverse_factorial[C::terms]);
    for (int i = C::terms - 1; i >= 1; --i) series = series * r + inverse_factorial[i];
    const IntVec<T> exponent = (IntVec<T>)shifted + C::bias;
    return {(Vec<T>)(exponent << C::mantissa_bits), series * r};
}

template <class T>
inline Vec<T> absolute(Vec<T> v) {
    return v < 0 ? -v : v;
}

template <class T>
inline Vec<T> sigmoid(Vec<T> v) {
    const ExpParts<T> parts = exp_of_nonpositive<T>(-absolute<T>(v));
    const Vec<T> e = parts.scale * parts.expm1 + parts.scale;
    const Vec<T> tail = 1 / (1 + e);
    const Vec<T> y = v < 0 ? e * tail : tail;
    return v == v ? (v < splat(ExpConstants<T>::lowest) ? Vec<T>{} : y) : v;
}

template <class T>
inline Vec<T> hyperbolic_tangent(Vec<T> v) {
    // -expm1(-2|v|) / (2 + expm1(-2|v|)) keeps full relative accuracy near zero.
    const ExpParts<T> parts = exp_of_nonpositive<T>(-2 * absolute<T>(v));
    const Vec<T> t = parts.scale * parts.expm1 + (parts.scale - 1);
    const Vec<T> y = -t / (2 + t);
    return v == v ? (v < 0 ? -y : y) : v;
}

inline float half_erfc(float v) {
    return 0.5f * __builtin_erfcf(v * -0.707106781186547524f);
}
inline double half_erfc(double v) {
    return 0.5 * __builtin_erfc(v * -0.707106781186547524401);
}

template <class T>
inline Vec<T> gaussian_error_linear(Vec<T> v) {
    Vec<T> y;
    for (int i = 0; i < kLanes<T>; ++i) y[i] = v[i] < -40 ? T(0) : v[i] * half_erfc(v[i]);
    return y;
}

// NaN passes through every activation: comparisons with it are false.
template <class T>
inline Vec<T> activate(Vec<T> v, Activation activation) {
    const Vec<T> zero{};
    switch (activation) {
        case Activation::kRelu:
            return v < 0 ? zero : v;
        case Activation::kRelu6:
            return v < 0 ? zero : (v > 6 ? splat(T(6)) : v);
        case Activation::kLeakyRelu:
            return v < 0 ? v * T(0.01) : v;
        case Activation::kSigmoid:
            return sigmoid<T>(v);
        case Activation::kTanh:
            return hyperbolic_tangent<T>(v);
        case Activation::kSilu:
            // below -1000 the product is zero in both precisions, and -inf * 0 is never formed
            return v < -1000 ? zero : v * sigmoid<T>(v);
        case Activation::kGelu:
            return gaussian_error_linear<T>(v);
        case Activation::kHardswish: {
            // the slope first: v * 6 would overflow for large v
            const Vec<T> line = v * (((v > 3 ? splat(T(3)) : v) + 3) / 6);
            return v < -3 ? zero : line;
        }
        case Activation::kNone:
            break;
    }
    return v;
}

// Adds bias and applies the activation to `count` consecutive elements. `bias_step` is 1 where the
// elements are channels and 0 where they are pixels of one channel.
template <class T>
void finish_row(T* y, Index count, const T* bias, int bias_step, Activation activation) {
    constexpr int kL = kLanes<T>;
    for (Index i = 0; i < count; i += kL) {
        const int lanes = count - i < kL ? int(count - i) : kL;
        Vec<T> v{}, b{};
        if (lanes == kL) {
            v = load(y + i);
        } else {
            for (int lane = 0; lane < lanes; ++lane) v[lane] = y[i + lane];
        }
        if (bias && bias_step == 0) {
            b = splat(*bias);
        } else if (bias && lanes == kL) {
            b = load(bias + i);
        } else if (bias) {
            for (int lane = 0; lane < lanes; ++lane) b[lane] = bias[i + lane];
        }
        if (bias) v += b;
        v = activate<T>(v, activation);
        if (lanes == kL) {
            store(y + i, v);
        } else {
            for (int lane = 0; lane < lanes; ++lane) y[i + lane] = v[lane];
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
