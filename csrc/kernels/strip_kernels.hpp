// What one instruction set offers for operands of 8 and 16 bits. Declarations only (see
// problem.hpp).
#pragma once

#include "kernels/depthwise_kernels.hpp"
#include "problem.hpp"

namespace fastconv {

// Which axes of the kernel count as channels. A "channel" of the reduction is then one (c),
// (c, r) or (c, r, s) and sees the image as that tap does; what is left of the kernel slides.
enum class Fold : int { kNone, kRows, kTaps };

// How one convolution is cut into tasks; see conv/strip_blocking.cpp for the reasons.
//
// A strip is the part of the image under one block of outputs, padded, in words of 32 bits that
// hold a float or several channels ("members") side by side. Rows and columns are sorted by their
// remainder to the stride: [words][phases_h][phases_w][strip_rows][pitch], or with the words last
// where lanes are channels. Steps of the reduction are then distances in the strip, and the outputs
// of a tile run over the ends of its rows. All blocks share one shape of strip.
struct StripBlocking {
    Fold fold;
    bool channel_lanes;                    // vector lanes are output channels, or pixels
    bool turned;                           // they are, though y is in planes
    Index channels;                        // of one group, folded taps included
    Index words;                           // ceil(channels / members)
    Index word_block;                      // words of one strip
    Index taps_h, taps_w, step_h, step_w;  // what is left of the kernel, and its dilation
    Index hop_h, hop_w;                    // and its stride, of which come the phases
    Index phases_h, phases_w;
    Index rows, cols;  // outputs of one block
    Index row_blocks, col_blocks;
    Index strip_rows, pitch, plane;  // pitch: pixels from row to row; plane: all pixels
    Index word_pitch, pixel_pitch;   // words from one word of channels, or pixel, to the next
    // Image lines in scratch, before their channels are brought together: of whole channels,
    // [line_channels][line_rows][line_phases][line_pitch], or one a member where line_rows is 0.
    Index line_channels, line_rows, line_phases, line_pitch;
    Index panels;  // panels of output channels in one group
    // Output channels of one, at most: evenly spread, 64 are 13+13+13+13+12; or lanes, whole
    // vectors
    Index panel_rows;
    Index panel_block, panel_blocks;
    Index group_block, group_blocks;
    Index tasks;
    Index panel_bytes;    // one packed panel, whole reduction
    Index partial_pitch;  // pixels whose unfinished sums wait in scratch, 0 where none do
    // Scratch of one task, in bytes from its beginning.
    Index offsets_at, panel_at, pixel_sums_at, sums_at, partial_at, lines_at, strip_at;
    Index scratch_bytes;
};

template <class T>
struct StripJob {
    Problem problem;
    Operands<T> arrays;
    StripBlocking blocking;
};

// Bytes in front of a packed panel's words: what every output channel starts from.
constexpr Index kPanelHeader = 128;

// Steps of the reduction that a tile fetches ahead.
constexpr Index kStepsAhead = 4;

// Images that shrink to one pixel: outputs of one task, and steps of the reduction at a time.
constexpr Index kDotOutputs = 64, kDotPart = 4096;

template <class T>
struct StripKernels {
    Index members;    // channels in one word
    Index rows;       // most output channels of a panel
    Index lanes;      // of one vector
    Index vectors;    // of a panel whose output channels are lanes
    bool ones;        // whether sums over x are needed: w is stored less its zero point
    bool keeps_sums;  // whether unfinished sums wait in scratch: y is too narrow for them
    bool turns;       // whether planes are packed quickly, too, where output channels are lanes
    // Packs panel `panel` of a group, words [word, word + words); `w` is the group's.
    void (*pack_panel)(const Problem& problem, const StripBlocking& blocking,
                       const View<const T>& w, Index panel, Index word, Index words, void* packed);
    void (*task)(const StripJob<T>& job, Index task, char* scratch);
    // The same where y has one pixel, for kDotOutputs outputs; its scratch is 2 * kDotPart of T.
    // Null where the kernels do not compute such images.
    void (*dot_task)(const StripJob<T>& job, Index task, char* scratch);
};

// How sums become bytes: what they are held between, once scaled, and the zero point that is added
// to what is left of them.
struct Rescaling {
    float low, high;
    std::uint8_t zero;
};

struct StripTable {
    StripKernels<std::int8_t> i8;
    StripKernels<std::uint8_t> u8;
    StripKernels<std::int16_t> i16;
    StripKernels<std::uint16_t> u16;
    StripKernels<Float16> f16;
    StripKernels<Bfloat16> bf16;
    // Floats of 16 bits have nothing to gain from VNNI: see KernelTable.
    DepthwiseKernels<std::int8_t> depthwise_i8;
    DepthwiseKernels<std::uint8_t> depthwise_u8;
    DepthwiseKernels<std::int16_t> depthwise_i16;
    DepthwiseKernels<std::uint16_t> depthwise_u16;
    // Scales `count` sums by *scale, or with `each` by as many scales, and rounds half to even.
    void (*requantise)(const std::int32_t* sums, Index count, const float* scale, bool each,
                       const Rescaling& to, std::uint8_t* out);
};

#if defined(__x86_64__)
extern const StripTable kStripsBaseline;
extern const StripTable kStripsAvx2;
extern const StripTable kStripsAvx512;
extern const StripTable kStripsAvx512Vnni;
extern const StripKernels<Bfloat16> kPairsAvx512Bf16;
#elif defined(__aarch64__)
extern const StripTable kStripsNeon;
#else
extern const StripTable kStripsBaseline;
#endif

}  // namespace fastconv
