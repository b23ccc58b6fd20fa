#include "conv/input_grad_panels.hpp"

#include "conv/gemm_job.hpp"
#include "conv/sizes.hpp"
#include "conv/tasks.hpp"
#include "cpu.hpp"
#include "workspace.hpp"

namespace fastconv {
namespace {

// With more pixels of an image packing is little beside the product, whose tasks are better cut.
constexpr Index kPixels = 256;
constexpr double kThreadMacs = 1 << 18;
constexpr Index kLine = 64;

// The product of one phase with a block of channels, and its packed weights.
template <class T>
struct PanelPart {
    Problem problem;
    Blocking blocking;
    Index offset, elements;  // of the packed weights, without the note whether they are finite

    PanelPart(const GradientPart& part, Index channels, Index thread_bytes)
        : problem(part.problem) {
        problem.k = channels;
        blocking = make_packed_blocking(problem, gemm_shape<T>(), 1, thread_bytes, true);
        offset = 0;
        elements = kernels_for<T>().im2col_gemm_packed(blocking);
    }
    Index bytes() const { return ceil_div((elements + 1) * Index(sizeof(T)), kLine) * kLine; }
    Index scratch() const {
        return ceil_div(kernels_for<T>().im2col_gemm_scratch(blocking), kLine) * kLine;
    }
};

template <class T>
struct PanelParts {
    std::vector<PanelPart<T>> parts;
    Index packed = 0, scratch = 0;  // bytes of a thread

    PanelParts(const GradientParts& gradient, Index channels, Index thread_bytes) {
        for (const GradientPart& part : gradient.parts) {
            parts.emplace_back(part, channels, thread_bytes);
            parts.back().offset = packed;
            packed += parts.back().bytes();
            scratch = std::max(scratch, parts.back().scratch());
        }
    }
};

// Where each tap of w goes: to one step of the product of one phase.
template <class T>
TapPacking<T> tap_packing(const Problem& problem, const GradientParts& gradient,
                          const PanelParts<T>& panels, const View<const T>& w, Index first,
                          char* packed) {
    const Index cols = kernels_for<T>().tile.cols;
    TapPacking<T> job{};
    job.w = w.data + first * w.stride[1];
    job.channels = problem.k, job.channel = w.stride[0];
    job.outputs = panels.parts[0].problem.k, job.taps = problem.r * problem.s;
    for (std::size_t i = 0; i < panels.parts.size(); ++i) {
        const PanelPart<T>& part = panels.parts[i];
        const AxisPhase &rows = gradient.parts[i].rows, &columns = gradient.parts[i].cols;
        T* to = reinterpret_cast<T*>(packed + part.offset);
        const Index taps = rows.taps * columns.taps, panel = part.blocking.packed_depth * cols;
        for (Index tap = 0; tap < taps; ++tap) {
            const Index r = rows.tap + tap / columns.taps * rows.step;
            const Index s = columns.tap + tap % columns.taps * columns.step;
            const bool first_taps = part.blocking.taps_first;
            job.tap[r * problem.s + s] = {to + tap * (first_taps ? problem.k : 1) * cols,
                                          (first_taps ? 1 : taps) * cols, panel};
        }
    }
    return job;
}

}  // namespace

template <class T>
PanelCut panel_cut(const Problem& problem, const GradientParts& gradient,
                   const Resources& resources) {
    const GemmShape shape = gemm_shape<T>();
    const Index cols = shape.tile.cols, taps = problem.r * problem.s;
    const PanelCut none{0, 0, 0, 0};
    Index met = 0;  // taps without pixels of gy have no product
    for (const GradientPart& part : gradient.parts) met += part.problem.r * part.problem.s;
    const int threads = useful_threads(problem, resources.threads, kThreadMacs);
    if (problem.groups != 1 || !packs_taps(taps) || met != taps || problem.c % cols != 0 ||
        problem.p * problem.q > kPixels) {
        return none;
    }
    const Index each = taps * problem.k * cols * Index(sizeof(T));  // bytes of a panel
    const auto even = [&](Index panels) {
        const Index blocks = problem.c / cols / panels;
        return problem.c / cols % panels == 0 && (blocks % threads == 0 || blocks >= 4 * threads);
    };
    Index panels = 1;
    while (panels * 2 * each <= shape.second_level_cache / 2 && even(panels * 2)) panels *= 2;
    if (!even(panels) || panels * each > resources.thread_bytes / 2) return none;
    const Index channels = panels * cols, blocks = problem.c / channels;
    const PanelParts<T> parts(gradient, channels, resources.thread_bytes / 2);
    return {channels, blocks, int(std::min<Index>(threads, blocks)), parts.packed + parts.scratch};
}

template <class T>
bool taps_lie_together(const Problem& problem, const View<const T>& w) {
    return w.stride[3] == 1 && w.stride[2] == problem.s && w.stride[1] == problem.r * problem.s;
}

template <class T>
Status run_panels(const Problem& problem, const GradientParts& gradient,
                  const std::vector<Operands<T>>& parts, const View<const T>& w,
                  const Fill<T>& fill, const PanelCut& cut, const Resources& resources,
                  const Interrupt& interrupt) {
    const PanelParts<T> panels(gradient, cut.channels, resources.thread_bytes / 2);
    const Kernels<T>& kernels = kernels_for<T>();
    char* memory =
        static_cast<char*>(thread_workspace(std::size_t(cut.threads * cut.thread_bytes)));
    if (!memory) return Status::kNoMemory;
    const auto body = [&](Index block, int thread) {
        char* packed = memory + thread * cut.thread_bytes;
        const Index first = block * cut.channels;
        const bool finite =
            kernels.pack_taps(tap_packing(problem, gradient, panels, w, first, packed));
        for (std::size_t i = 0; i < parts.size(); ++i) {
            const PanelPart<T>& part = panels.parts[i];
            Operands<T> arrays = parts[i];
            T* weights = reinterpret_cast<T*>(packed + part.offset);
            weights[part.elements] = finite ? T(1) : T(0);
            arrays.packed = weights;
            arrays.y.data += first * arrays.y.stride[1];
            if (arrays.bias) arrays.bias += first;
            GemmJob<T> job{part.problem, arrays, part.blocking, part.problem.q};
            fit_to_arrays(job);
            for (Index task = 0; task < part.blocking.tasks; ++task) {
                kernels.im2col_gemm_task(job, task, packed + panels.packed);
            }
        }
        const Index end = fill.blocks * (block + 1) / cut.blocks;
        for (Index i = fill.blocks * block / cut.blocks; i < end; ++i) fill.run(i);
    };
    const bool completed = parallel_for(cut.blocks, cut.threads, body, interrupt);
    return completed ? Status::kOk : Status::kInterrupted;
}

template PanelCut panel_cut<float>(const Problem&, const GradientParts&, const Resources&);
template PanelCut panel_cut<double>(const Problem&, const GradientParts&, const Resources&);
template bool taps_lie_together(const Problem&, const View<const float>&);
template bool taps_lie_together(const Problem&, const View<const double>&);
template Status run_panels(const Problem&, const GradientParts&,
                           const std::vector<Operands<float>>&, const View<const float>&,
                           const Fill<float>&, const PanelCut&, const Resources&, const Interrupt&);
template Status run_panels(const Problem&, const GradientParts&,
                           const std::vector<Operands<double>>&, const View<const double>&,
                           const Fill<double>&, const PanelCut&, const Resources&,
                           const Interrupt&);

}  // namespace fastconv
