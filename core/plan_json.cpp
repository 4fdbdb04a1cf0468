#include <nlohmann/json.hpp>

#include "signsplit/plan.hpp"
#include "strict_json.hpp"

namespace signsplit {
namespace {

using nlohmann::json;

Status broken(const std::string& key, const char* rule) {
  return invalid_argument("plan JSON: \"" + key + "\" must be " + rule);
}

Status read(const std::string& key, const json& value, bool& field) {
  if (!value.is_boolean()) return broken(key, "true or false");
  field = value.get<bool>();
  return {};
}

Status read(const std::string& key, const json& value, index_t& field) {
  const bool too_large = value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t{INT64_MAX};
  if (!value.is_number_integer() || too_large) return broken(key, "an integer of at most 64 bits");
  field = value.get<index_t>();
  return {};
}

template <class Enum>
Status read(const std::string& key, const json& value, Enum& field,
            std::optional<Enum> (*parse)(std::string_view) noexcept) {
  if (!value.is_string()) return broken(key, "a string");
  const std::string& name = value.get_ref<const std::string&>();
  const std::optional<Enum> parsed = parse(name);
  if (!parsed) return invalid_argument("plan JSON: unknown " + key + " \"" + printable(name) + "\"");
  field = *parsed;
  return {};
}

Status read_field(const std::string& key, const json& value, Plan& plan) {
  if (key == "strategy") return read(key, value, plan.strategy, &parse_strategy);
  if (key == "variant") return read(key, value, plan.variant, &parse_variant);
  if (key == "repair") return read(key, value, plan.repair, &parse_repair);
  if (key == "skip") return read(key, value, plan.skip);
  if (key == "launch") return read(key, value, plan.launch, &parse_launch);
  if (key == "accumulators") return read(key, value, plan.accumulators);
  if (key == "parts") return read(key, value, plan.parts);
  if (key == "hidden_tile") return read(key, value, plan.hidden_tile);
  if (key == "k_tile") return read(key, value, plan.k_tile);
  if (key == "reduce_tile") return read(key, value, plan.reduce_tile);
  if (key == "plane_bits") return read(key, value, plan.plane_bits);
  if (key == "plane_group") return read(key, value, plan.plane_group);
  if (key == "placement") return read(key, value, plan.placement, &parse_placement);
  return invalid_argument("plan JSON: unknown key \"" + printable(key) + "\"");
}

}  // namespace

std::string to_json(const Plan& plan) {
  return nlohmann::ordered_json{{"strategy", to_string(plan.strategy)},
                                {"variant", to_string(plan.variant)},
                                {"repair", to_string(plan.repair)},
                                {"skip", plan.skip},
                                {"launch", to_string(plan.launch)},
                                {"accumulators", plan.accumulators},
                                {"parts", plan.parts},
                                {"hidden_tile", plan.hidden_tile},
                                {"k_tile", plan.k_tile},
                                {"reduce_tile", plan.reduce_tile},
                                {"plane_bits", plan.plane_bits},
                                {"plane_group", plan.plane_group},
                                {"placement", to_string(plan.placement)}}
      .dump();
}

Result<Plan> plan_from_json(std::string_view text) {
  const Result<json> parsed = parse_strict_json(text, 4);
  if (!parsed) return invalid_argument("plan JSON: text " + parsed.message());
  if (!parsed->is_object()) return invalid_argument("plan JSON: text must be an object");
  Plan plan;
  for (const auto& [key, value] : parsed->items()) {
    if (Status status = read_field(key, value, plan); !status) return status;
  }
  return plan;
}

}  // namespace signsplit
