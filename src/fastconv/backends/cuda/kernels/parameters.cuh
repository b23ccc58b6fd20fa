// The one argument of every kernel, passed by value. `PARAMETERS` in parameters.py mirrors it.
#pragma once

#include "primitives.cuh"

// Division of 0 <= n < 2**31 by a constant known to the host: one multiplication and one shift.
struct Divisor {
    u32 divisor;
    u32 multiplier;
    u32 shift;
};

DEVICE u32 divide(u32 n, const Divisor& by) {
    return (multiply_high(n, by.multiplier) + n) >> by.shift;
}

// Strides count items. Channels are those of one group: c of x and w, k of w and y.
struct ConvParameters {
    const void* x_data;
    const void* w_data;
    const void* bias_data;  // null: no bias
    void* y_data;
    i64 n, groups, c, h, w, k, r, s, p, q;
    i64 stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
    i64 x_stride_n, x_stride_c, x_stride_h, x_stride_w;
    i64 w_stride_k, w_stride_c, w_stride_r, w_stride_s;
    i64 y_stride_n, y_stride_k, y_stride_p, y_stride_q;
    Divisor inner, outer;  // the two fastest axes of the reduction (igemm_simt)
};
