// The gradient of w as a matrix product: gy times im2col(x), summed over all pixels of all images
// in one fixed order. im2col is not unfolded: with input channels as lanes every tap reads the same
// copy of x at another offset. Where channels are few, channels and taps are the rows, copied as
// planes, and output channels the lanes.
#include "conv/weight_grad.hpp"

#include <algorithm>

#include "conv/gemm_blocking.hpp"
#include "conv/weight_grad_blocking.hpp"
#include "conv/weight_grad_tasks.hpp"

namespace fastconv {
namespace {

// Below this many multiply-adds a thread costs more to wake than it computes.
constexpr double kThreadMacs = 1 << 18;
// Row tiles for which lanes are read in place.
constexpr Index kInPlaceTiles = 3;

template <class S>
GradScratchSize scratch_of() {
    if constexpr (kHalf<S>) return half_grads_for<S>().scratch;
    return kernels_for<GradSum<S>>().weight_grad_scratch;
}

template <class S>
WeightGradBlocking make_blocking(const Problem& problem, const Resources& resources) {
    return cut_weight_grad<GradSum<S>>(problem,
                                       useful_threads(problem, resources.threads, kThreadMacs),
                                       resources.thread_bytes, scratch_of<S>());
}

template <class S>
GradShares share(const Problem& problem, const Resources& resources, const WeightGradBlocking& b) {
    return grad_shares<S>(problem, b.tasks, b.chunks,
                          useful_threads(problem, resources.threads, kThreadMacs),
                          scratch_of<S>()(problem, b));
}

template <class S>
Footprint footprint(const Problem& problem, const Resources& resources) {
    const WeightGradBlocking blocking = make_blocking<S>(problem, resources);
    return share<S>(problem, resources, blocking).template footprint<GradSum<S>>();
}

// Which operands tiles read where they are.
template <class T>
void read_in_place(WeightGradBlocking& b, const Problem& problem,
                   const WeightGradOperands<T>& arrays) {
    const bool inside = taps_lie_inside(problem);
    const Index item = Index(sizeof(T)), lanes = kernels_for<T>().lanes;
    // pixels far apart are copied where many tiles pass by them
    const bool few_tiles = std::min(b.row_block, b.rows) <= kInPlaceTiles * b.row_tile;
    const auto lanes_in_place = [&](const View<const T>& view, Index step) {
        return few_tiles && view.stride[1] == 1 && b.lanes % lanes == 0 &&
               !crowds_cache_sets(step * view.stride[3] * item);
    };
    const auto rows_in_place = [&](const View<const T>& view) {
        return view.stride[1] == 1 || !crowds_cache_sets(view.stride[1] * item);
    };
    if (b.channel_lanes) {
        b.x_in_place = inside && lanes_in_place(arrays.x, problem.stride_w);
        b.gy_in_place = rows_in_place(arrays.gy);
    } else {
        // every second pixel of planes fills a cache with those between them
        b.x_in_place = inside && problem.r * problem.s == 1 && rows_in_place(arrays.x) &&
                       (problem.stride_w == 1 || arrays.x.stride[1] == 1);
        b.gy_in_place = lanes_in_place(arrays.gy, 1);
    }
}

template <class S>
Status run(const Problem& problem, const WeightGradOperands<S>& arrays, const Resources& resources,
           const Interrupt& interrupt) {
    using T = GradSum<S>;
    if (problem.n == 0) return add_chunks<T>(problem, arrays.gw, nullptr, 0, 1, interrupt);
    WeightGradJob<T> job{problem, {}, {}, {}, nullptr, make_blocking<S>(problem, resources)};
    return run_grad<S>(job, arrays, share<S>(problem, resources, job.blocking), interrupt,
                       [&](WeightGradJob<T>& of) {
                           if constexpr (kHalf<S>) {
                               (void)of;
                               return half_grads_for<S>().task;
                           } else {
                               read_in_place(of.blocking, problem, arrays);
                               return kernels_for<T>().weight_grad_task;
                           }
                       });
}

}  // namespace

template <class S>
const WeightGradAlgorithm<S>& weight_grad_gemm() {
    static const WeightGradAlgorithm<S> algorithm{"weight_grad_gemm", footprint<S>, run<S>};
    return algorithm;
}

template const WeightGradAlgorithm<float>& weight_grad_gemm();
template const WeightGradAlgorithm<double>& weight_grad_gemm();
template const WeightGradAlgorithm<Float16>& weight_grad_gemm();
template const WeightGradAlgorithm<Bfloat16>& weight_grad_gemm();

}  // namespace fastconv
