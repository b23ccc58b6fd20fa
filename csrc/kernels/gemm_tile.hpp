// The micro-kernel: a tile of y in registers, one rank-1 update per step of the reduction.
#pragma once

#include "kernels/vec.hpp"
#include "problem.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Tile shapes of this instruction set: registers hold ROWS * VECTORS accumulators, VECTORS columns
// and one broadcast row.
#if defined(__AVX512F__)
constexpr int kRows = 14, kVectors = 2;
static_assert(kRows * kVectors + kVectors + 1 <= 32, "32 registers of 64 bytes");
#elif defined(__aarch64__)
constexpr int kRows = 7, kVectors = 3;  // GCC spills at 6 x 4
static_assert(kRows * kVectors + kVectors + 1 <= 32, "32 registers of 16 bytes");
#elif defined(__AVX2__)
constexpr int kRows = 6, kVectors = 2;
static_assert(kRows * kVectors + kVectors + 1 <= 16, "16 registers of 32 bytes");
#else
constexpr int kRows = 5, kVectors = 2;
static_assert(kRows * kVectors + kVectors + 2 <= 16, "16 registers, one for the product");
#endif

template <class T>
constexpr int kCols = kVectors * kLanes<T>;

// Steps of the reduction per pass over y.
template <class T>
constexpr int kMaxDepthBlock = 2048 / int(sizeof(T));

// Taps of a kernel whose pixels may be read from a copy with their border.
template <class T>
constexpr int kMaxBorderedTaps = kMaxDepthBlock<T> / 4;

// Packed rows lie either step by step (the rows of one step are consecutive) or row by row. That
// pitch is no multiple of 4 KiB, so that the rows do not fall into the same cache sets.
template <class T>
constexpr int kRowVectors = (kRows + kLanes<T> - 1) / kLanes<T>;
template <class T>
constexpr int kStepPitch = kRowVectors<T> * kLanes<T>;
template <class T>
constexpr int kRowPitch = kMaxDepthBlock<T> + 64 / int(sizeof(T));

// Offsets of evenly spaced steps, for packed operands.
template <class T, int PITCH>
struct EvenSteps {
    Index offset[kMaxDepthBlock<T>];
    constexpr EvenSteps() : offset{} {
        for (int i = 0; i < kMaxDepthBlock<T>; ++i) offset[i] = Index(i) * PITCH;
    }
};
template <class T, int PITCH>
constexpr EvenSteps<T, PITCH> kEvenSteps{};

// Where one operand is: step d of the reduction begins at data[offset[d]].
template <class T>
struct Operand {
    const T* data;
    const Index* offset;
    Index ahead;  // from a step to what is read after this tile: fetched while it is computed
    // Where the steps of a row follow each other, and rows each other, what follows is one stretch
    // that steps share: so many elements more lie between a step and what it fetches than between
    // the step before and what that one does.
    Index spread = 0;
};

// Row I of a tile is at base + I * one; from row kHalfRows on, at base + half + (I - kHalfRows) *
// one. Odd multiples are kept in registers and the hardware scales by 2 and 4, so that no address
// is computed in the loop but the base of the second half.
constexpr int kHalfRows = 7;
struct RowPitch {
    Index one, half;

    static RowPitch even(Index one) { return {one, kHalfRows * one}; }
};
struct RowPitches {
    Index one, three, five;
};

template <int I, class T>
inline const T* row_address(const T* base, const T* second_half, const RowPitches& pitch) {
    static_assert(kRows <= 2 * kHalfRows, "two halves");
    const T* from = I < kHalfRows ? base : second_half;
    constexpr int kI = I % kHalfRows;
    if constexpr (kI == 0) return from;
    if constexpr (kI == 1) return from + pitch.one;
    if constexpr (kI == 2) return from + 2 * pitch.one;
    if constexpr (kI == 3) return from + pitch.three;
    if constexpr (kI == 4) return from + 4 * pitch.one;
    if constexpr (kI == 5) return from + pitch.five;
    return from + 2 * pitch.three;
}

// Rows of a tile that a step leaves out, one bit each.
using RowSet = unsigned short;
static_assert(kRows <= 8 * int(sizeof(RowSet)), "one bit each");

constexpr RowSet rows_between(Index begin, Index end) {
    return static_cast<RowSet>((1u << end) - (1u << begin));
}

// Rows [I, END) of a tile, one row after another.
template <int I, int END, class T, int ROWS, int VECTORS>
[[gnu::always_inline]] inline void rank_one_update(Vec<T> (&acc)[ROWS][VECTORS],
                                                   const Vec<T> (&col)[VECTORS], const T* base,
                                                   const T* second_half, const RowPitches& pitch) {
    if constexpr (I < END) {
        const Vec<T> row = splat(*row_address<I>(base, second_half, pitch));
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j) acc[I][j] += row * col[j];
        rank_one_update<I + 1, END>(acc, col, base, second_half, pitch);
    }
}

// Rows [I, END) but for those of `skipped`.
template <int I, int END, class T, int ROWS, int VECTORS>
[[gnu::always_inline]] inline void update_some(Vec<T> (&acc)[ROWS][VECTORS],
                                               const Vec<T> (&col)[VECTORS], const T* base,
                                               const T* second_half, const RowPitches& pitch,
                                               RowSet skipped) {
    if constexpr (I < END) {
        if (!(skipped & rows_between(I, I + 1))) {
            rank_one_update<I, I + 1>(acc, col, base, second_half, pitch);
        }
        update_some<I + 1, END>(acc, col, base, second_half, pitch, skipped);
    }
}

// Rows [BEGIN, END), a half of the tile, but for those of `skipped`: mostly its ends, or all.
template <int BEGIN, int END, class T, int ROWS, int VECTORS>
[[gnu::always_inline]] inline void update_half(Vec<T> (&acc)[ROWS][VECTORS],
                                               const Vec<T> (&col)[VECTORS], const T* base,
                                               const T* second_half, const RowPitches& pitch,
                                               RowSet skipped) {
    constexpr int inner = BEGIN + 1, last = END - 1 > inner ? END - 1 : inner;
    constexpr RowSet inner_rows = rows_between(inner, last);
    update_some<BEGIN, inner>(acc, col, base, second_half, pitch, skipped);
    if (!(skipped & inner_rows)) {
        rank_one_update<inner, last>(acc, col, base, second_half, pitch);
    } else if ((skipped & inner_rows) != inner_rows) {
        update_some<inner, last>(acc, col, base, second_half, pitch, skipped);
    }
    update_some<last, END>(acc, col, base, second_half, pitch, skipped);
}

// All rows but for those of `skipped`. What most steps leave out has code of its own, without a
// branch between rows; processors foresee the others, which go the same way every few steps.
template <class T, int ROWS, int VECTORS>
[[gnu::always_inline]] inline void update_others(Vec<T> (&acc)[ROWS][VECTORS],
                                                 const Vec<T> (&col)[VECTORS], const T* base,
                                                 const T* second_half, const RowPitches& pitch,
                                                 RowSet skipped) {
    constexpr int half = ROWS < kHalfRows ? ROWS : kHalfRows;
    if (skipped == 0) {
        rank_one_update<0, ROWS>(acc, col, base, second_half, pitch);
    } else if (skipped == rows_between(0, 1)) {
        rank_one_update<1, ROWS>(acc, col, base, second_half, pitch);
    } else if (skipped == rows_between(ROWS - 1, ROWS)) {
        rank_one_update<0, ROWS - 1>(acc, col, base, second_half, pitch);
    } else {
        update_half<0, half>(acc, col, base, second_half, pitch, skipped);
        if constexpr (half < ROWS) {
            update_half<half, ROWS>(acc, col, base, second_half, pitch, skipped);
        }
    }
}

// Adds A[ROWS, depth] * B[depth, VECTORS * lanes] to c (or overwrites it). Every element of the
// tile is one chain of multiply-adds in the order of depth, whatever ROWS and VECTORS are and
// wherever the operands lie, which is what makes results independent of where tiles begin.
//
// A chain ends with + 0: a sum that underflows to -0 is 0 after another product of the border,
// and must be without it. `skipped` is read where SKIPS. EVEN: steps of columns are kCols apart,
// and nothing is fetched.
//
// Operands are references: copied as a vector, what has just been written element by element would
// wait until all stores before it have reached the cache, those of the tile before among them.
template <class T, int ROWS, int VECTORS, bool SKIPS, bool EVEN = false>
void gemm_tile(Index depth, const Operand<T>& a, RowPitch row_pitch, const Operand<T>& b, T* c,
               Index c_pitch, bool accumulate, const RowSet* skipped) {
    constexpr int kL = kLanes<T>;
    Vec<T> acc[ROWS][VECTORS];
    if (accumulate) {
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; ++j) acc[i][j] = load(c + i * c_pitch + j * kL);
    } else {
        // y is fetched while the tile is computed: the stores at the end would wait for memory
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; ++j) {
                __builtin_prefetch(c + i * c_pitch + j * kL, 1);
                acc[i][j] = Vec<T>{};
            }
    }
    RowPitches pitch{row_pitch.one, 3 * row_pitch.one, 5 * row_pitch.one};
    Index half = row_pitch.half, ahead = a.ahead;
    // values whose origin the compiler forgets: it would compute them anew in the loop
    asm("" : "+r"(pitch.three), "+r"(pitch.five), "+r"(half));
    // one register is missing: this value may wait in memory, and would in a vector's otherwise
    const T* from = a.data;
    asm("" : "+r"(from));
    for (Index d = 0; d < depth; ++d) {
        const T* columns = b.data + (EVEN ? d * kCols<T> : b.offset[d]);
        const T* rows = from + a.offset[d];
        if constexpr (!EVEN) {
            __builtin_prefetch(rows + ahead);
            ahead += a.spread;
        }
        Vec<T> col[VECTORS];
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j) col[j] = load(columns + j * kL);
        if constexpr (SKIPS) {
            update_others<T>(acc, col, rows, rows + half, pitch, skipped[d]);
        } else {
            rank_one_update<0, ROWS>(acc, col, rows, rows + half, pitch);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j) store(c + i * c_pitch + j * kL, acc[i][j] + Vec<T>{});
}

template <class T>
using TileFunction = void (*)(Index, const Operand<T>&, RowPitch, const Operand<T>&, T*, Index,
                              bool, const RowSet*);

// The tile functions, by number of vectors and rows (both counted from one).
template <class T>
struct TileTable {
    TileFunction<T> by_shape[kVectors][kRows];
    TileFunction<T> skipping[kVectors][kRows];
    // of one vector: an element is loaded for every multiply-add, and every other load costs time
    TileFunction<T> even[kRows];

    template <int V, int R>
    constexpr void fill() {
        by_shape[V - 1][R - 1] = gemm_tile<T, R, V, false>;
        skipping[V - 1][R - 1] = gemm_tile<T, R, V, true>;
        if constexpr (V == 1) even[R - 1] = gemm_tile<T, R, V, false, true>;
        if constexpr (R > 1) {
            fill<V, R - 1>();
        } else if constexpr (V > 1) {
            fill<V - 1, kRows>();
        }
    }
    constexpr TileTable() : by_shape{}, skipping{}, even{} { fill<kVectors, kRows>(); }
};

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
