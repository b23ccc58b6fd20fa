// Which algorithm computes a gradient of x, specific to general.
#include "conv/input_grad.hpp"

namespace fastconv {

template <class T>
const InputGradAlgorithm<T>& choose_input_grad(const Problem& problem) {
    if constexpr (sizeof(T) > 2) {
        static const InputGradAlgorithm<T>* const ladder[] = {
            &input_grad_depthwise<T>(),
            &input_grad_columns<T>(),
        };
        for (const InputGradAlgorithm<T>* algorithm : ladder) {
            if (algorithm->takes(problem)) return *algorithm;
        }
    }
    return input_grad_phases<T>();  // takes every problem
}

template const InputGradAlgorithm<float>& choose_input_grad(const Problem&);
template const InputGradAlgorithm<double>& choose_input_grad(const Problem&);
template const InputGradAlgorithm<Float16>& choose_input_grad(const Problem&);
template const InputGradAlgorithm<Bfloat16>& choose_input_grad(const Problem&);

}  // namespace fastconv
