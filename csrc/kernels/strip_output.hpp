// From the lanes of a strip to y: runs of outputs, activations, rounding.
#pragma once

#include "kernels/finish.hpp"
#include "kernels/strip_lines.hpp"
#include "kernels/strip_words.hpp"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr std::int32_t kLowest = -0x7fffffff - 1, kHighest = 0x7fffffff;

// Activations of integers.
struct Range {
    std::int32_t low, high;
};

inline Range range_of(Activation activation) {
    if (activation == Activation::kRelu) return {0, kHighest};
    if (activation == Activation::kRelu6) return {0, 6};
    return {kLowest, kHighest};
}

// y of one image and group under one block of outputs, and how the strip's lanes lie on it.
template <class Y>
struct StripOutput {
    Y* data;  // of the block's first pixel
    Index stride_k, stride_p, stride_q;
    Index pitch, cols, lanes;  // of the strip's rows, of the block, from first to last output
    bool seamless;             // one distance from every lane's output to the next

    Y* at(Index channel, Index lane) const {
        if (seamless) return data + channel * stride_k + lane * stride_q;
        return data + channel * stride_k + lane / pitch * stride_p + lane % pitch * stride_q;
    }
    // Whether `width` lanes are outputs, stride_q apart.
    bool in_row(Index lane, Index width) const {
        return seamless ? lane + width <= lanes : lane % pitch + width <= cols;
    }
    // Whether they are consecutive in y.
    bool holds(Index lane, Index width) const { return stride_q == 1 && in_row(lane, width); }
};

template <class Y>
StripOutput<Y> make_output(const View<Y>& y, Index pitch, const Block& block) {
    const bool even = block.rows == 1 || y.stride[2] == pitch * y.stride[3];
    return {y.data,
            y.stride[1],
            y.stride[2],
            y.stride[3],
            pitch,
            block.cols,
            (block.rows - 1) * pitch + block.cols,
            even && pitch == block.cols};
}

// Channels of one pixel: a column of the buffer, in chunks whose loads do not wait for stores.
template <class Y>
inline void store_pixel(Y* y, const Y* column, Index pitch, Index rows) {
    Index row = 0;
    for (; row + 4 <= rows; row += 4, column += 4 * pitch) {
        const Y a = column[0], b = column[pitch];
        const Y c = column[2 * pitch], d = column[3 * pitch];
        y[row] = a;
        y[row + 1] = b;
        y[row + 2] = c;
        y[row + 3] = d;
    }
    for (; row < rows; ++row, column += pitch) y[row] = *column;
}

// Copies the outputs among `count` lanes from `lane` on, of output channels [first, first + rows),
// from a buffer into y (STORE), or from y into the buffer.
template <bool STORE, class Y>
void move_tile(const StripOutput<Y>& out, Index first, Index rows, Index lane, Index count,
               Y* buffer, Index buffer_pitch) {
    Index i = lane / out.pitch, j = lane % out.pitch;
    for (Index done = 0; done < count;) {
        const Index length = least(count - done, out.pitch - j);
        const Index valid = least(length, out.cols - j);
        Y* y = out.data + first * out.stride_k + i * out.stride_p + j * out.stride_q;
        Y* from = buffer + done;
        if (out.stride_q == 1 && valid > 0) {
            for (Index row = 0; row < rows; ++row) {
                Y* in_y = y + row * out.stride_k;
                Y* in_buffer = from + row * buffer_pitch;
                copy_line(STORE ? in_y : in_buffer, STORE ? in_buffer : in_y, valid);
            }
        } else if (STORE && out.stride_k == 1) {
            for (Index at = 0; at < valid; ++at) {
                store_pixel(y + at * out.stride_q, from + at, buffer_pitch, rows);
            }
        } else {
            for (Index at = 0; at < valid; ++at) {
                for (Index row = 0; row < rows; ++row) {
                    Y& in_y = y[at * out.stride_q + row * out.stride_k];
                    Y& in_buffer = from[row * buffer_pitch + at];
                    (STORE ? in_y : in_buffer) = STORE ? in_buffer : in_y;
                }
            }
        }
        done += length;
        i += 1;
        j = 0;
    }
}

// The same where the buffer has a row of channels for every pixel.
template <bool STORE, class Y>
void move_pixels(const StripOutput<Y>& out, Index first, Index outputs, Index lane, Index count,
                 Y* buffer, Index buffer_pitch) {
    Index i = lane / out.pitch, j = lane % out.pitch;
    for (Index done = 0; done < count; ++done, buffer += buffer_pitch) {
        Y* y = out.data + first * out.stride_k + i * out.stride_p + j * out.stride_q;
        const bool valid = j < out.cols;
        if (++j == out.pitch) {
            ++i;
            j = 0;
        }
        if (!valid) continue;
        if (out.stride_k == 1) {
            copy_line(STORE ? y : buffer, STORE ? buffer : y, outputs);
            continue;
        }
        for (Index k = 0; k < outputs; ++k) {
            Y& in_y = y[k * out.stride_k];
            (STORE ? in_y : buffer[k]) = STORE ? buffer[k] : in_y;
        }
    }
}

// Adds the bias, applies the activation and rounds `width` sums, whole vectors.
template <class T>
void round_row(T* to, const float* sums, Index width, const T* bias, Activation activation) {
    const Vec<float> addend = splat(bias ? widen_one(*bias) : 0.0f);
    for (Index i = 0; i < width; i += kLanes<float>) {
        Vec<float> v = load(sums + i);
        if (bias) v += addend;
        round_to(to + i, activate<float>(v, activation));
    }
}

}  // namespace
}  // namespace FASTCONV_ISA
}  // namespace fastconv
