#include "npy_header.hpp"

#include <charconv>

#include "strict_json.hpp"

namespace signsplit {
namespace {

constexpr std::size_t kMaxDimensions = 32;  // numpy's own limit

/// Reads the literal from left to right; every function answers whether it found what it looks for.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : rest_(text) {}

  bool character(char c) {
    skip_spaces();
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }

  bool word(std::string_view expected) {
    skip_spaces();
    if (!rest_.starts_with(expected)) return false;
    rest_.remove_prefix(expected.size());
    return true;
  }

  /// A string without escapes, in single or double quotes.
  bool string(std::string& value) {
    skip_spaces();
    if (rest_.empty() || (rest_.front() != '\'' && rest_.front() != '"')) return false;
    const std::size_t close = rest_.find(rest_.front(), 1);
    if (close == std::string_view::npos) return false;
    value = rest_.substr(1, close - 1);
    rest_.remove_prefix(close + 1);
    return value.find('\\') == std::string::npos;
  }

  bool extent(index_t& value) {
    skip_spaces();
    const char* const end = rest_.data() + rest_.size();
    const auto [stopped, error] = std::from_chars(rest_.data(), end, value);
    if (error != std::errc{} || value < 0) return false;
    rest_.remove_prefix(static_cast<std::size_t>(stopped - rest_.data()));
    return true;
  }

  bool at_end() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\n')) rest_.remove_prefix(1);
    return rest_.empty();
  }

 private:
  void skip_spaces() {
    while (!rest_.empty() && rest_.front() == ' ') rest_.remove_prefix(1);
  }

  std::string_view rest_;
};

/// (), (n,), (n, m), ...: a tuple of one needs its comma.
bool read_tuple(Scanner& scanner, std::vector<index_t>& shape) {
  if (!scanner.character('(')) return false;
  bool comma = true;
  while (!scanner.character(')')) {
    index_t extent = 0;
    if (!comma || shape.size() == kMaxDimensions || !scanner.extent(extent)) return false;
    shape.push_back(extent);
    comma = scanner.character(',');
  }
  return shape.size() != 1 || comma;
}

/// The value of one key; `seen` counts how often each of the three keys has come.
Status read_value(Scanner& scanner, const std::string& key, NpyHeader& header, int (&seen)[3]) {
  if (key == "descr") {
    ++seen[0];
    if (!scanner.string(header.dtype)) return unsupported("header: 'descr' must be a simple dtype");
  } else if (key == "fortran_order") {
    ++seen[1];
    header.fortran_order = scanner.word("True");
    if (!header.fortran_order && !scanner.word("False"))
      return corrupt_file("header: 'fortran_order' must be True or False");
  } else if (key == "shape") {
    ++seen[2];
    if (!read_tuple(scanner, header.shape)) {
      return corrupt_file("header: 'shape' must be a tuple of integers in [0, 2^63)");
    }
  } else {
    return corrupt_file("header: unknown key '" + printable(key) + "'");
  }
  return {};
}

}  // namespace

Result<NpyHeader> parse_npy_header(std::string_view text) {
  const Status broken = corrupt_file("header must be a dictionary of 'descr', 'fortran_order' and 'shape', each once");
  Scanner scanner(text);
  NpyHeader header;
  int seen[3] = {};
  if (!scanner.character('{')) return broken;
  bool comma = true;
  while (!scanner.character('}')) {
    std::string key;
    if (!comma || !scanner.string(key) || !scanner.character(':')) return broken;
    if (Status status = read_value(scanner, key, header, seen); !status) return status;
    comma = scanner.character(',');
  }
  if (seen[0] != 1 || seen[1] != 1 || seen[2] != 1 || !scanner.at_end()) return broken;
  return header;
}

}  // namespace signsplit
