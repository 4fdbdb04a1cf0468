// Finding profiles: built in, in files, and the host's own.
#include "signsplit/sim/machine.hpp"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <new>
#include <system_error>

#include "builtin_profiles.hpp"

namespace signsplit::sim {
namespace {

constexpr std::uintmax_t kMaxProfileBytes = std::uintmax_t{4} << 20;

std::string known_names() {
  std::string names;
  for (const BuiltinProfile& profile : builtin_profiles()) names.append(profile.name).append(", ");
  return names + "host, or the path of a .json file";
}

std::filesystem::path environment_path(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr ? std::filesystem::path(value) : std::filesystem::path();
}

Result<Machine> find_host() {
  const std::filesystem::path file = host_profile_path();
  std::error_code error;
  if (file.empty() || !std::filesystem::exists(file, error)) return detect_host();
  return load_machine(file);
}

}  // namespace

std::string_view to_string(Kind kind) noexcept {
  switch (kind) {
    case Kind::measured: return "measured";
    case Kind::fitted: return "fitted";
    case Kind::datasheet: return "datasheet";
    case Kind::assumed: return "assumed";
  }
  return "assumed";
}

std::string_view to_string(Replacement policy) noexcept { return policy == Replacement::plru ? "plru" : "lru"; }

Result<Machine> load_machine(const std::filesystem::path& file) {
  try {
    const std::string name = file.string();
    std::error_code error;
    if (!std::filesystem::exists(file, error)) return not_found(name + ": no such file");
    if (!std::filesystem::is_regular_file(file, error)) return io_error(name + ": not a regular file");
    const std::uintmax_t bytes = std::filesystem::file_size(file, error);
    if (error) return io_error(name + ": " + error.message());
    if (bytes > kMaxProfileBytes) return corrupt_file(name + ": a profile has at most 4 MiB (got " + std::to_string(bytes) + " bytes)");
    std::ifstream stream(file, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
    if (!stream.good() && !stream.eof()) return io_error(name + ": cannot be read");
    if (text.size() != bytes) return io_error(name + ": cannot be read");
    return parse_machine(text, name);
  } catch (const std::exception& failure) {
    return io_error(std::string("machine profile: ") + failure.what());
  }
}

std::vector<std::string> machine_names() {
  std::vector<std::string> names;
  for (const BuiltinProfile& profile : builtin_profiles()) names.emplace_back(profile.name);
  return names;
}

Result<Machine> find_machine(const std::string& name_or_file) {
  if (name_or_file == "host") return find_host();
  for (const BuiltinProfile& profile : builtin_profiles()) {
    if (profile.name == name_or_file) return parse_machine(profile.json, "hardware/" + name_or_file + ".json");
  }
  if (name_or_file.ends_with(".json") || name_or_file.find('/') != std::string::npos) return load_machine(name_or_file);
  return not_found("unknown hardware \"" + name_or_file + "\" (known: " + known_names() + ")");
}

std::filesystem::path host_profile_path() {
  if (auto file = environment_path("SIGNSPLIT_HOST_PROFILE"); !file.empty()) return file;
  if (auto cache = environment_path("XDG_CACHE_HOME"); !cache.empty()) return cache / "signsplit" / "host.json";
  if (auto home = environment_path("HOME"); !home.empty()) return home / ".cache" / "signsplit" / "host.json";
  return {};
}

}  // namespace signsplit::sim
