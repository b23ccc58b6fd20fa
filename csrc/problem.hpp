// Plain mirror of fastconv.problem.ConvProblem: sizes in 64 bits, nothing else.
// Declarations only: this header is included by sources compiled for different instruction sets,
// and an inline function here could be linked from the wrong one.
#pragma once

#include <cstdint>

#include "export.hpp"

namespace fastconv {

using Index = std::int64_t;

enum class PadMode : int { kConstant, kEdge, kReflect, kSymmetric, kWrap };

enum class Activation : int {
    kNone,
    kRelu,
    kRelu6,
    kLeakyRelu,
    kSigmoid,
    kTanh,
    kSilu,
    kGelu,
    kHardswish,
};

// What x and w hold; y and bias hold ResultOf<T>.
enum class Element : int {
    kFloat32,
    kFloat64,
    kInt8,
    kUint8,
    kInt16,
    kUint16,
    kFloat16,
    kBfloat16,
};

// Floating-point storage of 16 bits: IEEE binary16, and the upper half of a float.
struct FASTCONV_FOR_PYTHON Float16 {
    std::uint16_t bits;
};
struct FASTCONV_FOR_PYTHON Bfloat16 {
    std::uint16_t bits;
};

// Of an image that blocks are cut from.
struct Whole {
    Index h = 0, w = 0, p = 0, q = 0, pad_top = 0, pad_left = 0;
};

// Dimensions: n images, c channels, h x w input, k output channels, r x s kernel, p x q output; of
// volumes also d planes of the input, t of the kernel, o of the output.
struct Problem {
    Index n, c, h, w;
    Index k, r, s;
    Index p, q;
    Index groups;
    Index stride_h, stride_w;
    Index dilation_h, dilation_w;
    Index pad_top, pad_left;
    PadMode pad_mode;
    Activation activation;
    Element element;
    bool channels_last;  // the caller's layout
    Index d = 1, t = 1, o = 1;
    Index stride_d = 1, dilation_d = 1, pad_front = 0;
    Whole whole = {};  // of a block; otherwise empty
};

// Logical axes N, C, H, W of x, K, C/groups, R, S of w, N, K, P, Q of y; strides in elements.
template <class T>
struct View {
    T* data;
    Index stride[4];
    Index plane = 0;  // from one plane of a volume to the next
};

// Type of y, bias and the activation for operands of type T.
template <class T>
struct Result {
    using type = T;
};
template <>
struct Result<std::int8_t> {
    using type = std::int32_t;
};
template <>
struct Result<std::uint8_t> {
    using type = std::int32_t;
};
template <>
struct Result<std::int16_t> {
    using type = std::int32_t;
};
template <>
struct Result<std::uint16_t> {
    using type = std::int32_t;
};
template <class T>
using ResultOf = typename Result<T>::type;

// Which Element a T is.
template <class T>
constexpr Element kElementOf = Element::kFloat32;
template <>
constexpr Element kElementOf<double> = Element::kFloat64;
template <>
constexpr Element kElementOf<std::int8_t> = Element::kInt8;
template <>
constexpr Element kElementOf<std::uint8_t> = Element::kUint8;
template <>
constexpr Element kElementOf<std::int16_t> = Element::kInt16;
template <>
constexpr Element kElementOf<std::uint16_t> = Element::kUint16;
template <>
constexpr Element kElementOf<Float16> = Element::kFloat16;
template <>
constexpr Element kElementOf<Bfloat16> = Element::kBfloat16;

template <class T>
struct Operands {
    View<const T> x;  // of Elements `pixel` in truth, which only some algorithms read as others
    View<const T> w;
    const void* packed;       // the algorithm's own form of w, or null: then w is read
    const ResultOf<T>* bias;  // contiguous (K,), or null
    View<ResultOf<T>> y;
    Element pixel = kElementOf<T>;
};

enum class Status { kOk, kNoMemory, kInterrupted };

}  // namespace fastconv
