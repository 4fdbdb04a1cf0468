#include "command_json.hpp"

#include <doctest/doctest.h>

#include "command_runner.hpp"

namespace signsplit::test {

Words keys(const Json& object) {
  Words names;
  for (const auto& item : object.items()) names.push_back(item.key());
  return names;
}

Json json_of(const ScratchDirectory& scratch, const Words& words, int exit_code) {
  const CommandResult result = run_signsplit(scratch.path(), words);
  REQUIRE_MESSAGE(result.exit_code == exit_code, result.err);
  return Json::parse(result.out);
}

Json run_json(const LayerFiles& scratch, const Words& more) {
  Words words{"run", "--weights", "layer.safetensors", "--input", "x.npy", "--output", "y.npy", "--json", "-"};
  words.insert(words.end(), more.begin(), more.end());
  return json_of(scratch, words);
}

}  // namespace signsplit::test
