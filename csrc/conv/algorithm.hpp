// What an algorithm is: the functions the ladder (ladder.cpp) chooses among.
#pragma once

#include "parallel.hpp"
#include "problem.hpp"

namespace fastconv {

struct Resources {
    int threads;         // most threads to use
    Index thread_bytes;  // most scratch for each
    bool fast;  // precision="fast": rounding errors beyond those of a plain sum are allowed
};

struct Footprint {
    Index scratch_bytes;  // of all threads together
    int threads;
};

template <class T>
struct Algorithm {
    const char* name;
    // Whether it should compute a problem. Never a function of n, of strides in memory or of the
    // number of threads: results would change with them.
    bool (*takes)(const Problem& problem, bool fast);
    Footprint (*footprint)(const Problem& problem, const Resources& resources, bool packed);
    // Bytes of the packed form of all weights; 0 where w is read in place. It depends on neither
    // n nor the image's size, so that a plan serves any batch.
    Index (*packed_bytes)(const Problem& problem);
    void (*pack)(const Problem& problem, const View<const T>& w, void* packed);
    Status (*run)(const Problem& problem, const Operands<T>& arrays, const Resources& resources,
                  const Interrupt& interrupt);
    // Whether x may hold other numbers that T holds exactly; see kernels/convert.hpp.
    bool converts = false;
};

// One algorithm a file, instantiated there for the types it computes.
template <class T>
const Algorithm<T>& dot_product();
template <class T>
const Algorithm<T>& direct_signal();
template <class T>
const Algorithm<T>& direct_filter();
template <class T>
const Algorithm<T>& direct_channels();
template <class T>
const Algorithm<T>& direct_pointwise();
template <class T>
const Algorithm<T>& im2col_gemm();
template <class T>
const Algorithm<T>& depthwise();
template <class T>
const Algorithm<T>& volume();
// One algorithm a shape of kWinogradTiles; which of them takes the problem, if precision="fast"
// permits it, or -1.
template <class T>
const Algorithm<T>& winograd(int shape);
int winograd_shape(const Problem& problem);
template <class T>
const Algorithm<T>& integer_gemm();
template <class T>
const Algorithm<T>& half_gemm();
// For precision="fast", where the processor has the instruction.
const Algorithm<Bfloat16>& bfloat16_gemm();

// The ladder: the first algorithm that takes the problem, or the image that it is a block of.
// `problem` is not empty.
template <class T>
FASTCONV_FOR_PYTHON const Algorithm<T>& choose(const Problem& problem, bool fast);

// Whether there is more than one plane, or none.
inline bool is_volume(const Problem& problem) {
    return problem.d != 1 || problem.t != 1 || problem.o != 1 || problem.pad_front != 0;
}

// The image that a block is cut from, any other problem as it is: what decides the order of sums
// looks at it, so that a block has the bits of its image.
inline Problem whole_of(Problem problem) {
    const Whole& whole = problem.whole;
    if (whole.p == 0) return problem;
    problem.h = whole.h, problem.w = whole.w;
    problem.p = whole.p, problem.q = whole.q;
    problem.pad_top = whole.pad_top, problem.pad_left = whole.pad_left;
    return problem;
}

inline bool is_empty(const Problem& problem) {
    return problem.n == 0 || problem.k == 0;
}

}  // namespace fastconv
