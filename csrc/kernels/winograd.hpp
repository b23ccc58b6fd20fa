// One task of the Winograd algorithm: a block of tiles times a block of output channels. Its
// scratch holds the transformed tiles V, for all channels where they fit, and the products M of a
// few panels of output channels; neither ever leaves the caches for a pass over memory.
#pragma once

#include "kernels/finish.hpp"
#include "kernels/kernels.hpp"
#include "kernels/winograd_gemm.hpp"
#include "kernels/winograd_strips.hpp"
#include "kernels/winograd_transforms.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Output channels of the kernel block whose weights are transformed at a time, in a buffer of
// [channel][tap][lanes].
constexpr Index kWeightChannels = 4;

// Rounds up to an odd number of cache lines: blocks at such a pitch use all sets of a cache.
template <class T>
inline Index odd_lines(Index elements) {
    constexpr Index kLine = 64 / Index(sizeof(T));
    return (ceil_div(elements, kLine) | 1) * kLine;
}

// Parts of a thread's scratch, in elements from its beginning.
template <class T>
struct WinogradScratch {
    Index v_pitch, m_pitch;  // between positions of a tile
    Index v, m, strip, bias, taps, weights, end;
};

template <class T>
WinogradScratch<T> winograd_layout(const WinogradBlocking& b) {
    constexpr Index kL = kLanes<T>, kC = kCols<T>, kLine = 64 / Index(sizeof(T));
    const WinogradTile tile = kWinogradTiles[b.shape];
    const Index positions = tile.positions();
    const auto lines = [](Index elements) { return ceil_div(elements, kLine) * kLine; };
    WinogradScratch<T> s{};
    s.v_pitch = odd_lines<T>(b.tile_block * ceil_div(b.depth_chunk, kL) * kL);
    s.m_pitch = odd_lines<T>(b.tile_block * kC);
    s.v = kLine;  // the first line says which block of tiles V holds
    s.m = s.v + positions * s.v_pitch;
    s.strip = s.m + positions * s.m_pitch;
    const Index in = tile.height() * ((b.run - 1) * tile.columns + tile.width()) * kL;
    const Index out = tile.rows * b.run * tile.columns * kL;
    s.bias = s.strip + lines(most(in, out) + kStripSlack<T> * kL);
    s.taps = s.bias + lines(kL);
    s.weights =
        s.taps +
        (b.weight_depth ? lines((kWeightChannels * tile.taps * tile.taps + kStripSlack<T>)*kL) : 0);
    s.end = s.weights + lines(positions * b.weight_depth * kC);
    return s;
}

template <class T>
Index winograd_scratch(const WinogradBlocking& blocking) {
    return winograd_layout<T>(blocking).end;
}

// Vectors of one panel of output channels.
template <class T>
inline int panel_vectors(const Problem& problem, Index panel) {
    const Index outputs = problem.k / problem.groups;
    return int(least(kVectors, ceil_div(outputs - panel * kCols<T>, Index(kLanes<T>))));
}

// Transforms the weights of channels [c0, c0 + depth) of one panel to u, [position][depth][cols],
// positions u_pitch apart. `w` begins at its group; `taps` is scratch.
template <class T>
void winograd_pack(const Problem& problem, int shape, const View<const T>& w, Index panel, Index c0,
                   Index depth, T* u, Index u_pitch, T* taps) {
    constexpr Index kL = kLanes<T>;
    const WinogradTile tile = kWinogradTiles[shape];
    const auto transform = kTileTransforms<T>.by_shape[shape].weights;
    const Index area = Index(tile.taps) * tile.taps;
    const Index outputs = problem.k / problem.groups;
    const int vectors = panel_vectors<T>(problem, panel);
    const bool dense = w.stride[3] == 1 && w.stride[2] == tile.taps && w.stride[1] == area;
    for (int vector = 0; vector < vectors; ++vector) {
        const Index k0 = panel * kCols<T> + vector * kL, count = least(kL, outputs - k0);
        for (Index c = 0; c < depth; c += kWeightChannels) {
            const Index channels = least(kWeightChannels, depth - c);
            const T* from = w.data + k0 * w.stride[0] + (c0 + c) * w.stride[1];
            if (dense) {
                gather_pixels(taps, from, w.stride[0], Index(1), count, channels * area);
            } else {
                for (Index i = 0; i < channels * area; ++i) {
                    const Index channel = i / area, tap = i % area;
                    gather_pixels(taps + i * kL,
                                  from + channel * w.stride[1] + tap / tile.taps * w.stride[2] +
                                      tap % tile.taps * w.stride[3],
                                  w.stride[0], Index(2), count, Index(1));
                }
            }
            for (Index i = 0; i < channels; ++i) {
                transform(taps + i * area * kL, u + (c + i) * vectors * kL + vector * kL, u_pitch);
            }
        }
    }
}

// Neighbouring tiles of one row of tiles, `local` of the task's block onwards.
struct TileRun {
    Index image, row, column, count;
    Index local;
};

template <class T>
class WinogradTask {
  public:
    WinogradTask(const WinogradJob<T>& job, Index index, T* scratch)
        : job_(job),
          problem_(job.problem),
          blocking_(job.blocking),
          tile_(kWinogradTiles[job.blocking.shape]),
          transforms_(kTileTransforms<T>.by_shape[job.blocking.shape]),
          layout_(winograd_layout<T>(job.blocking)),
          scratch_(scratch),
          positions_(tile_.positions()),
          channels_(problem_.c / problem_.groups),
          outputs_(problem_.k / problem_.groups) {
        // Blocks of output channels change fastest: V stays for the next task.
        panel0_ = job.panel_begin + index % blocking_.panel_blocks * blocking_.panel_block;
        panel_end_ = least(panel0_ + blocking_.panel_block, job.panel_end);
        index /= blocking_.panel_blocks;
        block_ = job.group_begin * blocking_.tile_blocks + index;
        group_ = block_ / blocking_.tile_blocks;
        tile0_ = block_ % blocking_.tile_blocks * blocking_.tile_block;
        tiles_ = least(blocking_.tile_block, blocking_.tiles - tile0_);
        row_panels_ = ceil_div(tiles_, Index(kRows));
    }

    void run() {
        for (Index panel = panel0_; panel < panel_end_; ++panel) {
            for (Index c = 0; c < channels_; c += blocking_.depth_chunk) {
                const Index depth = least(blocking_.depth_chunk, channels_ - c);
                transform_tiles(c, depth);
                if (blocking_.weight_depth == 0) {
                    multiply(panel, c, depth);
                } else {
                    multiply_unpacked(panel, c, depth);
                }
            }
            write_panel(panel);
        }
    }

  private:
    static constexpr Index kL = kLanes<T>, kC = kCols<T>;

    Index row_panel_begin(Index row_panel) const { return row_panel * tiles_ / row_panels_; }

    template <class Visit>
    void visit_runs(Visit visit) const {
        const Index area = blocking_.tiles_h * blocking_.tiles_w;
        for (Index t = tile0_; t < tile0_ + tiles_;) {
            const Index column = t % blocking_.tiles_w;
            const Index count =
                least(least(blocking_.run, blocking_.tiles_w - column), tile0_ + tiles_ - t);
            visit(TileRun{t / area, t % area / blocking_.tiles_w, column, count, t - tile0_});
            t += count;
        }
    }

    // V of channels [c0, c0 + depth), unless the task before has left it.
    void transform_tiles(Index c0, Index depth) {
        Index* const held = reinterpret_cast<Index*>(scratch_);
        if (depth == channels_ && *held == block_) return;
        *held = depth == channels_ ? block_ : -1;
        const Index padded = ceil_div(depth, kL) * kL;
        visit_runs([&](const TileRun& run) {
            for (Index c = 0; c < depth; c += kL) transform_run(run, c0 + c, c, padded);
        });
    }

    void transform_run(const TileRun& run, Index channel, Index c, Index padded) {
        const Index row = run.row * tile_.rows, column = run.column * tile_.columns;
        const Index height = tile_.height();
        const Index width = (run.count - 1) * tile_.columns + tile_.width();
        const StripPlace place{row - problem_.pad_top,
                               column - problem_.pad_left,
                               height,
                               width,
                               least(height, problem_.p + tile_.taps - 1 - row),
                               least(width, problem_.q + tile_.taps - 1 - column)};
        View<const T> x = job_.arrays.x;
        x.data += run.image * x.stride[0] + (group_ * channels_ + channel) * x.stride[1];
        const Index lanes = least(kL, channels_ - channel);
        const T* from = scratch_ + layout_.strip;
        Index row_pitch = place.columns * kL, pixel_pitch = kL;
        if (x.stride[1] == 1 && lanes == kL && is_inside(place, problem_)) {
            row_pitch = x.stride[2];
            pixel_pitch = x.stride[3];
            from = x.data + place.row * row_pitch + place.column * pixel_pitch;
        } else {
            for (Index i = 0; i < height; ++i) {
                gather_row(scratch_ + layout_.strip + i * row_pitch, x, lanes, problem_, place, i);
            }
        }
        for (Index i = 0; i < run.count; ++i) {
            const Index t = run.local + i, row_panel = ((t + 1) * row_panels_ - 1) / tiles_;
            const Index begin = row_panel_begin(row_panel);
            const Index rows = row_panel_begin(row_panel + 1) - begin;
            T* const v = scratch_ + layout_.v + begin * padded + c * rows + (t - begin) * kL;
            transforms_.input(from + i * tile_.columns * pixel_pitch, row_pitch, pixel_pitch, v,
                              layout_.v_pitch);
        }
    }

    void multiply(Index panel, Index c0, Index depth) const {
        const int vectors = panel_vectors<T>(problem_, panel);
        const T* const u = packed_panel(panel) + c0 * vectors * kL;
        for (Index position = 0; position < positions_; ++position) {
            multiply_part(position, depth, 0, depth, u + position * channels_ * vectors * kL,
                          vectors, c0 > 0);
        }
    }

    const T* packed_panel(Index panel) const {
        const Index padded = ceil_div(outputs_, kL) * kL;
        return job_.weights +
               positions_ * channels_ *
                   ((group_ - job_.group_begin) * padded + (panel - job_.panel_begin) * kC);
    }

    // Weights that fit nowhere are transformed a few channels at a time, for every block of tiles.
    void multiply_unpacked(Index panel, Index c0, Index depth) const {
        const int vectors = panel_vectors<T>(problem_, panel);
        View<const T> w = job_.arrays.w;
        w.data += group_ * outputs_ * w.stride[0];
        T* const u = scratch_ + layout_.weights;
        for (Index c = 0; c < depth; c += blocking_.weight_depth) {
            const Index part = least(blocking_.weight_depth, depth - c);
            const Index pitch = part * vectors * kL;
            winograd_pack(problem_, blocking_.shape, w, panel, c0 + c, part, u, pitch,
                          scratch_ + layout_.taps);
            for (Index position = 0; position < positions_; ++position) {
                multiply_part(position, depth, c, part, u + position * pitch, vectors, c0 + c > 0);
            }
        }
    }

    // One position: channels [c, c + part) of the `depth` that V holds, which lie within one block
    // of lanes or begin one.
    void multiply_part(Index position, Index depth, Index c, Index part, const T* u, int vectors,
                       bool accumulate) const {
        static constexpr WinogradGemmTable<T> table;
        const Index padded = ceil_div(depth, kL) * kL;
        const T* const v = scratch_ + layout_.v + position * layout_.v_pitch;
        T* const m = scratch_ + layout_.m + position * layout_.m_pitch;
        for (Index row_panel = 0; row_panel < row_panels_; ++row_panel) {
            const Index begin = row_panel_begin(row_panel);
            const Index rows = row_panel_begin(row_panel + 1) - begin;
            table.by_shape[vectors - 1][rows - 1](part,
                                                  v + begin * padded + c / kL * kL * rows + c % kL,
                                                  u, m + begin * vectors * kL, accumulate);
        }
    }

    void write_panel(Index panel) {
        const int vectors = panel_vectors<T>(problem_, panel);
        for (int vector = 0; vector < vectors; ++vector) {
            const Index k = panel * kC + vector * kL;
            T* const bias = scratch_ + layout_.bias;
            const Index lanes = least(kL, outputs_ - k);
            fill_zero(bias, kL);
            if (job_.arrays.bias) copy_run(bias, job_.arrays.bias + group_ * outputs_ + k, lanes);
            visit_runs([&](const TileRun& run) {
                write_run(run, scratch_ + layout_.m + vector * kL, vectors * kL, k, lanes);
            });
        }
    }

    void write_run(const TileRun& run, const T* m, Index tile_pitch, Index k, Index lanes) {
        const Index row = run.row * tile_.rows, column = run.column * tile_.columns;
        const Index width = run.count * tile_.columns;
        const Index rows = least(tile_.rows, problem_.p - row);
        const Index columns = least(width, problem_.q - column);
        View<T> y = job_.arrays.y;
        y.data += run.image * y.stride[0] + (group_ * outputs_ + k) * y.stride[1] +
                  row * y.stride[2] + column * y.stride[3];
        const bool direct =
            y.stride[1] == 1 && lanes == kL && rows == tile_.rows && columns == width;
        T* const to = direct ? y.data : scratch_ + layout_.strip;
        const Index row_pitch = direct ? y.stride[2] : width * kL;
        const Index pixel_pitch = direct ? y.stride[3] : kL;
        for (Index i = 0; i < run.count; ++i) {
            transforms_.output(m + (run.local + i) * tile_pitch, layout_.m_pitch,
                               scratch_ + layout_.bias, to + i * tile_.columns * pixel_pitch,
                               row_pitch, pixel_pitch);
        }
        if (problem_.activation != Activation::kNone) {
            for (Index i = 0; i < rows; ++i) activate_row(to + i * row_pitch, columns, pixel_pitch);
        }
        if (direct) return;
        for (Index i = 0; i < rows; ++i) {
            scatter_pixels(to + i * row_pitch, y.data + i * y.stride[2], y.stride[1], y.stride[3],
                           lanes, columns);
        }
    }

    void activate_row(T* y, Index count, Index pitch) const {
        for (Index i = 0; i < count; ++i, y += pitch) {
            store(y, activate<T>(load(y), problem_.activation));
        }
    }

    const WinogradJob<T>& job_;
    const Problem& problem_;
    const WinogradBlocking& blocking_;
    const WinogradTile tile_;
    const TileTransforms<T>& transforms_;
    const WinogradScratch<T> layout_;
    T* const scratch_;
    const Index positions_;           // of a tile, transformed
    const Index channels_, outputs_;  // of a group
    Index panel0_, panel_end_;
    Index block_, group_;
    Index tile0_, tiles_, row_panels_;
};

template <class T>
void winograd_task(const WinogradJob<T>& job, Index index, T* scratch) {
    WinogradTask<T>(job, index, scratch).run();
}

template <class T>
void winograd_pack_task(const Problem& problem, int shape, const View<const T>& w, Index panel,
                        Index c0, Index depth, T* u, Index u_pitch) {
    alignas(64) T taps[(kWeightChannels * 25 + kStripSlack<T>)*kLanes<T>];
    winograd_pack(problem, shape, w, panel, c0, depth, u, u_pitch, taps);
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
