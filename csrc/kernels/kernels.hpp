// What one instruction set offers: a table of functions, filled by kernels/isa.cpp once per
// instruction set and looked up once per call. Declarations only (see problem.hpp).
#pragma once

#include "kernels/depthwise_kernels.hpp"
#include "kernels/gradient_jobs.hpp"
#include "problem.hpp"

namespace fastconv {

// Register tile: `rows` broadcast lanes times `cols` vector lanes.
struct TileShape {
    Index rows, cols;
};

// Tables of steps of one task whose tiles leave out taps; see kernels/border_taps.hpp.
constexpr Index kTapTables = 12;

// A block of x copied with its border; see kernels/bordered_image.hpp. Distances are in elements.
struct ImageBlock {
    Index width, channels;      // of the copy
    Index plane;                // from one that the kernel meets to the next, where pixels are
    Index channel, row, pixel;  // copied whole; from one channel, row, pixel to the next
    Index elements;
};

// How one convolution is cut into tasks; see conv/gemm_blocking.cpp for the reasons.
//
// The matrix product is Y[rows, cols] = A[rows, depth] * B[depth, cols] for every image and group.
// Columns are the vector lanes: output channels or pixels.
struct Blocking {
    bool taps_first;       // order of the reduction: (r, s, c), otherwise (c, r, s)
    bool channel_lanes;    // columns are output channels and rows pixels, or the other way round
    bool packed;           // weights have been packed by im2col_gemm_pack
    bool groups_first;     // all images of a group, then the next: not all groups of an image
    bool direct_pixels;    // pixels are read in place where all their taps lie inside of the image
    bool direct_kernels;   // rows of weights are read in place
    bool sums_in_scratch;  // unfinished tiles wait in scratch and not in y
    bool bordered;         // pixels of one or two rows of y a tile, read with their border
    ImageBlock image;      // from a copy of a block of x
    bool skips_border;     // taps that meet only the zeros of its border are left out
    bool borderless;       // and so there is no copy: x itself is read
    Index rows, cols, depth;
    Index packed_depth;  // steps of a panel of packed weights: of all planes of the kernel,
    Index packed_first;  // of which the product begins with this one
    Index row_tile;      // rows of a register tile: evenly spread, 64 are 13+13+13+13+12
    Index row_run;       // rows that tiles do not cross: where x is bordered, one or two rows of y
    Index depth_block;   // KC: products accumulated in registers before the tile is stored
    Index depth_blocks;  // ceil(depth / depth_block)
    Index pass_depth;    // steps whose weights a call packs together, of
    Index pass_cols;     // this many columns: a part of a task's, a multiple of the tile's
    Index col_block;     // NC, a multiple of the tile's columns
    Index col_blocks;
    Index row_block;  // a multiple of row_tile, or of row_run
    Index row_blocks;
    Index tasks;  // images * groups * row_blocks * col_blocks
};

// Where the outputs of the product are taps of kernels that lie side by side in y: output
// (k * rows + r) * cols + s is tap (r, s) of channel k, r * row + s * col from its first.
struct OutputTaps {
    Index rows = 1, cols = 1;
    Index row = 0, col = 0;

    Index count() const { return rows * cols; }
};

template <class T>
struct GemmJob {
    Problem problem;
    Operands<T> arrays;
    Blocking blocking;
    Index
        row_width;  // pixels of a row of y: the rows of the problem may be several of them, joined
    OutputTaps taps = {};
};

// A deformable convolution; see conv/deform.cpp. The channels of a pixel of x are side by side.
template <class T>
struct DeformJob {
    GemmJob<T> gemm;
    View<const T> offset;  // (N, offset_groups * R * S * 2, P, Q): (vertical, horizontal) for a tap
    View<const T> mask;    // (N, offset_groups * R * S, P, Q), or null
    Index offset_groups;
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
    Index run_vectors;    // most vectors of a tile's rows that are copied at once
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

// Shapes of the tiles of kernels of one row, and bounds of arrays on the stack: taps of a row of
// such a kernel, and rows.
constexpr int kSignalShapes = 4;
constexpr Index kMaxSignalTaps = 512, kMaxSignalRows = 256;

// How kernels of one row are cut, see conv/direct_signal.cpp: the kernel into rows of `taps` taps,
// and y into blocks of tiles.
struct SignalBlocking {
    int shape;
    Index tile_rows;
    Index row_pitch;          // pixels from one row of a tile to the next, in x and y
    Index taps, kernel_rows;  // the last row may have fewer taps
    Index stretches;          // of kernel rows, with a visit to y each
    bool whole_weights;       // all weights of a group are packed at once
    Index weights;            // elements of scratch for packed weights
    Index block;              // pixels of y
    Index extent, window;     // room for a block of y, and for one phase of the x under it
    Index blocks;             // of a row of y
    Index units, tasks;       // blocks of all rows, groups and images
};

template <class T>
struct SignalJob {
    Problem problem;
    Operands<T> arrays;
    SignalBlocking blocking;
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

// Tile shapes of the Winograd algorithm: F(rows, taps) of outputs by F(columns, taps).
struct WinogradTile {
    int rows, columns, taps;

    constexpr int height() const { return rows + taps - 1; }  // of its pixels, and products
    constexpr int width() const { return columns + taps - 1; }
    constexpr int positions() const { return height() * width(); }
};
constexpr WinogradTile kWinogradTiles[] = {{2, 2, 3}, {4, 4, 3}, {5, 5, 3},
                                           {6, 4, 3}, {2, 2, 5}, {3, 3, 5}};
constexpr int kWinogradShapes = 6;

// How one convolution is cut into tasks; see conv/winograd.cpp for the reasons.
struct WinogradBlocking {
    int shape;                        // which of kWinogradTiles
    Index tiles_h, tiles_w, tiles;    // of one image in each direction; of all images together
    Index tile_block, tile_blocks;    // tiles a task
    Index panel_block, panel_blocks;  // panels of output channels a task
    Index depth_chunk;                // channels that are transformed at a time
    Index weight_depth;               // the same of weights within tasks; 0: transformed before
    Index run;                        // neighbouring tiles that are transformed at a time
};

template <class T>
struct WinogradJob {
    Problem problem;
    Operands<T> arrays;
    WinogradBlocking blocking;
    // Transformed weights of groups and panels from these on, [group][panel][position][c][cols].
    const T* weights;
    Index group_begin;
    Index panel_begin, panel_end;
};

// Images that shrink to one pixel; see conv/dot_product.cpp. A task computes `block` outputs.
template <class T>
struct DotJob {
    Problem problem;
    Operands<T> arrays;
    Index block, blocks;  // of a group
    Index tasks;
};

// How a 1x1 kernel of few outputs is cut; see conv/direct_pointwise.cpp. Units are strips of rows.
struct PointwiseCut {
    Index strips;  // of a row
    Index units, task_units, tasks;
    Index elements;  // of scratch
};

template <class T>
struct PointwiseJob {
    Problem problem;
    Operands<T> arrays;
    PointwiseCut cut;
};

template <class T>
struct Kernels {
    TileShape tile;
    Index lanes;     // of one vector
    bool has_masks;  // some lanes of a vector can be loaded
    Index max_depth_block;
    Index row_panel_lanes;  // of one step of packed rows
    Index half_rows;        // of a register tile: its halves may lie anywhere
    // Bytes of scratch, 64-byte aligned, that one task of the job needs.
    Index (*im2col_gemm_scratch)(const Blocking& blocking);
    void (*im2col_gemm_task)(const GemmJob<T>& job, Index task, void* scratch);
    // Elements of one group's packed weights, and packing those of all groups.
    Index (*im2col_gemm_packed)(const Blocking& blocking);
    void (*im2col_gemm_pack)(const Problem& problem, const Blocking& blocking,
                             const View<const T>& w, T* packed);
    // Packs one panel of a kernel of several planes, of the group whose weights `w` are; returns
    // whether they are finite.
    bool (*volume_pack)(const Problem& problem, const Blocking& blocking, const View<const T>& w,
                        Index panel, T* packed);
    bool (*pack_taps)(const TapPacking<T>& job);  // returns whether they are finite
    // Packs one panel of output channels of the group whose weights `w` are.
    void (*deform_pack)(const Problem& problem, const View<const T>& w, Index panel, T* packed);
    void (*deform_task)(const DeformJob<T>& job, Index task, void* scratch);
    // Copies `count` pixels, `pitch` apart in x, with their channels side by side.
    void (*interleave_channels)(T* to, const T* from, Index channels, Index channel_pitch,
                                Index count, Index pitch);
    DepthwiseKernels<T> depthwise;
    Index dot_images;                              // that a task computes together
    Index (*dot_scratch)(const Problem& problem);  // elements
    void (*dot_task)(const DotJob<T>& job, Index task, T* scratch);
    TileShape filter_tile;  // rows and vectors of y
    void (*filter_pack)(const Problem& problem, const View<const T>& w, T* packed);
    void (*filter_task)(const FilterJob<T>& job, Index task, T* scratch);
    const TileShape* signal_tiles;
    void (*signal_pack)(const Problem& problem, const SignalBlocking& blocking,
                        const View<const T>& w, T* packed);
    void (*signal_task)(const SignalJob<T>& job, Index task, T* scratch);
    Index channel_outputs;  // most channels of a tile
    Index (*channels_scratch)(const Problem& problem, Index rows, Index cols, Index outputs);
    Index (*channels_packed)(const Problem& problem);  // elements of a group, or 0
    void (*channels_pack)(const Problem& problem, const View<const T>& w, T* packed);
    void (*channels_task)(const ChannelsJob<T>& job, Index task, T* scratch);
    void (*pointwise_task)(const PointwiseJob<T>& job, Index task, T* scratch);
    Index winograd_row_tile;  // tiles of one register tile
    Index (*winograd_scratch)(const WinogradBlocking& blocking);
    // Before a thread's first task the first Index of its scratch is -1.
    void (*winograd_task)(const WinogradJob<T>& job, Index task, T* scratch);
    // Transforms channels [c0, c0 + depth) of one panel of output channels; `w` is one group's.
    void (*winograd_pack)(const Problem& problem, int shape, const View<const T>& w, Index panel,
                          Index c0, Index depth, T* u, Index u_pitch);
    // elements
    Index (*weight_grad_scratch)(const Problem& problem, const WeightGradBlocking& blocking);
    void (*weight_grad_task)(const WeightGradJob<T>& job, Index task, T* scratch);
    bool holds_nine_taps;  // registers for as many sums, and the pixels of x that they meet
    Index (*depthwise_grad_scratch)(const Problem& problem, const DepthwiseGradCut& cut);
    void (*depthwise_grad_task)(const DepthwiseGradJob<T>& job, Index task, T* scratch);
    void (*fold_rows)(const FoldJob<T>& job);
    // Adds the bias and applies the activation to `count` elements; `bias_step` is 1 or 0.
    void (*finish_row)(T* y, Index count, const T* bias, int bias_step, Activation activation);
    void (*input_grad_planes)(const DepthwiseInputGradJob<T>& job, Index task, T* scratch);
    void (*input_grad_pixels)(const DepthwiseInputGradJob<T>& job, Index task, T* scratch);
    Index (*grouped_grad_scratch)(const Problem& problem, const GroupedGradCut& cut);
    void (*grouped_grad_task)(const GroupedGradJob<T>& job, Index task, T* scratch);
    HalfGradKernels<Float16> float16_grads;  // of Kernels<float>
    HalfGradKernels<Bfloat16> bfloat16_grads;
    // Flops of `repeats` rounds of a loop of independent multiply-adds on registers alone.
    double (*peak_loop)(Index repeats);
};

struct KernelTable {
    const char* isa;
    const Kernels<float>& f32;
    const Kernels<double>& f64;
    DepthwiseKernels<Float16> depthwise_f16;
    DepthwiseKernels<Bfloat16> depthwise_bf16;
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
