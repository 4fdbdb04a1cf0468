// hardware/schema/profile.schema.json against the parser: what is built in passes both, what one refuses the other refuses too.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>

#include "figure_fields.hpp"
#include "sample_machine.hpp"
#include "signsplit/sim/machine.hpp"

using namespace signsplit;
using namespace signsplit::sim;

namespace {

using Json = nlohmann::json;

Json read_json(const std::string& file) {
  std::ifstream stream(std::string(SIGNSPLIT_SOURCE_DIR) + "/hardware/" + file);
  REQUIRE_MESSAGE(stream.good(), file);
  return Json::parse(stream);
}

bool has_type(const Json& value, const std::string& type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "integer") return value.is_number_integer();
  REQUIRE(type == "number");
  return value.is_number();
}

/// The keywords that the schema uses, and no others: an unknown one ends the test.
bool conforms(const Json& value, const Json& schema, const Json& root) {
  for (const auto& item : schema.items()) {
    const std::string& key = item.key();
    const Json& rule = item.value();
    if (key == "$ref") {
      if (!conforms(value, root.at(Json::json_pointer(rule.get<std::string>().substr(1))), root)) return false;
    } else if (key == "type") {
      if (!has_type(value, rule.get<std::string>())) return false;
    } else if (key == "enum") {
      if (std::find(rule.begin(), rule.end(), value) == rule.end()) return false;
    } else if (key == "required") {
      for (const Json& name : rule) {
        if (!value.contains(name.get<std::string>())) return false;
      }
    } else if (key == "properties") {
      for (const auto& [name, inner] : rule.items()) {
        if (value.is_object() && value.contains(name) && !conforms(value.at(name), inner, root)) return false;
      }
    } else if (key == "additionalProperties") {
      for (const auto& [name, inner] : value.items()) {
        if (schema.contains("properties") && schema.at("properties").contains(name)) continue;
        if (rule == false || !conforms(inner, rule, root)) return false;
      }
    } else if (key == "items") {
      for (const Json& inner : value) {
        if (!conforms(inner, rule, root)) return false;
      }
    } else if (key == "minItems") {
      if (value.size() < rule.get<std::size_t>()) return false;
    } else if (key == "minLength") {
      if (value.get<std::string>().size() < rule.get<std::size_t>()) return false;
    } else if (key == "minimum" || key == "exclusiveMinimum" || key == "maximum") {
      const double x = value.get<double>(), limit = rule.get<double>();
      if (key == "maximum" ? x > limit : key == "minimum" ? x < limit : x <= limit) return false;
    } else if (key == "multipleOf") {
      if (std::fmod(value.get<double>(), rule.get<double>()) != 0.0) return false;
    } else if (key == "pattern") {
      if (!std::regex_search(value.get<std::string>(), std::regex(rule.get<std::string>()))) return false;
    } else {
      const bool says_nothing = key == "$schema" || key == "title" || key == "description" || key == "$defs";
      REQUIRE_MESSAGE(says_nothing, key);
    }
  }
  return true;
}

}  // namespace

TEST_CASE("every built-in profile, as written and as printed, conforms to the schema") {
  const Json schema = read_json("schema/profile.schema.json");
  for (const std::string& name : machine_names()) {
    CAPTURE(name);
    CHECK(conforms(read_json(name + ".json"), schema, schema));
    CHECK(conforms(Json::parse(to_json(*find_machine(name))), schema, schema));
  }
  CHECK(conforms(Json::parse(to_json(test::sample_machine())), schema, schema));
}

TEST_CASE("the schema and the parser refuse the same") {
  const Json schema = read_json("schema/profile.schema.json");
  const Json good = read_json("h200.json");
  const std::pair<const char*, Json> changes[] = {
      {"/units/value", 1.5},          {"/units/value", 0},          {"/units/unit", "B"},
      {"/units", 132},                {"/clock/unit", "Ghz"},       {"/clock/value", -1},
      {"/meta/kind", "tpu"},          {"/meta/name", ""},           {"/isa", "sse9"},
      {"/levels/0/line_bytes", 128},  {"/levels/1/latency/unit", "B"}, {"/levels/0/policy", "fifo"},
      {"/dram/latency/kind", "felt"}, {"/dram/latency/source", ""}, {"/dram/speed", 7},
      {"/overheads/launch_graph/value", -1e-6}, {"/read_bandwidth/points", Json::array()},
      {"/read_bandwidth/points/0/value", 0},    {"/rates/0/unit", "s"}, {"/noise/cv", 0.1}, {"/extra", 1}};
  for (const auto& change : changes) {
    CAPTURE(change.first);
    Json bad = good;
    bad[Json::json_pointer(change.first)] = change.second;
    CHECK_FALSE(conforms(bad, schema, schema));
    CHECK_FALSE(parse_machine(bad.dump(), "bad.json").ok());
  }
  for (const char* section : {"/meta", "/units", "/threads", "/isa", "/clock", "/levels", "/read_bandwidth", "/rates", "/noise"}) {
    CAPTURE(section);
    Json bad = good;
    bad.erase(std::string(section).substr(1));
    CHECK_FALSE(conforms(bad, schema, schema));
    CHECK_FALSE(parse_machine(bad.dump(), "bad.json").ok());
  }
}

TEST_CASE("the schema knows every figure, and no other") {
  const Json properties = read_json("schema/profile.schema.json").at("properties");
  std::size_t listed = 0;
  for (const std::string_view section : kFigureSections) listed += properties.at(std::string(section)).at("properties").size();
  CHECK(listed == std::size(kFigureFields));
  for (const FigureField& field : kFigureFields) {
    CHECK(properties.at(std::string(field.section)).at("properties").contains(std::string(field.name)));
  }
}

TEST_CASE("a GPU needs its figures, and has no barrier of threads") {
  const Json good = read_json("h200.json");
  REQUIRE(parse_machine(good.dump(), "h200.json").ok());
  for (const FigureField& field : kFigureFields) {
    Json bad = good;
    if (!bad.at(std::string(field.section)).contains(std::string(field.name))) continue;
    bad[std::string(field.section)].erase(std::string(field.name));
    const auto machine = parse_machine(bad.dump(), "m.json");
    CAPTURE(field.name);
    CHECK(machine.ok() != field.gpu_needs);
    if (!machine.ok()) CHECK(machine.message().find(field.name) != std::string::npos);
  }
  Json bad = good;
  bad["barrier"] = Json::parse(to_json(test::sample_machine())).at("barrier");
  CHECK(parse_machine(bad.dump(), "m.json").message().find("m.json: barrier is for CPUs") == 0);
}
