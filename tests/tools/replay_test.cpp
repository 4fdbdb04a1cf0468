// Committed measurements, predicted again by today's model: a change that loses accuracy is seen.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>

#include "tools/measurements.hpp"
#include "tools/validation_run.hpp"

using namespace signsplit;
using namespace signsplit::tools;

namespace {

const std::filesystem::path kDirectory = SIGNSPLIT_VALIDATION_DIRECTORY;

Json accepted() {
  std::ifstream stream(kDirectory / "accepted.json");
  return Json::parse(stream);
}

}  // namespace

TEST_CASE("no committed measurement is predicted worse than was accepted") {
  const Json files = accepted();
  REQUIRE(files.size() > 0);
  for (const auto& file : files.items()) {
    const std::string name = file.key();
    const Json& limits = file.value();
    CAPTURE(name);
    const auto kept = read_measurements(kDirectory / name);
    REQUIRE_MESSAGE(kept.ok(), kept.message());
    const auto points = replay(*kept, kept->machine);
    const sim::ValidationSummary s = sim::summarise(points, kept->machine);
    CHECK(s.points >= limits["points"].get<int>());
    CHECK(s.mape <= limits["mape"].get<double>());
    CHECK(s.p95_ape <= limits["p95_ape"].get<double>());
    CHECK(s.coverage_90 >= limits["coverage_90"].get<double>());
    CHECK(s.pair_decisions.decision_accuracy >= limits["pair_accuracy"].get<double>());
    CHECK(s.regret_mean <= limits["regret_mean"].get<double>());
  }
}

TEST_CASE("every committed measurement is among the accepted") {
  const Json files = accepted();
  for (const auto& entry : std::filesystem::directory_iterator(kDirectory)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".measured.json")) CHECK_MESSAGE(files.contains(name), name);
  }
}
