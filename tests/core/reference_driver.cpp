// The library's side of scripts/compare_reference.py, which computes the same by other means and compares bits.
//   reference_driver dots IN         IN: little-endian; per case a u32 n, then n pairs of f32 and one f32 to add.
//                                    Prints per case the bits of the exact sum as f32 and as f64, in hex.
//   reference_driver golden DIR SEED writes small golden files of all sets and activations into DIR, and prints their names
#include <bit>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "signsplit/exact_sum.hpp"
#include "signsplit/golden.hpp"

using namespace signsplit;

namespace {

int fail(const std::string& message) {
  std::fprintf(stderr, "reference_driver: %s\n", message.c_str());
  return 2;
}

int dots(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  const std::vector<char> content{std::istreambuf_iterator<char>(stream), {}};
  if (content.size() % 4 != 0 || content.empty()) return fail(file + ": not made of 32-bit words");
  std::vector<std::uint32_t> words(content.size() / 4);
  std::memcpy(words.data(), content.data(), content.size());
  for (std::size_t at = 0; at < words.size();) {
    const std::size_t n = words[at++];
    if (2 * n + 1 > words.size() - at) return fail(file + ": ends inside a case");
    const auto value = [&] { return std::bit_cast<float>(words[at++]); };
    ExactSum sum;
    for (std::size_t i = 0; i < n; ++i) {
      const float a = value(), b = value();
      sum.add_product(a, b);
    }
    sum.add(static_cast<double>(value()));
    std::printf("%08x %016llx\n", std::bit_cast<std::uint32_t>(sum.to_float()),
                std::bit_cast<unsigned long long>(sum.to_double()));
  }
  return 0;
}

int golden(const std::filesystem::path& folder, std::uint64_t seed) {
  const std::pair<Activation, bool> kinds[] = {{{ActivationKind::relu}, false},     {{ActivationKind::relu}, true},
                                               {{ActivationKind::relu2}, false},    {{ActivationKind::relu2}, true},
                                               {{ActivationKind::fatrelu, 0.25f}, false},
                                               {{ActivationKind::drelu}, true},     {{ActivationKind::identity}, false}};
  for (const auto& [activation, gated] : kinds) {
    for (const DataSet set : {DataSet::random, DataSet::exact, DataSet::cancellation, DataSet::outliers, DataSet::scales,
                              DataSet::subnormals}) {
      for (const DType dtype : {DType::f32, DType::bf16}) {
        const Problem problem{.d_model = 21, .d_ff = 34, .batch = 2, .dtype = dtype, .activation = activation, .gated = gated};
        auto input = golden_input(problem, set, activation.kind == ActivationKind::identity ? 1.0 : 0.5, seed++);
        if (!input) return fail(input.message());
        const auto made = make_golden(std::move(*input), {set, seed - 1}, Accumulation::f32);
        if (!made) return fail(made.message());
        const std::string name = std::to_string(seed - 1) + ".safetensors";
        const auto written = write_golden(folder / name, *made);
        if (!written) return fail(written.message());
        std::printf("%s\n", name.c_str());
      }
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() == 2 && words[0] == "dots") return dots(words[1]);
  if (words.size() == 3 && words[0] == "golden") {
    std::uint64_t seed = 0;
    const auto [end, error] = std::from_chars(words[2].data(), words[2].data() + words[2].size(), seed);
    if (error == std::errc{} && end == words[2].data() + words[2].size()) return golden(words[1], seed);
  }
  return fail("usage: reference_driver dots FILE | golden DIRECTORY SEED");
}
