// safetensors files as they are, and tensors of other frameworks whose element types numpy does not know.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/string.h>

#include "bind.hpp"
#include "errors.hpp"
#include "signsplit/safetensors.hpp"

namespace signsplit::python {
namespace {

namespace nb = nanobind;

using Bytes = nb::ndarray<nb::numpy, nb::ro, const std::uint8_t, nb::ndim<1>>;
using AnyTensor = nb::ndarray<nb::ro, nb::device::cpu>;

SafetensorsFile* open(const std::filesystem::path& path) {
  auto opened = [&] {
    const nb::gil_scoped_release released;
    return SafetensorsFile::open(path);
  }();
  return new SafetensorsFile(value_or_raise(std::move(opened)));
}

/// {name: (dtype as in the file, shape)}
nb::dict tensors(const SafetensorsFile& file) {
  nb::dict dict;
  for (const auto& [name, tensor] : file.tensors()) {
    nb::list shape;
    for (const index_t extent : tensor.shape) shape.append(extent);
    dict[name.c_str()] = nb::make_tuple(tensor.dtype, nb::tuple(shape));
  }
  return dict;
}

/// The bytes of a tensor; the array keeps the file alive.
Bytes bytes(nb::handle self, const std::string& name) {
  const auto& file = nb::cast<const SafetensorsFile&>(self);
  const SafetensorsFile::Tensor* const tensor = file.find(name);
  if (tensor == nullptr) raise_unless_ok(not_found(file.path().string() + ": tensor " + name + ": is missing"));
  return Bytes(reinterpret_cast<const std::uint8_t*>(tensor->bytes.data()), {tensor->bytes.size()}, self);
}

std::string dtype_name(nb::dlpack::dtype dtype) {
  using Code = nb::dlpack::dtype_code;
  if (dtype.lanes != 1) return "vector";
  const auto bits = std::to_string(dtype.bits);
  switch (static_cast<Code>(dtype.code)) {
    case Code::Float: return "f" + bits;
    case Code::Bfloat: return "bf" + bits;
    case Code::Int: return "int" + bits;
    case Code::UInt: return "uint" + bits;
    case Code::Bool: return "bool";
    case Code::Complex: return "complex" + bits;
    default: return "dlpack type " + std::to_string(dtype.code) + " of " + bits + " bits";
  }
}

/// (a view of the tensor's memory or None, element type). f32 is viewed as float32; bf16, which numpy does not know, and
/// f16 as uint16; other types are named only.
nb::tuple view_tensor(const AnyTensor& tensor) {
  const std::string name = dtype_name(tensor.dtype());
  if (name != "f32" && name != "bf16" && name != "f16") return nb::make_tuple(nb::none(), name);
  std::vector<std::size_t> shape;
  std::vector<std::int64_t> strides;
  for (std::size_t i = 0; i < tensor.ndim(); ++i) {
    shape.push_back(tensor.shape(i));
    strides.push_back(tensor.stride(i));
  }
  auto* const kept = new AnyTensor(tensor);
  const nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<AnyTensor*>(p); });
  const nb::dlpack::dtype viewed_as = name == "f32" ? nb::dtype<float>() : nb::dtype<std::uint16_t>();
  nb::ndarray<nb::numpy, nb::ro> view(tensor.data(), shape.size(), shape.data(), owner, strides.data(), viewed_as);
  return nb::make_tuple(view, name);
}

}  // namespace

void bind_files(nb::module_& module) {
  nb::class_<SafetensorsFile>(module, "SafetensorsFile", "A safetensors file, read and checked whole.")
      .def_static("open", &open, nb::arg("path"), nb::rv_policy::take_ownership)
      .def("tensors", &tensors)
      .def("bytes", &bytes, nb::arg("name"));
  module.def("view_tensor", &view_tensor, nb::arg("tensor"));
}

}  // namespace signsplit::python
