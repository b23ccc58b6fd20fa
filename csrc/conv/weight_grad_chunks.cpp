// How the sum over all pixels is cut: boxes, and chunks of boxes with sums of their own.
#include <algorithm>

#include "conv/sizes.hpp"
#include "conv/weight_grad.hpp"

namespace fastconv {

namespace {

constexpr Index kSumBlock = 2048;

// The largest part of `size` of at most `most` that leaves parts of nearly the same size.
Index even_part(Index size, Index most) {
    return ceil_div(size, ceil_div(size, std::clamp<Index>(most, 1, size)));
}

}  // namespace

PixelBox make_pixel_box(const Problem& problem, Index pixels) {
    PixelBox box{1, 1, even_part(problem.q, pixels)};
    if (box.cols < problem.q) return box;
    box.rows = even_part(problem.p, pixels / problem.q);
    if (box.rows < problem.p || problem.n == 0) return box;
    box.images = even_part(problem.n, pixels / (problem.p * problem.q));
    return box;
}

Index count_boxes(const Problem& problem, const PixelBox& box) {
    return ceil_div(problem.n, box.images) * ceil_div(problem.p, box.rows) *
           ceil_div(problem.q, box.cols);
}

template <class T>
void add_chunks(const Problem& problem, const View<T>& gw, const T* partial, Index chunks) {
    const Index channels = problem.c / problem.groups, taps = problem.r * problem.s;
    const Index outputs = problem.k * channels * taps;
    const bool dense = gw.stride[0] == channels * taps && gw.stride[1] == taps &&
                       gw.stride[2] == problem.s && gw.stride[3] == 1;
    if (dense && chunks > 0) {
        // a block at a time, in the first-level cache
        for (Index first = 0; first < outputs; first += kSumBlock) {
            const Index count = std::min(kSumBlock, outputs - first);
            T* const to = gw.data + first;
            std::copy(partial + first, partial + first + count, to);
            for (Index chunk = 1; chunk < chunks; ++chunk) {
                const T* from = partial + chunk * outputs + first;
                for (Index i = 0; i < count; ++i) to[i] += from[i];
            }
        }
        return;
    }
    for (Index k = 0; k < problem.k; ++k) {
        for (Index c = 0; c < channels; ++c) {
            for (Index tap = 0; tap < taps; ++tap) {
                const T* from = partial + (k * channels + c) * taps + tap;
                T sum = chunks > 0 ? from[0] : T(0);
                for (Index chunk = 1; chunk < chunks; ++chunk) sum += from[chunk * outputs];
                gw.data[k * gw.stride[0] + c * gw.stride[1] + tap / problem.s * gw.stride[2] +
                        tap % problem.s * gw.stride[3]] = sum;
            }
        }
    }
}

template <class T>
const WeightGradAlgorithm<T>& choose_weight_grad(const Problem& problem) {
    return takes_weight_grad_depthwise<T>(problem) ? weight_grad_depthwise<T>()
                                                   : weight_grad_gemm<T>();
}

template void add_chunks(const Problem&, const View<float>&, const float*, Index);
template void add_chunks(const Problem&, const View<double>&, const double*, Index);
template const WeightGradAlgorithm<float>& choose_weight_grad(const Problem&);
template const WeightGradAlgorithm<double>& choose_weight_grad(const Problem&);

}  // namespace fastconv
