#include "signsplit/safetensors.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <new>
#include <optional>
#include <string_view>
#include <utility>

#include "file_bytes.hpp"
#include "signsplit/atomic_file.hpp"
#include "strict_json.hpp"

namespace signsplit {
namespace {

using nlohmann::json;
using Tensor = SafetensorsFile::Tensor;

static_assert(std::endian::native == std::endian::little, "the bytes of a file are used as they are");

constexpr std::size_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
constexpr int kMaxDepth = 8;
constexpr const char* kMetadataName = "__metadata__";

/// Bytes of one element; 0 for an unknown dtype. The sub-byte types of later revisions of the format are not known.
index_t element_bytes(std::string_view dtype) {
  constexpr std::pair<std::string_view, index_t> kTypes[] = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"F8_E8M0", 1},
      {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},     {"U32", 4},
      {"F32", 4},  {"F64", 8}, {"I64", 8}, {"U64", 8},     {"C64", 8}};
  for (const auto& [name, bytes] : kTypes) {
    if (name == dtype) return bytes;
  }
  return 0;
}

/// Bytes of a tensor of this shape; nullopt when they do not fit into index_t. Extents ≥ 0.
std::optional<index_t> byte_count(const std::vector<index_t>& shape, index_t element) {
  index_t product = element;
  for (const index_t extent : shape) {
    if (extent != 0 && product > std::numeric_limits<index_t>::max() / extent) return std::nullopt;
    product *= extent;
  }
  return product;
}

/// The integer if it is one in [0, 2^63).
std::optional<index_t> read_extent(const json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;  // the parser calls every integer without a sign unsigned
  const auto number = value.get<std::uint64_t>();
  if (number > static_cast<std::uint64_t>(std::numeric_limits<index_t>::max())) return std::nullopt;
  return static_cast<index_t>(number);
}

/// Where a tensor lies in the data, which begins after the header.
struct Placed {
  std::string name;
  Tensor tensor;
  index_t begin = 0, end = 0;
};

Status read_shape(const json& value, std::vector<index_t>& shape) {
  if (!value.is_array()) return corrupt_file("shape must be an array");
  for (const json& one : value) {
    const std::optional<index_t> extent = read_extent(one);
    if (!extent) return corrupt_file("shape must consist of integers in [0, 2^63)");
    shape.push_back(*extent);
  }
  return {};
}

/// Reads one entry of the header, for data of `data_bytes`.
Status read_entry(const json& entry, index_t data_bytes, Placed& placed) {
  if (!entry.is_object()) return corrupt_file("its entry must be an object");
  const auto dtype = entry.find("dtype"), shape = entry.find("shape"), offsets = entry.find("data_offsets");
  if (dtype == entry.end() || !dtype->is_string()) return corrupt_file("its entry needs a string \"dtype\"");
  if (shape == entry.end()) return corrupt_file("its entry needs a \"shape\"");
  if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2) {
    return corrupt_file("its entry needs \"data_offsets\", an array of two");
  }
  placed.tensor.dtype = dtype->get<std::string>();
  const index_t element = element_bytes(placed.tensor.dtype);
  if (element == 0) return corrupt_file("unknown dtype \"" + printable(placed.tensor.dtype) + "\"");
  if (Status status = read_shape(*shape, placed.tensor.shape); !status) return status;
  const std::optional<index_t> bytes = byte_count(placed.tensor.shape, element);
  if (!bytes) return corrupt_file("the product of its shape overflows 64 bits");
  const std::optional<index_t> begin = read_extent((*offsets)[0]), end = read_extent((*offsets)[1]);
  if (!begin || !end) return corrupt_file("data_offsets must be integers in [0, 2^63)");
  if (*begin > *end || *end > data_bytes) {
    return corrupt_file("data_offsets [" + std::to_string(*begin) + ", " + std::to_string(*end) +
                        "] lie outside the file's " + std::to_string(data_bytes) + " bytes of data");
  }
  if (*end - *begin != *bytes) {
    return corrupt_file("data_offsets span " + std::to_string(*end - *begin) + " bytes, shape and dtype need " +
                        std::to_string(*bytes));
  }
  placed.begin = *begin;
  placed.end = *end;
  return {};
}

/// The tensors must cover the data without overlap or gap. Sorts them by place.
Status check_cover(std::vector<Placed>& placed, index_t data_bytes) {
  std::sort(placed.begin(), placed.end(),
            [](const Placed& a, const Placed& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  index_t covered = 0;
  for (const Placed& one : placed) {
    if (one.begin < covered) return corrupt_file("tensor " + printable(one.name) + ": its bytes overlap another tensor's");
    if (one.begin > covered) {
      return corrupt_file("tensor " + printable(one.name) + ": a gap of " + std::to_string(one.begin - covered) +
                          " bytes lies before it");
    }
    covered = one.end;
  }
  if (covered == data_bytes) return {};
  return corrupt_file("the last " + std::to_string(data_bytes - covered) + " bytes belong to no tensor");
}

Status read_metadata(const json& entry, std::map<std::string, std::string>& metadata) {
  if (!entry.is_object()) return corrupt_file("__metadata__ must be an object");
  for (const auto& [key, value] : entry.items()) {
    if (!value.is_string()) return corrupt_file("__metadata__ \"" + printable(key) + "\" must be a string");
    metadata.emplace(key, value.get<std::string>());
  }
  return {};
}

/// The header's JSON text: what follows the length, which is checked here.
Result<std::string_view> header_text(const AlignedBuffer& content) {
  if (content.size() < kLengthBytes)
    return corrupt_file("not a safetensors file: shorter than the 8 bytes of its header length");
  std::uint64_t length = 0;
  std::memcpy(&length, content.data(), kLengthBytes);
  if (length > kMaxHeaderBytes) {
    return corrupt_file("header length " + std::to_string(length) +
                        " is over the limit of 100 MB (not a safetensors file?)");
  }
  if (length > content.size() - kLengthBytes) {
    return corrupt_file("header length " + std::to_string(length) + " runs past the end of the file");
  }
  return std::string_view(reinterpret_cast<const char*>(content.data()) + kLengthBytes, static_cast<std::size_t>(length));
}

/// Everything the header says, checked against data of `data_bytes`.
Status read_header(std::string_view text, index_t data_bytes, std::vector<Placed>& placed,
                   std::map<std::string, std::string>& metadata) {
  if (text.empty() || text.front() != '{') return corrupt_file("header must begin with {");
  const Result<json> header = parse_strict_json(text, kMaxDepth);
  if (!header) return {header.status().code(), "header " + header.message()};
  for (const auto& [name, entry] : header->items()) {
    if (name == kMetadataName) {
      if (Status status = read_metadata(entry, metadata); !status) return status;
      continue;
    }
    Placed one;
    one.name = name;
    if (Status status = read_entry(entry, data_bytes, one); !status) {
      return {status.code(), "tensor " + printable(name) + ": " + status.message()};
    }
    placed.push_back(std::move(one));
  }
  return check_cover(placed, data_bytes);
}

struct Layout {
  std::string header;  ///< length, JSON and padding: the file up to its data
  std::vector<std::span<const std::byte>> data;
};

/// Wider elements first, so that every tensor is aligned to its elements; then by name.
std::vector<const std::pair<const std::string, Tensor>*> writing_order(const std::map<std::string, Tensor>& tensors) {
  std::vector<const std::pair<const std::string, Tensor>*> order;
  for (const auto& entry : tensors) order.push_back(&entry);
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return element_bytes(a->second.dtype) > element_bytes(b->second.dtype);
  });
  return order;
}

Status check_tensor(const std::string& name, const Tensor& tensor) {
  const std::string where = "tensor " + printable(name) + ": ";
  if (name == kMetadataName) return invalid_argument(where + "the name is taken by the format");
  const index_t element = element_bytes(tensor.dtype);
  if (element == 0) return invalid_argument(where + "unknown dtype \"" + printable(tensor.dtype) + "\"");
  const bool negative = std::any_of(tensor.shape.begin(), tensor.shape.end(), [](index_t extent) { return extent < 0; });
  if (negative) return invalid_argument(where + "shape has a negative extent");
  const std::optional<index_t> bytes = byte_count(tensor.shape, element);
  if (bytes && static_cast<std::size_t>(*bytes) == tensor.bytes.size()) return {};
  return invalid_argument(where + "has " + std::to_string(tensor.bytes.size()) +
                          " bytes, which do not match shape and dtype");
}

Result<Layout> lay_out(const std::map<std::string, Tensor>& tensors, const std::map<std::string, std::string>& metadata) {
  Layout layout;
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[kMetadataName] = metadata;
  std::size_t offset = 0;
  for (const auto* entry : writing_order(tensors)) {
    const auto& [name, tensor] = *entry;
    if (Status status = check_tensor(name, tensor); !status) return status;
    header[name] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + tensor.bytes.size()}}};
    offset += tensor.bytes.size();
    layout.data.push_back(tensor.bytes);
  }
  std::string text = header.dump();
  text.resize(static_cast<std::size_t>(round_up(static_cast<index_t>(text.size()), kLengthBytes)), ' ');
  if (text.size() > kMaxHeaderBytes) return invalid_argument("the header would be over the limit of 100 MB");
  const std::uint64_t length = text.size();
  layout.header.assign(reinterpret_cast<const char*>(&length), kLengthBytes);
  layout.header += text;
  return layout;
}

}  // namespace

Result<SafetensorsFile> SafetensorsFile::open(const std::filesystem::path& path) try {
  Result<AlignedBuffer> content = read_file_bytes(path);
  if (!content) return content.status();
  SafetensorsFile file;
  file.path_ = path;
  file.content_ = std::move(*content);
  const Result<std::string_view> header = header_text(file.content_);
  if (!header) return corrupt_file(path.string() + ": " + header.message());

  const std::size_t data_start = kLengthBytes + header->size();
  std::vector<Placed> placed;
  const Status status =
      read_header(*header, static_cast<index_t>(file.content_.size() - data_start), placed, file.metadata_);
  if (!status) return Status(status.code(), path.string() + ": " + status.message());
  for (Placed& one : placed) {
    one.tensor.bytes = file.content_.bytes().subspan(data_start + static_cast<std::size_t>(one.begin),
                                                     static_cast<std::size_t>(one.end - one.begin));
    file.tensors_.emplace(std::move(one.name), std::move(one.tensor));
  }
  return file;
} catch (const std::bad_alloc&) {
  return io_error("not enough memory to read a safetensors file");
}

const SafetensorsFile::Tensor* SafetensorsFile::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

Status write_safetensors(const std::filesystem::path& file, const std::map<std::string, Tensor>& tensors,
                         const std::map<std::string, std::string>& metadata) try {
  const Result<Layout> layout = lay_out(tensors, metadata);
  if (!layout) return {layout.status().code(), file.string() + ": " + layout.message()};
  std::vector<std::span<const std::byte>> pieces{std::as_bytes(std::span(layout->header))};
  pieces.insert(pieces.end(), layout->data.begin(), layout->data.end());
  return write_file(file, pieces);
} catch (const json::exception&) {
  return invalid_argument(file.string() + ": names and metadata must be UTF-8");
} catch (const std::bad_alloc&) {
  return io_error("not enough memory to write a safetensors file");
}

}  // namespace signsplit
