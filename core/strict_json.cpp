#include "strict_json.hpp"

#include <new>
#include <set>
#include <string>
#include <vector>

namespace signsplit {
namespace {

using nlohmann::json;

/// Thrown out of the parser's callback, its only way to stop; caught in parse_strict_json.
struct Refused {
  std::string reason;
};

Status not_json(std::size_t byte) { return corrupt_file("is not JSON (at byte " + std::to_string(byte) + ")"); }

/// Watches the parser's events.
class Rules {
 public:
  explicit Rules(int max_depth) : max_depth_(max_depth) {}

  bool operator()(int depth, json::parse_event_t event, const json& parsed) {
    switch (event) {
      case json::parse_event_t::object_start: names_.emplace_back(); [[fallthrough]];
      case json::parse_event_t::array_start:
        if (depth >= max_depth_) throw Refused{"is nested more than " + std::to_string(max_depth_) + " levels deep"};
        break;
      case json::parse_event_t::object_end: names_.pop_back(); break;
      case json::parse_event_t::key: {
        const std::string& name = parsed.get_ref<const std::string&>();
        if (!names_.back().insert(name).second) throw Refused{"has the name \"" + printable(name) + "\" twice"};
        break;
      }
      default: break;
    }
    return true;
  }

 private:
  int max_depth_;
  std::vector<std::set<std::string>> names_;  // of the open objects, outermost first
};

}  // namespace

Result<json> parse_strict_json(std::string_view text, int max_depth) try {
  // The parser takes a NUL for the end of its input, and would not look at what follows.
  if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos) return not_json(nul + 1);
  Rules rules(max_depth);
  return json::parse(text.begin(), text.end(),
                     [&rules](int depth, json::parse_event_t event, json& parsed) { return rules(depth, event, parsed); });
} catch (const Refused& refused) {
  return corrupt_file(refused.reason);
} catch (const json::parse_error& error) {
  return not_json(error.byte);
} catch (const json::exception&) {
  return corrupt_file("is not JSON that can be represented");
} catch (const std::bad_alloc&) {
  return io_error("needs more memory than there is");
}

std::string printable(std::string_view text) {
  constexpr std::size_t kLongest = 80;
  std::string out(text.substr(0, kLongest));
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return text.size() > kLongest ? out + "..." : out;
}

}  // namespace signsplit
