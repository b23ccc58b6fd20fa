// Packing weights: panels of outputs side by side, one row a step of the reduction.
//
// Where outputs are consecutive, rows are copied. Elsewhere squares of vectors are turned in
// registers and their rows stored to the steps they belong to, so that each line of memory is read
// once, whatever the order of the axes.
#pragma once

#include "kernels/copy.hpp"
#include "kernels/transpose.hpp"
#include "kernels/weight_runs.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Whether all weights are finite: 0 * w is 0 then. Sums that do not wait for each other.
template <class T>
struct ZeroSums {
    Vec<T> sum[4] = {};

    void add(int i, Vec<T> weights) { sum[i % 4] += weights * T(0); }

    bool finite() const {
        const Vec<T> all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
        bool zero = true;
        for (int lane = 0; lane < kLanes<T>; ++lane) zero &= all[lane] == 0;
        return zero;
    }
};

// Outputs of one panel: `count` lanes `pitch` apart, in rows of `vectors`.
template <class T>
struct WeightPanel {
    T* to;
    Index vectors;
    const T* from;
    Index pitch, count;
};

// WIDTH elements of every lane: lane i in part i / WIDTH of vector i % WIDTH, turned.
template <int WIDTH, bool WHOLE, class T>
inline void load_square(Vec<T> (&block)[WIDTH], const T* from, Index pitch, Index lanes,
                        int elements) {
    constexpr int kL = kLanes<T>;
#pragma GCC unroll 16
    for (int i = 0; i < WIDTH; ++i) {
        if constexpr (WIDTH == kL && WHOLE) {
            block[i] = load(from + i * pitch);
        } else if constexpr (WIDTH == kL) {
            block[i] = i < lanes ? load_first(from + i * pitch, elements) : Vec<T>{};
        } else {
            Vec<T> parts{};
#pragma GCC unroll 16
            for (int first = 0; first < kL; first += WIDTH) {
                const T* lane = from + (first + i) * pitch;
                if (WHOLE || (elements == WIDTH && first + i < lanes)) {
                    load_part<WIDTH>(parts, lane, first);
                } else if (first + i < lanes) {
                    load_lanes(parts, lane, first, elements);
                }
            }
            block[i] = parts;
        }
    }
    transpose_parts<T>(block);
}

// Packs one square; `row` is the pitch of the panel. WHOLE: all lanes, and every element a step.
template <int WIDTH, bool WHOLE, class T>
void pack_square(T* to, Index row, const T* from, Index pitch, Index lanes, const Index* step,
                 int elements, ZeroSums<T>& zeros) {
    Vec<T> block[WIDTH];
    load_square<WIDTH, WHOLE>(block, from, pitch, lanes, elements);
#pragma GCC unroll 16
    for (int i = 0; i < WIDTH; ++i) {
        if (!WHOLE && (i >= elements || step[i] == WeightRun<T>::kNone)) continue;
        store(to + step[i] * row, block[i]);
        zeros.add(i, block[i]);
    }
}

template <int WIDTH, class T>
void pack_square_of(Index width, bool whole, T* to, Index row, const T* from, Index pitch,
                    Index lanes, const Index* step, int elements, ZeroSums<T>& zeros) {
    if constexpr (WIDTH > 1) {
        if (width < WIDTH) {
            return pack_square_of<WIDTH / 2>(width, whole, to, row, from, pitch, lanes, step,
                                             elements, zeros);
        }
    }
    if (whole) {
        pack_square<WIDTH, true>(to, row, from, pitch, lanes, step, elements, zeros);
    } else {
        pack_square<WIDTH, false>(to, row, from, pitch, lanes, step, elements, zeros);
    }
}

// Calls `visit` for every repetition of the inner `axes` axes of a box and `cut` indices of the
// next one, with what is left of these.
template <class Visit>
void for_weight_runs(const WeightBox& box, int axes, Index cut, Visit visit) {
    Index index[kWeightAxes] = {}, offset = box.offset, step = box.step;
    for (;;) {
        const bool whole = axes == box.axes;
        visit(offset, step, whole ? cut : least(cut, box.axis[axes].count - index[axes]));
        int i = axes;
        for (; i < box.axes; ++i) {
            const WeightAxis& a = box.axis[i];
            const Index move = i == axes ? cut : 1;
            index[i] += move, offset += move * a.pitch, step += move * a.step;
            if (index[i] < a.count) break;
            offset -= index[i] * a.pitch, step -= index[i] * a.step;
            index[i] = 0;
        }
        if (i == box.axes) return;
    }
}

// Where packed panels lie: each of `outputs` outputs of w, in rows of `vectors`.
template <class T>
struct PackedPanels {
    T* to;
    Index pitch;  // from one panel to the next
    Index outputs, vectors;
};

// The outputs of one panel, of which `outputs` are there, in one step. Numbers of sums are
// constants: they would be in memory otherwise, and each vector wait for the one before.
template <class T>
inline void copy_weight_row(T* to, const T* from, Index vectors, Index outputs,
                            ZeroSums<T>& zeros) {
    constexpr Index kL = kLanes<T>;
    if (vectors == kVectors && outputs == kVectors * kL) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
            const Vec<T> weights = load(from + v * kL);
            store(to + v * kL, weights);
            zeros.add(v, weights);
        }
        return;
    }
    for (Index v = 0; v < vectors; ++v) {
        const Index lanes = least(most(outputs - v * kL, 0), kL);
        const Vec<T> weights = load_first(from + v * kL, lanes);
        store(to + v * kL, weights);
        zeros.add(0, weights);
    }
}

// Steps of a box whose outputs are consecutive: rows are copied, each to all panels, so that memory
// is read in long runs. Returns whether the weights of all are finite.
template <class T>
bool copy_weight_rows(const WeightBox& box, const PackedPanels<T>& panels, const T* kernels,
                      Index count) {
    constexpr Index kL = kLanes<T>, kAhead = 32;  // vectors
    const WeightAxis inner = box.axes ? box.axis[0] : WeightAxis{1, 0, 0};
    const Index row = panels.vectors * kL;
    const Index ahead = most(1, kAhead / ceil_div(count, kL)) * inner.pitch;
    ZeroSums<T> zeros;
    for_weight_runs(box, least(1, box.axes), 1, [&](Index offset, Index step, Index) {
        ZeroSums<T> sums = zeros;  // in registers
        for (Index i = 0; i < inner.count; ++i) {
            const T* from = kernels + offset + i * inner.pitch;
            T* to = panels.to + (step + i * inner.step) * row;
            for (Index first = 0; first < count; first += panels.outputs, to += panels.pitch) {
                for (Index at = first; at < first + panels.outputs; at += kL) {
                    __builtin_prefetch(from + ahead + at);
                }
                copy_weight_row(to, from + first, panels.vectors,
                                least(panels.outputs, count - first), sums);
            }
        }
        zeros = sums;
    });
    return zeros.finite();
}

// Whether the steps of a box are consecutive in memory.
inline bool is_one_run(const WeightBox& box) {
    return box.axes == 1 && box.axis[0].pitch == 1;
}

// Those, without tables: they would cost as much as half of a panel.
template <class T>
void turn_weight_rows(const WeightBox& box, const WeightPanel<T>& panel, ZeroSums<T>& zeros) {
    constexpr Index kL = kLanes<T>;
    const Index row = panel.vectors * kL, count = box.axis[0].count;
    const Index step = box.axis[0].step * row;  // of the panel, to the next element
    ZeroSums<T> sums = zeros;                   // in registers
    for (Index v = 0; v < panel.vectors; ++v) {
        const Index lanes = least(most(panel.count - v * kL, 0), kL);
        const T* from = panel.from + v * kL * panel.pitch + box.offset;
        T* to = panel.to + box.step * row + v * kL;
        Vec<T> block[kL];
        Index i = 0;
        for (; lanes == kL && i + kL <= count; i += kL) {
            load_square<kL, true>(block, from + i, panel.pitch, kL, kL);
#pragma GCC unroll 16
            for (int j = 0; j < kL; ++j, to += step) {
                store(to, block[j]);
                sums.add(j, block[j]);
            }
        }
        for (; i < count; i += kL) {
            const int elements = int(least(kL, count - i));
            load_square<kL, false>(block, from + i, panel.pitch, lanes, elements);
            for (int j = 0; j < elements; ++j, to += step) {
                store(to, block[j]);
                sums.add(j, block[j]);
            }
        }
    }
    zeros = sums;
}

// Packs the steps of one box into panels.
template <class T>
class WeightPacking {
  public:
    explicit WeightPacking(const WeightBox& of) : box(of), run(of) {
        squares = run.list_squares();
        // lines of a long run follow each other; short ones come from where it is repeated
        const bool repeats = run.axes < box.axes;
        const Index next = repeats ? run.cut * box.axis[run.axes].pitch : 0;
        ahead = run.span >= 4 * kLanes<T> ? 8 * kLanes<T> : next;
    }

    void pack(const WeightPanel<T>& panel, ZeroSums<T>& zeros) const {
        constexpr Index kL = kLanes<T>;
        for_weight_runs(box, run.axes, run.cut, [&](Index offset, Index step, Index cut) {
            const Index span = run.span_of(box, cut);
            for (Index v = 0; v < panel.vectors; ++v) {
                const Index lanes = least(most(panel.count - v * kL, 0), kL);
                pack_run(panel.to + step * panel.vectors * kL + v * kL, panel.vectors * kL,
                         panel.from + v * kL * panel.pitch + offset, panel.pitch, lanes, span,
                         zeros);
            }
        });
    }

  private:
    void pack_run(T* to, Index row, const T* from, Index pitch, Index lanes, Index span,
                  ZeroSums<T>& zeros) const {
        constexpr int kL = kLanes<T>;
        for (int i = 0; i < squares; ++i) {
            const WeightSquare& square = run.square[i];
            if (square.at >= span) return;
            const int elements = int(least(square.width, span - square.at));
            const bool whole = square.dense && lanes == kL && elements == square.width;
            if (i == 0 || square.width == kL) {
                for (Index lane = 0; lane < lanes; ++lane) {
                    __builtin_prefetch(from + lane * pitch + square.at + ahead);
                }
            }
            pack_square_of<kL>(square.width, whole, to, row, from + square.at, pitch, lanes,
                               run.step + square.at, elements, zeros);
        }
    }

    WeightBox box;
    WeightRun<T> run;
    int squares;
    Index ahead;  // elements from a square to what is fetched meanwhile
};

// Packs steps [first, first + depth) of `count` outputs from `kernels` on. `finite` gets, for each
// panel, whether its weights are finite. Lanes without an output are zero.
template <class T>
void pack_weights(const PackedPanels<T>& panels, const T* kernels, Index pitch, Index count,
                  const WeightSteps& steps, Index first, Index depth, bool* finite) {
    const Index number = ceil_div(count, panels.outputs);
    for (Index i = 0; i < number; ++i) finite[i] = true;
    const T* from = kernels;
    for_weight_boxes(steps, first, depth, [&](WeightBox box) {
        box.step -= first;
        const auto pack_panels = [&](auto pack) {
            for (Index i = 0; i < number; ++i) {
                const Index output = i * panels.outputs;
                const WeightPanel<T> panel{panels.to + i * panels.pitch, panels.vectors,
                                           from + output * pitch, pitch,
                                           least(panels.outputs, count - output)};
                ZeroSums<T> zeros;
                pack(panel, zeros);
                finite[i] &= zeros.finite();
            }
        };
        using Panel = const WeightPanel<T>&;
        using Zeros = ZeroSums<T>&;
        if (pitch == 1 && count > 1) {
            const bool all = copy_weight_rows(box, panels, from, count);
            for (Index i = 0; i < number; ++i) finite[i] &= all;
        } else if (is_one_run(box)) {
            pack_panels([&](Panel panel, Zeros zeros) { turn_weight_rows(box, panel, zeros); });
        } else {
            const WeightPacking<T> packing(box);
            pack_panels([&](Panel panel, Zeros zeros) { packing.pack(panel, zeros); });
        }
    });
}

// Outputs as rows of kRowPitch, where the steps are consecutive in memory.
template <class T>
void copy_weights(T* panel, const T* kernels, Index pitch, Index rows, Index depth) {
    for (Index row = 0; row < rows; ++row, kernels += pitch, panel += kRowPitch<T>) {
        copy_run(panel, kernels, depth);
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
