// Profiles: units, parsing, refusals, round trips, finding.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

#include "lookup.hpp"
#include "sample_machine.hpp"
#include "signsplit/sim/machine.hpp"

using namespace signsplit;
using namespace signsplit::sim;

namespace {

/// A profile's text with one passage replaced. The passage must be there.
std::string changed(const std::string& from, const std::string& to) {
  std::string text = to_json(test::sample_machine());
  const std::size_t at = text.find(from);
  REQUIRE_MESSAGE(at != std::string::npos, from);
  return text.replace(at, from.size(), to);
}

void check_refused(const std::string& text, const std::string& path, const std::string& rule) {
  const auto machine = parse_machine(text, "m.json");
  REQUIRE_FALSE(machine.ok());
  INFO(machine.message());
  CHECK(machine.status().code() == StatusCode::corrupt_file);
  CHECK(machine.message().find("m.json: ") == 0);
  CHECK(machine.message().find(path) != std::string::npos);
  CHECK(machine.message().find(rule) != std::string::npos);
  CHECK(machine.message().find('\n') == std::string::npos);
}

/// Sets an environment variable for a scope.
class Environment {
 public:
  Environment(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old, had_ = true;
    value != nullptr ? setenv(name, value, 1) : unsetenv(name);
  }
  ~Environment() { had_ ? setenv(name_, old_.c_str(), 1) : unsetenv(name_); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  const char* name_;
  std::string old_;
  bool had_ = false;
};

}  // namespace

TEST_CASE("every prefix on every unit") {
  const std::pair<const char*, double> prefixes[] = {
      {"", 1},   {"n", 1e-9}, {"u", 1e-6}, {"\xC2\xB5", 1e-6}, {"\xCE\xBC", 1e-6}, {"m", 1e-3},       {"k", 1e3},
      {"M", 1e6}, {"G", 1e9},  {"T", 1e12}, {"Ki", 1024.0},     {"Mi", 1048576.0}, {"Gi", 1073741824.0}, {"Ti", 1099511627776.0}};
  for (const char* base : {"s", "Hz", "B", "B/s", "FLOP/s", "elem/s"}) {
    for (const auto& [prefix, factor] : prefixes) {
      const auto value = to_si(1.0, std::string(prefix) + base);
      REQUIRE(value.ok());
      CHECK(*value == factor);
    }
  }
  CHECK(*to_si(3.0, "1") == 3.0);
  CHECK(*to_si(300.0, "ns") == 3e-7);
  for (const char* wrong : {"", "b", "Kb", "KB", "ks/s", "GB/S", "P B", "pB", "k1", "Mi", "GBs", " s", "s "}) {
    const auto value = to_si(1.0, wrong);
    CHECK_MESSAGE(!value.ok(), wrong);
    CHECK(value.message().find('"' + std::string(wrong) + '"') != std::string::npos);
  }
}

TEST_CASE("a profile survives JSON and back, number for number") {
  Machine machine = test::sample_machine();
  machine.date = "2026-01-02";
  machine.noise_cv = 0.1 + 0.2;
  machine.read_bandwidth[0].bytes_per_s = 1e11 / 3.0;
  machine.clock_hz.ci90 = 1e8 / 7.0;
  const auto again = parse_machine(to_json(machine), "m.json");
  REQUIRE_MESSAGE(again.ok(), again.message());
  CHECK(*again == machine);
  CHECK(to_json(*again) == to_json(machine));
  Machine other = machine;
  other.rates[3].per_s.value *= 1.0000001;
  CHECK_FALSE(*again == other);
}

TEST_CASE("built-in profiles parse, have their file's name, and round-trip") {
  CHECK(machine_names().size() == 12);
  for (const std::string& name : machine_names()) {
    CAPTURE(name);
    const auto machine = find_machine(name);
    REQUIRE_MESSAGE(machine.ok(), machine.message());
    CHECK(machine->name == name);
    CHECK(machine->threads <= machine->units);
    CHECK(kernel_rate(*machine, machine->isa, "up_bf16").has_value());
    const auto again = parse_machine(to_json(*machine), name);
    REQUIRE_MESSAGE(again.ok(), again.message());
    CHECK(*again == *machine);
  }
}

TEST_CASE("written units are converted") {
  const auto machine = find_machine("epyc-zen5-vm");
  REQUIRE(machine.ok());
  CHECK(machine->levels[1].capacity_bytes.value == 1048576.0);
  CHECK(machine->levels[1].capacity_bytes.unit == "B");
  CHECK(machine->read_bandwidth.back().bytes_per_s == 45e9);
  CHECK(machine->barrier_s.back().seconds.value == 0.4 / 1e6);
}

TEST_CASE("hostile profiles are refused by file, field and rule") {
  check_refused("", "not JSON", "at byte");
  check_refused("{", "not JSON", "at byte");
  check_refused("[]", "the profile", "object");
  check_refused("{}", "meta", "missing");
  check_refused(std::string(100000, '['), "not JSON", "at byte");
  check_refused(R"({"meta":{},"meta":{}})", "meta", "twice");
  check_refused(changed("\"value\": 2,", "\"value\": 0,"), "units.value", "positive");
  check_refused(changed("\"value\": 2,", "\"value\": -2,"), "units.value", "positive");
  check_refused(changed("\"value\": 2,", "\"value\": 1.5,"), "units.value", "whole number");
  check_refused(changed("\"value\": 2,", "\"value\": 99999999999999999999,"), "units.value", "between 1");
  check_refused(changed("\"units\": {", "\"units\": 2, \"unitz\": {"), "unitz", "not a field");
  check_refused(changed("\"threads\": {", "\"noise\": {"), "noise", "twice");
  check_refused(changed("\"units\": {", "\"units\": 2, \"dram\": {"), "units", "must be an object");
  check_refused(changed("\"isa\": \"avx2\"", "\"isa\": \"sse9\""), "isa", "scalar, avx2, avx512");
  check_refused(changed("\"isa\": \"avx2\"", "\"isa\": \"gpu\""), "isa", "gpu for a GPU");
  check_refused(changed("\"value\": 1000000000.0", "\"value\": -1"), "clock.value", "positive");
  check_refused(changed("\"value\": 1000000000.0", "\"value\": 1e999"), "JSON", "");
  check_refused(changed("\"value\": 1000000000.0", "\"value\": \"fast\""), "clock.value", "number");
  check_refused(changed("\"value\": 1000000000.0,", ""), "clock.value", "missing");
  check_refused(changed("\"unit\": \"Hz\"", "\"unit\": \"s\""), "clock.unit", "unit of Hz");
  check_refused(changed("\"unit\": \"Hz\"", "\"unit\": \"hz\""), "clock.unit", "unknown unit");
  check_refused(changed("\"kind\": \"measured\"", "\"kind\": \"guessed\""), "clock.kind", "measured, fitted");
  check_refused(changed("\"source\": \"by hand\"", "\"source\": \"\""), "clock.source", "must name");
  check_refused(changed("\"kind\": \"cpu\"", "\"kind\": \"tpu\""), "meta.kind", "cpu or gpu");
  check_refused(changed("\"capacity\": {", "\"capacity\": 7, \"size\": {"), "levels[0].size", "not a field");
  check_refused(changed("\"working_set\": 1000000.0", "\"working_set\": 1000.0"), "read_bandwidth.points[1]", "sorted");
  check_refused(changed("\"working_set\": 1000000.0", "\"working_set\": 0"), "points[1].working_set", "positive");
  check_refused(changed("\"name\": \"up_f32\"", "\"name\": \"up_f64\""), "rates[1].name", "not a rate");
  check_refused(changed("\"name\": \"up_f32\"", "\"name\": \"up_bf16\""), "rates[2]", "repeats");
  check_refused(changed("\"overlap_loss\"", "\"overlap_gain\""), "model.overlap_gain", "not a correction");
  check_refused(changed("\"value\": 0.01", "\"value\": -0.01"), "noise.cv.value", "negative");
  check_refused(changed("\"value\": 0.01", "\"value\": null"), "noise.cv.value", "number");
  check_refused(changed("\"value\": 0.01", "\"value\": 11"), "noise.cv.value", "at most 10");
}

TEST_CASE("every field that is left out is noticed") {
  // Cutting the text anywhere must never be accepted, nor crash.
  const std::string text = to_json(test::sample_machine());
  for (std::size_t length = 0; length + 2 < text.size(); length += 7) CHECK_FALSE(parse_machine(text.substr(0, length), "m").ok());
}

TEST_CASE("profiles are found by name, by file, and as the host's") {
  const auto unknown = find_machine("cray-1");
  CHECK(unknown.status().code() == StatusCode::not_found);
  CHECK(unknown.message().find("epyc-zen5-vm") != std::string::npos);
  CHECK(find_machine("nowhere/at/all.json").status().code() == StatusCode::not_found);

  const auto folder = std::filesystem::temp_directory_path() / ("signsplit-machine-" + std::to_string(std::rand()));
  std::filesystem::create_directories(folder / "signsplit");
  CHECK(find_machine(folder.string()).status().code() == StatusCode::io_error);
  const auto file = folder / "signsplit" / "host.json";
  {
    const Environment no_profile("SIGNSPLIT_HOST_PROFILE", nullptr), cache("XDG_CACHE_HOME", folder.c_str());
    CHECK(host_profile_path() == file);
    const auto detected = find_machine("host");
    REQUIRE(detected.ok());
    CHECK(detected->name == "host");
    std::ofstream(file) << to_json(test::sample_machine());
    CHECK(find_machine("host")->name == "sample");
    CHECK(find_machine(file.string())->name == "sample");
    std::ofstream(file) << "{";
    CHECK(find_machine("host").status().code() == StatusCode::corrupt_file);
  }
  {
    const Environment profile("SIGNSPLIT_HOST_PROFILE", "/elsewhere/p.json");
    CHECK(host_profile_path() == "/elsewhere/p.json");
  }
  {
    const Environment no_profile("SIGNSPLIT_HOST_PROFILE", nullptr), no_cache("XDG_CACHE_HOME", nullptr), home("HOME", "/home/u");
    CHECK(host_profile_path() == "/home/u/.cache/signsplit/host.json");
  }
  std::filesystem::remove_all(folder);
}

TEST_CASE("the detected host is a whole profile with nothing measured") {
  const Machine host = detect_host();
  const auto again = parse_machine(to_json(host), "host.json");
  REQUIRE_MESSAGE(again.ok(), again.message());
  CHECK(*again == host);
  CHECK(host.units >= 1);
  CHECK(host.read_bandwidth_kind == Kind::assumed);
  for (const Rate& rate : host.rates) CHECK(rate.per_s.kind == Kind::assumed);
}

TEST_CASE("bandwidth between points and beyond them") {
  const Machine m = test::sample_machine();
  CHECK(bandwidth(m, 1, 1.0) == 100e9);
  CHECK(bandwidth(m, 1, 1e6) == 100e9);
  CHECK(bandwidth(m, 1, 1e7) == doctest::Approx(std::sqrt(100e9 * 10e9)).epsilon(1e-12));  // half way in the logarithms
  CHECK(bandwidth(m, 1, 1e12) == 10e9);
  CHECK(bandwidth(m, 2, 1e12) == 20e9);
  CHECK(bandwidth(m, 7, 1e12) == 20e9);
  CHECK(dram_bandwidth(m, 1) == 10e9);
  Machine wide = m;
  for (std::size_t i = 3; i < 6; ++i) wide.read_bandwidth[i].threads = 5;
  CHECK(bandwidth(wide, 3, 1e12) == 15e9);  // half way between 1 and 5 threads
}

TEST_CASE("a published curve of cores, as written there, is read and looked up between its points") {
  // Reads from memory by 1 to 10 cores of one NUMA domain of a Cascade Lake 6248: Kerncraft, CascadelakeSP_Gold-6248_SNC.
  const double measured[] = {14.62, 28.71, 41.52, 50.35, 56.02, 58.58, 59.30, 59.17, 58.96, 58.71};
  std::string points;
  for (int cores = 1; cores <= 10; ++cores) {
    points += (cores > 1 ? ", " : "") + std::string("{\"threads\": ") + std::to_string(cores) + ", \"working_set\": 210, \"value\": " +
              std::to_string(measured[cores - 1]) + "}";
  }
  std::string text = to_json(test::sample_machine());
  const std::size_t begin = text.find("\"read_bandwidth\""), end = text.find("\"barrier\"");
  REQUIRE(begin < end);
  text.replace(begin, end - begin,
               "\"read_bandwidth\": {\"unit\": \"GB/s\", \"working_set_unit\": \"MB\", \"kind\": \"measured\", \"source\": \"Kerncraft\", \"points\": [" +
                   points + "]}, ");
  const auto machine = parse_machine(text, "cascadelake.json");
  REQUIRE_MESSAGE(machine.ok(), machine.message());
  for (int cores = 1; cores <= 10; ++cores) CHECK(dram_bandwidth(*machine, cores) == measured[cores - 1] * 1e9);
  CHECK(machine->read_bandwidth[4].working_set_bytes == 210e6);
  CHECK(dram_bandwidth(*machine, 20) == 58.71e9);
}

TEST_CASE("thread costs between entries") {
  const auto entry = [](int threads, double s) { return ThreadCost{threads, {s, "s", Kind::measured, "by hand", 0}}; };
  CHECK(thread_cost({}, 4) == 0.0);
  CHECK(thread_cost({entry(2, 3.0)}, 16) == 3.0);
  const std::vector<ThreadCost> costs{entry(1, 1.0), entry(4, 3.0)};
  CHECK(thread_cost(costs, 1) == 1.0);
  CHECK(thread_cost(costs, 2) == 2.0);
  CHECK(thread_cost(costs, 16) == 5.0);
}
