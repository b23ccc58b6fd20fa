// Filling a strip: borders, strides, dilation and layout of x are handled here and nowhere else.
#pragma once

#include "kernels/border.hpp"
#include "kernels/strip_kernels.hpp"
#include "kernels/strip_words.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// What one channel of the reduction means: an image channel seen through the folded taps.
struct Member {
    Index c, r, s;
};

inline Member member_of(const Problem& problem, Fold fold, Index channel) {
    if (fold == Fold::kNone) return {channel, 0, 0};
    if (fold == Fold::kRows) return {channel / problem.r, channel % problem.r, 0};
    return {channel / (problem.r * problem.s), channel / problem.s % problem.r,
            channel % problem.s};
}

inline void advance(Member& member, const Problem& problem, Fold fold) {
    if (fold == Fold::kTaps && ++member.s < problem.s) return;
    member.s = 0;
    if (fold != Fold::kNone && ++member.r < problem.r) return;
    member.r = 0;
    ++member.c;
}

// A line's pixels: columns column + i * step, of which [before, end) lie inside the image.
struct Span {
    Index column, step, before, end, count;
};

inline Span make_span(Index column, Index step, Index count, Index size) {
    const Index before = column >= 0 ? 0 : least(count, ceil_div(-column, step));
    const Index after = column >= size ? 0 : least(count, ceil_div(size - column, step));
    return {column, step, before, most(before, after), count};
}

template <class T>
inline void gather_line(T* to, const T* row, Index pixel_pitch, const Span& span, Index size,
                        PadMode mode) {
    const Index inside = span.end - span.before;
    const T* from = row + (span.column + span.before * span.step) * pixel_pitch;
    const Index distance = span.step * pixel_pitch;
    T* to_inside = to + span.before;
    if (distance == 1) {
        copy_line(to_inside, from, inside);
    } else if (distance == 2) {
        for (Index i = 0; i < inside; ++i) to_inside[i] = from[2 * i];
    } else {
        for (Index i = 0; i < inside; ++i) to_inside[i] = from[distance * i];
    }
    for (Index i = 0; i < span.count; ++i) {
        if (i == span.before) i = span.end;
        if (i >= span.count) break;
        const Index source = source_index(span.column + i * span.step, size, mode);
        to[i] = source < 0 ? T{} : row[source * pixel_pitch];
    }
}

// One block of outputs: what a strip shows.
struct Block {
    Index p, q, rows, cols;
};

// Where lines come from: one image and group.
template <class T>
struct Image {
    const Problem& problem;
    const StripBlocking& b;
    View<const T> x;
    Block block;

    // Row `row` under the block, of the padded image; null where it is a border of zeros.
    const T* padded_row(Index c, Index row) const {
        const Index in_row = block.p * problem.stride_h + row - problem.pad_top;
        const Index source = source_index(in_row, problem.h, problem.pad_mode);
        return source < 0 ? nullptr : x.data + c * x.stride[1] + source * x.stride[2];
    }
    // Every stride_w-th column from `column` on.
    Span span(Index column, Index count) const {
        return make_span(block.q * problem.stride_w + column - problem.pad_left, problem.stride_w,
                         count, problem.w);
    }
    // Rows and columns of one phase of the strip.
    Index rows() const { return block.rows + (b.taps_h - 1) * b.step_h / b.hop_h; }
    Index cols() const { return block.cols + (b.taps_w - 1) * b.step_w / b.hop_w; }
};

// Whether some tap reads this phase.
inline bool phase_is_read(Index phase, Index taps, Index step, Index hop) {
    if (hop == 1 || step == 1) return true;
    for (Index tap = 0; tap < taps && tap < hop; ++tap) {
        if (tap * step % hop == phase) return true;
    }
    return false;
}

// Calls body(phase_h, phase_w, strip of that phase) for every phase that is read.
template <class W, class Body>
inline void for_each_phase(const StripBlocking& b, W* strip, const Body& body) {
    for (Index h = 0; h < b.phases_h; ++h) {
        if (!phase_is_read(h, b.taps_h, b.step_h, b.hop_h)) continue;
        for (Index w = 0; w < b.phases_w; ++w) {
            if (!phase_is_read(w, b.taps_w, b.step_w, b.hop_w)) continue;
            const Index pixels = (h * b.phases_w + w) * b.strip_rows * b.pitch;
            body(h, w, strip + pixels * b.pixel_pitch);
        }
    }
}

// Members of one word, and where their lines are.
template <class T>
inline void take_members(Member (&members)[kMembers<T>], const Image<T>& image, Index word,
                         Member& member) {
    constexpr int kM = kMembers<T>;
    for (int m = 0; m < kM; ++m) {
        members[m] = member;
        // members beyond the last meet weights of zero: any line will do
        if (word * kM + m + 1 < image.b.channels) advance(member, image.problem, image.b.fold);
    }
}

// Gathers every line by itself. `lines` has room for kMembers + 1 of them.
template <class T>
void pack_lines(const Image<T>& image, Index word, Index words, T* lines, WordOf<T>* strip) {
    constexpr int kM = kMembers<T>;
    const Problem& problem = image.problem;
    const StripBlocking& b = image.b;
    const Index rows = image.rows(), count = image.cols();
    T* zeros = lines + kM * b.line_pitch;
    for (Index i = 0; i < b.line_pitch; ++i) zeros[i] = T{};
    Member member = member_of(problem, b.fold, word * kM);
    for (Index i = 0; i < words; ++i, strip += b.plane) {
        Member members[kM];
        take_members(members, image, word + i, member);
        for_each_phase(b, strip, [&](Index phase_h, Index phase_w, WordOf<T>* to) {
            Span spans[kM];
            bool plain[kM];  // read in place
            for (int m = 0; m < kM; ++m) {
                spans[m] = image.span(phase_w + members[m].s * problem.dilation_w, count);
                plain[m] = spans[m].before == 0 && spans[m].end == count && count >= kChunk &&
                           spans[m].step * image.x.stride[3] == 1;
            }
            for (Index row = 0; row < rows; ++row, to += b.pitch) {
                const T* sources[kM];
                for (int m = 0; m < kM; ++m) {
                    const T* from =
                        image.padded_row(members[m].c, row * problem.stride_h + phase_h +
                                                           members[m].r * problem.dilation_h);
                    sources[m] = zeros;
                    if (!from) continue;
                    sources[m] = from + spans[m].column;
                    if (plain[m]) continue;
                    T* line = lines + m * b.line_pitch;
                    gather_line(line, from, image.x.stride[3], spans[m], problem.w,
                                problem.pad_mode);
                    sources[m] = line;
                }
                interleave(to, sources, count, Narrow<T>::flip_x);
            }
        });
    }
}

// Whether some output row of the block reads this row.
inline bool row_is_read(const Problem& problem, Index in_row) {
    if (problem.stride_h == 1) return true;
    for (Index r = 0; r < problem.r && r * problem.dilation_h <= in_row; ++r) {
        if ((in_row - r * problem.dilation_h) % problem.stride_h == 0) return true;
    }
    return false;
}

// All rows of one channel under the block, columns sorted by their remainder to the stride, so
// that every tap's line is a part of one of them: [line_rows][line_phases][line_pitch].
template <class T>
void gather_channel(const Image<T>& image, Index c, T* lines) {
    const Problem& problem = image.problem;
    const StripBlocking& b = image.b;
    const Index reach_h = (problem.r - 1) * problem.dilation_h;
    const Index reach_w = (problem.s - 1) * problem.dilation_w;
    const Index rows = (image.block.rows - 1) * problem.stride_h + reach_h + 1;
    const Index count = image.block.cols + reach_w / problem.stride_w;
    for (Index phase = 0; phase < b.line_phases; ++phase) {
        if (!phase_is_read(phase, problem.s, problem.dilation_w, problem.stride_w)) continue;
        const Span span = image.span(phase, count);
        for (Index row = 0; row < rows; ++row) {
            if (!row_is_read(problem, row)) continue;
            T* line = lines + (row * b.line_phases + phase) * b.line_pitch;
            const T* from = image.padded_row(c, row);
            if (from) {
                gather_line(line, from, image.x.stride[3], span, problem.w, problem.pad_mode);
            } else {
                for (Index i = 0; i < count; ++i) line[i] = T{};
            }
        }
    }
}

// Gathers every channel once and lets its taps share the lines. `lines` has room for the channels
// that one word can show.
template <class T>
void pack_folded(const Image<T>& image, Index word, Index words, T* lines, WordOf<T>* strip) {
    constexpr int kM = kMembers<T>;
    const Problem& problem = image.problem;
    const StripBlocking& b = image.b;
    const Index row_pitch = b.line_phases * b.line_pitch;
    const Index channel_pitch = b.line_rows * row_pitch, count = image.cols();
    Member member = member_of(problem, b.fold, word * kM);
    Index gathered = member.c - 1;
    for (Index i = 0; i < words; ++i, strip += b.plane) {
        const T* sources[kM];
        for (int m = 0; m < kM; ++m) {
            if (member.c > gathered) {
                gathered = member.c;
                gather_channel(image, gathered, lines + gathered % b.line_channels * channel_pitch);
            }
            const Index column = member.s * problem.dilation_w;
            sources[m] = lines + member.c % b.line_channels * channel_pitch +
                         member.r * problem.dilation_h * row_pitch +
                         column % problem.stride_w * b.line_pitch + column / problem.stride_w;
            if ((word + i) * kM + m + 1 < b.channels) advance(member, problem, b.fold);
        }
        for (Index row = 0; row < image.block.rows; ++row) {
            interleave(strip + row * b.pitch, sources, count, Narrow<T>::flip_x);
            for (int m = 0; m < kM; ++m) sources[m] += problem.stride_h * row_pitch;
        }
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
