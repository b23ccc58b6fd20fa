// Filling a strip from images whose channels are consecutive in memory: pixels are turned into
// words of one channel after the other, or copied where the strip keeps them together.
#pragma once

#include "kernels/strip_lines.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// One row of one phase where the channels of a pixel are consecutive in memory.
template <class T>
void pack_pixel_row(const Image<T>& image, const T* from, const Span& span, Index word, Index words,
                    WordOf<T>* strip) {
    constexpr int kM = kMembers<T>;
    constexpr Index kT = turned<T>();
    const Problem& problem = image.problem;
    const StripBlocking& b = image.b;
    const Index pixel_pitch = image.x.stride[3];
    const Index whole = least(words, b.channels / kM - word) / kT * kT;
    const auto put = [&](const T* pixel, WordOf<T>* to, Index first) {
        const T zeros[kM] = {};
        for (Index i = first; i < words; ++i) {
            const Index channel = (word + i) * kM;
            to[i * b.plane] = join(pixel ? pixel + channel : zeros, least(kM, b.channels - channel),
                                   Narrow<T>::flip_x);
        }
    };
    for (Index i = 0; i < span.count;) {
        if (from && i >= span.before && i + kT <= span.end && whole > 0) {
            const T* pixel = from + (span.column + i * span.step) * pixel_pitch;
            const Index pitch = span.step * pixel_pitch;
            for (Index done = 0; done < whole; done += kT) {
                turn_pixels(pixel + (word + done) * kM, pitch, strip + done * b.plane + i, b.plane);
            }
            for (Index j = 0; whole < words && j < kT; ++j) {
                put(pixel + j * pitch, strip + i + j, whole);
            }
            i += kT;
            continue;
        }
        const Index column =
            from ? source_index(span.column + i * span.step, problem.w, problem.pad_mode) : -1;
        put(column < 0 ? nullptr : from + column * pixel_pitch, strip + i, 0);
        ++i;
    }
}

template <class T>
void pack_pixels(const Image<T>& image, Index word, Index words, WordOf<T>* strip) {
    for_each_phase(image.b, strip, [&](Index phase_h, Index phase_w, WordOf<T>* to) {
        const Span span = image.span(phase_w, image.cols());
        for (Index row = 0; row < image.rows(); ++row, to += image.b.pitch) {
            const T* from = image.padded_row(0, row * image.problem.stride_h + phase_h);
            pack_pixel_row(image, from, span, word, words, to);
        }
    });
}

// Words of `count` consecutive elements.
template <class T>
inline void copy_words(WordOf<T>* to, const T* from, Index count) {
    constexpr Index kM = kMembers<T>, kL = kLanes<WordOf<T>>;
    constexpr std::uint32_t kFlip = Narrow<T>::flip_x;
    const Index whole = count / kM;
    if (whole >= kL) {
        for (Index i = 0; i < whole; i += kL) {
            const Index at = least(i, whole - kL);  // the last vector overlaps the one before
            store(to + at, load_words(from + at * kM, kFlip));
        }
    } else {
        for (Index i = 0; i < whole; ++i) to[i] = join_whole(from + i * kM, kFlip);
    }
    if (whole * kM < count) to[whole] = join(from + whole * kM, count - whole * kM, kFlip);
}

// One pixel's words [word, word + words), from channels `distance` apart; null is a border of
// zeros.
template <class T>
inline void copy_pixel(const StripBlocking& b, const T* pixel, Index distance, Index word,
                       Index words, WordOf<T>* to) {
    constexpr Index kM = kMembers<T>;
    const Index first = word * kM, count = least(words * kM, b.channels - first);
    if (pixel && distance == 1) return copy_words(to, pixel + first, count);
    for (Index i = 0; i < words; ++i) {
        T members[kM] = {};
        const Index left = least(kM, count - i * kM);
        for (Index m = 0; pixel && m < left; ++m) {
            members[m] = pixel[(first + i * kM + m) * distance];
        }
        to[i] = join(members, kM, Narrow<T>::flip_x);
    }
}

// A strip whose pixels keep their words together.
template <class T>
void copy_pixels(const Image<T>& image, Index word, Index words, WordOf<T>* strip) {
    const Problem& problem = image.problem;
    const StripBlocking& b = image.b;
    const Index distance = image.x.stride[1], pixel_pitch = image.x.stride[3];
    for_each_phase(b, strip, [&](Index phase_h, Index phase_w, WordOf<T>* to) {
        const Span span = image.span(phase_w, image.cols());
        // pixels without a gap between them are one run of channels
        const bool gapless = distance == 1 && span.step * pixel_pitch == b.channels &&
                             words == b.words && b.pixel_pitch * kMembers<T> == b.channels;
        for (Index row = 0; row < image.rows(); ++row, to += b.pitch * b.pixel_pitch) {
            const T* from = image.padded_row(0, row * problem.stride_h + phase_h);
            for (Index i = 0; i < span.count; ++i) {
                WordOf<T>* pixel = to + i * b.pixel_pitch;
                if (from && i == span.before && gapless && span.end > span.before) {
                    copy_words(pixel, from + (span.column + i * span.step) * pixel_pitch,
                               (span.end - i) * b.channels);
                    i = span.end - 1;
                    continue;
                }
                const Index column =
                    source_index(span.column + i * span.step, problem.w, problem.pad_mode);
                const bool inside = from && column >= 0;
                copy_pixel(b, inside ? from + column * pixel_pitch : nullptr, distance, word, words,
                           pixel);
            }
        }
    });
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
