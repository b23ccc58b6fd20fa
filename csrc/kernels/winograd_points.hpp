// Winograd's minimal filtering F(M, R) of one dimension: M outputs of R taps from SIZE = M + R - 1
// products (Winograd, "Arithmetic complexity of computations", 1980; Lavin and Gray, "Fast
// algorithms for convolutional neural networks", 2016).
//
// The interpolation points are SIZE - 1 numbers and infinity. With N(x) the product of (x - p) over
// all points but one, the input is reduced by the coefficients of N, the weights evaluated at the
// point and divided by N(p), and the outputs evaluated at powers of the points. Points are such
// that every coefficient of the input and output transforms is a dyadic fraction, exact in float32.
#pragma once

#include "kernels/vec.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr double power(double base, int exponent) {
    double result = 1;
    for (int i = 0; i < exponent; ++i) result *= base;
    return result;
}

// The finite points of a size: of those tried, the ones with the least errors of a single large
// pixel times a single large tap. Pairs +-p share the sums of even and of odd powers.
template <int SIZE>
struct Points;

template <>
struct Points<4> {
    static constexpr double kFinite[] = {0, 1, -1};
};

// A pair and two others, near minus their reciprocals: half the errors of the best two pairs.
template <>
struct Points<6> {
    static constexpr double kFinite[] = {0, 1, -1, -1.625, 0.625};
};

template <>
struct Points<7> {
    static constexpr double kFinite[] = {0.9375, -0.9375, 0.34375, -0.34375, 1.4375, -1.4375};
};

template <>
struct Points<8> {
    static constexpr double kFinite[] = {0, 1, -1, 0.5625, -0.5625, 1.75, -1.75};
};

// Polynomials of sets of pairs, in y = x^2.
template <int SIZE>
struct Interpolation {
    static constexpr int kZero = SIZE % 2 == 0, kPairs = (SIZE - 1 - kZero) / 2;
    double point[kPairs];
    double all[kPairs + 1];          // coefficients of the product of (y - p^2) over all pairs
    double but_one[kPairs][kPairs];  // and over all pairs but one

    constexpr Interpolation() : point{}, all{}, but_one{} {
        for (int i = 0; i < kPairs; ++i) point[i] = Points<SIZE>::kFinite[kZero + 2 * i];
        for (int i = 0; i < kPairs; ++i) multiply(but_one[i], i);
        multiply(all, kPairs);
    }

  private:
    constexpr void multiply(double* product, int left_out) const {
        product[0] = 1;
        int degree = 0;
        for (int i = 0; i < kPairs; ++i) {
            if (i == left_out) continue;
            product[++degree] = 0;
            for (int k = degree; k >= 0; --k) {
                product[k] = (k ? product[k - 1] : 0) - point[i] * point[i] * product[k];
            }
        }
    }
};

// N of every point but +-1 has the factor x^2 - 1, N of every point but a and b (x - a)(x - b).
template <class T>
inline void transform_six(Vec<T> (&d)[6]) {
    constexpr T kA = T(Points<6>::kFinite[3]), kB = T(Points<6>::kFinite[4]);
    Vec<T> e[4], g[2];
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) e[k] = d[k + 2] - d[k];
#pragma GCC unroll 2
    for (int k = 0; k < 2; ++k) g[k] = d[k + 3] - d[k + 2] * (kA + kB) + d[k + 1] * (kA * kB);
    d[0] = e[2] - e[1] * (kA + kB) + e[0] * (kA * kB);
    d[1] = g[1] + g[0];
    d[2] = g[1] - g[0];
    d[3] = e[2] - e[1] * kB;
    d[4] = e[2] - e[1] * kA;
    d[5] = e[3] - e[2] * (kA + kB) + e[1] * (kA * kB);
}

// d becomes its values at the points, infinity last.
template <class T, int SIZE>
inline void transform_input(Vec<T> (&d)[SIZE]) {
    if constexpr (SIZE == 6) return transform_six<T>(d);
    constexpr Interpolation<SIZE> kAt;
    constexpr int kZero = kAt.kZero, kPairs = kAt.kPairs;
    Vec<T> zero = d[2 * kPairs], infinity = d[SIZE - 1], plus[kPairs], minus[kPairs];
#pragma GCC unroll 4
    for (int k = kPairs - 1; k >= 0; --k) {
        zero += d[2 * k] * T(kAt.all[k]);
        infinity += d[2 * k + kZero] * T(kAt.all[k]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < kPairs; ++i) {
        Vec<T> even = d[SIZE - 2], odd = d[SIZE - 3];
#pragma GCC unroll 4
        for (int k = kPairs - 2; k >= 0; --k) {
            even += d[2 * k + 1 + kZero] * T(kAt.but_one[i][k]);
            odd += d[2 * k + kZero] * T(kAt.but_one[i][k]);
        }
        plus[i] = even + odd * T(kAt.point[i]);
        minus[i] = even - odd * T(kAt.point[i]);
    }
    if (kZero) d[0] = zero;
#pragma GCC unroll 4
    for (int i = 0; i < kPairs; ++i) {
        d[kZero + 2 * i] = plus[i];
        d[kZero + 2 * i + 1] = minus[i];
    }
    d[SIZE - 1] = infinity;
}

template <class T, int OUTPUTS>
inline void outputs_of_six(const Vec<T> (&d)[6], Vec<T> (&y)[OUTPUTS]) {
    constexpr double kA = Points<6>::kFinite[3], kB = Points<6>::kFinite[4];
    const Vec<T> sum = d[1] + d[2], difference = d[1] - d[2];
    y[0] = (sum + d[0]) + (d[3] + d[4]);
#pragma GCC unroll 4
    for (int k = 1; k < OUTPUTS; ++k) {
        y[k] = (k % 2 ? difference : sum) + d[4] * T(power(kB, k)) + d[3] * T(power(kA, k));
    }
    y[OUTPUTS - 1] += d[5];
}

// y[k] = sum of d at each point times the point's k-th power; infinity counts in the last alone.
template <class T, int SIZE, int OUTPUTS>
inline void transform_output(const Vec<T> (&d)[SIZE], Vec<T> (&y)[OUTPUTS]) {
    if constexpr (SIZE == 6) return outputs_of_six<T>(d, y);
    constexpr Interpolation<SIZE> kAt;
    constexpr int kZero = kAt.kZero, kPairs = kAt.kPairs;
    Vec<T> sum[kPairs], difference[kPairs];
#pragma GCC unroll 4
    for (int i = 0; i < kPairs; ++i) {
        sum[i] = d[kZero + 2 * i] + d[kZero + 2 * i + 1];
        difference[i] = d[kZero + 2 * i] - d[kZero + 2 * i + 1];
    }
#pragma GCC unroll 8
    for (int k = 0; k < OUTPUTS; ++k) {
        Vec<T> value =
            k % 2 ? difference[0] * T(power(kAt.point[0], k)) : sum[0] * T(power(kAt.point[0], k));
#pragma GCC unroll 4
        for (int i = 1; i < kPairs; ++i) {
            value += (k % 2 ? difference[i] : sum[i]) * T(power(kAt.point[i], k));
        }
        if (kZero && k == 0) value += d[0];
        if (k == OUTPUTS - 1) value += d[SIZE - 1];
        y[k] = value;
    }
}

// Powers of the points divided by N there.
template <int SIZE, int TAPS>
struct WeightMatrix {
    double at[SIZE - 1][TAPS];

    constexpr WeightMatrix() : at{} {
        for (int i = 0; i < SIZE - 1; ++i) {
            double others = 1;
            for (int j = 0; j < SIZE - 1; ++j) {
                if (j != i) others *= Points<SIZE>::kFinite[i] - Points<SIZE>::kFinite[j];
            }
            for (int k = 0; k < TAPS; ++k) at[i][k] = power(Points<SIZE>::kFinite[i], k) / others;
        }
    }
};

template <int SIZE, int TAPS>
inline void transform_weights(const Vec<double> (&w)[TAPS], Vec<double> (&u)[SIZE]) {
    constexpr WeightMatrix<SIZE, TAPS> kMatrix;
#pragma GCC unroll 8
    for (int i = 0; i < SIZE - 1; ++i) {
        u[i] = w[0] * kMatrix.at[i][0];
#pragma GCC unroll 8
        for (int k = 1; k < TAPS; ++k) u[i] += w[k] * kMatrix.at[i][k];
    }
    u[SIZE - 1] = w[TAPS - 1];
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
