// The gradient of x where it has few channels, those of images: the product of all taps of all its
// channels with the pixels of gy, as rows of a matrix product, and what belongs to one pixel of gx
// added up. The phases' own products would have a row a channel, too few to fill a register tile,
// and gather their pixels for each tap.
#include <algorithm>
#include <memory>

#include "conv/im2col_gemm.hpp"
#include "conv/input_grad.hpp"
#include "conv/sizes.hpp"
#include "conv/tasks.hpp"
#include "cpu.hpp"
#include "workspace.hpp"

namespace fastconv {
namespace {

constexpr Index kMostChannels = 4, kLeastOutputs = 16;
// Products of a task; they stay in the second-level cache.
constexpr Index kProductBytes = Index(512) << 10;
constexpr double kThreadMacs = 1 << 18;
constexpr Index kLine = 64;

// A task computes `height` rows of gx, a multiple of the stride, of `channels` channels, from
// products of `rows` rows of gy.
struct Cut {
    Index channels, height, rows;
    Index channel_blocks, row_blocks, tasks;
    int threads;
};

// Rows of gy that some rows of gx meet beside those that their own number asks for.
Index halo(const Problem& problem) {
    return ceil_div((problem.r - 1) * problem.dilation_h, problem.stride_h);
}

template <class T>
Index row_bytes(const Problem& problem, Index channels) {
    return channels * problem.r * problem.s * problem.q * Index(sizeof(T));
}

template <class T>
bool takes(const Problem& problem) {
    return problem.groups == 1 && problem.c <= kMostChannels && problem.k >= kLeastOutputs &&
           problem.r * problem.s > 1 && std::max(problem.r, problem.s) <= kMaxFoldTaps &&
           std::max(problem.stride_h, problem.stride_w) <= kMaxFoldStride && problem.p > 0 &&
           problem.q > 0 && row_bytes<T>(problem, 1) * (halo(problem) + 2) <= 2 * kProductBytes;
}

template <class T>
Cut make_cut(const Problem& problem, const Resources& resources) {
    Cut cut{};
    cut.threads = useful_threads(problem, resources.threads, kThreadMacs);
    const Index over = halo(problem);
    cut.channels = problem.c;
    if (kProductBytes / row_bytes<T>(problem, problem.c) < 4 * over) cut.channels = 1;
    const Index fit = kProductBytes / row_bytes<T>(problem, cut.channels);
    Index useful = std::max<Index>(1, fit - over);
    const Index each = ceil_div(cut.threads, problem.n);
    useful = std::min(useful, ceil_div(ceil_div(problem.h, problem.stride_h), each));
    cut.height = useful * problem.stride_h;
    cut.rows = std::min(problem.p, useful + over);
    cut.channel_blocks = problem.c / cut.channels;
    cut.row_blocks = ceil_div(problem.h, cut.height);
    cut.tasks = problem.n * cut.channel_blocks * cut.row_blocks;
    cut.threads = int(std::min<Index>(cut.threads, cut.tasks));
    return cut;
}

// The product of one task: a 1x1 convolution of rows of gy, whose results are planes.
Problem product_of(const Problem& problem, const Cut& cut) {
    Problem product = problem;
    product.n = 1;
    product.c = problem.k;
    product.k = cut.channels * problem.r * problem.s;
    product.h = product.p = cut.rows;
    product.w = product.q;
    product.r = product.s = 1;
    product.stride_h = product.stride_w = product.dilation_h = product.dilation_w = 1;
    product.pad_top = product.pad_left = 0;
    product.activation = Activation::kNone;
    return product;
}

// Weights as the product reads them: (C * R * S, K).
Index weight_elements(const Problem& problem) {
    return problem.c * problem.r * problem.s * problem.k;
}

template <class T>
void turn_weights(const Problem& problem, const View<const T>& w, T* to) {
    for (Index c = 0; c < problem.c; ++c) {
        for (Index r = 0; r < problem.r; ++r) {
            for (Index s = 0; s < problem.s; ++s) {
                const T* from = w.data + c * w.stride[1] + r * w.stride[2] + s * w.stride[3];
                for (Index k = 0; k < problem.k; ++k) *to++ = from[k * w.stride[0]];
            }
        }
    }
}

template <class T>
struct Plan {
    Cut cut;
    Operands<T> arrays;
    GemmTasks<T> gemm;
    Index weights, products, gemm_bytes;  // bytes: of all threads, of one, of one

    Plan(const Problem& problem, const Resources& resources, bool packed)
        : cut(make_cut<T>(problem, resources)), arrays{} {
        const Index pixels = cut.rows * problem.q;
        const bool last = problem.channels_last;
        const Index pixel = last ? problem.k : 1;
        arrays.x.stride[1] = last ? 1 : problem.p * problem.q;
        arrays.x.stride[2] = problem.q * pixel;
        arrays.x.stride[3] = pixel;
        arrays.w = {nullptr, {problem.k, 1, 1, 1}};
        arrays.y = {nullptr, {0, pixels, problem.q, 1}};
        prepare(problem, resources);
        const Index item = Index(sizeof(T)), line = kLine / item;
        weights = packed ? 0 : ceil_div(weight_elements(problem), line) * kLine;
        products = ceil_div(cut.channels * problem.r * problem.s * pixels, line) * kLine;
    }

    void prepare(const Problem& problem, const Resources& resources) {
        const Resources one{1, resources.thread_bytes, false};
        gemm = im2col_gemm_tasks<T>(product_of(problem, cut), arrays, one);
        gemm_bytes = gemm.thread_bytes;
    }

    Index bytes() const { return weights + cut.threads * (products + gemm_bytes); }
};

const char* const kName = "columns_gemm";

template <class T>
Footprint footprint(const Problem& problem, const Resources& resources, bool packed) {
    if (is_empty_gradient(problem)) return {0, 1};
    const Plan<T> plan(problem, resources, packed);
    return {plan.bytes(), plan.cut.threads};
}

template <class T>
Index packed_bytes(const Problem& problem, bool) {
    return weight_elements(problem) * Index(sizeof(T));
}

template <class T>
Status pack(const Problem& problem, bool, const View<const T>& w, void* packed) {
    turn_weights(problem, w, static_cast<T*>(packed));
    return Status::kOk;
}

// One block of rows of gx.
template <class T>
void run_task(const Problem& problem, const InputGradOperands<T>& arrays, const Plan<T>& plan,
              const T* weights, Index task, char* scratch) {
    const Cut& cut = plan.cut;
    const Index block = task % cut.row_blocks;
    const Index channels = task / cut.row_blocks % cut.channel_blocks * cut.channels;
    const Index image = task / cut.row_blocks / cut.channel_blocks;
    const Index begin = block * cut.height, end = std::min(problem.h, begin + cut.height);
    // as many rows as every task has: some may be of no use at the ends of gy
    const Index before = (problem.r - 1) * problem.dilation_h;
    const Index reach = begin + problem.pad_top - before;
    const Index lowest = reach > 0 ? ceil_div(reach, problem.stride_h) : 0;
    const Index first = std::clamp<Index>(lowest, 0, problem.p - cut.rows);
    T* products = reinterpret_cast<T*>(scratch);
    GemmTasks<T> gemm = plan.gemm;
    Operands<T>& operands = gemm.job.arrays;
    operands.x.data = arrays.gy.data + image * arrays.gy.stride[0] + first * arrays.gy.stride[2];
    operands.w.data = weights + channels * problem.r * problem.s * problem.k;
    operands.y.data = products;
    for (Index i = 0; i < gemm.job.blocking.tasks; ++i) gemm.run(i, scratch + plan.products);
    View<T> gx = arrays.gx;
    gx.data += image * gx.stride[0];
    kernels_for<T>().fold_rows(
        {problem, products, channels, cut.channels, first, cut.rows, arrays.bias, gx, begin, end});
}

template <class T>
Status run(const Problem& problem, const InputGradOperands<T>& arrays, const Resources& resources,
           const Interrupt& interrupt) {
    const bool packed = arrays.packed != nullptr;
    Plan<T> plan(problem, resources, packed);
    plan.arrays.x = arrays.gy;
    plan.prepare(problem, resources);
    char* memory = static_cast<char*>(thread_workspace(std::size_t(plan.bytes())));
    if (!memory) return Status::kNoMemory;
    const T* weights = static_cast<const T*>(arrays.packed);
    if (!packed) {
        turn_weights(problem, arrays.w, reinterpret_cast<T*>(memory));
        weights = reinterpret_cast<const T*>(memory);
    }
    char* scratch = memory + plan.weights;
    const Index each = plan.products + plan.gemm_bytes;
    const auto body = [&](Index task, int thread) {
        run_task(problem, arrays, plan, weights, task, scratch + thread * each);
    };
    const bool completed = parallel_for(plan.cut.tasks, plan.cut.threads, body, interrupt);
    return completed ? Status::kOk : Status::kInterrupted;
}

}  // namespace

template <class T>
const InputGradAlgorithm<T>& input_grad_columns() {
    static const InputGradAlgorithm<T> algorithm{
        takes<T>,     [](const Problem&, bool) { return std::string(kName); },
        footprint<T>, packed_bytes<T>,
        pack<T>,      run<T>};
    return algorithm;
}

template const InputGradAlgorithm<float>& input_grad_columns();
template const InputGradAlgorithm<double>& input_grad_columns();

}  // namespace fastconv
