// The definition, one output element per thread at a time: any dtype, any size, 64-bit indices.
//
// -D OPERAND_T, ACCUMULATOR_T, RESULT_T   stored type of x and w, of the sum, of bias and y
// -D PAD_MODE, ACTIVATION                 codes of borders.cuh and activations.cuh
// -D CHANNELS_LAST                        consecutive threads take channels (1) or pixels (0)
// -D THREADS                              threads per block
#include "activations.cuh"
#include "borders.cuh"
#include "numbers.cuh"
#include "parameters.cuh"

struct Output {
    i64 n, k, p, q;  // k counts the channels of all groups
};

// Neighbouring threads take neighbours in memory.
DEVICE Output output_at(const ConvParameters& conv, i64 index) {
    const i64 channels = conv.groups * conv.k;
    Output at;
#if CHANNELS_LAST
    at.k = index % channels, index /= channels;
#endif
    at.q = index % conv.q, index /= conv.q;
    at.p = index % conv.p, index /= conv.p;
#if !CHANNELS_LAST
    at.k = index % channels, index /= channels;
#endif
    at.n = index;
    return at;
}

DEVICE ACCUMULATOR_T sum_of_products(const ConvParameters& conv, const Output& at) {
    constexpr PadMode MODE = static_cast<PadMode>(PAD_MODE);
    const i64 top = at.p * conv.stride_h - conv.pad_top;
    const i64 left = at.q * conv.stride_w - conv.pad_left;
    const i64 first_channel = at.k / conv.k * conv.c;
    const OPERAND_T* x = static_cast<const OPERAND_T*>(conv.x_data) + at.n * conv.x_stride_n +
                         first_channel * conv.x_stride_c;
    const OPERAND_T* w = static_cast<const OPERAND_T*>(conv.w_data) + at.k * conv.w_stride_k;
    ACCUMULATOR_T sum = 0;
    for (i64 c = 0; c < conv.c; ++c) {
        for (i64 r = 0; r < conv.r; ++r) {
            const i64 h = source_index<MODE>(top + r * conv.dilation_h, conv.h);
            const OPERAND_T* x_row = x + c * conv.x_stride_c + h * conv.x_stride_h;
            const OPERAND_T* w_row = w + c * conv.w_stride_c + r * conv.w_stride_r;
            for (i64 s = 0; s < conv.s; ++s) {
                const i64 column = source_index<MODE>(left + s * conv.dilation_w, conv.w);
                // A border zero is multiplied like any pixel: 0 * inf is NaN there as well.
                ACCUMULATOR_T pixel = 0;
                if (h >= 0 && column >= 0) {
                    pixel = widen<ACCUMULATOR_T>(load_global(x_row + column * conv.x_stride_w));
                }
                const ACCUMULATOR_T weight =
                    widen<ACCUMULATOR_T>(load_global(w_row + s * conv.w_stride_s));
                sum = multiply_add(pixel, weight, sum);
            }
        }
    }
    return sum;
}

// Integers get their activation as the signed or unsigned result they are.
template <typename Result, typename Accumulator>
struct Finish {
    DEVICE static Result apply(Accumulator sum) {
        return activate<static_cast<Activation>(ACTIVATION)>(narrow<Result>(sum));
    }
};

template <>
struct Finish<half_bits, float> {
    DEVICE static half_bits apply(float sum) {
        return narrow<half_bits>(activate<static_cast<Activation>(ACTIVATION)>(sum));
    }
};

KERNEL(THREADS, 1) direct_naive(const ConvParameters conv) {
    const RESULT_T* bias = static_cast<const RESULT_T*>(conv.bias_data);
    RESULT_T* y = static_cast<RESULT_T*>(conv.y_data);
    const i64 outputs = conv.n * conv.groups * conv.k * conv.p * conv.q;
    const i64 step = static_cast<i64>(grid_blocks()) * block_threads();
    i64 index = static_cast<i64>(block_index()) * block_threads() + thread_index();
    for (; index < outputs; index += step) {
        const Output at = output_at(conv, index);
        ACCUMULATOR_T sum = sum_of_products(conv, at);
        if (bias != nullptr) {
            sum += widen<ACCUMULATOR_T>(load_global(bias + at.k));
        }
        store_global(y + at.n * conv.y_stride_n + at.k * conv.y_stride_k + at.p * conv.y_stride_p +
                         at.q * conv.y_stride_q,
                     Finish<RESULT_T, ACCUMULATOR_T>::apply(sum));
    }
}
