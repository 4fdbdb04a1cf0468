#include "tools/progress.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace signsplit::tools {
namespace {

bool draws(std::FILE* stream) {
  const char* term = std::getenv("TERM");
  return ::isatty(::fileno(stream)) != 0 && term != nullptr && std::string_view(term) != "dumb";
}

std::size_t columns_of(std::FILE* stream) {
  winsize size{};
  if (::ioctl(::fileno(stream), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace

Progress::Progress(std::string title, std::FILE* stream)
    : title_(std::move(title)), stream_(stream), terminal_(draws(stream)) {}

void Progress::update(double fraction, const std::string& what) {
  fraction = std::clamp(fraction, 0.0, 1.0);
  if (!terminal_) {
    if (what == last_what_) return;
    last_what_ = what;
    fmt::print(stream_, "{}: {:3.0f} %  {}\n", title_, 100 * fraction, what);
    std::fflush(stream_);
    return;
  }
  constexpr std::size_t kBar = 24;
  const auto filled = static_cast<std::size_t>(fraction * static_cast<double>(kBar) + 0.5);
  std::string line = fmt::format("{} [{}{}] {:3.0f} %  {}", title_, std::string(filled, '#'),
                                 std::string(kBar - filled, '.'), 100 * fraction, what);
  line.resize(std::min(line.size(), columns_of(stream_) - 1));
  fmt::print(stream_, "\r\x1b[K{}", line);
  std::fflush(stream_);
  drawn_ = true;
}

void Progress::finish() {
  if (!drawn_) return;
  fmt::print(stream_, "\r\x1b[K");
  std::fflush(stream_);
  drawn_ = false;
}

}  // namespace signsplit::tools
