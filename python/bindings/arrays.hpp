// Arrays that come from Python without a copy, and arrays that Python comes to own.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <initializer_list>
#include <span>
#include <vector>

namespace signsplit::python {

/// Tokens [N, D] as Python holds them: f32, C order, borrowed for the call. Bind with .noconvert(), else nanobind copies.
using Tokens = nanobind::ndarray<const float, nanobind::ndim<2>, nanobind::c_contig, nanobind::device::cpu>;
/// Any values of f32 in C order, as one row.
using Floats = nanobind::ndarray<const float, nanobind::ndim<1>, nanobind::c_contig, nanobind::device::cpu>;

template <class... Properties>
std::span<const float> values_of(const nanobind::ndarray<Properties...>& array) {
  return {static_cast<const float*>(array.data()), array.size()};
}

/// A numpy array that owns `values`, which are shape[0]·shape[1]·… elements.
template <class T>
nanobind::ndarray<nanobind::numpy, T> owned_array(std::vector<T>&& values, std::initializer_list<std::size_t> shape) {
  auto* const owner = new std::vector<T>(std::move(values));
  nanobind::capsule release(owner, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return nanobind::ndarray<nanobind::numpy, T>(owner->data(), shape, release);
}

}  // namespace signsplit::python
