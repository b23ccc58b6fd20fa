// Weights in memory: which steps of the reduction are runs of consecutive elements, and how squares
// of vectors cover them.
//
// Weights come in any order of axes: views with outputs and inputs exchanged and taps turned round
// (gradients), every second tap (phases of a stride), the channels of a tap behind each other or
// planes apart. Seen from memory they are the same thing: axes of a box with pitches that ascend,
// each with its distance between steps, which may be negative.
#pragma once

#include "kernels/border.hpp"
#include "kernels/vec.hpp"
#include "problem.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// An axis of the reduction: elements of it lie `pitch` apart in memory, and are `step` steps apart.
struct WeightAxis {
    Index count, pitch, step;
};

constexpr int kWeightAxes = 3;

// The reduction of one output: (c, r, s), or (r, s, c) with taps first.
struct WeightSteps {
    WeightAxis axis[kWeightAxes];  // the first changes slowest

    WeightSteps(const Index (&stride)[4], Index channels, Index r, Index s, bool taps_first) {
        const WeightAxis c{channels, stride[1], taps_first ? 1 : r * s};
        const WeightAxis rows{r, stride[2], taps_first ? s * channels : s};
        const WeightAxis columns{s, stride[3], taps_first ? channels : 1};
        axis[0] = taps_first ? rows : c;
        axis[1] = taps_first ? columns : rows;
        axis[2] = taps_first ? c : columns;
    }
};

// Steps that are all combinations of some indices of each axis; pitches ascend, and none is
// negative.
struct WeightBox {
    WeightAxis axis[kWeightAxes];
    int axes = 0;
    Index offset = 0, step = 0;  // of the element that comes first in memory

    void add(WeightAxis a, Index first, Index count) {
        offset += first * a.pitch;
        step += first * a.step;
        if (count == 1) return;
        if (a.pitch < 0) {
            offset += (count - 1) * a.pitch;
            step += (count - 1) * a.step;
            a.pitch = -a.pitch, a.step = -a.step;
        }
        int at = axes++;
        for (; at > 0 && axis[at - 1].pitch > a.pitch; --at) axis[at] = axis[at - 1];
        axis[at] = {count, a.pitch, a.step};
    }

    // Makes one axis of those that continue each other, in memory and in the reduction.
    void join() {
        int to = 0;
        for (int from = 1; from < axes; ++from) {
            WeightAxis& a = axis[to];
            const bool continued =
                axis[from].pitch == a.count * a.pitch && axis[from].step == a.count * a.step;
            if (continued) {
                a.count *= axis[from].count;
            } else {
                axis[++to] = axis[from];
            }
        }
        if (axes) axes = to + 1;
    }
};

// Calls `visit` for boxes that are together the steps [first, first + count).
template <class Visit>
void for_weight_boxes(const WeightSteps& steps, Index first, Index count, Visit visit) {
    const WeightAxis(&axis)[kWeightAxes] = steps.axis;
    while (count) {
        // the outermost axis along which whole slices begin here
        Index slice = 1;
        int at = kWeightAxes - 1;
        while (at > 0 && first % (slice * axis[at].count) == 0 && count >= slice * axis[at].count) {
            slice *= axis[at--].count;
        }
        const Index index = first / slice % axis[at].count;
        const Index slices = least(axis[at].count - index, count / slice);
        WeightBox box;
        Index inner = 1;
        for (int i = kWeightAxes - 1; i >= 0; --i) {
            const Index begin = first / inner % axis[i].count;
            if (i > at) box.add(axis[i], 0, axis[i].count);
            if (i == at) box.add(axis[i], index, slices);
            if (i < at) box.add(axis[i], begin, 1);
            inner *= axis[i].count;
        }
        box.join();
        visit(box);
        first += slices * slice;
        count -= slices * slice;
    }
}

// Elements of one output from its first to its last that are turned together.
constexpr Index kRunElements = 256;

// A square of vectors: all lanes of `width` elements from `at` on; dense if all of these are steps.
struct WeightSquare {
    short at, width;
    bool dense;
};

// A run of elements of which some are steps: the innermost axes of a box, as far as they are dense
// and fit. What is left of the box repeats it.
template <class T>
struct WeightRun {
    Index span = 1;            // elements
    Index step[kRunElements];  // of each element in the panel, relative to the first; or kNone
    int axes = 0;              // axes of the box that it covers whole,
    Index cut = 1;             // and how many of the next one
    bool gaps = false;         // some elements are no steps
    WeightSquare square[kRunElements];

    static constexpr Index kNone = Index(1) << 62;

    explicit WeightRun(const WeightBox& box) {
        step[0] = 0;
        while (axes < box.axes && cut == 1) {
            const WeightAxis& a = box.axis[axes];
            // nested, and at least a third of the elements are steps
            if (a.pitch < span || a.pitch > 2 * span + 1) break;
            Index fits = least(a.count, (kRunElements - span) / a.pitch + 1);
            if (fits < a.count && fits > kLanes<T>) fits -= fits % kLanes<T>;
            if (fits == 1) break;
            const Index inner = span;
            gaps |= a.pitch > inner;
            for (Index i = 1; i < fits; ++i) {
                for (Index j = span; j < i * a.pitch; ++j) step[j] = kNone;
                for (Index j = 0; j < inner; ++j) {
                    step[i * a.pitch + j] = step[j] == kNone ? kNone : step[j] + i * a.step;
                }
                span = i * a.pitch + inner;
            }
            if (fits < a.count) {
                cut = fits;
            } else {
                ++axes;
            }
        }
    }

    // Elements of the run where it covers `count` of the axis that it cuts.
    Index span_of(const WeightBox& box, Index count) const {
        return count == cut ? span : span - (cut - count) * box.axis[axes].pitch;
    }

    // Lists the cheapest squares that cover every step; returns their number.
    int list_squares() {
        constexpr int kL = kLanes<T>;
        short least_cost[kRunElements + 1], width_at[kRunElements];
        const Index whole = gaps ? 0 : span - span % kL;  // nothing to choose before
        least_cost[span] = 0;
        for (Index at = 0; at < whole; at += kL) width_at[at] = kL;
        for (Index at = span - 1; at >= whole; --at) {
            least_cost[at] = least_cost[at + 1];
            width_at[at] = 0;
            if (step[at] == kNone) continue;
            for (int width = 1, best = 0; width <= kL; width *= 2) {
                // as measured: half of a square of as many rows as lanes does not depend on them
                const int cost = kL / 2 + width + least_cost[least(at + width, span)];
                if (best && cost > best) continue;
                best = cost;
                least_cost[at] = short(cost);
                width_at[at] = short(width);
            }
        }
        int squares = 0;
        for (Index at = 0; at < span; at += most(width_at[at], 1)) {
            if (width_at[at])
                square[squares++] = {short(at), width_at[at], dense(at, width_at[at])};
        }
        return squares;
    }

    bool dense(Index at, Index width) const {
        if (at + width > span) return false;
        for (Index i = at; i < at + width; ++i) {
            if (step[i] == kNone) return false;
        }
        return true;
    }
};

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
