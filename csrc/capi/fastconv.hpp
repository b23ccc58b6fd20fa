// fastconv's C interface for C++17: owners instead of pointers, exceptions instead of statuses.
//
//     auto problem = fastconv::images(1, 3, 224, 224, 64, 7, 7);
//     problem.stride[0] = problem.stride[1] = 2;
//     fastconv::plan plan(problem, w, bias);
//     plan.run(1, x, y);
//
// Header only: nothing of C++ crosses into the library. fastconv.h says what each call means.
#ifndef FASTCONV_HPP
#define FASTCONV_HPP

#include <array>
#include <memory>
#include <stdexcept>
#include <string>

#include "fastconv.h"

namespace fastconv {

// What a call says that fails: the message of fastconv_last_error().
class error : public std::runtime_error {
  public:
    explicit error(fastconv_status status)
        : std::runtime_error(std::string("fastconv: ") + fastconv_last_error()), status_(status) {}
    fastconv_status status() const noexcept { return status_; }

  private:
    fastconv_status status_;
};

inline void check(fastconv_status status) {
    if (status != FASTCONV_OK) throw error(status);
}

// The C structs, with their defaults.
struct problem : fastconv_problem {
    problem() { check(fastconv_problem_init(this, sizeof(fastconv_problem))); }
};
struct options : fastconv_options {
    options() { check(fastconv_options_init(this, sizeof(fastconv_options))); }
};

// y of n images of c channels and h x w pixels, with k kernels of r x s.
inline problem images(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w,
                      std::int64_t k, std::int64_t r, std::int64_t s) {
    problem made;
    made.n = n, made.c = c, made.k = k;
    made.image[0] = h, made.image[1] = w;
    made.kernel[0] = r, made.kernel[1] = s;
    return made;
}

// Sizes of y along the image's axes; 1 beyond them.
inline std::array<std::int64_t, FASTCONV_MAX_SPATIAL> output_size(const fastconv_problem& of) {
    std::array<std::int64_t, FASTCONV_MAX_SPATIAL> sizes{1, 1, 1};
    check(fastconv_output_size(&of, sizes.data()));
    return sizes;
}

inline fastconv_info query(const fastconv_problem& of, const fastconv_options* with = nullptr) {
    fastconv_info info{};
    info.struct_size = sizeof info;
    check(fastconv_query(&of, with, &info));
    return info;
}

// out of a and b, once: y of x and w, gx of gy and w, gw of x and gy.
inline void run(const fastconv_problem& of, const void* a, const void* b, const void* bias,
                void* out, const fastconv_options* with = nullptr) {
    check(fastconv_run(&of, with, a, b, bias, out));
}

// Weights made ready for many calls, from any number of threads. It can be moved, not copied.
class plan {
  public:
    explicit plan(const fastconv_problem& of, const void* w, const void* bias = nullptr,
                  const fastconv_options* with = nullptr) {
        fastconv_plan* made = nullptr;
        check(fastconv_plan_create(&of, with, w, bias, &made));
        plan_.reset(made);
    }

    void run(std::int64_t n, const void* a, void* out, int threads = 0) const {
        check(fastconv_plan_run(plan_.get(), n, a, out, threads));
    }

    fastconv_info query(std::int64_t n, int threads = 0) const {
        fastconv_info info{};
        info.struct_size = sizeof info;
        check(fastconv_plan_query(plan_.get(), n, threads, &info));
        return info;
    }

    const fastconv_plan* get() const noexcept { return plan_.get(); }

  private:
    struct destroy {
        void operator()(fastconv_plan* made) const noexcept { fastconv_plan_destroy(made); }
    };
    std::unique_ptr<fastconv_plan, destroy> plan_;
};

}  // namespace fastconv

#endif  // FASTCONV_HPP
