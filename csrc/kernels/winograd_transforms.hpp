// Winograd's minimal filtering in two dimensions, on tiles of ROWS x COLUMNS outputs, HEIGHT x
// WIDTH pixels: one dimension (kernels/winograd_points.hpp) after the other. Lanes are channels.
#pragma once

#include "kernels/kernels.hpp"
#include "kernels/winograd_points.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// One tile of one vector of channels: pixels at `x`, values `v_pitch` apart at `v`.
template <class T, int HEIGHT, int WIDTH>
void winograd_input(const T* x, Index row_pitch, Index pixel_pitch, T* v, Index v_pitch) {
    Vec<T> half[HEIGHT][WIDTH];
    for (int j = 0; j < WIDTH; ++j) {
        Vec<T> d[HEIGHT];
#pragma GCC unroll 8
        for (int i = 0; i < HEIGHT; ++i) d[i] = load(x + i * row_pitch + j * pixel_pitch);
        transform_input<T>(d);
#pragma GCC unroll 8
        for (int i = 0; i < HEIGHT; ++i) half[i][j] = d[i];
    }
    for (int i = 0; i < HEIGHT; ++i) {
        transform_input<T>(half[i]);
#pragma GCC unroll 8
        for (int j = 0; j < WIDTH; ++j) store(v + (i * WIDTH + j) * v_pitch, half[i][j]);
    }
}

template <class T, int ROWS, int COLUMNS, int TAPS>
void winograd_output(const T* m, Index m_pitch, const T* bias, T* y, Index row_pitch,
                     Index pixel_pitch) {
    constexpr int kHeight = ROWS + TAPS - 1, kWidth = COLUMNS + TAPS - 1;
    Vec<T> half[ROWS][kWidth];
    for (int j = 0; j < kWidth; ++j) {
        Vec<T> d[kHeight], column[ROWS];
#pragma GCC unroll 8
        for (int i = 0; i < kHeight; ++i) d[i] = load(m + (i * kWidth + j) * m_pitch);
        transform_output<T>(d, column);
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; ++i) half[i][j] = column[i];
    }
    const Vec<T> added = load(bias);
    for (int i = 0; i < ROWS; ++i) {
        Vec<T> row[COLUMNS];
        transform_output<T>(half[i], row);
#pragma GCC unroll 8
        for (int j = 0; j < COLUMNS; ++j) {
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

// One vector of output channels: TAPS * TAPS vectors at `w`; rounded once, from double.
template <class T, int HEIGHT, int WIDTH, int TAPS>
void winograd_weights(const T* w, T* u, Index u_pitch) {
    constexpr int kL = kLanes<T>;
    alignas(64) T tile[HEIGHT * WIDTH * kL];  // positions may be a power of two apart at u
    for (int lane = 0; lane < kL; lane += kLanes<double>) {
        Vec<double> half[HEIGHT][TAPS];
        for (int s = 0; s < TAPS; ++s) {
            Vec<double> tap[TAPS], column[HEIGHT];
#pragma GCC unroll 5
            for (int r = 0; r < TAPS; ++r) {
                tap[r] = WideLanes<T>::widen(w + (r * TAPS + s) * kL + lane);
            }
            transform_weights(tap, column);
#pragma GCC unroll 8
            for (int i = 0; i < HEIGHT; ++i) half[i][s] = column[i];
        }
        for (int i = 0; i < HEIGHT; ++i) {
            Vec<double> row[WIDTH];
            transform_weights(half[i], row);
#pragma GCC unroll 8
            for (int j = 0; j < WIDTH; ++j) {
                WideLanes<T>::narrow(tile + (i * WIDTH + j) * kL + lane, row[j]);
            }
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < HEIGHT * WIDTH; ++i) store(u + i * u_pitch, load(tile + i * kL));
}

// The functions of one tile shape.
template <class T>
struct TileTransforms {
    void (*input)(const T* x, Index row_pitch, Index pixel_pitch, T* v, Index v_pitch);
    void (*output)(const T* m, Index m_pitch, const T* bias, T* y, Index row_pitch,
                   Index pixel_pitch);
    void (*weights)(const T* w, T* u, Index u_pitch);
};

template <class T>
struct TileTransformsTable {
    TileTransforms<T> by_shape[kWinogradShapes];

    template <int SHAPE>
    constexpr void fill() {
        constexpr WinogradTile kTile = kWinogradTiles[SHAPE];
        by_shape[SHAPE] = {winograd_input<T, kTile.height(), kTile.width()>,
                           winograd_output<T, kTile.rows, kTile.columns, kTile.taps>,
                           winograd_weights<T, kTile.height(), kTile.width(), kTile.taps>};
        if constexpr (SHAPE > 0) fill<SHAPE - 1>();
    }
    constexpr TileTransformsTable() : by_shape{} { fill<kWinogradShapes - 1>(); }
};

template <class T>
constexpr TileTransformsTable<T> kTileTransforms{};

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
