// Rows and columns of a gradient of x that no stride phase reaches.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "conv/input_grad_parts.hpp"
#include "conv/sizes.hpp"
#include "cpu.hpp"

namespace fastconv {

// Bytes of gx that one task fills.
constexpr Index kFillBytes = Index(128) << 10;

// Pixels that meet no taps: act(bias), a channel each.
template <class T>
struct Fill {
    const Problem& problem;
    const View<T>& gx;
    std::unique_ptr<EmptyPixels> empty;
    Index rows, blocks;     // of an image that one task fills; of all images
    std::vector<T> values;  // of the channels
    bool zeros;

    Fill(const Problem& of, const GradientParts& parts, const View<T>& to, const T* bias)
        : problem(of), gx(to), rows(0), blocks(0), zeros(true) {
        if (!parts.any_empty) return;
        empty = std::make_unique<EmptyPixels>(of);
        const Index row_bytes = std::max<Index>(1, of.w * of.c * Index(sizeof(T)));
        rows = std::clamp<Index>(kFillBytes / row_bytes, 1, of.h);
        blocks = of.n * ceil_div(of.h, rows);
        values.assign(std::size_t(of.c), T{});
        finish_zeros(bias);
        const T zero{};
        for (const T& value : values) zeros &= std::memcmp(&value, &zero, sizeof zero) == 0;
    }

    void run(Index block) const {
        const Index per_image = ceil_div(problem.h, rows), first = block % per_image * rows;
        const Index last = std::min(problem.h, first + rows);
        T* image = gx.data + block / per_image * gx.stride[0];
        if (gx.stride[1] == 1) {
            for (Index row = first; row < last; ++row) pixels(image + row * gx.stride[2], row);
            return;
        }
        for (Index c = 0; c < problem.c; ++c) {
            T* plane = image + c * gx.stride[1];
            for (Index row = first; row < last; ++row) {
                line(plane + row * gx.stride[2], row, values[std::size_t(c)]);
            }
        }
    }

  private:
    void finish_zeros(const T* bias) {
        if constexpr (sizeof(T) > 2) {
            kernels_for<T>().finish_row(values.data(), problem.c, bias, 1, problem.activation);
        } else if (bias || problem.activation != Activation::kNone) {
            // rounding is the kernels' own: a convolution of a zero
            Problem point = problem;
            point.n = point.c = point.groups = point.h = point.w = point.r = point.s = 1;
            point.k = problem.c, point.p = point.q = point.stride_h = point.stride_w = 1;
            point.pad_top = point.pad_left = 0;
            point.channels_last = true;
            const T zero{};
            const View<const T> nothing{&zero, {0, 0, 0, 0}};
            const Operands<T> arrays{
                nothing, nothing, nullptr, bias, {values.data(), {0, 1, 0, 0}}};
            const Resources alone{1, Index(1) << 20, false};
            const Status status = choose<T>(point, false).run(point, arrays, alone, {});
            if (status != Status::kOk) throw std::bad_alloc();
        }
    }

    // A row of pixels with their channels side by side.
    void pixels(T* to, Index row) const {
        const std::size_t bytes = std::size_t(problem.c) * sizeof(T);
        if (!empty->rows[std::size_t(row)]) {
            for (const Index col : empty->cols) pixel(to + col * gx.stride[3], bytes);
        } else if (zeros && gx.stride[3] == problem.c) {
            std::memset(to, 0, bytes * std::size_t(problem.w));
        } else {
            for (Index col = 0; col < problem.w; ++col) pixel(to + col * gx.stride[3], bytes);
        }
    }
    void pixel(T* to, std::size_t bytes) const {
        if (zeros) {
            std::memset(to, 0, bytes);
        } else {
            std::memcpy(to, values.data(), bytes);
        }
    }

    // A row of one channel.
    void line(T* to, Index row, T value) const {
        const Index pitch = gx.stride[3];
        if (!empty->rows[std::size_t(row)]) {
            for (const Index col : empty->cols) to[col * pitch] = value;
        } else if (pitch == 1) {
            std::fill_n(to, problem.w, value);
        } else {
            for (Index col = 0; col < problem.w; ++col) to[col * pitch] = value;
        }
    }
};

}  // namespace fastconv
