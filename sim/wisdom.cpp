#include "wisdom.hpp"

#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <system_error>

#include "signsplit/atomic_file.hpp"
#include "core/strict_json.hpp"

namespace signsplit::sim {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kFormat[] = "signsplit wisdom 1";
constexpr std::uintmax_t kMaxWisdomBytes = std::uintmax_t{16} << 20;

/// Activity in half octaves: 0 is all units active, −2 half of them.
std::string activity_step(double active) {
  return active > 0.0 ? std::to_string(std::lround(2.0 * std::log2(active))) : "none";
}

Result<Json> load(const std::filesystem::path& file) {
  std::error_code error;
  if (!std::filesystem::exists(file, error)) return Json{{"format", kFormat}, {"plans", Json::object()}};
  const std::string name = file.string();
  if (std::filesystem::file_size(file, error) > kMaxWisdomBytes || error) {
    return corrupt_file(name + ": wisdom is a regular file of at most 16 MiB");
  }
  std::ifstream stream(file, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  if (!stream.good() && !stream.eof()) return io_error(name + ": cannot be read");
  const Result<nlohmann::json> parsed = parse_strict_json(text, 5);
  if (!parsed.ok()) return corrupt_file(name + ": wisdom " + parsed.message());
  const bool known = parsed->is_object() && parsed->value("format", nlohmann::json()) == kFormat && parsed->contains("plans") &&
                     (*parsed)["plans"].is_object();
  if (!known) return corrupt_file(name + ": \"format\" must be \"" + kFormat + "\" and \"plans\" an object; delete the file to start anew");
  return Json(*parsed);
}

Status broken(const std::filesystem::path& file, const std::string& key, const std::string& rule) {
  return corrupt_file(file.string() + ": plans[\"" + printable(key) + "\"]: " + rule);
}

}  // namespace

std::string wisdom_key(const PlanRequest& request, const Machine& machine) {
  const Problem& p = request.problem;
  const int threads = request.threads > 0 ? request.threads : std::max(machine.threads, 1);
  std::string key = machine.title.empty() ? machine.name : machine.title;
  key += ", " + std::to_string(machine.units) + " units; " + std::to_string(threads) + " threads, " +
         (request.isa.empty() ? machine.isa : request.isa) + "; " + describe(p) + "; scales " + std::to_string(p.group) + (p.arithmetic == Arithmetic::w8a8 ? ", w8a8" : "") + "; active 2^(" +
         activity_step(request.activity.active) + "/2), " + (request.residency == Residency::cold ? "cold" : "warm");
  if (machine.kind == "gpu") key += ", " + std::string(to_string(request.launch_mode));
  return key;
}

Result<std::optional<WisdomEntry>> find_wisdom(const std::filesystem::path& file, const std::string& key, const Problem& problem) {
  const Result<Json> wisdom = load(file);
  if (!wisdom.ok()) return wisdom.status();
  const auto entry = (*wisdom)["plans"].find(key);
  if (entry == (*wisdom)["plans"].end()) return std::optional<WisdomEntry>();
  const bool complete = entry->is_object() && entry->contains("plan") && entry->contains("time_s") && (*entry)["time_s"].is_number();
  if (!complete) return broken(file, key, "needs \"plan\" and a number \"time_s\"");
  const Result<Plan> plan = plan_from_json((*entry)["plan"].dump());
  if (!plan.ok()) return broken(file, key, plan.message());
  if (const Status status = validate(*plan, problem); !status.ok()) return broken(file, key, status.message());
  WisdomEntry known{*plan, (*entry)["time_s"].get<double>(), false, 0.0};
  if (!entry->contains("gemm")) return std::optional<WisdomEntry>(known);
  const bool timed = (*entry)["gemm"].is_boolean() && entry->contains("gemm_s") && (*entry)["gemm_s"].is_number();
  if (!timed) return broken(file, key, "\"gemm\" must be true or false, beside a number \"gemm_s\"");
  known.gemm = (*entry)["gemm"].get<bool>();
  known.gemm_s = (*entry)["gemm_s"].get<double>();
  return std::optional<WisdomEntry>(known);
}

Status remember(const std::filesystem::path& file, const std::string& key, const WisdomEntry& entry) {
  Result<Json> wisdom = load(file);
  if (!wisdom.ok()) return wisdom.status();
  std::error_code error;
  if (file.has_parent_path()) std::filesystem::create_directories(file.parent_path(), error);
  Json& place = (*wisdom)["plans"][key] = Json{{"plan", Json::parse(to_json(entry.plan))}, {"time_s", entry.time_s}};
  if (entry.gemm_s > 0.0) place.update({{"gemm", entry.gemm}, {"gemm_s", entry.gemm_s}});
  return write_file(file, wisdom->dump(2) + "\n");
}

}  // namespace signsplit::sim
