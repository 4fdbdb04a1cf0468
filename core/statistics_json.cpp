#include <nlohmann/json.hpp>

#include "signsplit/statistics.hpp"

namespace signsplit {

std::string to_json(const Statistics& statistics) {
  nlohmann::ordered_json json;
  for (const Counter& counter : kCounters) json[counter.name] = statistics.*counter.field;
  return json.dump();
}

}  // namespace signsplit
