// Winograd's minimal filtering F(M, R): M outputs of R taps from SIZE = M + R - 1 products
// (Winograd, "Arithmetic complexity of computations", 1980; Lavin and Gray, "Fast algorithms for
// convolutional neural networks", 2016), in two dimensions on SIZE x SIZE tiles. Lanes are
// channels.
//
// The interpolation points are 0, pairs +-p, and infinity. With N(x) the product of (x - p) over
// all points but one, the input is reduced by the coefficients of N, the weights evaluated at the
// point and divided by N(p), and the outputs evaluated at powers of the points: even and odd powers
// of a pair share their sums. Points are such that every coefficient of the input and output
// transforms is a dyadic fraction, exact in float32.
#pragma once

#include "kernels/vec.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Pairs of points, of those tried the ones whose largest errors on single large pixels are least:
// +-3/4, +-5/4 have a third of the errors of the usual +-1, +-2, and three pairs 0.6 times those of
// +-1/2, +-1, +-2, which beside that round alike, being powers of two.
constexpr double kPoints[3][3] = {{1.0}, {0.75, 1.25}, {1.0, 0.5625, 1.75}};

template <int PAIRS>
struct Interpolation {
    double point[PAIRS];
    double all[PAIRS + 1];           // coefficients of the product of (y - p^2) over all pairs
    double but_one[PAIRS][PAIRS];    // and over all pairs but one
    double at_zero, at_pair[PAIRS];  // N of each point at that point

    constexpr Interpolation() : point{}, all{}, but_one{}, at_zero(1), at_pair{} {
        for (int i = 0; i < PAIRS; ++i) point[i] = kPoints[PAIRS - 1][i];
        for (int i = 0; i < PAIRS; ++i) {
            multiply(but_one[i], i);
            at_zero *= -point[i] * point[i];
            at_pair[i] = 2 * point[i] * point[i];
            for (int j = 0; j < PAIRS; ++j) {
                if (j != i) at_pair[i] *= point[i] * point[i] - point[j] * point[j];
            }
        }
        multiply(all, PAIRS);
    }

  private:
    constexpr void multiply(double* product, int left_out) const {
        product[0] = 1;
        int degree = 0;
        for (int i = 0; i < PAIRS; ++i) {
            if (i == left_out) continue;
            product[++degree] = 0;
            for (int k = degree; k >= 0; --k) {
                product[k] = (k ? product[k - 1] : 0) - point[i] * point[i] * product[k];
            }
        }
    }
};

// d becomes its values at 0, +p, -p, ..., infinity.
template <class T, int PAIRS>
inline void transform_input(Vec<T> (&d)[2 * PAIRS + 2]) {
    constexpr Interpolation<PAIRS> kAt;
    Vec<T> zero = d[2 * PAIRS], infinity = d[2 * PAIRS + 1], plus[PAIRS], minus[PAIRS];
#pragma GCC unroll 4
    for (int k = PAIRS - 1; k >= 0; --k) {
        zero += d[2 * k] * T(kAt.all[k]);
        infinity += d[2 * k + 1] * T(kAt.all[k]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < PAIRS; ++i) {
        Vec<T> even = d[2 * PAIRS], odd = d[2 * PAIRS - 1];
#pragma GCC unroll 4
        for (int k = PAIRS - 2; k >= 0; --k) {
            even += d[2 * k + 2] * T(kAt.but_one[i][k]);
            odd += d[2 * k + 1] * T(kAt.but_one[i][k]);
        }
        plus[i] = even + odd * T(kAt.point[i]);
        minus[i] = even - odd * T(kAt.point[i]);
    }
    d[0] = zero;
#pragma GCC unroll 4
    for (int i = 0; i < PAIRS; ++i) {
        d[2 * i + 1] = plus[i];
        d[2 * i + 2] = minus[i];
    }
    d[2 * PAIRS + 1] = infinity;
}

constexpr double power(double base, int exponent) {
    double result = 1;
    for (int i = 0; i < exponent; ++i) result *= base;
    return result;
}

// y[k] = sum of d at each point times the point's k-th power; infinity counts in the last alone.
template <class T, int PAIRS, int OUTPUTS>
inline void transform_output(const Vec<T> (&d)[2 * PAIRS + 2], Vec<T> (&y)[OUTPUTS]) {
    constexpr Interpolation<PAIRS> kAt;
    Vec<T> sum[PAIRS], difference[PAIRS];
#pragma GCC unroll 4
    for (int i = 0; i < PAIRS; ++i) {
        sum[i] = d[2 * i + 1] + d[2 * i + 2];
        difference[i] = d[2 * i + 1] - d[2 * i + 2];
    }
#pragma GCC unroll 8
    for (int k = 0; k < OUTPUTS; ++k) {
        Vec<T> value =
            k % 2 ? difference[0] * T(power(kAt.point[0], k)) : sum[0] * T(power(kAt.point[0], k));
#pragma GCC unroll 4
        for (int i = 1; i < PAIRS; ++i) {
            value += (k % 2 ? difference[i] : sum[i]) * T(power(kAt.point[i], k));
        }
        if (k == 0) value += d[0];
        if (k == OUTPUTS - 1) value += d[2 * PAIRS + 1];
        y[k] = value;
    }
}

// One tile of one vector of channels: pixels at `x`, values `v_pitch` apart at `v`.
template <class T, int PAIRS>
void winograd_input(const T* x, Index row_pitch, Index pixel_pitch, T* v, Index v_pitch) {
    constexpr int kSize = 2 * PAIRS + 2;
    Vec<T> half[kSize][kSize];
    for (int j = 0; j < kSize; ++j) {
        Vec<T> d[kSize];
#pragma GCC unroll 8
        for (int i = 0; i < kSize; ++i) d[i] = load(x + i * row_pitch + j * pixel_pitch);
        transform_input<T, PAIRS>(d);
#pragma GCC unroll 8
        for (int i = 0; i < kSize; ++i) half[i][j] = d[i];
    }
    for (int i = 0; i < kSize; ++i) {
        transform_input<T, PAIRS>(half[i]);
#pragma GCC unroll 8
        for (int j = 0; j < kSize; ++j) store(v + (i * kSize + j) * v_pitch, half[i][j]);
    }
}

template <class T, int PAIRS, int OUTPUTS>
void winograd_output(const T* m, Index m_pitch, const T* bias, T* y, Index row_pitch,
                     Index pixel_pitch) {
    constexpr int kSize = 2 * PAIRS + 2;
    Vec<T> half[OUTPUTS][kSize];
    for (int j = 0; j < kSize; ++j) {
        Vec<T> d[kSize], column[OUTPUTS];
#pragma GCC unroll 8
        for (int i = 0; i < kSize; ++i) d[i] = load(m + (i * kSize + j) * m_pitch);
        transform_output<T, PAIRS, OUTPUTS>(d, column);
#pragma GCC unroll 8
        for (int i = 0; i < OUTPUTS; ++i) half[i][j] = column[i];
    }
    const Vec<T> added = load(bias);
    for (int i = 0; i < OUTPUTS; ++i) {
        Vec<T> row[OUTPUTS];
        transform_output<T, PAIRS, OUTPUTS>(half[i], row);
#pragma GCC unroll 8
        for (int j = 0; j < OUTPUTS; ++j) {
            store(y + i * row_pitch + j * pixel_pitch, row[j] + added);
        }
    }
}

// Double-precision lanes of weights: half a vector of float32, or a vector of float64.
template <class T>
struct WideLanes;
template <>
struct WideLanes<double> {
    static Vec<double> widen(const double* p) { return load(p); }
    static void narrow(double* p, Vec<double> v) { store(p, v); }
};
template <>
struct WideLanes<float> {
    typedef float Half __attribute__((vector_size(FASTCONV_VECTOR_BYTES / 2)));
    typedef float HalfAt
        __attribute__((vector_size(FASTCONV_VECTOR_BYTES / 2), aligned(4), may_alias));
    static Vec<double> widen(const float* p) {
        return __builtin_convertvector((Half) * reinterpret_cast<const HalfAt*>(p), Vec<double>);
    }
    static void narrow(float* p, Vec<double> v) {
        *reinterpret_cast<HalfAt*>(p) = __builtin_convertvector(v, Half);
    }
};

// TAPS vectors of w evaluated at the points and divided by N there.
template <int PAIRS, int TAPS>
inline void transform_weights(const Vec<double> (&w)[TAPS], Vec<double> (&u)[2 * PAIRS + 2]) {
    constexpr Interpolation<PAIRS> kAt;
    u[0] = w[0] * (1 / kAt.at_zero);
#pragma GCC unroll 4
    for (int i = 0; i < PAIRS; ++i) {
        Vec<double> even = w[0] * (1 / kAt.at_pair[i]);
        Vec<double> odd = w[1] * (kAt.point[i] / kAt.at_pair[i]);
#pragma GCC unroll 8
        for (int k = 2; k < TAPS; ++k) {
            (k % 2 ? odd : even) += w[k] * (power(kAt.point[i], k) / kAt.at_pair[i]);
        }
        u[2 * i + 1] = even + odd;
        u[2 * i + 2] = even - odd;
    }
    u[2 * PAIRS + 1] = w[TAPS - 1];
}

// One vector of output channels: TAPS * TAPS vectors at `w`; rounded once, from double.
template <class T, int PAIRS, int OUTPUTS>
void winograd_weights(const T* w, T* u, Index u_pitch) {
    constexpr int kSize = 2 * PAIRS + 2, kTaps = kSize - OUTPUTS + 1, kL = kLanes<T>;
    alignas(64) T tile[kSize * kSize * kL];  // positions may be a power of two apart at u
    for (int lane = 0; lane < kL; lane += kLanes<double>) {
        Vec<double> half[kSize][kTaps];
        for (int s = 0; s < kTaps; ++s) {
            Vec<double> tap[kTaps], column[kSize];
#pragma GCC unroll 5
            for (int r = 0; r < kTaps; ++r) {
                tap[r] = WideLanes<T>::widen(w + (r * kTaps + s) * kL + lane);
            }
            transform_weights<PAIRS, kTaps>(tap, column);
#pragma GCC unroll 8
            for (int i = 0; i < kSize; ++i) half[i][s] = column[i];
        }
        for (int i = 0; i < kSize; ++i) {
            Vec<double> row[kSize];
            transform_weights<PAIRS, kTaps>(half[i], row);
#pragma GCC unroll 8
            for (int j = 0; j < kSize; ++j) {
                WideLanes<T>::narrow(tile + (i * kSize + j) * kL + lane, row[j]);
            }
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < kSize * kSize; ++i) store(u + i * u_pitch, load(tile + i * kL));
}

// The functions of one tile shape.
template <class T>
struct TileTransforms {
    int size, outputs, taps;
    void (*input)(const T* x, Index row_pitch, Index pixel_pitch, T* v, Index v_pitch);
    void (*output)(const T* m, Index m_pitch, const T* bias, T* y, Index row_pitch,
                   Index pixel_pitch);
    void (*weights)(const T* w, T* u, Index u_pitch);
};

template <class T, int PAIRS, int OUTPUTS>
constexpr TileTransforms<T> tile_transforms() {
    return {2 * PAIRS + 2,
            OUTPUTS,
            2 * PAIRS + 3 - OUTPUTS,
            winograd_input<T, PAIRS>,
            winograd_output<T, PAIRS, OUTPUTS>,
            winograd_weights<T, PAIRS, OUTPUTS>};
}

// In the order of WinogradTile.
template <class T>
constexpr TileTransforms<T> kTileTransforms[] = {
    tile_transforms<T, 1, 2>(), tile_transforms<T, 2, 4>(), tile_transforms<T, 3, 6>(),
    tile_transforms<T, 2, 2>(), tile_transforms<T, 3, 4>(),
};

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
