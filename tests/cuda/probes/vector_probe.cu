// y = x, each block's items turned about in shared memory, vector by vector.
//
// -D OPERAND_T    float or double
#include "parameters.cuh"

constexpr int VECTOR = 16 / sizeof(OPERAND_T);
constexpr int ITEMS = 64 * VECTOR;

KERNEL(64, 1) vector_probe(const ConvParameters conv) {
    SHARED_ARRAY(OPERAND_T, ITEMS, items);
    const int first = block_index() * ITEMS, thread = thread_index();
    const OPERAND_T* x = static_cast<const OPERAND_T*>(conv.x_data) + first;
    OPERAND_T* y = static_cast<OPERAND_T*>(conv.y_data) + first;
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) {
        items[i * 64 + thread] = load_global(x + i * 64 + thread);
    }
    BARRIER();
    OPERAND_T vector[VECTOR];
    load_vector(vector, items, (63 - thread) * VECTOR);
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) {
        store_global(y + thread * VECTOR + i, vector[i]);
    }
}
