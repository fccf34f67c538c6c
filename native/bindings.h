// What the parts of `cairn._native` share: types of arrays, names, and checks.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>

#include "model.h"

namespace nb = nanobind;
using namespace cairn;

using Floats = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using FloatsOut = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<nb::numpy, const uint8_t, nb::ndim<1>>;
using Numbers = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Flags = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Values = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Ids = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using IdsOut = nb::ndarray<int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Tables = nb::ndarray<const int64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

template <typename T>
T named(const std::string& name, std::initializer_list<std::pair<const char*, T>> values) {
    for (const auto& [known, value] : values) {
        if (name == known) return value;
    }
    throw std::invalid_argument("unknown name '" + name + "'");
}

inline Format format_named(const std::string& name) {
    return named<Format>(name, {{"float32", Format::float32}, {"bfloat16", Format::bfloat16},
                                {"int8", Format::int8}, {"int4", Format::int4}});
}

inline Activation activation_named(const std::string& name) {
    return named<Activation>(name, {{"silu", Activation::silu}, {"gelu_tanh", Activation::gelu_tanh},
                                    {"gelu", Activation::gelu}, {"relu", Activation::relu}});
}

// An array of numpy's that owns what it shows.
template <typename T>
nb::ndarray<nb::numpy, T, nb::ndim<1>> array_of(std::vector<T>&& values) {
    auto* kept = new std::vector<T>(std::move(values));
    const nb::capsule owner(kept, [](void* held) noexcept { delete static_cast<std::vector<T>*>(held); });
    return {kept->data(), {kept->size()}, owner};
}

inline void require(bool holds, const char* problem) {
    if (!holds) throw std::invalid_argument(problem);
}

inline void check_matrix(const Weights& weights, int rows, int inputs) {
    require(weights && weights->num_rows == rows && weights->num_inputs == inputs, "a weight matrix does not fit");
}

inline void check_norm(const Norm& norm, int size) {
    require(norm.weight.empty() || int(norm.weight.size()) == size, "a norm does not fit");
    require(norm.bias.empty() || int(norm.bias.size()) == size, "a norm's bias does not fit");
}

void bind_adapters(nb::module_& m);
void bind_encoder(nb::module_& m);
void bind_graph(nb::module_& m);
void bind_words(nb::module_& m);
