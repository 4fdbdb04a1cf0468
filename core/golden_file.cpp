// Golden data on disk: one safetensors file, or a folder with the same file and a .npy for every tensor.
#include <charconv>
#include <cstring>
#include <exception>

#include "signsplit/golden.hpp"
#include "signsplit/npy.hpp"
#include "signsplit/safetensors.hpp"
#include "stored_layer.hpp"

namespace signsplit {
namespace {

namespace fs = std::filesystem;
using Tensor = SafetensorsFile::Tensor;

constexpr const char* kFileOfFolder = "golden.safetensors";
constexpr const char* kFormat = "1";

/// One tensor as f32, for .npy; and, where the file stores another type, its bytes. Those of the layer itself are written
/// into the .safetensors as save_weights writes them.
struct Entry {
  std::string name;
  std::vector<index_t> shape;
  std::vector<float> values;
  std::vector<std::byte> stored = {};
  std::string dtype = "F32";
};

/// An element of a packed matrix.
using Element = float (Weights::*)(index_t, index_t) const noexcept;

Entry matrix_entry(const char* name, const Weights& weights, Element element, bool transposed) {
  const index_t d = weights.d_model(), f = weights.d_ff();
  Entry entry{.name = name, .shape = transposed ? std::vector{d, f} : std::vector{f, d}, .values = {}};
  entry.values.reserve(static_cast<std::size_t>(d * f));
  for (index_t row = 0; row < entry.shape[0]; ++row) {
    for (index_t column = 0; column < entry.shape[1]; ++column) {
      entry.values.push_back(transposed ? (weights.*element)(column, row) : (weights.*element)(row, column));
    }
  }
  return entry;
}

std::vector<Entry> entries_of(const Golden& golden) {
  const Weights& w = golden.input.weights;
  const index_t b = golden.input.batch, d = w.d_model(), f = w.d_ff();
  std::vector<Entry> entries;
  entries.push_back(matrix_entry("up.weight", w, &Weights::up_at, false));
  if (w.gated()) entries.push_back(matrix_entry("gate.weight", w, &Weights::gate_at, false));
  entries.push_back(matrix_entry("down.weight", w, &Weights::down_at, true));
  const auto add = [&](const char* name, std::vector<index_t> shape, std::span<const float> values) {
    if (!values.empty()) entries.push_back({.name = name, .shape = std::move(shape), .values = {values.begin(), values.end()}});
  };
  add("up.bias", {f}, w.up_bias());
  add("gate.bias", {f}, w.gate_bias());
  add("down.bias", {d}, w.down_bias());
  add("x", {b, d}, golden.input.x);
  add("y", {b, d}, golden.y);
  add("y_staged", {b, d}, golden.y_staged);
  add("y_bound", {b, d}, golden.y_bound);
  add("z", {b, f}, golden.z);
  add("z_bound", {b, f}, golden.z_bound);
  add("h", {b, f}, golden.h);
  add("h_bound", {b, f}, golden.h_bound);
  entries.push_back({.name = "active", .shape = {b, f}, .values = {golden.active.begin(), golden.active.end()}});
  entries.back().dtype = "U8";
  const auto bytes = std::as_bytes(std::span(golden.active));
  entries.back().stored.assign(bytes.begin(), bytes.end());
  return entries;
}

std::map<std::string, std::string> metadata_of(const Golden& golden) {
  const Problem problem = golden.input.weights.problem(golden.input.batch);
  std::map<std::string, std::string> metadata{
      {"golden.accumulation", std::string(to_string(golden.accumulation))},
      {"golden.batch", std::to_string(problem.batch)},
      {"golden.format", kFormat},
      {"golden.set", std::string(to_string(golden.source.set))},
      {"golden.shape", std::to_string(problem.d_model) + "x" + std::to_string(problem.d_ff)},
      {"golden.version", golden.version}};
  if (golden.source.seed) metadata["golden.seed"] = std::to_string(*golden.source.seed);
  return metadata;
}

Status write_entries(const fs::path& file, const std::vector<Entry>& entries, const Golden& golden) {
  Result<StoredLayer> layer = stored_layer(golden.input.weights);
  if (!layer) return layer.status();
  for (const Entry& entry : entries) {  // try_emplace: the layer's own tensors stay as they are
    const auto bytes = entry.stored.empty() ? std::as_bytes(std::span(entry.values)) : std::span(entry.stored);
    layer->tensors.try_emplace(entry.name, Tensor{entry.dtype, entry.shape, bytes});
  }
  layer->metadata.merge(metadata_of(golden));
  return write_safetensors(file, layer->tensors, layer->metadata);
}

/// The .npy files first: a folder whose golden.safetensors is there is complete.
Result<std::vector<fs::path>> write_folder(const fs::path& folder, const std::vector<Entry>& entries,
                                           const Golden& golden) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return io_error(folder.string() + ": cannot be made: " + error.message());
  fs::remove(folder / kFileOfFolder, error);
  if (error) return io_error((folder / kFileOfFolder).string() + ": cannot be replaced: " + error.message());
  std::vector<fs::path> files;
  for (const Entry& entry : entries) {
    const index_t rows = entry.shape.size() == 2 ? entry.shape[0] : 1;
    files.push_back(folder / (entry.name + ".npy"));
    if (Status status = write_npy(files.back(), entry.values, rows, entry.shape.back()); !status) return status;
  }
  files.push_back(folder / kFileOfFolder);
  if (Status status = write_entries(files.back(), entries, golden); !status) return status;
  return files;
}

/// The bytes of a tensor of [rows, columns], or the rule it breaks.
Result<std::span<const std::byte>> tensor_bytes(const SafetensorsFile& file, const char* name, const char* dtype,
                                                index_t rows, index_t columns) {
  const Tensor* const tensor = file.find(name);
  const auto about = [&](const std::string& rule) { return std::string("tensor ") + name + ": " + rule; };
  if (tensor == nullptr) return not_found(about("is missing: not golden data?"));
  if (tensor->dtype != dtype) return corrupt_file(about(std::string("must be ") + dtype));
  if (tensor->shape != std::vector{rows, columns}) {
    return corrupt_file(about("must have the shape [" + std::to_string(rows) + ", " + std::to_string(columns) + "]"));
  }
  return tensor->bytes;
}

Status read_values(const SafetensorsFile& file, const char* name, index_t rows, index_t columns, std::vector<float>& out) {
  const auto bytes = tensor_bytes(file, name, "F32", rows, columns);
  if (!bytes) return bytes.status();
  out.resize(bytes->size() / sizeof(float));
  std::memcpy(out.data(), bytes->data(), bytes->size());
  return {};
}

Result<std::string> metadatum(const SafetensorsFile& file, const char* key) {
  const auto found = file.metadata().find(key);
  if (found == file.metadata().end()) return not_found(std::string("metadata has no ") + key + ": not golden data?");
  return found->second;
}

Status read_metadata(const SafetensorsFile& file, Golden& golden) {
  const Result<std::string> format = metadatum(file, "golden.format"), set = metadatum(file, "golden.set");
  const Result<std::string> accumulation = metadatum(file, "golden.accumulation"), version = metadatum(file, "golden.version");
  for (const auto* one : {&format, &set, &accumulation, &version}) {
    if (!*one) return one->status();
  }
  if (*format != kFormat) return unsupported("metadata golden.format: this version reads format 1");
  const auto parsed_set = parse_data_set(*set);
  const auto parsed_accumulation = parse_accumulation(*accumulation);
  if (!parsed_set) return corrupt_file("metadata golden.set: not a set that this version knows");
  if (!parsed_accumulation) return corrupt_file("metadata golden.accumulation: not one that this version knows");
  golden.source.set = *parsed_set;
  golden.accumulation = *parsed_accumulation;
  golden.version = *version;
  if (const Result<std::string> seed = metadatum(file, "golden.seed")) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(seed->data(), seed->data() + seed->size(), value);
    if (error != std::errc{} || end != seed->data() + seed->size()) {
      return corrupt_file("metadata golden.seed: must be a whole number");
    }
    golden.source.seed = value;
  }
  return {};
}

Status read_tensors(const SafetensorsFile& file, Golden& golden) {
  const index_t d = golden.input.weights.d_model(), f = golden.input.weights.d_ff();
  const Tensor* const x = file.find("x");
  if (x == nullptr || x->shape.size() != 2 || x->shape[0] < 1 || x->shape[0] > kMaxExtent) {
    return corrupt_file("tensor x: must be there, with the shape [B, D]");
  }
  const index_t b = golden.input.batch = x->shape[0];
  if (Status s = read_values(file, "x", b, d, golden.input.x); !s) return s;
  if (Status s = read_values(file, "y", b, d, golden.y); !s) return s;
  if (Status s = read_values(file, "y_staged", b, d, golden.y_staged); !s) return s;
  if (Status s = read_values(file, "y_bound", b, d, golden.y_bound); !s) return s;
  if (Status s = read_values(file, "z", b, f, golden.z); !s) return s;
  if (Status s = read_values(file, "z_bound", b, f, golden.z_bound); !s) return s;
  if (Status s = read_values(file, "h", b, f, golden.h); !s) return s;
  if (Status s = read_values(file, "h_bound", b, f, golden.h_bound); !s) return s;
  for (const float bound : golden.y_bound) {
    if (!(bound >= 0.0f)) return corrupt_file("tensor y_bound: must have no negative value and no NaN");
  }
  const auto active = tensor_bytes(file, "active", "U8", b, f);
  if (!active) return active.status();
  golden.active.resize(active->size());
  std::memcpy(golden.active.data(), active->data(), active->size());
  return {};
}

}  // namespace

Result<std::vector<fs::path>> write_golden(const fs::path& path, const Golden& golden) try {
  const std::vector<Entry> entries = entries_of(golden);
  if (path.extension() != ".safetensors") return write_folder(path, entries, golden);
  if (Status status = write_entries(path, entries, golden); !status) return status;
  return std::vector{path};
} catch (const std::exception&) {
  return io_error("not enough memory to write golden data");
}

Result<Golden> read_golden(const fs::path& path) try {
  std::error_code error;
  const fs::path file = fs::is_directory(path, error) ? path / kFileOfFolder : path;
  const Result<SafetensorsFile> opened = SafetensorsFile::open(file);
  if (!opened) return opened.status();
  Result<Weights> weights = load_weights(file);
  if (!weights) return weights.status();
  Golden golden{.input = {std::move(*weights), {}, 1}, .source = {}, .version = {}, .y = {}, .y_staged = {}, .z = {},
                .h = {}, .active = {}, .y_bound = {}, .z_bound = {}, .h_bound = {}};
  Status status = read_metadata(*opened, golden);
  if (status) status = read_tensors(*opened, golden);
  if (!status) return Status(status.code(), file.string() + ": " + status.message());
  return golden;
} catch (const std::exception&) {
  return io_error("not enough memory to read golden data");
}

}  // namespace signsplit
