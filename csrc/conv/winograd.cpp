// Winograd's minimal filtering, F(m, r) in two dimensions (kernels/winograd_transforms.hpp), fused:
// a task transforms a block of tiles, multiplies it with the transformed weights and transforms
// the products back, all within its scratch. Only precision="fast" permits it: rounding errors are
// larger than those of a sum, and one large pixel disturbs its whole tile (docs/accuracy.md).
#include <algorithm>

#include "conv/algorithm.hpp"
#include "conv/sizes.hpp"
#include "conv/tasks.hpp"
#include "cpu.hpp"
#include "workspace.hpp"

namespace fastconv {
namespace {

// Below this many multiply-adds of the direct sum a thread costs more to wake than it computes.
constexpr double kThreadMacs = 1 << 19;
// Outputs of one row that are transformed at a time: long rows of memory are read faster.
constexpr Index kMostPixels = 128;

// Where a task finds its weights.
enum class Weights {
    kPacked,    // in the plan, or transformed before the tasks begin
    kUnpacked,  // transformed by every task, a few channels at a time
};

// Cost of a task beside its tiles and panels: transforming a tile counts as part of a panel,
// reading a panel of weights as a few tiles. The last thread is waited for.
constexpr double kTransformPanels = 0.4, kWeightTiles = 4, kWait = 0.15;
constexpr Index kMostTasks = 4;  // for each thread, of those that the caches ask for and more

// Cuts tiles and panels into blocks so that the slowest thread has least to do. Blocks of tiles
// are whole runs where they can be.
void balance(WinogradBlocking& b, Index panels, Index groups, int threads, Index most_tiles,
             Index row_tile) {
    const Index least_blocks = ceil_div(b.tiles, most_tiles);
    const bool even_runs = b.tiles_w % b.run == 0;
    double best = 0;
    const Index most_blocks = std::min(b.tiles, least_blocks + kMostTasks * threads);
    for (Index blocks = least_blocks; blocks <= most_blocks; ++blocks) {
        Index tiles = ceil_div(b.tiles, blocks);
        const Index whole = ceil_div(tiles, b.run) * b.run;
        if (even_runs && whole <= most_tiles) tiles = whole;
        const Index tile_blocks = ceil_div(b.tiles, tiles);
        for (Index split = 1; split <= std::min<Index>(panels, 2 * threads); ++split) {
            const Index task_panels = ceil_div(panels, split);
            const Index panel_blocks = ceil_div(panels, task_panels);
            const Index rounds = ceil_div(tile_blocks * panel_blocks * groups, threads);
            const double task = (double(task_panels) + kTransformPanels) *
                                (double(ceil_div(tiles, row_tile) * row_tile) + kWeightTiles);
            const double time = task * (double(rounds) + kWait);
            if (best > 0 && time >= best) continue;
            best = time;
            b.tile_block = tiles;
            b.tile_blocks = tile_blocks;
            b.panel_block = task_panels;
            b.panel_blocks = panel_blocks;
        }
    }
}

// Tiles of a task: enough to use weights several times, whatever the caches hold.
constexpr Index kLeastTiles = 28, kMostTiles = 56;

template <class T>
WinogradBlocking make_blocking(const Problem& problem, int shape, int threads, Index room,
                               Weights weights, Index panels, Index groups) {
    const Kernels<T>& kernels = kernels_for<T>();
    const WinogradTile tile = kWinogradTiles[shape];
    const Index positions = tile.positions();
    const Group group = group_of(problem);
    WinogradBlocking b{};
    b.shape = shape;
    b.tiles_h = ceil_div(problem.p, tile.rows);
    b.tiles_w = ceil_div(problem.q, tile.columns);
    b.tiles = problem.n * b.tiles_h * b.tiles_w;
    b.run =
        ceil_div(b.tiles_w, ceil_div(b.tiles_w, std::max<Index>(1, kMostPixels / tile.columns)));
    b.depth_chunk = ceil_div(group.channels, kernels.lanes) * kernels.lanes;
    b.weight_depth = weights == Weights::kUnpacked ? kernels.lanes : 0;

    const Index row = kernels.winograd_row_tile;
    const Index v_bytes = positions * b.depth_chunk * Index(sizeof(T));
    const Index m_bytes = positions * kernels.tile.cols * Index(sizeof(T));
    const Index cached = second_level_cache_bytes() * 3 / 4 / (v_bytes + m_bytes);
    Index most = std::min(b.tiles, std::clamp(cached, kLeastTiles, kMostTiles));
    // What does not fit is made smaller, what costs least first.
    for (;;) {
        b.tile_block = most;
        if (kernels.winograd_scratch(b) * Index(sizeof(T)) <= room) break;
        if (most > 2 * row) {
            most -= row;
        } else if (b.run > 2) {
            b.run /= 2;
        } else if (b.depth_chunk > 4 * kernels.lanes) {
            b.depth_chunk = ceil_div(b.depth_chunk / 2, kernels.lanes) * kernels.lanes;
        } else if (most > row) {
            --most;
        } else if (b.depth_chunk > kernels.lanes) {
            b.depth_chunk -= kernels.lanes;
        } else if (b.weight_depth > 1) {
            b.weight_depth /= 2;
        } else if (most > 1) {
            --most;
        } else if (b.run > 1) {
            b.run = 1;
        } else {
            break;
        }
    }
    balance(b, panels, groups, threads, most, row);
    return b;
}

template <class T>
Index panel_count(const Problem& problem) {
    return ceil_div(group_of(problem).outputs, kernels_for<T>().tile.cols);
}

// Elements of the transformed weights of one group.
template <class T>
Index group_elements(const Problem& problem, int shape) {
    const Index lanes = kernels_for<T>().lanes;
    const Group group = group_of(problem);
    return kWinogradTiles[shape].positions() * group.channels * ceil_div(group.outputs, lanes) *
           lanes;
}

// What a call without a plan does with the weights: panels of them are transformed by all threads
// and used by all, in as many rounds as fit the scratch.
template <class T>
struct Layout {
    int threads;
    WinogradBlocking blocking;
    Index round_panels;     // panels of weights that are transformed before each round; 0: none
    Index shared_elements;  // of those
    Index thread_elements;
};

template <class T>
Layout<T> make_layout(const Problem& problem, int shape, const Resources& resources, bool packed) {
    const Index line = 64 / Index(sizeof(T));
    Layout<T> layout{};
    layout.threads = useful_threads(problem, resources.threads, kThreadMacs);
    const Index panels = panel_count<T>(problem);
    Index room = resources.thread_bytes, round = panels, groups = problem.groups;
    Weights weights = Weights::kPacked;
    if (!packed) {
        const Index panel_elements = kWinogradTiles[shape].positions() *
                                     group_of(problem).channels * kernels_for<T>().tile.cols;
        const Index shared = layout.threads * (room / 2);
        layout.round_panels = std::min(panels, shared / (panel_elements * Index(sizeof(T))));
        if (layout.round_panels > 0) {
            const Index rounds = ceil_div(panels, layout.round_panels);
            round = layout.round_panels = ceil_div(panels, rounds);
            layout.shared_elements = ceil_div(round * panel_elements, line) * line;
            room /= 2;
            groups = 1;
        } else {
            weights = Weights::kUnpacked;
        }
    }
    layout.blocking =
        make_blocking<T>(problem, shape, layout.threads, room, weights, round, groups);
    const WinogradBlocking& b = layout.blocking;
    layout.threads = int(std::min<Index>(layout.threads, groups * b.tile_blocks * b.panel_blocks));
    layout.thread_elements = ceil_div(kernels_for<T>().winograd_scratch(b), line) * line;
    return layout;
}

// -- running --

template <class T>
View<const T> group_weights(const Problem& problem, View<const T> w, Index group) {
    w.data += group * group_of(problem).outputs * w.stride[0];
    return w;
}

template <class T>
Index panel_width(const Problem& problem, Index panel) {
    const Kernels<T>& kernels = kernels_for<T>();
    const Index rest = group_of(problem).outputs - panel * kernels.tile.cols;
    return std::min(kernels.tile.cols, ceil_div(rest, kernels.lanes) * kernels.lanes);
}

template <class T>
class Run {
  public:
    Run(const Problem& problem, int shape, const Operands<T>& arrays, const Layout<T>& layout,
        T* scratch, const Interrupt& interrupt)
        : job_{problem, arrays, layout.blocking, nullptr, 0, 0, 0},
          shape_(shape),
          layout_(layout),
          shared_(scratch),
          private_(scratch + layout.shared_elements),
          interrupt_(interrupt) {}

    bool all() {
        for (int thread = 0; thread < layout_.threads; ++thread) {
            *reinterpret_cast<Index*>(private_ + thread * layout_.thread_elements) = -1;
        }
        const Index panels = panel_count<T>(job_.problem);
        if (job_.arrays.packed || layout_.round_panels == 0) {
            job_.weights = static_cast<const T*>(job_.arrays.packed);
            job_.panel_end = panels;
            return tasks(job_.problem.groups);
        }
        job_.weights = shared_;
        for (Index group = 0; group < job_.problem.groups; ++group) {
            for (Index panel = 0; panel < panels; panel += layout_.round_panels) {
                job_.group_begin = group;
                job_.panel_begin = panel;
                job_.panel_end = std::min(panels, panel + layout_.round_panels);
                if (!transform_weights() || !tasks(1)) return false;
            }
        }
        return true;
    }

  private:
    bool tasks(Index groups) const {
        const WinogradBlocking& b = layout_.blocking;
        const auto task_function = kernels_for<T>().winograd_task;
        return parallel_for(
            groups * b.tile_blocks * b.panel_blocks, layout_.threads,
            [&](Index task, int thread) {
                task_function(job_, task, private_ + thread * layout_.thread_elements);
            },
            interrupt_);
    }

    // A slice of channels of one panel a task.
    bool transform_weights() const {
        constexpr Index kSlice = 64;
        const Problem& problem = job_.problem;
        const Index positions = kWinogradTiles[shape_].positions();
        const Index channels = group_of(problem).channels;
        const Index slices = ceil_div(channels, kSlice), cols = kernels_for<T>().tile.cols;
        const View<const T> w = group_weights<T>(problem, job_.arrays.w, job_.group_begin);
        const auto pack_function = kernels_for<T>().winograd_pack;
        return parallel_for(
            (job_.panel_end - job_.panel_begin) * slices, layout_.threads,
            [&](Index task, int) {
                const Index panel = task / slices, c0 = task % slices * kSlice;
                const Index width = panel_width<T>(problem, job_.panel_begin + panel);
                T* const u = shared_ + panel * positions * channels * cols + c0 * width;
                pack_function(problem, shape_, w, job_.panel_begin + panel, c0,
                              std::min(kSlice, channels - c0), u, channels * width);
            },
            interrupt_);
    }

    WinogradJob<T> job_;
    const int shape_;
    const Layout<T>& layout_;
    T* const shared_;
    T* const private_;
    const Interrupt& interrupt_;
};

template <int SHAPE>
bool takes(const Problem& problem, bool fast) {
    return fast && winograd_shape(problem) == SHAPE;
}

template <class T, int SHAPE>
Footprint footprint(const Problem& problem, const Resources& resources, bool packed) {
    const Layout<T> layout = make_layout<T>(problem, SHAPE, resources, packed);
    return {(layout.shared_elements + layout.threads * layout.thread_elements) * Index(sizeof(T)),
            layout.threads};
}

template <class T, int SHAPE>
Index packed_bytes(const Problem& problem) {
    return problem.groups * group_elements<T>(problem, SHAPE) * Index(sizeof(T));
}

template <class T, int SHAPE>
void pack(const Problem& problem, const View<const T>& w, void* packed) {
    const Group group = group_of(problem);
    T* u = static_cast<T*>(packed);
    for (Index g = 0; g < problem.groups; ++g) {
        for (Index panel = 0; panel < panel_count<T>(problem); ++panel) {
            const Index pitch = group.channels * panel_width<T>(problem, panel);
            kernels_for<T>().winograd_pack(problem, SHAPE, group_weights<T>(problem, w, g), panel,
                                           0, group.channels, u, pitch);
            u += kWinogradTiles[SHAPE].positions() * pitch;
        }
    }
}

template <class T, int SHAPE>
Status run(const Problem& problem, const Operands<T>& arrays, const Resources& resources,
           const Interrupt& interrupt) {
    const Layout<T> layout = make_layout<T>(problem, SHAPE, resources, arrays.packed != nullptr);
    const Index elements = layout.shared_elements + layout.threads * layout.thread_elements;
    T* scratch = static_cast<T*>(thread_workspace(std::size_t(elements) * sizeof(T)));
    if (!scratch) return Status::kNoMemory;
    Run<T> all(problem, SHAPE, arrays, layout, scratch, interrupt);
    return all.all() ? Status::kOk : Status::kInterrupted;
}

template <class T, int SHAPE>
Algorithm<T> named(const char* name) {
    return {name,           takes<SHAPE>, footprint<T, SHAPE>, packed_bytes<T, SHAPE>,
            pack<T, SHAPE>, run<T, SHAPE>};
}

}  // namespace

template <class T>
const Algorithm<T>& winograd(int shape) {
    static const Algorithm<T> algorithms[kWinogradShapes] = {
        named<T, 0>("winograd_f2x3"),   named<T, 1>("winograd_f4x3"), named<T, 2>("winograd_f5x3"),
        named<T, 3>("winograd_f6x4x3"), named<T, 4>("winograd_f2x5"), named<T, 5>("winograd_f3x5"),
    };
    return algorithms[shape];
}

template const Algorithm<float>& winograd<float>(int);
template const Algorithm<double>& winograd<double>(int);

}  // namespace fastconv
