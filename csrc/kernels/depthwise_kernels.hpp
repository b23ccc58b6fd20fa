// What one instruction set offers for depthwise convolution, in its tables of either kind of
// operands. Declarations only (see problem.hpp).
#pragma once

#include "problem.hpp"

namespace fastconv {

// How a depthwise convolution is cut; see conv/depthwise.cpp. A task computes consecutive units,
// a unit is a block of output rows of one channel, or of a block of channels.
struct DepthwiseCut {
    bool channel_lanes;  // vector lanes are channels of a pixel, or pixels of a row
    Index row_block, row_blocks;
    Index col_block, col_blocks;           // where lanes are pixels: output columns of one pass
    Index channel_block, channel_blocks;   // where lanes are channels; a whole number of vectors
    Index slots, slot_pitch, phase_pitch;  // padded input rows held in scratch
    Index planes;                          // channels computed together, where lanes are pixels
    bool fetches;                          // x and y outgrow the caches
    Index units, task_units, tasks;
};

template <class T>
struct DepthwiseJob {
    Problem problem;
    Operands<T> arrays;
    DepthwiseCut cut;
};

template <class T>
struct DepthwiseKernels {
    Index lanes;      // of one vector of sums
    Index sum_bytes;  // of one sum
    // Fills in what depends on the vector's width: slots, pitches and blocks that fit the caches.
    void (*geometry)(const Problem& problem, DepthwiseCut& cut);
    Index (*scratch)(const Problem& problem, const DepthwiseCut& cut);  // in sums
    void (*task)(const DepthwiseJob<T>& job, Index task, char* scratch);
    // Packs all channels of w, as sums hold them, for lanes that are channels, or pixels.
    void (*pack)(const Problem& problem, const View<const T>& w, void* packed);
};

}  // namespace fastconv
