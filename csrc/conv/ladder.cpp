// The ladder: which algorithm computes a problem, specific to general.
#include "conv/algorithm.hpp"

namespace fastconv {

template <class T>
const Algorithm<T>& choose(const Problem& block, bool fast) {
    const Problem problem = whole_of(block);
    if (is_volume(problem)) return volume<T>();
    if (fast) {
        const int shape = winograd_shape(problem);
        if (shape >= 0) return winograd<T>(shape);
    }
    static const Algorithm<T>* const ladder[] = {
        &dot_product<T>(),     &depthwise<T>(),        &direct_signal<T>(), &direct_filter<T>(),
        &direct_channels<T>(), &direct_pointwise<T>(), &im2col_gemm<T>(),  // takes every problem
    };
    for (const Algorithm<T>* algorithm : ladder) {
        if (algorithm->takes(problem, fast)) return *algorithm;
    }
    return im2col_gemm<T>();
}

template <class T>
const Algorithm<T>& depthwise_or(const Algorithm<T>& other, const Problem& problem, bool fast) {
    return depthwise<T>().takes(whole_of(problem), fast) ? depthwise<T>() : other;
}

template <>
const Algorithm<std::int8_t>& choose(const Problem& problem, bool fast) {
    return depthwise_or(integer_gemm<std::int8_t>(), problem, fast);
}
template <>
const Algorithm<std::uint8_t>& choose(const Problem& problem, bool fast) {
    return depthwise_or(integer_gemm<std::uint8_t>(), problem, fast);
}
template <>
const Algorithm<std::int16_t>& choose(const Problem& problem, bool fast) {
    return depthwise_or(integer_gemm<std::int16_t>(), problem, fast);
}
template <>
const Algorithm<std::uint16_t>& choose(const Problem& problem, bool fast) {
    return depthwise_or(integer_gemm<std::uint16_t>(), problem, fast);
}
template <>
const Algorithm<Float16>& choose(const Problem& problem, bool fast) {
    return depthwise_or(half_gemm<Float16>(), problem, fast);
}
template <>
const Algorithm<Bfloat16>& choose(const Problem& problem, bool fast) {
    const Algorithm<Bfloat16>& pairs = bfloat16_gemm();
    if (pairs.takes(problem, fast)) return pairs;
    return depthwise_or(half_gemm<Bfloat16>(), problem, fast);
}

template const Algorithm<float>& choose<float>(const Problem&, bool);
template const Algorithm<double>& choose<double>(const Problem&, bool);

}  // namespace fastconv
