// What the built command says in JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "layer_files.hpp"

namespace signsplit::test {

using Json = nlohmann::ordered_json;
using Words = std::vector<std::string>;

[[nodiscard]] Words keys(const Json& object);

/// Runs `signsplit`, requires this exit status, and returns the JSON that stdout holds, and nothing else.
[[nodiscard]] Json json_of(const ScratchDirectory& scratch, const Words& words, int exit_code = 0);

/// The same of `signsplit run` on the layer and the input of LayerFiles; leaves y.npy.
Json run_json(const LayerFiles& scratch, const Words& more);

}  // namespace signsplit::test
