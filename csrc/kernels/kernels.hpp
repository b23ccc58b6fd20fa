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

// How a depthwise convolution is cut; see conv/depthwise.cpp. A task computes consecutive units,
// a unit is a block of output rows of one channel, or of a block of channels.
struct DepthwiseCut {
    bool channel_lanes;  // vector lanes are channels of a pixel, or pixels of a row
    Index row_block, row_blocks;
    Index col_block, col_blocks;           // where lanes are pixels: output columns of one pass
    Index channel_block, channel_blocks;   // where lanes are channels; a whole number of vectors
    Index slots, slot_pitch, phase_pitch;  // padded input rows held in scratch
    Index planes;                          // channels computed together, where lanes are pixels
    Index units, task_units, tasks;
};

template <class T>
struct DepthwiseJob {
    Problem problem;
    Operands<T> arrays;
    DepthwiseCut cut;
};

template <class T>
struct Kernels {
    TileShape tile;
    Index lanes;  // of one vector
    Index max_depth_block;
    // Elements of scratch, 64-byte aligned, that one task of the job needs.
    Index (*im2col_gemm_scratch)(const Blocking& blocking);
    void (*im2col_gemm_task)(const GemmJob<T>& job, Index task, T* scratch);
    // Fills in what depends on the vector's width: slots, pitches and blocks that fit the caches.
    void (*depthwise_geometry)(const Problem& problem, DepthwiseCut& cut);
    Index (*depthwise_scratch)(const Problem& problem, const DepthwiseCut& cut);
    void (*depthwise_task)(const DepthwiseJob<T>& job, Index task, T* scratch);
    // Packs channels [first, first + count) of w for lanes that are channels, or pixels.
    void (*depthwise_pack)(const Problem& problem, const View<const T>& w, T* packed);
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
