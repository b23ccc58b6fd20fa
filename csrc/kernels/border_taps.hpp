// Taps that meet only the zeros of a constant border, left out of the product.
//
// 0 * w adds nothing to a sum while w is finite: tiles of pixels near the border get offset tables
// of their own, without the steps that none of their pixels sees the image through, and with the
// rows that a step leaves out. Few tables serve all tiles: those of the rows of y and of the ends
// of a row that see the image through the same taps share one.
#pragma once

#include "kernels/gemm_task.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Kernel rows through which each half of a tile sees the image, kernel columns through which some
// of its pixels do, its first, and its last.
struct TileTaps {
    Inside r[2];
    Inside some, first, last;
};

inline bool same(const Inside& a, const Inside& b) {
    return a.begin == b.begin && a.end == b.end;
}
inline bool same(const TileTaps& a, const TileTaps& b) {
    return same(a.r[0], b.r[0]) && same(a.r[1], b.r[1]) && same(a.some, b.some) &&
           same(a.first, b.first) && same(a.last, b.last);
}

// Taps of an axis of the kernel that see the image from an index of y.
inline Inside taps_inside(Index out, Index stride, Index pad, Index dilation, Index taps,
                          Index size) {
    return inside_lanes(out * stride - pad, dilation, taps, size);
}

template <class T>
TileTaps tile_taps(const Task<T>& task, const RowTile& tile) {
    const Problem& a = task.slice.problem;
    const Index p = tile.row / a.q, q = tile.row % a.q;
    const Index below = tile.rows > a.q ? p + 1 : p;
    const Index last = tile.rows > a.q ? a.q - 1 : q + tile.rows - 1;
    const auto row = [&](Index i) {
        return taps_inside(i, a.stride_h, a.pad_top, a.dilation_h, a.r, a.h);
    };
    const auto column = [&](Index i) {
        return taps_inside(i, a.stride_w, a.pad_left, a.dilation_w, a.s, a.w);
    };
    const Inside left = column(q), right = column(last);
    return {{row(p), row(below)}, {right.begin, most(right.begin, left.end)}, left, right};
}

// Rows of the tile that see only the border through a tap.
inline RowSet outside_rows(const TileTaps& taps, bool two_halves, Index r, Index s) {
    const auto outside = [](const Inside& range, Index i) {
        return i < range.begin || i >= range.end;
    };
    RowSet rows = 0;
    if (outside(taps.first, s)) rows |= two_halves ? kFirstRow | kHalfBegin : kFirstRow;
    if (outside(taps.last, s)) rows |= two_halves ? kHalfEnd | kLastRow : kLastRow;
    if (outside(taps.r[0], r)) rows |= kFirstHalf;
    if (outside(taps.r[1], r)) rows |= kSecondHalf;
    return outside(taps.some, s) ? kAllRows : rows;
}

// The steps of a tile in the current stretch of the reduction.
struct TileSteps {
    Index count;
    const Index* x;         // where each is in x,
    const Index* w;         // and in a packed panel of columns
    const RowSet* skipped;  // null where every row takes part in every step
};

template <class T>
struct TapTable {
    // A tap that meets the image, and the rows that it leaves out.
    struct Kept {
        unsigned char tap;
        RowSet rows;
    };
    TileTaps taps;
    bool two_halves;
    Index kept_count;
    Kept kept[kMaxBorderedTaps<T>];
    TileSteps steps;
};

// The tables of a task; their steps, and which of them each row tile reads, are in scratch.
template <class T>
struct BorderTaps {
    const Task<T>& task;
    const Scratch<T>& scratch;
    Index count = 0;
    TapTable<T> tables[kTapTables];

    BorderTaps(const Task<T>& of, const Scratch<T>& in) : task(of), scratch(in) {
        if (!task.blocking.skips_border) return;
        for_row_tiles(task, [&](const RowTile& tile) {
            scratch.tile_table[tile.index] = static_cast<unsigned char>(table_of(tile));
        });
    }

    // One more than the number of the tile's table; 0 where it needs none, and where there is no
    // room for it: such a tile sums up the zeros.
    Index table_of(const RowTile& tile) {
        const Problem& problem = task.slice.problem;
        const TileTaps taps = tile_taps(task, tile);
        const Inside r{0, problem.r}, s{0, problem.s};
        if (same(taps, TileTaps{{r, r}, s, s, s})) return 0;
        const bool two_halves = tile.rows > problem.q;
        for (Index i = 0; i < count; ++i) {
            if (tables[i].two_halves == two_halves && same(tables[i].taps, taps)) return i + 1;
        }
        if (count == kTapTables) return 0;
        TapTable<T>& table = tables[count++];
        table.taps = taps;
        table.two_halves = two_halves;
        table.kept_count = 0;
        for (Index tap = 0; tap < problem.r * problem.s; ++tap) {
            const RowSet rows = outside_rows(taps, two_halves, tap / problem.s, tap % problem.s);
            if (rows == kAllRows) continue;
            table.kept[table.kept_count++] = {static_cast<unsigned char>(tap), rows};
        }
        return count;
    }

    // Lists the steps of every table in one stretch of the reduction; `x` is where all of its
    // steps are in x.
    void begin_depth(Index first, Index depth, const Index* x) {
        const Index taps = task.slice.problem.r * task.slice.problem.s;
        for (Index i = 0; i < count; ++i) {
            if (task.blocking.taps_first) {
                list_taps(i, first, depth, x);
            } else if (first == 0) {
                list_channels(i, depth / taps, x);
            } else {
                // stretches differ in the number of their channels alone
                tables[i].steps.count = depth / taps * tables[i].kept_count;
            }
        }
    }

    // Steps (r, s, c): the channels of one tap follow each other.
    void list_taps(Index number, Index first, Index depth, const Index* x) {
        const Index channels = task.slice.channels;
        TapTable<T>& table = tables[number];
        Index n = 0;
        for (Index i = 0; i < table.kept_count; ++i) {
            const typename TapTable<T>::Kept kept = table.kept[i];
            const Index begin = most(kept.tap * channels - first, 0);
            const Index end = least((kept.tap + 1) * channels - first, depth);
            for (Index d = begin; d < end; ++d) list_step(number, n++, x[d], d, kept.rows);
        }
        finish_list(number, n);
    }

    // Steps (c, r, s): the same taps of every channel.
    void list_channels(Index number, Index channels, const Index* x) {
        const Index taps = task.slice.problem.r * task.slice.problem.s;
        const TapTable<T>& table = tables[number];
        Index n = 0;
        for (Index c = 0; c < channels; ++c) {
            for (Index i = 0; i < table.kept_count; ++i) {
                const Index d = c * taps + table.kept[i].tap;
                list_step(number, n++, x[d], d, table.kept[i].rows);
            }
        }
        finish_list(number, n);
    }

    void list_step(Index number, Index n, Index x, Index d, RowSet rows) {
        const Index at = number * task.blocking.depth_block + n;
        scratch.table_x[at] = x;
        scratch.table_w[at] = d * kCols<T>;
        scratch.table_skipped[at] = rows;
    }

    void finish_list(Index number, Index steps) {
        const Index at = number * task.blocking.depth_block;
        RowSet any = 0;
        for (Index i = 0; i < tables[number].kept_count; ++i) any |= tables[number].kept[i].rows;
        tables[number].steps = {steps, scratch.table_x + at, scratch.table_w + at,
                                any ? scratch.table_skipped + at : nullptr};
    }

    // The steps of a tile; all of them where weights are not known to be finite.
    TileSteps steps_of(const RowTile& tile, bool finite, Index depth) const {
        const Index table =
            task.blocking.skips_border && finite ? scratch.tile_table[tile.index] : 0;
        if (table > 0) return tables[table - 1].steps;
        return {depth, scratch.x_offset, kEvenSteps<T, kCols<T>>.offset, nullptr};
    }
};

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
