// A test run under SIGNSPLIT_ISA on a machine that lacks it is skipped (status 77), and says so.
#include <cstdio>
#include <cstdlib>

#include "signsplit/cpu.hpp"

namespace {

const bool checked = [] {
  if (const auto isa = signsplit::cpu::select_isa(); !isa) {
    std::printf("skipped: %s\n", isa.message().c_str());
    std::fflush(stdout);
    std::_Exit(77);
  }
  return true;
}();

}  // namespace
