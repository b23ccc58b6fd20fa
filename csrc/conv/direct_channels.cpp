// Direct convolution where groups have few channels, or a group of few inputs many outputs. Lanes
// are pixels; several output channels times several vectors of pixels stay in registers for the
// whole reduction and read x from rows copied with their border: nothing is unfolded.
#include <algorithm>

#include "conv/algorithm.hpp"
#include "conv/phases.hpp"
#include "conv/sizes.hpp"
#include "conv/tasks.hpp"
#include "cpu.hpp"

namespace fastconv {
namespace {

// Below this many multiply-adds a thread costs more to wake than it computes.
constexpr double kThreadMacs = 1 << 17;
// A task of fewer multiply-adds costs more to hand out than it evens out.
constexpr double kTaskMacs = 1 << 18;
constexpr Index kTasksPerThread = 8;
// A block's scratch should stay in the first-level cache, or nearly; a single row of y may take as
// much as the second level holds.
constexpr Index kBlockBytes = 48 << 10, kRowBytes = 256 << 10;
constexpr Index kLine = 64;
constexpr Index kLeastBytes = 1 << 16;  // of scratch, which every thread is granted

// Groups of more channels have enough reuse for a matrix product; so have single groups unless
// they have very few inputs.
constexpr Index kMostInputs = 32, kMostOutputs = 64, kMostImageInputs = 4;
constexpr Index kDepthwiseKernel = 9, kImageChannels = 4;
// Products of an output from which on the matrix product turns its tiles of y for little.
constexpr Index kLongSum = 200;

template <class T>
bool takes(const Problem& problem, bool) {
    const Index inputs = problem.c / problem.groups, outputs = problem.k / problem.groups;
    const Index taps = problem.r * problem.s;
    if (problem.groups == 1 ? inputs > kMostImageInputs
                            : inputs > kMostInputs || outputs > kMostOutputs) {
        return false;
    }
    if (outputs < 2 || taps == 1 || taps > kMaxChannelTaps) return false;
    if (problem.groups > kImageChannels && inputs == 1 &&
        std::max(problem.r, problem.s) <= kDepthwiseKernel) {
        return false;
    }
    const Kernels<T>& kernels = kernels_for<T>();
    // where the outputs of a pixel are consecutive and fill a vector, the matrix product has them
    // as lanes, and this algorithm would scatter them
    if (problem.channels_last && outputs >= kernels.lanes) return false;
    // so it is with long sums, and with strides whose phases are too many to copy apart
    if (problem.groups == 1 && outputs >= kernels.lanes &&
        (inputs * taps >= kLongSum || problem.stride_w > 2)) {
        return false;
    }
    const Index least = kernels.channels_scratch(problem, 1, kernels.lanes, 1);
    return least * Index(sizeof(T)) + kLine <= kLeastBytes;
}

// Cuts y into blocks of rows whose scratch fits, and rows only where a single one does not.
template <class T>
ChannelsBlocking make_blocking(const Problem& problem, int threads, Index thread_bytes) {
    const Kernels<T>& kernels = kernels_for<T>();
    const Index images = problem.n * problem.groups, outputs = problem.k / problem.groups;
    const Index room = (thread_bytes - kLine) / Index(sizeof(T));
    const auto size = [&](Index rows, Index cols, Index set) {
        return kernels.channels_scratch(problem, rows, cols, set);
    };
    ChannelsBlocking b{};
    const Index sets = ceil_div(outputs, kernels.channel_outputs);
    b.outputs = ceil_div(outputs, sets);
    while (b.outputs > 1 && size(1, std::min(problem.q, kernels.lanes), b.outputs) > room) {
        --b.outputs;
    }
    const Index row_room = std::min(room, kRowBytes / Index(sizeof(T)));
    b.col_blocks = 1;
    Index cols = problem.q;
    while (cols > kernels.lanes && size(1, cols, b.outputs) > row_room) {
        cols = ceil_div(problem.q, ++b.col_blocks);
    }
    const Index block_room = std::min(room, kBlockBytes / Index(sizeof(T)));
    const double macs = multiply_adds(problem);
    const Index tasks =
        std::max<Index>(1, Index(std::min(double(kTasksPerThread * threads), macs / kTaskMacs)));
    const Index wanted = ceil_div(tasks, images * b.col_blocks);
    b.row_blocks = std::min(problem.p, wanted);
    Index rows = ceil_div(problem.p, b.row_blocks);
    while (rows > 1 && size(rows, cols, b.outputs) > block_room) {
        rows = ceil_div(problem.p, ++b.row_blocks);
    }
    const Index blocks = b.row_blocks * b.col_blocks;
    b.group_tasks = std::min(blocks, ceil_div(tasks, images));
    b.tasks = images * b.group_tasks;
    b.elements = size(rows, cols, b.outputs);
    b.elements = ceil_div(b.elements * Index(sizeof(T)), kLine) * (kLine / Index(sizeof(T)));
    return b;
}

template <class T>
Footprint footprint(const Problem& problem, const Resources& resources, bool) {
    const int threads = useful_threads(problem, resources.threads, kThreadMacs);
    const ChannelsBlocking blocking = make_blocking<T>(problem, threads, resources.thread_bytes);
    const int used = int(std::min<Index>(threads, std::max<Index>(1, blocking.tasks)));
    return {used * blocking.elements * Index(sizeof(T)), used};
}

template <class T>
Index packed_bytes(const Problem& problem) {
    return problem.groups * kernels_for<T>().channels_packed(problem) * Index(sizeof(T));
}

template <class T>
void pack(const Problem& problem, const View<const T>& w, void* packed) {
    kernels_for<T>().channels_pack(problem, w, static_cast<T*>(packed));
}

template <class T>
Status run(const Problem& problem, const Operands<T>& arrays, const Resources& resources,
           const Interrupt& interrupt) {
    const int threads = useful_threads(problem, resources.threads, kThreadMacs);
    const ChannelsJob<T> job{problem, arrays,
                             make_blocking<T>(problem, threads, resources.thread_bytes)};
    return run_tasks(job, kernels_for<T>().channels_task, job.blocking.tasks, threads,
                     job.blocking.elements, interrupt);
}

}  // namespace

template <class T>
const Algorithm<T>& direct_channels() {
    static const Algorithm<T> algorithm{"direct_channels", takes<T>, footprint<T>,
                                        packed_bytes<T>,   pack<T>,  run<T>};
    return algorithm;
}

template const Algorithm<float>& direct_channels<float>();
template const Algorithm<double>& direct_channels<double>();

}  // namespace fastconv
