// What each way of cutting the implicit GEMM is estimated to cost.
#pragma once

#include "conv/gemm_blocking.hpp"

namespace fastconv {

// Whether pixels are read in place as columns: with more rows, packing pays.
bool few_outputs(const Problem& problem);

// Rows of y whose pixels register tiles may share.
Index rows_of_run(const Problem& problem, const GemmShape& shape);

// Share of the taps, all pixels of y together, that see the image; 1 where the border has values.
double taps_inside(const Problem& problem);

// The copy of what `rows` rows of y read.
ImageBlock image_block(const Problem& problem, const GemmShape& shape, const Blocking& b,
                       Index rows);

// What decides the cost of one problem, in cycles of one multiply-add on a vector.
struct GemmCost {
    const Problem& problem;
    const GemmShape& shape;
    Index images;  // times groups
    int threads;
    double packed_rows, packed_cols;  // shares of pixel tiles that are packed
    double weight_bytes;
    double in_place_step;
    double pack_vector;
    double inside;  // share of the taps that see the image

    // Estimated time of the slowest thread when each image and group is cut into these blocks.
    double time(const Blocking& b, Index row_blocks, Index col_blocks) const;
};

GemmCost gemm_cost(const Problem& problem, const GemmShape& shape, int threads);

// The same where pixels are sampled.
GemmCost sampled_gemm_cost(const Problem& problem, const GemmShape& shape, int threads);

}  // namespace fastconv
