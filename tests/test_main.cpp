// The main of every test executable: prints the seed; an executable in which no test case ran has failed.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iterator>

#include "seed.hpp"

namespace {

std::uint64_t read_seed() {
  const char* text = std::getenv("SIGNSPLIT_TEST_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 0) : 20260321u;
}

int test_cases_run = 0;

struct CaseCounter : doctest::IReporter {
  explicit CaseCounter(const doctest::ContextOptions&) {}
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_start(const doctest::TestCaseData&) override { ++test_cases_run; }
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};
REGISTER_LISTENER("case-counter", 1, CaseCounter);

/// A test that is marked SERIAL (cmake/SignsplitTest.cmake) and whose code has OpenMP start threads, which stay to the end.
bool is_serial_with_threads() {
  if (std::getenv("SIGNSPLIT_TEST_SERIAL") == nullptr) return false;
  std::error_code none;
  const std::filesystem::directory_iterator tasks("/proc/self/task", none);
  return !none && std::distance(begin(tasks), end(tasks)) > 1;
}

}  // namespace

std::uint64_t signsplit::test::seed() {
  static const std::uint64_t value = read_seed();
  return value;
}

int main(int argc, char** argv) {
  std::printf("seed %llu (SIGNSPLIT_TEST_SEED)\n", static_cast<unsigned long long>(signsplit::test::seed()));
  doctest::Context context(argc, argv);
  const int result = context.run();
  if (context.shouldExit()) return result;
  if (test_cases_run == 0) {
    std::fprintf(stderr, "no test case ran\n");
    return 1;
  }
  if (is_serial_with_threads()) {
    std::fprintf(stderr, "a test marked SERIAL has threads: the thread sanitizer must see it, take the mark away\n");
    return 1;
  }
  return result;
}
