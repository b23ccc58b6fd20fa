// How the sum over all pixels is cut: boxes, and chunks of boxes with sums of their own.
#include <algorithm>

#include "conv/sizes.hpp"
#include "conv/weight_grad.hpp"

namespace fastconv {

namespace {

// Sums that are added at a time, and so many that one thread adds them.
constexpr Index kSumBlock = 2048, kSerialSums = 1 << 15;

inline void round_sums(float* to, const float* from, Index count) {
    std::copy(from, from + count, to);
}
inline void round_sums(double* to, const double* from, Index count) {
    std::copy(from, from + count, to);
}
template <class S>
void round_sums(S* to, const float* from, Index count) {
    half_grads_for<S>().round(to, from, count);
}

// The largest part of `size` of at most `most` that leaves parts of nearly the same size.
Index even_part(Index size, Index most) {
    return ceil_div(size, ceil_div(size, std::clamp<Index>(most, 1, size)));
}

}  // namespace

PixelBox make_pixel_box(const Problem& problem, Index pixels) {
    PixelBox box{1, 1, even_part(problem.q, pixels)};
    if (box.cols < problem.q) return box;
    // an even number of boxes: two threads shall have as many
    const Index rows = std::clamp<Index>(pixels / problem.q, 1, problem.p);
    const Index boxes = ceil_div(problem.p, rows);
    box.rows = ceil_div(problem.p, std::min(problem.p, boxes > 1 ? boxes + boxes % 2 : 1));
    if (box.rows < problem.p || problem.n == 0) return box;
    box.images = even_part(problem.n, pixels / (problem.p * problem.q));
    return box;
}

Index count_boxes(const Problem& problem, const PixelBox& box) {
    return ceil_div(problem.n, box.images) * ceil_div(problem.p, box.rows) *
           ceil_div(problem.q, box.cols);
}

template <>
const HalfGradKernels<Float16>& half_grads_for<Float16>() {
    return kernels_for<float>().float16_grads;
}
template <>
const HalfGradKernels<Bfloat16>& half_grads_for<Bfloat16>() {
    return kernels_for<float>().bfloat16_grads;
}

template <class T, class S>
Status add_chunks(const Problem& problem, const View<S>& gw, const T* partial, Index chunks,
                  int threads, const Interrupt& interrupt) {
    const Index channels = problem.c / problem.groups, taps = problem.r * problem.s;
    const Index outputs = problem.k * channels * taps;
    const bool dense = gw.stride[0] == channels * taps && gw.stride[1] == taps &&
                       gw.stride[2] == problem.s && gw.stride[3] == 1;
    const bool completed = parallel_for(
        ceil_div(outputs, kSumBlock), outputs * chunks < kSerialSums ? 1 : threads,
        [&](Index task, int) {
            T sums[kSumBlock];
            const Index first = task * kSumBlock, count = std::min(kSumBlock, outputs - first);
            std::fill(sums, sums + count, T(0));
            if (chunks > 0) std::copy(partial + first, partial + first + count, sums);
            for (Index chunk = 1; chunk < chunks; ++chunk) {
                const T* from = partial + chunk * outputs + first;
                for (Index i = 0; i < count; ++i) sums[i] += from[i];
            }
            if (dense) return round_sums(gw.data + first, sums, count);
            S rounded[kSumBlock];
            round_sums(rounded, sums, count);
            for (Index i = 0; i < count; ++i) {
                const Index kernel = (first + i) / taps, tap = (first + i) % taps;
                gw.data[kernel / channels * gw.stride[0] + kernel % channels * gw.stride[1] +
                        tap / problem.s * gw.stride[2] + tap % problem.s * gw.stride[3]] =
                    rounded[i];
            }
        },
        interrupt);
    return completed ? Status::kOk : Status::kInterrupted;
}

template <class T>
const WeightGradAlgorithm<T>& choose_weight_grad(const Problem& problem) {
    if constexpr (sizeof(T) > 2) {
        if (takes_weight_grad_depthwise<T>(problem)) return weight_grad_depthwise<T>();
    }
    return takes_weight_grad_grouped<T>(problem) ? weight_grad_grouped<T>() : weight_grad_gemm<T>();
}

template Status add_chunks(const Problem&, const View<float>&, const float*, Index, int,
                           const Interrupt&);
template Status add_chunks(const Problem&, const View<double>&, const double*, Index, int,
                           const Interrupt&);
template Status add_chunks(const Problem&, const View<Float16>&, const float*, Index, int,
                           const Interrupt&);
template Status add_chunks(const Problem&, const View<Bfloat16>&, const float*, Index, int,
                           const Interrupt&);
template const WeightGradAlgorithm<float>& choose_weight_grad(const Problem&);
template const WeightGradAlgorithm<double>& choose_weight_grad(const Problem&);
template const WeightGradAlgorithm<Float16>& choose_weight_grad(const Problem&);
template const WeightGradAlgorithm<Bfloat16>& choose_weight_grad(const Problem&);

}  // namespace fastconv
