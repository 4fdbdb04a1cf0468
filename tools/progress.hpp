// Progress of a long command on stderr: a bar on a terminal, plain lines otherwise.
#pragma once

#include <cstdio>
#include <string>

namespace signsplit::tools {

class Progress {
 public:
  /// `title` stands before the bar: "calibrate".
  explicit Progress(std::string title, std::FILE* stream = stderr);
  ~Progress() { finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `fraction` done, 0..1, and what is being done now. On a terminal redraws the bar; otherwise prints a line when
  /// `what` is new.
  void update(double fraction, const std::string& what);
  /// Clears the bar. Called by the destructor too.
  void finish();

 private:
  std::string title_;
  std::FILE* stream_;
  bool terminal_ = false, drawn_ = false;
  std::string last_what_;
};

}  // namespace signsplit::tools
