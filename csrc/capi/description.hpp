// What a caller's structs describe, checked: everything that memory safety needs, once, before
// anything is touched. It is what fastconv/checks.py checks, in 64 bits and without Python.
#pragma once

#include "capi/fastconv.h"
#include "conv/algorithm.hpp"

namespace fastconv {

// One of the three arrays: axes N, C and the image's, or K, C/groups and the kernel's.
struct ArrayForm {
    Index shape[FASTCONV_MAX_RANK];
    Index stride[FASTCONV_MAX_RANK];  // in elements
};

// As fastconv/checks.py: sizes and strides stay below this, so that index arithmetic cannot wrap.
constexpr Index kIndexLimit = Index(1) << 61;

struct Description {
    Problem problem;
    int result;  // FASTCONV_Y, _X or _W
    int spatial;
    ArrayForm x, w, y;

    int rank() const { return spatial + 2; }
    const ArrayForm& out() const { return result == FASTCONV_Y ? y : result == FASTCONV_X ? x : w; }
    const ArrayForm& a() const { return result == FASTCONV_X ? y : x; }
    const ArrayForm& b() const { return result == FASTCONV_W ? y : w; }
};

// All of these throw Failure.
Description describe(const fastconv_problem* given);
// The same for another number of images.
Description with_batch(const Description& description, Index n);
Resources resources_of(const fastconv_options* given);
int checked_threads(int threads);
void check_number(const char* field, Index value, Index least, Index most);

// Elements of an array, and of a bias; bytes of one element of the result.
Index elements(const Description& description, const ArrayForm& form);
Index channels_of_result(const Description& description);
Index operand_bytes(Element element);
Index result_bytes(Element element);

// The view of an array at `data`.
template <class T>
View<T> view_at(T* data, const ArrayForm& form, int spatial) {
    const Index* image = form.stride + 2;
    View<T> view{data, {form.stride[0], form.stride[1], 0, image[spatial - 1]}};
    if (spatial > 1) view.stride[2] = image[spatial - 2];
    if (spatial > 2) view.plane = image[0];
    return view;
}

// Strides of an array without gaps: its last axis the innermost, or, of images, the channels.
void make_contiguous(ArrayForm& form, int rank, bool channels_last = false);

// Copies the caller's struct, of any version; `name` is for messages.
void copy_struct(void* copy, size_t known, const void* given, const char* name);

template <class S>
S read_struct(const S* given, const char* name) {
    S copy;
    copy_struct(&copy, sizeof copy, given, name);
    return copy;
}

}  // namespace fastconv
