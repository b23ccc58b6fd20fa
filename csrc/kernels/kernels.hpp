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

template <class T>
struct Kernels {
    TileShape tile;
    Index lanes;  // of one vector
    Index max_depth_block;
    // Elements of scratch, 64-byte aligned, that one task of the job needs.
    Index (*im2col_gemm_scratch)(const Blocking& blocking);
    void (*im2col_gemm_task)(const GemmJob<T>& job, Index task, T* scratch);
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
