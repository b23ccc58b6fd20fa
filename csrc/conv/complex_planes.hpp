// Complex numbers as the three planes that three multiplications read and write: the real parts,
// the imaginary parts, and the sums of both.
#pragma once

#include "parallel.hpp"
#include "workspace.hpp"

namespace fastconv {

// Numbers in rows of `length`, contiguous; each row is three rows of parts, one after another.
// Threads share the rows.
struct ComplexRows {
    Index elements, length;
    int threads;
};

// Writes (re, im, re + im) of each number, or of its conjugate.
template <class T>
FASTCONV_FOR_PYTHON Status split_complex(const ComplexRows& rows, const T* numbers, bool conjugate,
                                         T* planes, const Interrupt& interrupt);

// Writes (a - b) + (m - a - b)i of planes (a, b, m).
template <class T>
FASTCONV_FOR_PYTHON Status join_complex(const ComplexRows& rows, const T* planes, T* numbers,
                                        const Interrupt& interrupt);

}  // namespace fastconv
