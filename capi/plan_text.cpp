#include "plan_text.hpp"

#include <vector>

namespace signsplit::capi {
namespace {

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> words;
  for (std::size_t begin = 0;;) {
    const std::size_t end = text.find(separator, begin);
    words.push_back(text.substr(begin, end - begin));
    if (end == std::string_view::npos) return words;
    begin = end + 1;
  }
}

Status unknown(std::string_view text) {
  return invalid_argument("unknown plan \"" + std::string(text) +
                          "\": expected unfused, row_fused, certified or sign_split[/VARIANT[/REPAIR]], each with or without "
                          "+skip, or the JSON of a plan");
}

}  // namespace

Result<Plan> parse_plan(const char* text, const Problem& problem) {
  if (text == nullptr) return default_plan(problem, Strategy::row_fused);
  const std::string_view whole(text);
  if (const std::size_t first = whole.find_first_not_of(" \t\r\n"); first != whole.npos && whole[first] == '{') {
    return plan_from_json(whole);
  }
  constexpr std::string_view kSkip = "+skip";
  const bool skip = whole.ends_with(kSkip);
  const auto words = split(skip ? whole.substr(0, whole.size() - kSkip.size()) : whole, '/');
  const std::optional<Strategy> strategy = parse_strategy(words[0]);
  if (!strategy) return unknown(whole);
  if (words.size() == 1) return default_plan(problem, *strategy, skip);
  const std::optional<Variant> variant = parse_variant(words[1]);
  if (*strategy != Strategy::sign_split || !variant || words.size() > 3) return unknown(whole);
  const bool repairs_itself = *variant == Variant::telescoping || *variant == Variant::ignore;
  std::optional<Repair> repair = repairs_itself ? Repair::none : Repair::selective;
  if (words.size() == 3) repair = parse_repair(words[2]);
  if (!repair) return unknown(whole);
  return default_sign_split_plan(problem, *variant, *repair, skip);
}

}  // namespace signsplit::capi
