// What one instruction set offers: a table of functions, filled by kernels/isa.cpp once per
// instruction set and looked up once per call. Declarations only (see problem.hpp).
#pragma once

#include "problem.hpp"

namespace fastconv {

// Register tile: `rows` broadcast lanes times `cols` vector lanes.
struct TileShape {
    Index rows, cols;
};

// How one convolution is cut into tasks; see conv/im2col_gemm.cpp for the reasons.
//
// The matrix product is Y[rows, cols] = A[rows, depth] * B[depth, cols] for every image and group.
// Columns are the vector lanes: pixels for NCHW; output channels for NHWC if there are enough.
struct Blocking {
    bool pixel_rows;  // rows are pixels and columns output channels, or the other way round
    Index rows, cols, depth;
    Index depth_block;   // KC: products accumulated in registers before y is touched
    Index depth_blocks;  // ceil(depth / depth_block)
    Index depth_chunk;   // depth blocks of B that are packed at a time
    Index col_block;     // NC, a multiple of the tile's columns
    Index col_blocks;
    Index row_block;
    Index row_blocks;
    Index tasks;  // images * groups * row_blocks * col_blocks
};

template <class T>
struct GemmJob {
    Problem problem;
    Operands<T> arrays;
    Blocking blocking;
};

// Bounds of arrays on the stack.
constexpr Index kMaxFilterRowBlock = 128;  // kernel rows between two visits to y
constexpr Index kMaxFilterCols = 512;      // kernel columns
// Kernel rows for which tiles may have more rows than the kernel.
constexpr Index kSmallFilterRows = 3;

// How an image filter is cut; see conv/direct_filter.cpp. A band is the rows of y that one row of
// tiles computes.
struct FilterBlocking {
    Index tile_rows, tile_vectors;
    Index row_block;      // most kernel rows between two visits to y
    bool whole_weights;   // all weights of a group are packed at once
    Index phases, bands;  // of rows of y, a phase sharing rows of x; bands of one phase
    Index task_bands, group_tasks;
    Index tasks;  // images * groups * group_tasks
};

template <class T>
struct FilterJob {
    Problem problem;
    Operands<T> arrays;
    FilterBlocking blocking;
};

constexpr Index kMaxChannelTaps = 256;  // an array on the stack

// How a direct convolution of groups of few channels is cut; see conv/direct_channels.cpp.
struct ChannelsBlocking {
    Index row_blocks, col_blocks;  // blocks of y of one image and group
    Index outputs;                 // channels of a tile
    Index group_tasks;             // shares of the blocks of one image and group
    Index tasks;                   // images * groups * group_tasks
    Index elements;                // of scratch
};

template <class T>
struct ChannelsJob {
    Problem problem;
    Operands<T> arrays;
    ChannelsBlocking blocking;
};

template <class T>
struct Kernels {
    TileShape tile;
    Index lanes;  // of one vector
    Index max_depth_block;
    // Elements of scratch, 64-byte aligned, that one task of the job needs.
    Index (*im2col_gemm_scratch)(const Blocking& blocking);
    void (*im2col_gemm_task)(const GemmJob<T>& job, Index task, T* scratch);
    TileShape filter_tile;  // rows and vectors of y
    void (*filter_pack)(const Problem& problem, const View<const T>& w, T* packed);
    void (*filter_task)(const FilterJob<T>& job, Index task, T* scratch);
    Index channel_outputs;  // most channels of a tile
    Index (*channels_scratch)(const Problem& problem, Index rows, Index cols, Index outputs);
    void (*channels_task)(const ChannelsJob<T>& job, Index task, T* scratch);
    // Flops of `repeats` rounds of a loop of independent multiply-adds on registers alone.
    double (*peak_loop)(Index repeats);
};

struct KernelTable {
    const char* isa;
    Kernels<float> f32;
    Kernels<double> f64;
};

#if defined(__x86_64__)
extern const KernelTable kKernelsBaseline;
extern const KernelTable kKernelsAvx2;
extern const KernelTable kKernelsAvx512;
#elif defined(__aarch64__)
extern const KernelTable kKernelsNeon;
#else
extern const KernelTable kKernelsBaseline;
#endif

}  // namespace fastconv
