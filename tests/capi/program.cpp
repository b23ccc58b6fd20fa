// fastconv.hpp in C++17: channels last, views, exceptions, a plan that several threads share.
#include <cstring>
#include <fastconv.hpp>
#include <iostream>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "numbers.h"

namespace {

constexpr int kC = 6, kH = 16, kW = 12, kK = 8, kThreads = 4, kRounds = 50;

static_assert(!std::is_copy_constructible_v<fastconv::plan>);
static_assert(std::is_nothrow_move_constructible_v<fastconv::plan>);

std::vector<float> numbers(std::size_t count, std::uint32_t seed) {
    std::vector<float> made(count);
    for (std::size_t i = 0; i < count; ++i) made[i] = number(seed, i);
    return made;
}

void require(bool good, const char* what) {
    if (!good) throw std::runtime_error(what);
}

void share_plan(const fastconv::plan& plan, const std::vector<float>& x,
                const std::vector<float>& expected) {
    std::vector<int> wrong(kThreads, 0);
    std::vector<std::thread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
        threads.emplace_back([&, thread] {
            std::vector<float> y(expected.size());
            for (int round = 0; round < kRounds; ++round) {
                y.assign(y.size(), -1.0f);
                plan.run(1, x.data(), y.data(), 1 + round % 3);
                const std::size_t bytes = y.size() * sizeof(float);
                wrong[std::size_t(thread)] += std::memcmp(y.data(), expected.data(), bytes) != 0;
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (const int count : wrong) require(count == 0, "threads that share a plan got other bits");
}

void fail_on_purpose() {
    try {
        fastconv::query(fastconv::images(1, 4, 8, 8, 4, 9, 9));
    } catch (const fastconv::error& error) {
        require(error.status() == FASTCONV_ERROR_SIZE, "another status");
        require(std::strstr(error.what(), "covers 9 pixels") != nullptr, "another message");
        return;
    }
    throw std::runtime_error("a kernel larger than the image was taken");
}

void compute(const char* directory) {
    fastconv::problem problem = fastconv::images(1, kC, kH, kW, kK, 3, 3);
    problem.layout = FASTCONV_CHANNELS_LAST;
    problem.groups = 2;
    problem.pad_before[0] = problem.pad_before[1] = 1;
    problem.pad_after[0] = problem.pad_after[1] = 1;
    problem.pad_mode = FASTCONV_REFLECT;
    problem.activation = FASTCONV_SILU;
    const auto sizes = fastconv::output_size(problem);
    require(sizes[0] == kH && sizes[1] == kW, "sizes of y");
    const std::vector<float> x = numbers(kC * kH * kW, 11), bias = numbers(kK, 13);
    const std::vector<float> w = numbers(kK * (kC / 2) * 9, 12);
    std::vector<float> y(std::size_t(kK * kH * kW));
    fastconv::options options;
    options.threads = 2;
    fastconv::run(problem, x.data(), w.data(), bias.data(), y.data(), &options);
    require(write_file(directory, "cpp_y", y.data(), y.size() * sizeof(float)) == 0, "write y");
    fastconv::plan made(problem, w.data(), bias.data());
    const fastconv::plan plan = std::move(made);
    share_plan(plan, x, y);
    std::cout << "algorithm: " << plan.query(1).algorithm << "\n";
}

}  // namespace

int main(int count, char** arguments) try {
    require(count == 2, "needs a directory");
    compute(arguments[1]);
    fail_on_purpose();
} catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
}
