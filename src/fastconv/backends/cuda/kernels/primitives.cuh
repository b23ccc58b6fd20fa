// Everything a kernel asks of the machine. The only header with two implementations: the one below
// for the device, and a host model (tests) that runs the same kernel sources on a CPU.
#pragma once

#ifdef FASTCONV_HOST_MODEL
#include "host_primitives.hpp"
#else

// NVRTC compiles without any system or CUDA header, so that none has to be found at run time.
using i8 = signed char;
using u8 = unsigned char;
using i16 = short;
using u16 = unsigned short;
using i32 = int;
using u32 = unsigned int;
using i64 = long long;
using u64 = unsigned long long;

// IEEE binary16 as stored; arithmetic is done in float.
struct half_bits {
    u16 bits;
};

#define DEVICE __device__ __forceinline__
// `blocks`: so many of them must fit a multiprocessor, which bounds the registers of a thread.
#define KERNEL(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)
#define SHARED_ARRAY(type, size, name) __shared__ SharedArray<type, size> name
#define BARRIER() __syncthreads()

// 16-byte alignment permits the widest shared-memory access.
template <typename T, int SIZE>
struct alignas(16) SharedArray {
    T items[SIZE];

    DEVICE T& operator[](int index) { return items[index]; }
};

DEVICE u32 thread_index() {
    return threadIdx.x;
}
DEVICE u32 block_index() {
    return blockIdx.x;
}
DEVICE u32 block_threads() {
    return blockDim.x;
}
DEVICE u32 grid_blocks() {
    return gridDim.x;
}

// Operands never alias the result, so they may come through the read-only data path.
template <typename T>
DEVICE T load_global(const T* address) {
    return __ldg(address);
}

DEVICE half_bits load_global(const half_bits* address) {
    return {__ldg(&address->bits)};
}

template <typename T>
DEVICE void store_global(T* address, T value) {
    *address = value;
}

// 16 bytes of consecutive items, from an index that is a multiple of their number.
template <int SIZE>
DEVICE void load_vector(float (&items)[4], SharedArray<float, SIZE>& shared, int index) {
    const float4 v = *reinterpret_cast<const float4*>(&shared.items[index]);
    items[0] = v.x, items[1] = v.y, items[2] = v.z, items[3] = v.w;
}

template <int SIZE>
DEVICE void load_vector(double (&items)[2], SharedArray<double, SIZE>& shared, int index) {
    const double2 v = *reinterpret_cast<const double2*>(&shared.items[index]);
    items[0] = v.x, items[1] = v.y;
}

// Fused explicitly, not left to the compiler: the same bits from every tile size.
DEVICE float multiply_add(float a, float b, float c) {
    return __fmaf_rn(a, b, c);
}
DEVICE double multiply_add(double a, double b, double c) {
    return __fma_rn(a, b, c);
}
DEVICE u32 multiply_add(u32 a, u32 b, u32 c) {
    return a * b + c;
}
DEVICE u64 multiply_add(u64 a, u64 b, u64 c) {
    return a * b + c;
}

DEVICE u32 multiply_high(u32 a, u32 b) {
    return __umulhi(a, b);
}

DEVICE float half_to_float(half_bits value) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
}

// Rounds to nearest, ties to even.
DEVICE half_bits float_to_half(float value) {
    half_bits result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
}

DEVICE float absolute(float v) {
    return fabsf(v);
}
DEVICE double absolute(double v) {
    return fabs(v);
}
DEVICE float exponential(float v) {
    return expf(v);
}
DEVICE double exponential(double v) {
    return exp(v);
}
DEVICE float hyperbolic_tangent(float v) {
    return tanhf(v);
}
DEVICE double hyperbolic_tangent(double v) {
    return tanh(v);
}
DEVICE float complementary_error(float v) {
    return erfcf(v);
}
DEVICE double complementary_error(double v) {
    return erfc(v);
}

#endif
