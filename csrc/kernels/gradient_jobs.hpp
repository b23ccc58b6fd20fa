// Gradients: how they are cut into tasks, and what a task is given.
#pragma once

#include "problem.hpp"

namespace fastconv {

// A box of y's pixels: whole images, whole rows of one image, or a part of one row.
struct PixelBox {
    Index images, rows, cols;
};

// How a gradient of weights is cut; see conv/weight_grad.cpp. It is the product of gy and im2col(x)
// over all pixels: a tile's lanes are input channels at one tap and its rows output channels, or
// lanes are output channels and rows input channels and taps.
struct WeightGradBlocking {
    bool channel_lanes;
    bool x_in_place, gy_in_place;  // read where they are, or copied box by box
    bool pixel_major;              // the copies of rows hold the rows of a pixel together
    bool kernel_rows;              // and a tile's are one row of the kernel, in a copy of x itself
    Index lanes, rows, taps;       // of the product; taps that tiles of the same lanes have
    PixelBox box;
    Index boxes;                    // of all images
    Index chunks;                   // sums of their own, added up in the end
    Index lane_block, lane_blocks;  // a multiple of the tile's columns
    Index row_block, row_tile, row_blocks;
    Index image_rows, image_cols;  // of the copy of x that a box reads: lanes, or kernel_rows
    Index step_h, step_w;          // between its rows in x, and columns
    Index tasks;
};

template <class T>
struct WeightGradJob {
    Problem problem;
    View<const T> x, gy;
    View<T> gw;
    T* partial;  // sums of the chunks, each (K, C/groups, R, S); null where there is one
    WeightGradBlocking blocking;
};

// Numbers of taps that are packed together.
constexpr Index kMostPackedTaps = 16;
constexpr bool packs_taps(Index taps) {
    return taps == 4 || taps == 9 || taps == 16;
}
// x with lanes * x = 1 modulo an odd number of taps.
constexpr int tap_turn(int lanes, int taps) {
    int x = 1;
    while (lanes * x % taps != 1) ++x;
    return x;
}

// Weights that several products read, taps of each; see kernels/pack_taps.hpp.
template <class T>
struct TapPacking {
    struct Tap {
        T* to;
        Index step, panel;  // from one step of the product to the next, and one panel
    };
    const T* w;
    Index channels, channel;  // of the reduction, and from one to the next
    Index outputs, taps;      // one output's taps lie behind those of another
    Tap tap[kMostPackedTaps];
};

// Groups of few channels: lanes are the channels of several groups; see
// kernels/weight_grad_grouped.hpp.
struct GroupedGradCut {
    PixelBox box;
    Index boxes, chunks;
    Index image_rows, image_cols, step_h, step_w;  // of the copy of x, as above
    Index groups;                                  // of a vector
    Index task_vectors, parts;                     // vectors of a task; tasks of a chunk
};

constexpr Index kMostGroupOutputs = 8;  // of a group

template <class T>
struct GroupedGradJob {
    Problem problem;
    View<const T> x, gy;
    View<T> gw;
    T* partial;
    GroupedGradCut cut;
};

// The same of operands of 16 bits, whose boxes are widened to floats: `grad` has no views, and the
// sums of every chunk, a single one too, go to `grad.partial`. See kernels/weight_grad_half.hpp.
template <class S, class JOB>
struct HalfJob {
    JOB grad;
    View<const S> x, gy;
};

template <class S>
struct HalfGradKernels {
    Index (*scratch)(const Problem& problem, const WeightGradBlocking& blocking);
    void (*task)(const HalfJob<S, WeightGradJob<float>>& job, Index task, float* scratch);
    Index (*grouped_scratch)(const Problem& problem, const GroupedGradCut& cut);
    void (*grouped_task)(const HalfJob<S, GroupedGradJob<float>>& job, Index task, float* scratch);
    void (*round)(S* to, const float* from, Index count);
};

// One input channel a group: lanes are channels, or pixels of planes; see
// kernels/weight_grad_depthwise.hpp.
struct DepthwiseGradCut {
    bool nine_taps;  // 3 x 3 of stride 1 or 2, whose operands stay in registers
    bool planes;     // lanes are pixels
    PixelBox box;
    Index boxes, chunks;
    Index image_rows, image_cols;  // of x that a box reads
    Index block, channel_blocks;   // channels of a task: whole vectors where they are lanes
    Index tasks;
};

template <class T>
struct DepthwiseGradJob {
    Problem problem;
    View<const T> x, gy;
    View<T> gw;
    T* partial;
    DepthwiseGradCut cut;
};

// Bounds of arrays on the stack: kernel rows and columns, and strides, of a gradient of x.
constexpr Index kMaxFoldTaps = 12, kMaxFoldStride = 4;

// Products of every tap with every pixel of some rows of gy, and which rows of gx to add them up
// into; see conv/input_grad_columns.cpp.
template <class T>
struct FoldJob {
    const Problem& problem;
    const T* products;        // (channels, R, S, rows, Q)
    Index channel, channels;  // of gx
    Index first, rows;        // of gy
    const T* bias;            // of all channels, or null
    View<T> gx;               // one image
    Index begin, end;         // rows of gx
};

// The gradient of x where every group is one channel and a 3 x 3 kernel has stride 2; see
// kernels/input_grad_depthwise.hpp. Units are pairs of rows of gx that meet the same rows of gy.
struct DepthwiseInputGradCut {
    Index first, pairs;            // of an image
    Index pair_block, row_blocks;  // a task's, of one plane or one image
    Index planes;                  // a task's, where lanes are pixels
    Index tasks, scratch;          // elements of scratch of a task
};

template <class T>
struct DepthwiseInputGradJob {
    Problem problem;
    View<const T> gy, w;
    const T* bias;  // or null
    const T* taps;  // where lanes are channels: [tap][channel], then the bias
    View<T> gx;
    DepthwiseInputGradCut cut;
};

}  // namespace fastconv
