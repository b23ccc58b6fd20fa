#include "capi/description.hpp"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>

#include "capi/errors.hpp"

namespace fastconv {
namespace {

static_assert(int(Element::kBfloat16) == FASTCONV_BFLOAT16);
static_assert(int(PadMode::kWrap) == FASTCONV_WRAP);
static_assert(int(Activation::kHardswish) == FASTCONV_HARDSWISH);

void check_size(const char* field, Index value, Index least, int axis = -1) {
    if (value >= least && value < kIndexLimit) return;
    char name[32];
    std::snprintf(name, sizeof name, axis < 0 ? "%s" : "%s[%d]", field, axis);
    if (value < least) {
        fail(FASTCONV_ERROR_SIZE, "%s is %" PRId64 ", and must be at least %" PRId64, name, value,
             least);
    }
    fail(FASTCONV_ERROR_OVERFLOW, "%s is %" PRId64 ", and must stay below 2^61", name, value);
}

// a * b of numbers that are not negative, or more than any limit.
Index product(Index a, Index b) {
    Index result;
    return __builtin_mul_overflow(a, b, &result) ? INT64_MAX : result;
}

// Pixels of y along one axis.
Index outputs_along(const fastconv_problem& p, int axis) {
    const Index image = p.image[axis], taps = p.kernel[axis];
    check_size("image", image, 1, axis);
    check_size("kernel", taps, 1, axis);
    check_size("stride", p.stride[axis], 1, axis);
    check_size("dilation", p.dilation[axis], 1, axis);
    // a gradient of x may have pixels that no output has read
    const Index least_pad = p.result == FASTCONV_X ? 1 - kIndexLimit : 0;
    check_size("pad_before", p.pad_before[axis], least_pad, axis);
    check_size("pad_after", p.pad_after[axis], least_pad, axis);
    const Index padded = image + p.pad_before[axis] + p.pad_after[axis];
    const Index reach = product(taps - 1, p.dilation[axis]);
    if (padded >= kIndexLimit || reach >= kIndexLimit - 1) {
        fail(FASTCONV_ERROR_OVERFLOW,
             "the padded image and the dilated kernel along axis %d must stay below 2^61", axis);
    }
    if (reach + 1 > padded) {
        fail(FASTCONV_ERROR_SIZE,
             "along axis %d the kernel covers %" PRId64
             " pixels (dilation included), the padded "
             "image has %" PRId64,
             axis, reach + 1, padded);
    }
    return (padded - reach - 1) / p.stride[axis] + 1;
}

void check_channels(const fastconv_problem& p) {
    check_size("n", p.n, 0);
    check_size("c", p.c, 1);
    check_size("k", p.k, 1);
    check_size("groups", p.groups, 1);
    if (p.c % p.groups == 0 && p.k % p.groups == 0) return;
    fail(FASTCONV_ERROR_SIZE,
         "groups is %" PRId64 ", and must divide c = %" PRId64 " and k = %" PRId64, p.groups, p.c,
         p.k);
}

void check_numbers(const fastconv_problem& p) {
    check_number("result", p.result, FASTCONV_Y, FASTCONV_W);
    check_number("spatial", p.spatial, 1, FASTCONV_MAX_SPATIAL);
    check_number("dtype", p.dtype, FASTCONV_FLOAT32, FASTCONV_BFLOAT16);
    check_number("layout", p.layout, FASTCONV_CHANNELS_FIRST, FASTCONV_CHANNELS_LAST);
    check_number("pad_mode", p.pad_mode, FASTCONV_ZEROS, FASTCONV_WRAP);
    check_number("activation", p.activation, FASTCONV_NONE, FASTCONV_HARDSWISH);
    const bool integers = p.dtype >= FASTCONV_INT8 && p.dtype <= FASTCONV_UINT16;
    if (integers && p.activation > FASTCONV_RELU6) {
        fail(FASTCONV_ERROR_VALUE,
             "activation %d has fractions, and results of integers are int32; use RELU or RELU6",
             int(p.activation));
    }
    if (p.result == FASTCONV_W && p.activation != FASTCONV_NONE) {
        fail(FASTCONV_ERROR_VALUE, "a gradient of w has no activation");
    }
}

// Neither the array's size nor the distance of its outermost elements may wrap.
void check_extent(const char* name, const ArrayForm& form, int rank, Index itemsize) {
    Index count = itemsize, reach = itemsize;
    for (int axis = 0; axis < rank; ++axis) {
        const Index size = form.shape[axis], stride = form.stride[axis];
        count = product(count, size);
        if (stride <= -kIndexLimit || stride >= kIndexLimit) {
            fail(FASTCONV_ERROR_OVERFLOW, "%s_stride[%d] is %" PRId64 ", and must stay below 2^61",
                 name, axis, stride);
        }
        const Index far =
            product(product(std::abs(stride), std::max<Index>(size - 1, 0)), itemsize);
        reach = far >= kIndexLimit ? kIndexLimit : std::min(reach + far, kIndexLimit);
    }
    if (count < kIndexLimit && reach < kIndexLimit) return;
    fail(FASTCONV_ERROR_OVERFLOW,
         "%s is larger than an address space: use smaller sizes, strides "
         "or pads",
         name);
}

void check_extents(const Description& d) {
    const Index operand = operand_bytes(d.problem.element);
    const int rank = d.rank();
    check_extent("x", d.x, rank, operand);
    check_extent("w", d.w, rank, operand);
    check_extent("y", d.y, rank, result_bytes(d.problem.element));
    const char* name = d.result == FASTCONV_Y ? "y" : d.result == FASTCONV_X ? "x" : "w";
    if (elements(d, d.out()) == 0) return;  // strides of nothing mean nothing
    for (int axis = 0; axis < rank; ++axis) {
        if (d.out().stride[axis] != 0 || d.out().shape[axis] < 2) continue;
        fail(FASTCONV_ERROR_MEMORY, "%s_stride[%d] is 0: elements of the result share memory", name,
             axis);
    }
}

void set_strides(Description& d, const fastconv_problem& p) {
    const struct {
        ArrayForm& form;
        const int64_t* given;
        bool channels_last;
    } arrays[] = {{d.x, p.x_stride, d.problem.channels_last},
                  {d.w, p.w_stride, false},
                  {d.y, p.y_stride, d.problem.channels_last}};
    for (const auto& array : arrays) {
        if (array.given[0] == FASTCONV_CONTIGUOUS) {
            make_contiguous(array.form, d.rank(), array.channels_last);
        } else {
            std::copy_n(array.given, d.rank(), array.form.stride);
        }
    }
}

Problem problem_of(const fastconv_problem& p, const Index* outputs) {
    Problem d{};
    d.n = p.n, d.c = p.c, d.k = p.k, d.groups = p.groups;
    d.pad_mode = PadMode(p.pad_mode);
    d.activation = Activation(p.activation);
    d.element = Element(p.dtype);
    d.channels_last = p.layout == FASTCONV_CHANNELS_LAST;
    d.h = d.r = d.p = d.stride_h = d.dilation_h = 1;
    const int col = p.spatial - 1, row = p.spatial - 2, plane = p.spatial - 3;
    d.w = p.image[col], d.s = p.kernel[col], d.q = outputs[col];
    d.stride_w = p.stride[col], d.dilation_w = p.dilation[col], d.pad_left = p.pad_before[col];
    if (row >= 0) {
        d.h = p.image[row], d.r = p.kernel[row], d.p = outputs[row];
        d.stride_h = p.stride[row], d.dilation_h = p.dilation[row], d.pad_top = p.pad_before[row];
    }
    if (plane >= 0) {
        d.d = p.image[plane], d.t = p.kernel[plane], d.o = outputs[plane];
        d.stride_d = p.stride[plane], d.dilation_d = p.dilation[plane];
        d.pad_front = p.pad_before[plane];
    }
    return d;
}

}  // namespace

Description describe(const fastconv_problem* given) {
    const fastconv_problem p = read_struct(given, "problem");
    check_numbers(p);
    check_channels(p);
    Index outputs[FASTCONV_MAX_SPATIAL] = {};
    for (int axis = 0; axis < p.spatial; ++axis) outputs[axis] = outputs_along(p, axis);
    Description d{problem_of(p, outputs), p.result, p.spatial, {}, {}, {}};
    const Index heads[][2] = {{p.n, p.c}, {p.k, p.c / p.groups}, {p.n, p.k}};
    const Index* const tails[] = {p.image, p.kernel, outputs};
    ArrayForm* const forms[] = {&d.x, &d.w, &d.y};
    for (int array = 0; array < 3; ++array) {
        std::copy_n(heads[array], 2, forms[array]->shape);
        std::copy_n(tails[array], p.spatial, forms[array]->shape + 2);
    }
    set_strides(d, p);
    check_extents(d);
    return d;
}

Description with_batch(const Description& description, Index n) {
    check_size("n", n, 0);
    Description d = description;
    d.problem.n = d.x.shape[0] = d.y.shape[0] = n;
    check_extents(d);
    return d;
}

Index elements(const Description& description, const ArrayForm& form) {
    Index count = 1;
    for (int axis = 0; axis < description.rank(); ++axis) count *= form.shape[axis];
    return count;
}

Index channels_of_result(const Description& description) {
    return description.result == FASTCONV_X ? description.problem.c : description.problem.k;
}

Index operand_bytes(Element element) {
    switch (element) {
        case Element::kFloat64:
            return 8;
        case Element::kFloat32:
            return 4;
        case Element::kInt8:
        case Element::kUint8:
            return 1;
        default:
            return 2;
    }
}

Index result_bytes(Element element) {
    const bool integers = element >= Element::kInt8 && element <= Element::kUint16;
    return integers ? 4 : operand_bytes(element);
}

void make_contiguous(ArrayForm& form, int rank, bool channels_last) {
    Index stride = 1;
    const auto next = [&](int axis) {
        form.stride[axis] = stride;
        stride = std::min(product(stride, form.shape[axis]), kIndexLimit - 1);
    };
    if (channels_last) next(1);
    for (int axis = rank - 1; axis > 1; --axis) next(axis);
    if (!channels_last) next(1);
    next(0);
}

}  // namespace fastconv
