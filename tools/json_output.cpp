#include "tools/json_output.hpp"

#include <unistd.h>

#include "signsplit/atomic_file.hpp"

namespace signsplit::tools {

void add_json_option(CLI::App& command, Context& context) {
  command.add_option("--json", context.json_target, "Write the result as JSON to FILE, or to standard output (-)")
      ->type_name("FILE|-");
}

std::string json_text(const Json& document) {
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

Status write_json(const Context& context, const Json& document) {
  if (context.json_target.empty()) return {};
  const std::string text = json_text(document);
  if (context.json_target != "-") return write_file(context.json_target, text);
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (!written || std::fflush(stdout) != 0) return io_error("--json -: standard output cannot be written");
  return {};
}

Json plan_json(const Plan& plan) { return Json::parse(to_json(plan)); }

Json statistics_json(const Statistics& statistics) { return Json::parse(to_json(statistics)); }

Status check_output(const std::filesystem::path& file, std::string_view option) {
  const auto refuse = [&](std::string_view why) {
    return invalid_argument(fmt::format("{} {}: {}", option, file.string(), why));
  };
  std::error_code error;
  if (file.empty()) return refuse("the file name is empty");
  const auto status = std::filesystem::status(file, error);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) return refuse("not a regular file");
  std::filesystem::path directory = file.parent_path();
  if (directory.empty()) directory = ".";
  if (!std::filesystem::is_directory(directory, error)) {
    return refuse(fmt::format("directory {} does not exist", directory.string()));
  }
  if (::access(directory.c_str(), W_OK | X_OK) != 0) {
    return refuse(fmt::format("directory {} is not writable", directory.string()));
  }
  return {};
}

}  // namespace signsplit::tools
