// One task of the strip GEMM: a block of outputs times a block of output channels, for one image
// and a few groups.
#pragma once

#include "kernels/strip_kernels.hpp"
#include "kernels/strip_masked.hpp"
#include "kernels/strip_multiply.hpp"
#include "kernels/strip_pixels.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Fills the strip's words [word, word + words).
template <class T>
void pack_strip(const Image<T>& image, Index word, Index words, T* lines, WordOf<T>* strip) {
    const StripBlocking& b = image.b;
    if (b.channel_lanes) {
        if (masks_lines(image) && image.x.stride[1] != 1) {
            turn_masked(image, word, words, strip);
        } else {
            copy_pixels(image, word, words, strip);
        }
    } else if (b.fold == Fold::kNone && image.x.stride[1] == 1 && b.channels > 1) {
        pack_pixels(image, word, words, strip);
    } else if (b.line_rows > 0) {
        pack_folded(image, word, words, lines, strip);
    } else if (masks_lines(image)) {
        pack_masked(image, word, words, strip);
    } else {
        pack_lines(image, word, words, lines, strip);
    }
}

// All parts of the reduction for one group under one block, output channels of panels [panel0,
// panel1).
template <class T>
void multiply_group(const StripJob<T>& job, const StripScratch<T>& scratch, const Image<T>& image,
                    const StripOutput<ResultOf<T>>& out, Index group, Index panel0, Index panel1) {
    const StripBlocking& b = job.blocking;
    for (Index word = 0; word < b.words; word += b.word_block) {
        const Index words = least(b.word_block, b.words - word);
        const StripPart<T> part{job, scratch, out, group, word, words};
        pack_strip(image, word, words, scratch.lines, scratch.strip);
        if constexpr (Narrow<T>::zero_w != 0) sum_outputs(part);
        for (Index panel = panel0; panel < panel1; ++panel) multiply_panel(part, panel, panel0);
    }
}

template <class T>
void strip_task(const StripJob<T>& job, Index index, char* memory) {
    const Problem& problem = job.problem;
    const StripBlocking& b = job.blocking;
    // Blocks of output channels change fastest: neighbouring tasks read the same pixels.
    const Index panel_block = index % b.panel_blocks;
    index /= b.panel_blocks;
    const Index col_block = index % b.col_blocks;
    index /= b.col_blocks;
    const Index row_block = index % b.row_blocks;
    index /= b.row_blocks;
    const Index group_block = index % b.group_blocks, n = index / b.group_blocks;
    const Index p = row_block * b.rows, q = col_block * b.cols;
    const Block block{p, q, least(b.rows, problem.p - p), least(b.cols, problem.q - q)};
    const StripScratch<T> scratch = cut_scratch<T>(b, memory);
    list_offsets(b, scratch.offsets);

    const Index channels = problem.c / problem.groups, outputs = problem.k / problem.groups;
    const View<ResultOf<T>>& y = job.arrays.y;
    const Index panel0 = panel_block * b.panel_block;
    const Index panel1 = least(panel0 + b.panel_block, b.panels);
    const Index last_group = least((group_block + 1) * b.group_block, problem.groups);
    for (Index group = group_block * b.group_block; group < last_group; ++group) {
        Image<T> image{problem, b, job.arrays.x, block};
        image.x.data += n * image.x.stride[0] + group * channels * image.x.stride[1];
        View<ResultOf<T>> under = y;
        under.data +=
            n * y.stride[0] + group * outputs * y.stride[1] + p * y.stride[2] + q * y.stride[3];
        multiply_group(job, scratch, image, make_output(under, b.pitch, block), group, panel0,
                       panel1);
    }
}

// All but what computes images of one pixel.
template <class T>
constexpr StripKernels<T> strip_kernels() {
    return {kMembers<T>, kStripRows,  kLanes<WordOf<T>>, kStripVectors, Narrow<T>::zero_w != 0,
            kIsFloat<T>, kMasksLines, pack_panel<T>,     strip_task<T>, nullptr};
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
