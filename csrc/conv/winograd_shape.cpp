// Which tile the Winograd algorithm computes a problem with, if any: a model of the cost of each.
#include <algorithm>

#include "conv/algorithm.hpp"
#include "conv/sizes.hpp"
#include "kernels/kernels.hpp"

namespace fastconv {
namespace {

// Channels up to which errors were measured to stay well within their bounds, by shape: sums of one
// sign limit F(2, 3), the relative L2 error the larger tiles.
constexpr Index kMostChannels[kWinogradShapes] = {512, 2048, 1024, 1024, 512, 512};

// Cost of one image on two cores with vectors of 16 lanes, in vector multiply-adds, calibrated on
// the columns strict and fast of `python -m benchmarks.peers --network resnet50,vgg16,alexnet`; it
// only has to rank the tiles and the direct algorithm. It must be a function of the problem alone,
// and so it knows neither the machine nor the batch.
constexpr Index kModelLanes = 16;
// Transforms of one tile of one vector of channels, with the gathers and stores around them.
struct TileCost {
    double input, output;
};
constexpr TileCost kTileCosts[kWinogradShapes] = {{220, 130}, {590, 360}, {720, 500},
                                                  {750, 540}, {450, 210}, {720, 350}};
// Bytes of weights that arrive in the time of one multiply-add of a core: from the caches, and from
// memory what the caches do not keep; and the part of the shorter of reading and computing that
// the other does not hide.
constexpr double kCacheBytes = 30, kMemoryBytes = 8, kKept = 8 << 20, kNotHidden = 0.3;
// Shares of the peak that the multiply-adds reach, here and in the direct algorithm.
constexpr double kShare = 0.93, kDirectShare = 0.8;
constexpr double kCores = 2;

double overlap(double compute, double weights) {
    const double bytes = 4 * weights;
    const double read = bytes / kCacheBytes + std::max(0.0, bytes - kKept) / kMemoryBytes;
    return std::max(compute, read) + kNotHidden * std::min(compute, read);
}

double direct_cost(const Problem& problem) {
    const Group group = group_of(problem);
    const double weights = double(problem.k) * double(group.channels * problem.r * problem.s);
    const double macs = weights * double(problem.p) * double(problem.q);
    return overlap(macs / kModelLanes / kDirectShare / kCores, weights);
}

double winograd_cost(const Problem& problem, int shape) {
    const WinogradTile tile = kWinogradTiles[shape];
    const TileCost cost = kTileCosts[shape];
    const Group group = group_of(problem);
    const double weights = double(tile.positions()) * double(problem.k) * double(group.channels);
    const double tiles =
        double(ceil_div(problem.p, tile.rows)) * double(ceil_div(problem.q, tile.columns));
    const double transforms = cost.input * double(ceil_div(group.channels, kModelLanes)) +
                              cost.output * double(ceil_div(group.outputs, kModelLanes));
    const double compute =
        tiles * (weights / kModelLanes / kShare + double(problem.groups) * transforms);
    return overlap(compute / kCores, weights);
}

// What is lost in accuracy must be worth it.
constexpr double kLeastGain = 0.9;

}  // namespace

// The shape that costs least, or -1 where the direct algorithm does.
int winograd_shape(const Problem& problem) {
    const Group group = group_of(problem);
    const bool plain = problem.stride_h == 1 && problem.stride_w == 1 && problem.dilation_h == 1 &&
                       problem.dilation_w == 1 && problem.r == problem.s;
    if (!plain) return -1;
    int best = -1;
    double least = kLeastGain * direct_cost(problem);
    for (int shape = 0; shape < kWinogradShapes; ++shape) {
        if (kWinogradTiles[shape].taps != problem.r || group.channels > kMostChannels[shape]) {
            continue;
        }
        const double cost = winograd_cost(problem, shape);
        if (cost < least) {
            least = cost;
            best = shape;
        }
    }
    return best;
}

}  // namespace fastconv
