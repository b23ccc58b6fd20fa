#include "capi/operation.hpp"

#include <type_traits>

#include "capi/errors.hpp"
#include "conv/elements.hpp"
#include "conv/input_grad.hpp"
#include "conv/weight_grad.hpp"

namespace fastconv {
namespace {

template <class T>
View<const T> read_view(const void* data, const ArrayForm& form, const Description& d) {
    return view_at(static_cast<const T*>(data), form, d.spatial);
}

template <class T>
View<T> written_view(void* data, const Description& d) {
    return view_at(static_cast<T*>(data), d.out(), d.spatial);
}

template <class T>
struct Forward {
    static Status run(const Description& d, const Pointers& at, const Resources& resources) {
        if (is_empty(d.problem)) return Status::kOk;
        const Operands<T> arrays{read_view<T>(at.a, d.x, d), read_view<T>(at.b, d.w, d), at.packed,
                                 static_cast<const ResultOf<T>*>(at.bias),
                                 written_view<ResultOf<T>>(at.out, d)};
        return choose<T>(d.problem, resources.fast).run(d.problem, arrays, resources, {});
    }
    static Footprint footprint(const Problem& problem, const Resources& resources, bool packed) {
        return choose<T>(problem, resources.fast).footprint(problem, resources, packed);
    }
    static std::string name(const Problem& problem, bool fast) {
        return choose<T>(problem, fast).name;
    }
    static Index packed_bytes(const Problem& problem, bool fast) {
        return choose<T>(problem, fast).packed_bytes(problem);
    }
    static Status pack(const Description& d, bool fast, const void* w, void* packed) {
        choose<T>(d.problem, fast).pack(d.problem, read_view<T>(w, d.w, d), packed);
        return Status::kOk;
    }
    static constexpr Operation kOperation{run, footprint, name, packed_bytes, pack};
};

template <class T>
struct InputGrad {
    static Status run(const Description& d, const Pointers& at, const Resources& resources) {
        if (is_empty_gradient(d.problem)) return Status::kOk;
        const InputGradOperands<T> arrays{read_view<T>(at.a, d.y, d), read_view<T>(at.b, d.w, d),
                                          at.packed, static_cast<const T*>(at.bias),
                                          written_view<T>(at.out, d)};
        return choose_input_grad<T>(d.problem).run(d.problem, arrays, resources, {});
    }
    static Footprint footprint(const Problem& problem, const Resources& resources, bool packed) {
        return choose_input_grad<T>(problem).footprint(problem, resources, packed);
    }
    static std::string name(const Problem& problem, bool fast) {
        return choose_input_grad<T>(problem).name(problem, fast);
    }
    static Index packed_bytes(const Problem& problem, bool fast) {
        return choose_input_grad<T>(problem).packed_bytes(problem, fast);
    }
    static Status pack(const Description& d, bool fast, const void* w, void* packed) {
        const View<const T> weights = read_view<T>(w, d.w, d);
        return choose_input_grad<T>(d.problem).pack(d.problem, fast, weights, packed);
    }
    static constexpr Operation kOperation{run, footprint, name, packed_bytes, pack};
};

template <class T>
struct WeightGrad {
    static Status run(const Description& d, const Pointers& at, const Resources& resources) {
        const WeightGradOperands<T> arrays{read_view<T>(at.a, d.x, d), read_view<T>(at.b, d.y, d),
                                           written_view<T>(at.out, d)};
        return choose_weight_grad<T>(d.problem).run(d.problem, arrays, resources, {});
    }
    static Footprint footprint(const Problem& problem, const Resources& resources, bool) {
        return choose_weight_grad<T>(problem).footprint(problem, resources);
    }
    static std::string name(const Problem& problem, bool) {
        return choose_weight_grad<T>(problem).name;
    }
    static constexpr Operation kOperation{run, footprint, name, nullptr, nullptr};
};

[[noreturn]] void unsupported(const char* what) {
    fail(FASTCONV_ERROR_UNSUPPORTED, "there is no kernel for %s; fastconv.h has the table", what);
}

bool is_wide_float(Element element) {
    return element == Element::kFloat32 || element == Element::kFloat64;
}

bool is_integer(Element element) {
    return element >= Element::kInt8 && element <= Element::kUint16;
}

// Throws where there is no kernel.
void check_supported(const Description& d) {
    const Problem& problem = d.problem;
    const bool zeros = problem.pad_mode == PadMode::kConstant,
               wide = is_wide_float(problem.element);
    if (d.result == FASTCONV_Y) {
        if (!is_volume(problem)) return;
        if (!wide) unsupported("volumes of other dtypes than FLOAT32 and FLOAT64");
        if (!zeros) unsupported("volumes with other borders than zeros");
        return;
    }
    if (is_volume(problem)) unsupported("gradients of volumes");
    if (is_integer(problem.element)) unsupported("gradients of integers");
    if (!zeros && d.result == FASTCONV_X) {
        unsupported("gradients of x with other borders than zeros");
    }
    if (!zeros && !wide) unsupported("gradients of 16-bit floats with other borders than zeros");
}

}  // namespace

const Operation& operation_of(const Description& description) {
    check_supported(description);
    const Element element = description.problem.element;
    switch (description.result) {
        case FASTCONV_X:
            return *with_any_float(
                element, [](auto zero) { return &InputGrad<decltype(zero)>::kOperation; });
        case FASTCONV_W:
            return *with_any_float(
                element, [](auto zero) { return &WeightGrad<decltype(zero)>::kOperation; });
        default:
            return *with_element(element,
                                 [](auto zero) { return &Forward<decltype(zero)>::kOperation; });
    }
}

}  // namespace fastconv
