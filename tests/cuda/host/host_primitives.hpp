// The primitives of primitives.cuh, on the machine of machine.hpp.
#pragma once

#include <cmath>
#include <cstring>
#include <new>

#include "machine.hpp"

using i8 = signed char;
using u8 = unsigned char;
using i16 = short;
using u16 = unsigned short;
using i32 = int;
using u32 = unsigned int;
using i64 = long long;
using u64 = unsigned long long;

struct half_bits {
    u16 bits;
};

#define DEVICE inline
#define KERNEL(threads, blocks) static void
#define SHARED_ARRAY(type, size, name) \
    SharedArray<type, size>& name = shared_array<SharedArray<type, size>>(__LINE__)
#define BARRIER() host::barrier(__LINE__)

inline u32 thread_index() {
    return host::block.thread;
}
inline u32 block_index() {
    return host::block.index;
}
inline u32 block_threads() {
    return host::block.threads;
}
inline u32 grid_blocks() {
    return host::block.grid;
}

// Shared memory that remembers who touched each item since the last barrier.
template <typename T, int SIZE>
class SharedArray {
  public:
    static constexpr std::size_t BYTES = SIZE * sizeof(T);

    SharedArray() { std::memset(items_, 0xFF, sizeof items_); }

    class Item {
      public:
        Item(SharedArray& array, int index) : array_(array), index_(index) {}
        operator T() const { return array_.read(index_); }
        void operator=(T value) { array_.write(index_, value); }

      private:
        SharedArray& array_;
        int index_;
    };

    Item operator[](int index) { return {*this, index}; }

    T read(int index) {
        Trace& trace = traced(index);
        const int me = host::block.thread, now = host::block.epoch;
        if (host::detects_races) {
            if (trace.writer == NOBODY) {
                host::fail("shared item %d is read before anything was written", index);
            }
            if (trace.written == now && trace.writer != me) {
                host::fail("race: shared item %d, written by thread %d, no barrier since", index,
                           trace.writer);
            }
        }
        trace.reader = trace.read == now && trace.reader != me ? SEVERAL : me;
        trace.read = now;
        return items_[index];
    }

    void write(int index, T value) {
        Trace& trace = traced(index);
        const int me = host::block.thread, now = host::block.epoch;
        if (host::detects_races) {
            if (trace.read == now && trace.reader != me) {
                host::fail(
                    "race: shared item %d is overwritten, read by thread %d and no "
                    "barrier since",
                    index, trace.reader);
            }
            if (trace.written == now && trace.writer != me) {
                host::fail("race: shared item %d, also written by thread %d", index, trace.writer);
            }
        }
        trace.writer = me;
        trace.written = now;
        items_[index] = value;
    }

  private:
    static constexpr int NOBODY = -1, SEVERAL = -2, NEVER = -1;

    struct Trace {
        int writer = NOBODY, written = NEVER;
        int reader = NOBODY, read = NEVER;
    };

    Trace& traced(int index) {
        if (index < 0 || index >= SIZE) {
            host::fail("shared item %d of an array of %d", index, SIZE);
        }
        host::maybe_preempt();
        return traces_[index];
    }

    T items_[SIZE];
    Trace traces_[SIZE];
};

template <typename Array>
Array& shared_array(int line) {
    void* memory = host::shared_memory(line, sizeof(Array), Array::BYTES,
                                       [](void* address) { new (address) Array; });
    return *static_cast<Array*>(memory);
}

template <typename T>
T load_global(const T* address) {
    host::check_load(address, sizeof(T));
    return *address;
}

template <typename T>
void store_global(T* address, T value) {
    host::check_store(address, sizeof(T));
    *address = value;
}

template <typename T, int WIDTH, int SIZE>
void load_vector(T (&items)[WIDTH], SharedArray<T, SIZE>& shared, int index) {
    static_assert(WIDTH * sizeof(T) == 16, "a vector has 16 bytes");
    if (index % WIDTH != 0) {
        host::fail("misaligned vector at shared item %d", index);
    }
    for (int i = 0; i < WIDTH; ++i) {
        items[i] = shared.read(index + i);
    }
}

inline float multiply_add(float a, float b, float c) {
    return std::fma(a, b, c);
}
inline double multiply_add(double a, double b, double c) {
    return std::fma(a, b, c);
}
inline u32 multiply_add(u32 a, u32 b, u32 c) {
    return a * b + c;
}
inline u64 multiply_add(u64 a, u64 b, u64 c) {
    return a * b + c;
}

inline u32 multiply_high(u32 a, u32 b) {
    return static_cast<u32>((static_cast<u64>(a) * b) >> 32);
}

inline float half_to_float(half_bits value) {
    const int exponent = value.bits >> 10 & 31, fraction = value.bits & 1023;
    float magnitude;
    if (exponent == 31) {
        magnitude = fraction ? NAN : INFINITY;
    } else if (exponent == 0) {
        magnitude = std::ldexp(static_cast<float>(fraction), -24);
    } else {
        magnitude = std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
    }
    return value.bits & 0x8000 ? -magnitude : magnitude;
}

inline half_bits float_to_half(float value) {
    const u16 sign = std::signbit(value) ? 0x8000 : 0;
    const float magnitude = std::fabs(value);
    if (std::isnan(value)) {
        return {0x7FFF};
    }
    // Halves are 2**-24 apart below 2**-14, then 2**(exponent - 10); nearbyint rounds ties to even.
    const int exponent = magnitude < 0x1p-14f ? -14 : std::ilogb(magnitude);
    const float rounded =
        std::isinf(magnitude)
            ? magnitude
            : std::ldexp(std::nearbyint(std::ldexp(magnitude, 10 - exponent)), exponent - 10);
    if (rounded > 65504.0f) {
        return {static_cast<u16>(sign | 0x7C00)};
    }
    if (rounded < std::ldexp(1.0f, -14)) {
        return {static_cast<u16>(sign | static_cast<u16>(std::ldexp(rounded, 24)))};
    }
    const int power = std::ilogb(rounded);
    const int fraction = static_cast<int>(std::ldexp(rounded, 10 - power)) - 1024;
    return {static_cast<u16>(sign | (power + 15) << 10 | fraction)};
}

inline float absolute(float v) {
    return std::fabs(v);
}
inline double absolute(double v) {
    return std::fabs(v);
}
inline float exponential(float v) {
    return std::exp(v);
}
inline double exponential(double v) {
    return std::exp(v);
}
inline float hyperbolic_tangent(float v) {
    return std::tanh(v);
}
inline double hyperbolic_tangent(double v) {
    return std::tanh(v);
}
inline float complementary_error(float v) {
    return std::erfc(v);
}
inline double complementary_error(double v) {
    return std::erfc(v);
}
