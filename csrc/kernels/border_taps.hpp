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

// Taps of one axis of the kernel that see the image from an index of y.
inline Inside taps_inside(Index out, Index stride, Index pad, Index dilation, Index taps,
                          Index size) {
    return inside_lanes(out * stride - pad, dilation, taps, size);
}

// Rows of a tile, pixels of one or two rows of y, that see only the border through a tap.
template <class T>
struct OutsideRows {
    Index halves, half_rows;
    Inside r[2];
    RowSet columns[kMaxBorderedTaps<T>];  // of one half, by kernel column
    bool none = true;

    OutsideRows(const Problem& a, const RowTile& tile)
        : halves(tile.rows > a.q ? 2 : 1), half_rows(tile.rows / halves) {
        const Index p = tile.row / a.q, q = tile.row % a.q;
        for (Index half = 0; half < 2; ++half) {
            const Index row = half < halves ? p + half : p;
            r[half] = taps_inside(row, a.stride_h, a.pad_top, a.dilation_h, a.r, a.h);
            none &= r[half].begin == 0 && r[half].end == a.r;
        }
        for (Index s = 0; s < a.s; ++s) {
            const Inside pixels = inside_lanes(q * a.stride_w - a.pad_left + s * a.dilation_w,
                                               a.stride_w, half_rows, a.w);
            columns[s] = static_cast<RowSet>(rows_between(0, half_rows) &
                                             ~rows_between(pixels.begin, pixels.end));
            none &= columns[s] == 0;
        }
    }

    RowSet all() const { return rows_between(0, halves * half_rows); }

    RowSet of(Index tap_r, Index tap_s) const {
        RowSet rows = 0;
        for (Index half = 0; half < halves; ++half) {
            const bool out = tap_r < r[half].begin || tap_r >= r[half].end;
            const RowSet set = out ? rows_between(0, half_rows) : columns[tap_s];
            rows = static_cast<RowSet>(rows | set << half * half_rows);
        }
        return rows;
    }
};

constexpr Index kNoTable = 255;
static_assert(kTapTables < kNoTable, "numbers of tables");

// A tap that meets the image, and the rows that it leaves out.
struct KeptTap {
    RowSet rows;
    unsigned char tap;
};

template <class T>
struct TapTable {
    Index count = 0;
    KeptTap kept[kMaxBorderedTaps<T>];
    bool some_rows = false;  // a tap leaves out some rows
    TileSteps steps;

    void add(Index tap, RowSet rows) {
        kept[count++] = {rows, static_cast<unsigned char>(tap)};
        some_rows |= rows != 0;
    }

    bool same(const TapTable& other) const {
        bool equal = count == other.count;
        for (Index i = 0; equal && i < count; ++i) {
            equal = kept[i].tap == other.kept[i].tap && kept[i].rows == other.kept[i].rows;
        }
        return equal;
    }
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

    // One more than the number of the tile's table; 0 where it needs none, kNoTable where there is
    // no room for it: such a tile sums up the zeros.
    Index table_of(const RowTile& tile) {
        const Problem& problem = task.slice.problem;
        const OutsideRows<T> outside(problem, tile);
        if (outside.none) return 0;
        TapTable<T> table;
        for (Index tap = 0; tap < problem.r * problem.s; ++tap) {
            const RowSet rows = outside.of(tap / problem.s, tap % problem.s);
            if (rows != outside.all()) table.add(tap, rows);
        }
        for (Index i = 0; i < count; ++i) {
            if (tables[i].same(table)) return i + 1;
        }
        if (count == kTapTables) return kNoTable;
        tables[count] = table;
        return ++count;
    }

    // Lists the steps of every table in one stretch of the reduction; `x` is where all of its
    // steps are in x.
    void begin_depth(Index first, Index depth, const Index* x) {
        const Index taps = task.slice.problem.r * task.slice.problem.s;
        for (Index i = 0; i < count; ++i) {
            const Index at = i * task.blocking.depth_block;
            Index *to_x = scratch.table_x + at, *to_w = scratch.table_w + at;
            RowSet* skipped = scratch.table_skipped + at;
            Index steps = depth / taps * tables[i].count;
            if (task.blocking.taps_first) {
                steps = list_taps(tables[i], first, depth, x, to_x, to_w, skipped);
            } else if (first == 0) {
                list_channels(tables[i], depth / taps, x, to_x, to_w, skipped);
            }  // stretches that follow differ in the number of their channels alone
            tables[i].steps = {steps, to_x, to_w, tables[i].some_rows ? skipped : nullptr,
                               false, false};
        }
    }

    // Steps (r, s, c): the channels of one tap follow each other. Returns the number of steps.
    Index list_taps(const TapTable<T>& table, Index first, Index depth, const Index* x, Index* to_x,
                    Index* to_w, RowSet* skipped) {
        const Index channels = task.slice.channels;
        Index n = 0;
        for_planes(plane_steps(task.slice), first, depth, [&](const PlanePart& part) {
            for (Index i = 0; i < table.count; ++i) {
                const KeptTap kept = table.kept[i];
                const Index begin = most(kept.tap * channels - part.first, 0);
                const Index steps =
                    least((kept.tap + 1) * channels - part.first, part.count) - begin;
                for (Index j = 0; j < steps; ++j) {
                    to_x[n + j] = x[part.at + begin + j];
                    to_w[n + j] = (part.at + begin + j) * kCols<T>;
                    skipped[n + j] = kept.rows;
                }
                n += most(steps, 0);
            }
        });
        return n;
    }

    // Steps (c, r, s): the same taps of every channel. Those of the first are listed, then more
    // and more channels at a time continue the list.
    void list_channels(const TapTable<T>& table, Index channels, const Index* x, Index* to_x,
                       Index* to_w, RowSet* skipped) {
        const Index taps = task.slice.problem.r * task.slice.problem.s;
        for (Index i = 0; i < table.count; ++i) {
            to_x[i] = x[table.kept[i].tap];
            to_w[i] = table.kept[i].tap * kCols<T>;
            skipped[i] = table.kept[i].rows;
        }
        const Index channel = channels > 1 ? x[taps] - x[0] : 0;
        for (Index c = 1; c < channels; c *= 2) {
            const Index listed = c * table.count, more = least(c, channels - c) * table.count;
#pragma GCC ivdep
            for (Index i = 0; i < more; ++i) {
                to_x[listed + i] = to_x[i] + c * channel;
                to_w[listed + i] = to_w[i] + c * taps * kCols<T>;
                skipped[listed + i] = skipped[i];
            }
        }
    }

    // The steps of a tile; all of them where weights are not known to be finite.
    TileSteps steps_of(const RowTile& tile, bool finite, Index depth) const {
        const Index table = task.blocking.skips_border ? scratch.tile_table[tile.index] : 0;
        if (finite && table > 0 && table < kNoTable) return tables[table - 1].steps;
        return all_steps<T>(scratch, depth, table > 0);
    }
};

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
