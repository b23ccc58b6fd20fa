// The gradient of x by stride phases: each is computed by the ladder's algorithm for a convolution
// of its shape. Matrix products run together: a task of one phase is followed by the task of the
// next that reads the same pixels of gy and writes their neighbours in gx, while both are in the
// caches. Rows and columns that no phase reaches are filled on the way.
#include <algorithm>
#include <memory>
#include <new>

#include "conv/im2col_gemm.hpp"
#include "conv/input_grad.hpp"
#include "conv/input_grad_fill.hpp"
#include "conv/input_grad_panels.hpp"
#include "conv/input_grad_parts.hpp"
#include "conv/sizes.hpp"
#include "conv/tasks.hpp"
#include "cpu.hpp"
#include "workspace.hpp"

namespace fastconv {
namespace {

constexpr Index kLine = 64;

Index whole_lines(Index bytes) {
    return ceil_div(bytes, kLine) * kLine;
}

// Whether there is a matrix product whose tasks others can run between: not of 16 bits.
template <class T>
constexpr bool kHasTasks = sizeof(T) > 2;

// Whether the tasks of all parts run together.
template <class T>
bool runs_together(const GradientParts& gradient, bool fast) {
    if constexpr (kHasTasks<T>) {
        return std::all_of(gradient.parts.begin(), gradient.parts.end(),
                           [&](const GradientPart& part) {
                               return &choose<T>(part.problem, fast) == &im2col_gemm<T>();
                           });
    }
    return false;
}

// The phases, or one product where kernels lie together. Both add up the same products in the same
// order.
template <class T>
GradientParts parts_of(const Problem& problem, bool fast) {
    GradientParts phases(problem);
    if (!kernels_lie_together(problem) || !runs_together<T>(phases, fast)) return phases;
    GradientParts together(problem, true);
    return runs_together<T>(together, fast) ? together : phases;
}

// Whether weights cannot be read, or packed, as outputs of that one product.
template <class T>
bool taps_lie_apart(const Problem& problem, const GradientParts& gradient, const View<const T>& w) {
    if constexpr (kHasTasks<T>) {
        return !gradient.parts.empty() && gradient.parts[0].all_taps &&
               !taps_lie_together<T>(problem, w);
    }
    return false;
}

// Where the packed weights of each part begin, behind the copy of turned weights.
template <class T>
struct PackedLayout {
    std::vector<Index> offset, bytes;  // 0 bytes where a part reads w
    Index total;

    PackedLayout(const Problem& problem, const GradientParts& gradient, bool fast)
        : total(whole_lines(turned_elements(problem) * Index(sizeof(T)))) {
        for (const GradientPart& part : gradient.parts) {
            offset.push_back(total);
            bytes.push_back(choose<T>(part.problem, fast).packed_bytes(part.problem));
            total += whole_lines(bytes.back());
        }
    }
};

// Whether a call packs its weights before it begins.
template <class T>
bool packs_first(const Problem& problem, const GradientParts& gradient,
                 const PackedLayout<T>& layout, const Resources& resources) {
    const Index room = threads_at_most(resources.threads) * resources.thread_bytes;
    return problem.n >= kPackedImages && layout.total <= room &&
           runs_together<T>(gradient, resources.fast);
}

bool takes(const Problem&) {
    return true;
}

template <class T>
std::string name(const Problem& problem, bool fast) {
    const GradientParts gradient = parts_of<T>(problem, fast);
    std::vector<std::string> names;
    for (const GradientPart& part : gradient.parts) {
        const char* of_part = choose<T>(part.problem, fast).name;
        if (std::find(names.begin(), names.end(), of_part) == names.end()) names.push_back(of_part);
    }
    std::string joined;
    for (const std::string& each : names) joined += (joined.empty() ? "" : " and ") + each;
    return joined.empty() ? "zeros" : joined;
}

template <class T>
Footprint footprint(const Problem& problem, const Resources& resources, bool weights_packed) {
    bool packed = weights_packed;
    const GradientParts gradient = parts_of<T>(problem, resources.fast);
    const bool together = runs_together<T>(gradient, resources.fast);
    const PackedLayout<T> layout(problem, gradient, resources.fast);
    Index kept = packed ? 0 : turned_elements(problem) * Index(sizeof(T));
    if (!packed && packs_first<T>(problem, gradient, layout, resources)) {
        packed = true;
        kept += layout.total;
    }
    Index most = 0, each = 0;
    int threads = 1;
    for (const GradientPart& part : gradient.parts) {
        if constexpr (kHasTasks<T>) {
            if (together) {
                Operands<T> arrays{};
                arrays.packed = packed ? &part : nullptr;  // any address
                const GemmTasks<T> stage = im2col_gemm_tasks<T>(part.problem, arrays, resources);
                threads = std::max(threads, stage.threads);
                each = std::max(each, whole_lines(stage.thread_bytes));
                continue;
            }
        }
        const Footprint of_part =
            choose<T>(part.problem, resources.fast).footprint(part.problem, resources, packed);
        threads = std::max(threads, of_part.threads);
        most = std::max(most, of_part.scratch_bytes);
    }
    Footprint whole{(together ? threads * each : most) + kept, threads};
    if (!weights_packed && together) {
        const PanelCut cut = panel_cut<T>(problem, GradientParts(problem), resources);
        whole.scratch_bytes = std::max(whole.scratch_bytes, cut.threads * cut.thread_bytes);
        whole.threads = std::max(whole.threads, cut.threads);
    }
    return whole;
}

template <class T>
Index packed_bytes(const Problem& problem, bool fast) {
    return PackedLayout<T>(problem, parts_of<T>(problem, fast), fast).total;
}

// A copy of weights with the taps of a channel together.
template <class T>
std::unique_ptr<T[]> taps_together(const Problem& problem, const View<const T>& w) {
    const Index all = problem.k * problem.c * problem.r * problem.s;
    std::unique_ptr<T[]> copy(new T[std::size_t(all)]);
    T* to = copy.get();
    for (Index k = 0; k < problem.k; ++k) {
        for (Index c = 0; c < problem.c; ++c) {
            const T* kernel = w.data + k * w.stride[0] + c * w.stride[1];
            for (Index r = 0; r < problem.r; ++r) {
                for (Index s = 0; s < problem.s; ++s) {
                    *to++ = kernel[r * w.stride[2] + s * w.stride[3]];
                }
            }
        }
    }
    return copy;
}

template <class T>
Status pack(const Problem& problem, bool fast, const View<const T>& w, void* packed) {
    const GradientParts gradient = parts_of<T>(problem, fast);
    if (taps_lie_apart(problem, gradient, w)) {
        const std::unique_ptr<T[]> copy = taps_together(problem, w);
        const Index taps = problem.r * problem.s;
        return pack<T>(problem, fast, {copy.get(), {problem.c * taps, taps, problem.s, 1}}, packed);
    }
    const PackedLayout<T> layout(problem, gradient, fast);
    const View<const T> turned = turned_weights<T>(problem, w, static_cast<T*>(packed));
    for (std::size_t i = 0; i < gradient.parts.size(); ++i) {
        if (layout.bytes[i] == 0) continue;
        const GradientPart& part = gradient.parts[i];
        const Operands<T> arrays = part_operands<T>(part, problem, {}, turned);
        choose<T>(part.problem, fast)
            .pack(part.problem, arrays.w, static_cast<char*>(packed) + layout.offset[i]);
    }
    return Status::kOk;
}

template <class T>
using PartArrays = std::vector<Operands<T>>;

// Part `index` of `parts` equal shares of `count` tasks begins with this one.
Index share(Index count, Index index, Index parts) {
    return count * index / parts;
}

// `layout` is of weights that are packed first, or null.
template <class T>
Status run_together(const Problem& problem, const GradientParts& gradient, PartArrays<T>& arrays,
                    const Fill<T>& fill, const PackedLayout<T>* layout, const Resources& resources,
                    const Interrupt& interrupt) {
    std::vector<GemmTasks<T>> stages;
    Index bytes = 0, tasks = arrays.empty() ? fill.blocks : 0;
    int threads = arrays.empty() ? threads_at_most(resources.threads) : 1;
    for (std::size_t i = 0; i < arrays.size(); ++i) {
        if (layout) arrays[i].packed = layout;  // any address: the memory is not there yet
        const GradientPart& part = gradient.parts[i];
        const OutputTaps taps = part_taps(part, problem, fill.gx);
        stages.push_back(im2col_gemm_tasks<T>(part.problem, arrays[i], resources, taps));
        const GemmTasks<T>& stage = stages.back();
        bytes = std::max(bytes, whole_lines(stage.thread_bytes));
        threads = std::max(threads, stage.threads);
        tasks = std::max(tasks, stage.job.blocking.tasks);
    }
    threads = int(std::min<Index>(threads, std::max<Index>(1, tasks)));
    const Index weights = layout ? layout->total : 0;
    char* memory = static_cast<char*>(thread_workspace(std::size_t(threads * bytes + weights)));
    if (!memory) return Status::kNoMemory;
    if (layout) {
        std::vector<GemmPacking<T>> packings;
        for (std::size_t i = 0; i < stages.size(); ++i) {
            void* to = memory + layout->offset[i];
            packings.push_back(im2col_gemm_packing<T>(gradient.parts[i].problem, arrays[i].w, to));
            stages[i].job.arrays.packed = to;
        }
        if (!pack_together(packings, threads, interrupt)) return Status::kInterrupted;
    }
    char* scratch = memory + weights;
    const auto body = [&](Index index, int thread) {
        const Index next = index + 1;
        for (const GemmTasks<T>& stage : stages) {
            const Index all = stage.job.blocking.tasks, end = share(all, next, tasks);
            for (Index task = share(all, index, tasks); task < end; ++task) {
                stage.run(task, scratch + thread * bytes);
            }
        }
        const Index end = share(fill.blocks, next, tasks);
        for (Index block = share(fill.blocks, index, tasks); block < end; ++block) fill.run(block);
    };
    return parallel_for(tasks, threads, body, interrupt) ? Status::kOk : Status::kInterrupted;
}

template <class T>
Status run_in_turn(const GradientParts& gradient, const PartArrays<T>& arrays, const Fill<T>& fill,
                   const Resources& resources, const Interrupt& interrupt) {
    for (std::size_t i = 0; i < arrays.size(); ++i) {
        const Problem& problem = gradient.parts[i].problem;
        const Status status =
            choose<T>(problem, resources.fast).run(problem, arrays[i], resources, interrupt);
        if (status != Status::kOk) return status;
    }
    const int threads = threads_at_most(resources.threads);
    const auto body = [&](Index block, int) { fill.run(block); };
    return parallel_for(fill.blocks, threads, body, interrupt) ? Status::kOk : Status::kInterrupted;
}

template <class T>
Status run(const Problem& problem, const InputGradOperands<T>& arrays, const Resources& resources,
           const Interrupt& interrupt) {
    const GradientParts phases(problem);
    GradientParts gradient = parts_of<T>(problem, resources.fast);
    if (!arrays.packed && taps_lie_apart(problem, gradient, arrays.w)) gradient = phases;
    std::unique_ptr<T[]> copy;
    View<const T> turned{};
    const char* packed = static_cast<const char*>(arrays.packed);
    if (packed && turned_elements(problem) > 0) {
        turned = copied_weights<T>(problem, reinterpret_cast<const T*>(packed));
    } else {
        copy.reset(new T[std::size_t(turned_elements(problem))]);
        turned = turned_weights<T>(problem, arrays.w, copy.get());
    }
    const auto arrays_of = [&](const GradientParts& of) {
        PartArrays<T> parts;
        for (const GradientPart& part : of.parts) {
            parts.push_back(part_operands<T>(part, problem, arrays, turned));
        }
        return parts;
    };
    PartArrays<T> parts = arrays_of(gradient);
    const PackedLayout<T> layout(problem, gradient, resources.fast);
    for (std::size_t i = 0; packed && i < parts.size(); ++i) {
        if (layout.bytes[i] > 0) parts[i].packed = packed + layout.offset[i];
    }
    const Fill<T> fill(problem, gradient, arrays.gx, arrays.bias);
    if constexpr (kHasTasks<T>) {
        if (runs_together<T>(gradient, resources.fast)) {
            if (!packed && taps_lie_together<T>(problem, arrays.w)) {
                const PanelCut cut = panel_cut<T>(problem, phases, resources);
                if (cut.blocks) {
                    return run_panels<T>(problem, phases, arrays_of(phases), arrays.w, fill, cut,
                                         resources, interrupt);
                }
            }
            const bool first = !packed && packs_first<T>(problem, gradient, layout, resources);
            return run_together(problem, gradient, parts, fill, first ? &layout : nullptr,
                                resources, interrupt);
        }
    }
    return run_in_turn(gradient, parts, fill, resources, interrupt);
}

}  // namespace

template <class T>
const InputGradAlgorithm<T>& input_grad_phases() {
    static const InputGradAlgorithm<T> algorithm{takes,           name<T>, footprint<T>,
                                                 packed_bytes<T>, pack<T>, run<T>};
    return algorithm;
}

template const InputGradAlgorithm<float>& input_grad_phases();
template const InputGradAlgorithm<double>& input_grad_phases();
template const InputGradAlgorithm<Float16>& input_grad_phases();
template const InputGradAlgorithm<Bfloat16>& input_grad_phases();

}  // namespace fastconv
