// y[i] = PROBE_EXPRESSION of v = x[i]: one leaf primitive on every item of an array.
//
// -D OPERAND_T, RESULT_T      stored types
// -D PROBE_EXPRESSION         in terms of v, and of conv, the parameters
#include "activations.cuh"
#include "borders.cuh"
#include "numbers.cuh"
#include "parameters.cuh"

KERNEL(64, 1) map_probe(const ConvParameters conv) {
    const OPERAND_T* x = static_cast<const OPERAND_T*>(conv.x_data);
    RESULT_T* y = static_cast<RESULT_T*>(conv.y_data);
    const i64 step = static_cast<i64>(grid_blocks()) * block_threads();
    for (i64 i = block_index() * block_threads() + thread_index(); i < conv.n; i += step) {
        const OPERAND_T v = load_global(x + i);
        store_global(y + i, static_cast<RESULT_T>(PROBE_EXPRESSION));
    }
}
