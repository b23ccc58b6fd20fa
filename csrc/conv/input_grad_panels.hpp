// Gradients of x whose weights meet few pixels: packing them is most of what a call does beside
// multiplying. A task packs all taps of a block of channels of gx, those of every stride phase in
// one pass over w, and computes all pixels of these channels while they are in its cache.
#pragma once

#include "conv/input_grad_fill.hpp"
#include "conv/input_grad_parts.hpp"

namespace fastconv {

// How a call is cut into blocks of channels; none where it is not computed this way.
struct PanelCut {
    Index channels, blocks;
    int threads;
    Index thread_bytes;  // of scratch
};

template <class T>
PanelCut panel_cut(const Problem& problem, const GradientParts& gradient,
                   const Resources& resources);

// Whether the weights lie as this way reads them: taps of a channel together, and channels.
template <class T>
bool taps_lie_together(const Problem& problem, const View<const T>& w);

// `parts` are the operands of the phases, all of which are matrix products.
template <class T>
Status run_panels(const Problem& problem, const GradientParts& gradient,
                  const std::vector<Operands<T>>& parts, const View<const T>& w,
                  const Fill<T>& fill, const PanelCut& cut, const Resources& resources,
                  const Interrupt& interrupt);

}  // namespace fastconv
