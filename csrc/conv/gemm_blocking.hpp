// How the implicit GEMM cuts a problem, and what it estimates that each way costs.
#pragma once

#include "cpu.hpp"

namespace fastconv {

// What the cost model knows of the machine and its kernels.
struct GemmShape {
    TileShape tile;
    Index lanes, max_depth_block, row_panel_lanes, half_rows, item_bytes;
    Index second_level_cache;
};

template <class T>
GemmShape gemm_shape();

// Whether rows this far apart fall into the same sets of the first-level cache.
bool crowds_cache_sets(Index pitch_bytes);

// The order of the reduction is a function of the problem alone; everything else only changes the
// way the same sums are computed.
Blocking make_blocking(const Problem& problem, const GemmShape& shape, int threads,
                       Index thread_bytes, bool packed);

// Whether output channels are the lanes of packed weights, whose form depends on neither the batch
// nor threads nor workspace.
bool packs_lanes(const Problem& problem, const GemmShape& shape);

// The same where that has been decided, of the whole kernel, for a part of its planes.
Blocking make_packed_blocking(const Problem& problem, const GemmShape& shape, int threads,
                              Index thread_bytes, bool channel_lanes);

// The same for pixels that are sampled and packed weights: pixels as rows, taps first, whatever the
// layout.
Blocking make_sampled_blocking(const Problem& problem, const GemmShape& shape, int threads,
                               Index thread_bytes);

}  // namespace fastconv
