// Sizes that several algorithms reckon with.
#pragma once

#include "problem.hpp"

namespace fastconv {

inline Index ceil_div(Index a, Index b) {
    return (a + b - 1) / b;
}

// What one group computes.
struct Group {
    Index channels, outputs;
};

inline Group group_of(const Problem& problem) {
    return {problem.c / problem.groups, problem.k / problem.groups};
}

}  // namespace fastconv
