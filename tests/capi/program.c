/* A layer, its plan and its gradients in C99; results go to files in the directory it is given. */
#include <fastconv.h>
#include <stdlib.h>
#include <string.h>

#include "numbers.h"

enum { N = 2, C = 5, H = 13, W = 11, K = 7, R = 3, S = 3, P = 7, Q = 6 };

static float x[N * C * H * W], w[K * C * R * S], bias[K], y[N * K * P * Q], gy[N * K * P * Q];
static float gx[N * C * H * W], gw[K * C * R * S];

static void fill(float* to, size_t count, uint32_t seed) {
    size_t i;
    for (i = 0; i < count; ++i) to[i] = number(seed, i);
}

static void require(int good, const char* what) {
    if (good) return;
    fprintf(stderr, "%s: %s\n", what, fastconv_last_error());
    exit(1);
}

static void describe(fastconv_problem* problem) {
    require(fastconv_problem_init(problem, sizeof *problem) == FASTCONV_OK, "init");
    problem->n = N;
    problem->c = C;
    problem->k = K;
    problem->image[0] = H;
    problem->image[1] = W;
    problem->kernel[0] = R;
    problem->kernel[1] = S;
    problem->stride[0] = problem->stride[1] = 2;
    problem->pad_before[0] = problem->pad_after[0] = 1;
    problem->pad_before[1] = problem->pad_after[1] = 1;
}

static void compute_forward(const char* directory) {
    fastconv_problem problem;
    fastconv_plan* plan = NULL;
    fastconv_info info;
    int64_t sizes[2];
    describe(&problem);
    problem.activation = FASTCONV_RELU;
    require(fastconv_output_size(&problem, sizes) == FASTCONV_OK, "output_size");
    require(sizes[0] == P && sizes[1] == Q, "sizes of y");
    require(fastconv_run(&problem, NULL, x, w, bias, y) == FASTCONV_OK, "run");
    require(write_file(directory, "c_y", y, sizeof y) == 0, "write y");

    require(fastconv_plan_create(&problem, NULL, w, bias, &plan) == FASTCONV_OK, "plan_create");
    memset(w, 0xff, sizeof w); /* a plan has its own */
    memset(y, 0xff, sizeof y);
    require(fastconv_plan_run(plan, 1, x, y, 1) == FASTCONV_OK, "the first image");
    require(fastconv_plan_run(plan, 1, x + C * H * W, y + K * P * Q, 0) == FASTCONV_OK, "second");
    require(write_file(directory, "c_plan_y", y, sizeof y) == 0, "write y of the plan");
    info.struct_size = sizeof info;
    require(fastconv_plan_query(plan, N, 0, &info) == FASTCONV_OK, "plan_query");
    require(info.algorithm[0] != '\0' && info.threads >= 1, "info");
    printf("algorithm: %s\n", info.algorithm);
    fastconv_plan_destroy(plan);
    fastconv_plan_destroy(NULL);
    fill(w, K * C * R * S, 2);
}

static void compute_gradients(const char* directory) {
    fastconv_problem problem;
    describe(&problem);
    problem.result = FASTCONV_X;
    require(fastconv_run(&problem, NULL, gy, w, NULL, gx) == FASTCONV_OK, "gradient of x");
    require(write_file(directory, "c_gx", gx, sizeof gx) == 0, "write gx");
    problem.result = FASTCONV_W;
    require(fastconv_run(&problem, NULL, x, gy, NULL, gw) == FASTCONV_OK, "gradient of w");
    require(write_file(directory, "c_gw", gw, sizeof gw) == 0, "write gw");
}

static void fail_on_purpose(void) {
    fastconv_problem problem;
    fastconv_plan* plan = (fastconv_plan*)&problem;
    describe(&problem);
    problem.stride[1] = 0;
    require(fastconv_run(&problem, NULL, x, w, NULL, y) == FASTCONV_ERROR_SIZE, "stride 0");
    require(strstr(fastconv_last_error(), "stride[1]") != NULL, "the message names the field");
    describe(&problem);
    require(fastconv_plan_create(&problem, NULL, NULL, NULL, &plan) == FASTCONV_ERROR_NULL, "null");
    require(plan == NULL, "no plan");
    problem.struct_size = 8;
    require(fastconv_run(&problem, NULL, x, w, NULL, y) == FASTCONV_ERROR_STRUCT_SIZE, "struct");
    require(fastconv_status_string(FASTCONV_ERROR_STRUCT_SIZE)[0] != '\0', "status_string");
}

int main(int count, char** arguments) {
    require(count == 2, "needs a directory");
    require(fastconv_version() >= FASTCONV_VERSION, "the library is older than its header");
    fill(x, N * C * H * W, 1);
    fill(w, K * C * R * S, 2);
    fill(bias, K, 3);
    fill(gy, N * K * P * Q, 4);
    compute_forward(arguments[1]);
    compute_gradients(arguments[1]);
    fail_on_purpose();
    printf("fastconv %s on %s\n", fastconv_version_string(), fastconv_isa());
    return 0;
}
