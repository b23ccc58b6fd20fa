// What one instruction set offers for integers of 8 and 16 bits. Declarations only (see
// problem.hpp).
#pragma once

#include "problem.hpp"

namespace fastconv {

// Which axes of the kernel count as channels. A "channel" of the reduction is then one (c),
// (c, r) or (c, r, s) and sees the image as that tap does; what is left of the kernel slides.
enum class Fold : int { kNone, kRows, kTaps };

// How one convolution is cut into tasks; see conv/integer_gemm.cpp for the reasons.
//
// A strip is the part of the image under one block of outputs, padded, with several channels
// ("members") side by side in every 32-bit word: [words][rows][pitch]. All blocks share its shape,
// and vectors of outputs run over the ends of its rows.
struct IntegerBlocking {
    Fold fold;
    Index channels;                        // of one group, folded taps included
    Index words;                           // ceil(channels / members)
    Index word_block;                      // words of one strip
    Index taps_h, taps_w, step_h, step_w;  // what is left of the kernel, and its dilation
    Index rows, cols;                      // outputs of one block
    Index row_blocks, col_blocks;
    Index pitch, plane;  // words from row to row, and from word to word of the reduction
    // Image lines in scratch, before their channels are brought together: of whole channels,
    // [line_channels][line_rows][phases][line_pitch], or one a member where line_rows is 0.
    Index line_channels, line_rows, phases, line_pitch;
    Index panels;  // panels of output channels in one group
    Index panel_block, panel_blocks;
    Index group_block, group_blocks;
    Index tasks;
    Index panel_bytes;  // one packed panel, whole reduction
    // Scratch of one task, in bytes from its beginning.
    Index offsets_at, panel_at, ones_at, sums_at, lines_at, strip_at, scratch_bytes;
};

template <class T>
struct IntegerJob {
    Problem problem;
    Operands<T> arrays;
    IntegerBlocking blocking;
};

// Bytes in front of a packed panel's words: what every row starts from.
constexpr Index kPanelHeader = 64;

template <class T>
struct IntegerKernels {
    Index members;  // steps of the reduction in one 32-bit word
    Index rows;     // most output channels of a panel
    Index lanes;    // of one vector
    bool sums;      // whether sums over x are needed: w is stored less its zero point
    // Packs panel `panel` of a group, words [word, word + words); `w` is the group's.
    void (*pack_panel)(const Problem& problem, const IntegerBlocking& blocking,
                       const View<const T>& w, Index panel, Index word, Index words, void* packed);
    // Packs the panel of ones whose product with x is that sum.
    void (*pack_ones)(const IntegerBlocking& blocking, Index word, Index words, void* packed);
    void (*task)(const IntegerJob<T>& job, Index task, char* scratch);
};

struct IntegerTable {
    IntegerKernels<std::int8_t> i8;
    IntegerKernels<std::uint8_t> u8;
    IntegerKernels<std::int16_t> i16;
    IntegerKernels<std::uint16_t> u16;
};

#if defined(__x86_64__)
extern const IntegerTable kIntegersBaseline;
extern const IntegerTable kIntegersAvx2;
extern const IntegerTable kIntegersAvx512;
extern const IntegerTable kIntegersAvx512Vnni;
#elif defined(__aarch64__)
extern const IntegerTable kIntegersNeon;
#else
extern const IntegerTable kIntegersBaseline;
#endif

}  // namespace fastconv
