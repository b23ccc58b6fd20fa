// Weights of the implicit GEMM that a call packs before its tasks begin, once for all images:
// threads pack a panel each, as a plan would.
#pragma once

#include <atomic>
#include <vector>

#include "conv/sizes.hpp"
#include "cpu.hpp"
#include "kernels/kernels.hpp"
#include "parallel.hpp"

namespace fastconv {

// Calls of at least so many images pack their weights once: tasks would for each image. With fewer
// images that was slower; docs/performance.md has the figures.
constexpr Index kPackedImages = 8;

// The panels of one problem, whose blocking is that of packed weights.
template <class T>
class GemmPacking {
  public:
    GemmPacking(const Problem& of, const Blocking& by, const View<const T>& from, T* to)
        : problem(of), blocking(by), w(from), packed(to) {
        const Kernels<T>& kernels = kernels_for<T>();
        group = kernels.im2col_gemm_packed(blocking);
        panels = blocking.channel_lanes ? ceil_div(blocking.cols, kernels.tile.cols)
                                        : ceil_div(blocking.rows, blocking.row_tile);
    }

    Index tasks() const { return problem.groups * panels; }

    // Packs one panel; returns whether its weights are finite.
    bool run(Index task) const {
        const Index at = task / panels;
        View<const T> weights = w;
        weights.data += at * (problem.k / problem.groups) * w.stride[0];
        return kernels_for<T>().volume_pack(problem, blocking, weights, task % panels,
                                            packed + at * group);
    }

    // Notes behind the panels whether the weights of all are finite.
    void close(bool finite) const { packed[problem.groups * group] = finite ? T(1) : T(0); }

  private:
    Problem problem;
    Blocking blocking;
    View<const T> w;
    T* packed;
    Index group, panels;  // elements and number of one group's
};

// Packs the weights of several problems; returns false if interrupted. Where some weights are not
// finite all count as such: results are the same, their tasks only leave nothing out.
template <class T>
bool pack_together(const std::vector<GemmPacking<T>>& packings, int threads,
                   const Interrupt& interrupt) {
    Index tasks = 0;
    for (const GemmPacking<T>& packing : packings) tasks += packing.tasks();
    std::atomic<bool> finite{true};
    const auto body = [&](Index task, int) {
        std::size_t at = 0;
        while (task >= packings[at].tasks()) task -= packings[at++].tasks();
        if (!packings[at].run(task)) finite = false;
    };
    const bool completed = parallel_for(tasks, threads, body, interrupt);
    for (const GemmPacking<T>& packing : packings) packing.close(finite);
    return completed;
}

}  // namespace fastconv
