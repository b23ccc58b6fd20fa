/* fastconv: fast, exact and deterministic convolution. The C interface (C99 and later; C++).
 *
 * What is computed
 * ----------------
 * A problem describes a convolution of signals, images or volumes, y = w * x (as in neural
 * networks: the kernel is not turned), and which of its three arrays is wanted:
 *
 *   result          a    b    out    shapes (of images: spatial = 2)
 *   FASTCONV_Y      x    w    y      x (n, c, h, w), w (k, c/groups, r, s), y (n, k, p, q)
 *   FASTCONV_X      gy   w    gx     the gradient of x, which is the transposed convolution of gy
 *   FASTCONV_W      x    gy   gw     the gradient of w
 *
 * y and gx may have a bias, one number for each of their channels, and an activation after it.
 *
 *   dtype of a, b    of out, bias   y of signals, images   y of volumes   gx      gw
 *   FLOAT32, 64      the same       every pad mode         zeros          zeros   every mode
 *   FLOAT16, BF16    the same       every pad mode         no             zeros   zeros
 *   (U)INT8, 16      int32          every pad mode         no             no      no
 *
 * Gradients are those of signals and images. What is described correctly and has no kernel gives
 * FASTCONV_ERROR_UNSUPPORTED. Sums of 16-bit floats are float32, rounded once at the end; sums of
 * integers wrap modulo 2^32. Results have the bits that the Python functions return from the same
 * arrays with backend="native" and the same precision, whatever the number of threads or images.
 * (Two exceptions: volumes of few channels, which Python computes plane by plane, and
 * precision="fast", where Python may use transforms that are not in this library.)
 *
 * Memory
 * ------
 * Strides are in elements, may be negative or, of what is read, zero. Pointers are those of the
 * element with index 0 everywhere. Elements must be aligned. `out` must not overlap what is read.
 * Nothing is read or written outside of the elements described. A thread that convolves keeps
 * scratch memory for its next call until it ends.
 *
 * Errors
 * ------
 * Functions return a status and leave a message for the calling thread, fastconv_last_error().
 * Everything is checked before anything is written. No function aborts, throws or prints. A call
 * that fails has not written to `out`, except for FASTCONV_ERROR_NO_MEMORY, after which its
 * contents are undefined.
 *
 * Threads
 * -------
 * Every function may be called from any number of threads at the same time, with the same plan,
 * too. Calls share one pool of worker threads with each other and with Python's module in the same
 * process; a forked child makes a pool of its own. Processor and environment (FASTCONV_ISA,
 * FASTCONV_THREADS, OMP_NUM_THREADS) are looked at once, at the first call.
 *
 * Binary interface
 * ----------------
 * Structures begin with their size and grow at the end alone, with zeros meaning what was before;
 * numbers of enumerations never change; functions are never removed within a shared library
 * version (libfastconv.so.0).
 */
#ifndef FASTCONV_H
#define FASTCONV_H

#include <stddef.h>
#include <stdint.h>

#include "fastconv_version.h" /* FASTCONV_VERSION_MAJOR, _MINOR, _PATCH */

/* 10000 * major + 100 * minor + patch, as fastconv_version() returns it. */
#define FASTCONV_VERSION \
    (10000 * FASTCONV_VERSION_MAJOR + 100 * FASTCONV_VERSION_MINOR + FASTCONV_VERSION_PATCH)

/* Of a library function: seen from outside. An extension that gets its functions through
 * fastconv_capsule.h needs none of them. */
#if defined(__GNUC__)
#define FASTCONV_API __attribute__((visibility("default")))
#else
#define FASTCONV_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fastconv_status {
    FASTCONV_OK = 0,
    FASTCONV_ERROR_NULL = 1,        /* a pointer that is needed is null */
    FASTCONV_ERROR_STRUCT_SIZE = 2, /* struct_size is no size that this library knows */
    FASTCONV_ERROR_VALUE = 3,       /* a number that its field does not take */
    FASTCONV_ERROR_SIZE = 4,        /* sizes that describe no convolution */
    FASTCONV_ERROR_OVERFLOW = 5,    /* sizes or strides beyond 64-bit index arithmetic */
    FASTCONV_ERROR_MEMORY = 6,      /* misaligned memory, or out in the wrong place */
    FASTCONV_ERROR_UNSUPPORTED = 7, /* a convolution that this library has no kernel for */
    FASTCONV_ERROR_NO_MEMORY = 8,   /* scratch memory or a plan could not be allocated */
    FASTCONV_ERROR_PROCESSOR = 9,   /* FASTCONV_ISA names what cannot run here */
    FASTCONV_ERROR_INTERNAL = 10    /* a defect of the library: please report it */
} fastconv_status;

/* Which array a problem computes. */
enum { FASTCONV_Y = 0, FASTCONV_X = 1, FASTCONV_W = 2 };

/* What a and b hold; see the table above. Half floats are IEEE binary16 and bfloat16. */
enum {
    FASTCONV_FLOAT32 = 0,
    FASTCONV_FLOAT64 = 1,
    FASTCONV_INT8 = 2,
    FASTCONV_UINT8 = 3,
    FASTCONV_INT16 = 4,
    FASTCONV_UINT16 = 5,
    FASTCONV_FLOAT16 = 6,
    FASTCONV_BFLOAT16 = 7
};

/* How arrays without strides are ordered: (n, c, image axes) or (n, image axes, c). Weights are
 * (k, c/groups, kernel axes) in both. */
enum { FASTCONV_CHANNELS_FIRST = 0, FASTCONV_CHANNELS_LAST = 1 };

/* The border: zeros, or as in numpy.pad. */
enum {
    FASTCONV_ZEROS = 0,
    FASTCONV_EDGE = 1,
    FASTCONV_REFLECT = 2,
    FASTCONV_SYMMETRIC = 3,
    FASTCONV_WRAP = 4
};

/* Integers have NONE, RELU and RELU6 alone. The slope of LEAKY_RELU is 0.01; GELU is exact. */
enum {
    FASTCONV_NONE = 0,
    FASTCONV_RELU = 1,
    FASTCONV_RELU6 = 2,
    FASTCONV_LEAKY_RELU = 3,
    FASTCONV_SIGMOID = 4,
    FASTCONV_TANH = 5,
    FASTCONV_SILU = 6,
    FASTCONV_GELU = 7,
    FASTCONV_HARDSWISH = 8
};

/* STRICT: every result is one chain of multiply-adds. FAST: Winograd's transforms as well, and
 * products of bfloat16 pairs where the processor has them. */
enum { FASTCONV_STRICT = 0, FASTCONV_FAST = 1 };

#define FASTCONV_MAX_SPATIAL 3
#define FASTCONV_MAX_RANK 5

/* First element of a stride array that says: contiguous, in the order of `layout`. */
#define FASTCONV_CONTIGUOUS INT64_MIN

/* A convolution. Begin with fastconv_problem_init, which sets the defaults in brackets. */
typedef struct fastconv_problem {
    size_t struct_size;
    int32_t result;   /* FASTCONV_Y, FASTCONV_X or FASTCONV_W [Y] */
    int32_t spatial;  /* axes of an image: 1, 2 or 3 [2] */
    int32_t dtype;    /* [FLOAT32] */
    int32_t layout;   /* of arrays without strides; strict results are sums in this order [FIRST] */
    int32_t pad_mode; /* [ZEROS] */
    int32_t activation; /* [NONE] */
    int64_t n;          /* images; 0 is allowed [1] */
    int64_t c, k;       /* channels of x and of y: no default */
    int64_t groups;     /* divides both [1] */
    /* Along the image's axes, in its order (h and w, for example); `spatial` of them are read. */
    int64_t image[FASTCONV_MAX_SPATIAL];    /* sizes of x: no default */
    int64_t kernel[FASTCONV_MAX_SPATIAL];   /* sizes of w: no default */
    int64_t stride[FASTCONV_MAX_SPATIAL];   /* [1] */
    int64_t dilation[FASTCONV_MAX_SPATIAL]; /* [1] */
    /* Border of x. Negative for FASTCONV_X alone: so many pixels of gx that y has not read. [0] */
    int64_t pad_before[FASTCONV_MAX_SPATIAL];
    int64_t pad_after[FASTCONV_MAX_SPATIAL];
    /* In elements: x and gx (n, c, image axes), w and gw (k, c/groups, kernel axes), y and gy
     * (n, k, image axes), whatever the layout; `spatial` + 2 of them are read. [CONTIGUOUS] */
    int64_t x_stride[FASTCONV_MAX_RANK];
    int64_t w_stride[FASTCONV_MAX_RANK];
    int64_t y_stride[FASTCONV_MAX_RANK];
} fastconv_problem;

/* How it is computed. Begin with fastconv_options_init. Where a function takes options, null means
 * the defaults. */
typedef struct fastconv_options {
    size_t struct_size;
    int32_t threads;   /* most threads of a call; 0: FASTCONV_THREADS or OMP_NUM_THREADS, where they
                          are set, or every processor that the process may use [0] */
    int32_t precision; /* [STRICT] */
    int64_t workspace; /* most bytes of scratch for each thread, at least 65536 [8388608] */
} fastconv_options;

/* What a call does: filled by fastconv_query and fastconv_plan_query; set struct_size before. */
typedef struct fastconv_info {
    size_t struct_size;
    char algorithm[128];     /* its name */
    int64_t workspace_bytes; /* scratch memory of all threads together */
    int64_t packed_bytes;    /* weights in the algorithm's own form, in a plan; 0: as they are */
    int32_t threads;         /* at most */
    int32_t reserved;
} fastconv_info;

/* Weights made ready for many calls: opaque. */
typedef struct fastconv_plan fastconv_plan;

/* FASTCONV_VERSION of the library. Never fails. */
FASTCONV_API int fastconv_version(void);

/* The same as "major.minor.patch". Never fails. */
FASTCONV_API const char* fastconv_version_string(void);

/* The instruction set in use, "avx2" for example; null where FASTCONV_ISA cannot be satisfied. */
FASTCONV_API const char* fastconv_isa(void);

/* What a status means, in a few words; never null. */
FASTCONV_API const char* fastconv_status_string(fastconv_status status);

/* What was wrong with this thread's last call that failed, naming field and numbers; "" if none
 * was. Valid until the thread's next call that fails. */
FASTCONV_API const char* fastconv_last_error(void);

/* Sets the defaults. `struct_size` is sizeof(fastconv_problem), and so on: what the caller was
 * compiled with. Errors: NULL, STRUCT_SIZE. */
FASTCONV_API fastconv_status fastconv_problem_init(fastconv_problem* problem, size_t struct_size);
FASTCONV_API fastconv_status fastconv_options_init(fastconv_options* options, size_t struct_size);

/* Writes the sizes of y along the image's axes, `spatial` of them:
 * (image + pads - (kernel - 1) * dilation - 1) / stride + 1, rounded down.
 * Checks the problem as a call would, and fails with the same errors. */
FASTCONV_API fastconv_status fastconv_output_size(const fastconv_problem* problem, int64_t* sizes);

/* Says what fastconv_run would do. Errors: those of the problem and of the options. */
FASTCONV_API fastconv_status fastconv_query(const fastconv_problem* problem,
                                            const fastconv_options* options, fastconv_info* info);

/* Computes once: a, b and out are the arrays of the table above.
 *
 * bias: channels of out, contiguous, or null; must be null for FASTCONV_W.
 *
 * With n = 0 nothing is written, but to gw, which becomes zero; a, b and out of no elements may be
 * null. Returns when the result is there. Cost: a few tenths of a microsecond beside the work. */
FASTCONV_API fastconv_status fastconv_run(const fastconv_problem* problem,
                                          const fastconv_options* options, const void* a,
                                          const void* b, const void* bias, void* out);

/* Makes a plan for y or gx with these weights: checks, chooses, and packs them once. w and bias
 * (or null) are copied, w beside its packed form, and may be freed afterwards. The plan is for any
 * number of images, whose strides are the problem's; problem->n does not matter. On an error *plan
 * is null. Gradients of w hold no weights: FASTCONV_ERROR_UNSUPPORTED. */
FASTCONV_API fastconv_status fastconv_plan_create(const fastconv_problem* problem,
                                                  const fastconv_options* options, const void* w,
                                                  const void* bias, fastconv_plan** plan);

/* Computes `out` (y or gx) from `a` (x or gy) of n images: the bits of fastconv_run.
 * threads: most threads; 0: those of the plan's options. The plan is not changed. */
FASTCONV_API fastconv_status fastconv_plan_run(const fastconv_plan* plan, int64_t n, const void* a,
                                               void* out, int threads);

/* Says what fastconv_plan_run would do for n images. */
FASTCONV_API fastconv_status fastconv_plan_query(const fastconv_plan* plan, int64_t n, int threads,
                                                 fastconv_info* info);

/* Frees a plan, which no call may be using; null does nothing. */
FASTCONV_API void fastconv_plan_destroy(fastconv_plan* plan);

/* The functions above as a table, for those who do not link with the library: see
 * fastconv_capsule.h. It grows at the end; `struct_size` says how far it goes. */
typedef struct fastconv_api {
    size_t struct_size;
    int (*version)(void);
    const char* (*version_string)(void);
    const char* (*isa)(void);
    const char* (*status_string)(fastconv_status status);
    const char* (*last_error)(void);
    fastconv_status (*problem_init)(fastconv_problem* problem, size_t struct_size);
    fastconv_status (*options_init)(fastconv_options* options, size_t struct_size);
    fastconv_status (*output_size)(const fastconv_problem* problem, int64_t* sizes);
    fastconv_status (*query)(const fastconv_problem* problem, const fastconv_options* options,
                             fastconv_info* info);
    fastconv_status (*run)(const fastconv_problem* problem, const fastconv_options* options,
                           const void* a, const void* b, const void* bias, void* out);
    fastconv_status (*plan_create)(const fastconv_problem* problem, const fastconv_options* options,
                                   const void* w, const void* bias, fastconv_plan** plan);
    fastconv_status (*plan_run)(const fastconv_plan* plan, int64_t n, const void* a, void* out,
                                int threads);
    fastconv_status (*plan_query)(const fastconv_plan* plan, int64_t n, int threads,
                                  fastconv_info* info);
    void (*plan_destroy)(fastconv_plan* plan);
} fastconv_api;

/* The table of this library; never null. */
FASTCONV_API const fastconv_api* fastconv_get_api(void);

#ifdef __cplusplus
}
#endif

#endif /* FASTCONV_H */
