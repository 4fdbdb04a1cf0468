// measure(): what it reports of cases is right. Never how long they take.
#include "tools/measure.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "seed.hpp"
#include "tools/host_memory.hpp"
#include "tools/read_probe.hpp"
#include "tools/turns.hpp"

using namespace signsplit;
using namespace signsplit::tools;

namespace {

/// As fast as can be: one round, one layer.
MeasureOptions quick() {
  MeasureOptions options;
  options.threads = 2;
  options.residency = sim::Residency::warm;
  options.budget_s = 0;
  options.min_rounds = 1;
  options.seed = test::seed();
  return options;
}

Problem small(index_t batch, bool gated, DType dtype = DType::bf16) {
  return {.d_model = 96, .d_ff = 200, .batch = batch, .dtype = dtype, .activation = {}, .gated = gated};
}

std::vector<CaseRequest> requests(const std::vector<Plan>& plans) {
  std::vector<CaseRequest> cases;
  for (const Plan& plan : plans) cases.push_back({plan, {}});
  return cases;
}

}  // namespace

TEST_CASE("every default plan is measured, checked and counted") {
  for (const bool gated : {false, true}) {
    for (const index_t batch : {index_t{1}, index_t{3}}) {
      const Problem problem = small(batch, gated);
      const auto cases = requests(default_plans(problem));
      const auto measured = measure(problem, 0.3, cases, quick());
      REQUIRE_MESSAGE(measured.ok(), measured.message());
      REQUIRE(measured->cases.size() == cases.size());
      CHECK(measured->layers == 1);
      CHECK(measured->threads == 2);
      CHECK(measured->layer_bytes == static_cast<double>(weight_bytes(problem)));
      CHECK(measured->read_bandwidth_Bps > 0);
      CHECK(measured->read_bandwidth_p10_Bps <= measured->read_bandwidth_p90_Bps);
      for (std::size_t i = 0; i < cases.size(); ++i) {
        const CaseResult& one = measured->cases[i];
        CAPTURE(one.label);
        CHECK(one.error == "");
        CHECK(one.plan == cases[i].plan);
        CHECK(one.label == label(*cases[i].plan));
        CHECK(one.samples == 1);
        CHECK(one.median_s > 0);
        CHECK(one.p10_s <= one.median_s);
        CHECK(one.median_s <= one.p90_s);
        CHECK(one.bytes == weight_bytes(one.statistics));
        CHECK(one.bytes > 0);
        if (one.plan->strategy != Strategy::sign_split) CHECK(one.same_bits_as_row_fused);
      }
    }
  }
}

TEST_CASE("the check against row_fused tells other bits from the same") {
  // `ignore` computes something else; on 200 units with two K tiles some units are always pushed wrongly.
  const Problem problem = small(1, false);
  const std::vector<CaseRequest> cases = requests({default_plan(problem, Strategy::row_fused),
                                                   default_sign_split_plan(problem, Variant::ignore, Repair::none)});
  const auto measured = measure(problem, 0.3, cases, quick());
  REQUIRE_MESSAGE(measured.ok(), measured.message());
  CHECK(measured->cases[0].same_bits_as_row_fused);
  CHECK_FALSE(measured->cases[1].same_bits_as_row_fused);
  CHECK(measured->cases[1].max_ulp > measured->cases[0].max_ulp);
}

TEST_CASE("cold rotates through layers, and every timed output is still checked") {
  const Problem problem{.d_model = 1024, .d_ff = 4096, .batch = 1, .dtype = DType::f32, .activation = {}, .gated = false};
  MeasureOptions options = quick();
  options.residency = sim::Residency::cold;
  options.min_rounds = 2;
  options.check_results = false;
  const auto measured = measure(problem, 0.1, requests({default_plan(problem, Strategy::row_fused, true)}), options);
  REQUIRE_MESSAGE(measured.ok(), measured.message());
  CHECK(measured->layers >= 2);
  CHECK(measured->cases[0].error == "");
  CHECK(measured->cases[0].samples == 2);
}

TEST_CASE("a case of which little is asked takes a turn in the first three rounds and in every third") {
  const Problem problem = small(1, false);
  auto cases = requests({default_plan(problem, Strategy::row_fused), default_plan(problem, Strategy::unfused)});
  cases[1].seldom = true;
  MeasureOptions options = quick();
  options.min_rounds = 12;
  const auto measured = measure(problem, 0.3, cases, options);
  REQUIRE_MESSAGE(measured.ok(), measured.message());
  CHECK(measured->cases[0].samples == 12);
  CHECK(measured->cases[1].samples == 6);  // 0, 1, 2, 3, 6, 9
  for (const CaseResult& one : measured->cases) {
    CHECK(one.paired_s > 0);
    CHECK(one.paired_ci90_s >= 0);
  }
}

TEST_CASE("what is timed again is timed on the same layer, and the last time counts") {
  const Problem problem = small(1, false);
  MeasureOptions options = quick();
  options.min_rounds = 4;
  int begun = 0;
  options.before_timing = [&] {
    ++begun;
    return Status{};
  };
  std::vector<double> medians;
  options.again = [&](const MeasureResult& measured) {
    CHECK(measured.cases[0].samples == 4);  // never those of the times before
    medians.push_back(measured.cases[0].median_s);
    return medians.size() < 3;
  };
  const auto measured = measure(problem, 0.3, requests({default_plan(problem, Strategy::certified, true)}), options);
  REQUIRE_MESSAGE(measured.ok(), measured.message());
  CHECK(begun == 3);
  REQUIRE(medians.size() == 3);
  CHECK(measured->cases[0].median_s == medians.back());
  CHECK(measured->cases[0].error == "");
}

TEST_CASE("where the fastest fused and the fastest unfused plan are tied, they alone take further turns") {
  const Problem problem = small(1, false);
  MeasureOptions options = quick();
  options.min_rounds = 5;
  options.tie_budget_s = 0.02;
  const std::vector<Plan> plans{default_plan(problem, Strategy::unfused), default_plan(problem, Strategy::unfused, true),
                                default_plan(problem, Strategy::row_fused), default_plan(problem, Strategy::row_fused, true)};
  const auto measured = measure(problem, 0.3, requests(plans), options);
  REQUIRE_MESSAGE(measured.ok(), measured.message());
  std::vector<int> further[2];  // of unfused and fused plans: turns beyond the fifth, 0 left out
  for (const CaseResult& one : measured->cases) {
    REQUIRE(one.samples >= 5);
    if (one.samples > 5) further[is_fused(*one.plan)].push_back(one.samples);
  }
  CHECK(further[0] == further[1]);  // none, or one of each and as many
  CHECK(further[0].size() <= 1);
}

TEST_CASE("the fastest fused and the fastest unfused case are tied where the interval of their difference covers zero") {
  using Places = std::vector<std::size_t>;
  const std::vector<std::optional<bool>> fused{true, false, std::nullopt, true, false};
  const auto tied = [&](double last) {
    const std::vector<PairedMedian> medians{{2.0, 0.3}, {3.0, 0.1}, {0.1, 0.1}, {1.0, 0.3}, {last, 0.4}};
    return tied_fastest(medians, fused);
  };
  CHECK(tied(1.49) == Places{4, 3});
  CHECK(tied(0.51) == Places{4, 3});
  CHECK(tied(1.51) == Places{});
  CHECK(tied(0.0) == Places{});  // no median: then the other one, which is slower
  CHECK(tied_fastest(std::vector<PairedMedian>{{1.0, 0.3}, {1.0, 0.3}}, std::vector<std::optional<bool>>{true, true}) == Places{});
}

TEST_CASE("a case that cannot run says why, and the others go on") {
  const Problem problem = small(1, true);
  Plan wrong = default_plan(problem, Strategy::row_fused);
  wrong.k_tile = 100;
  std::vector<CaseRequest> cases = requests({wrong, default_plan(problem, Strategy::row_fused)});
  cases.push_back({std::nullopt, "no-such-vendor"});
  const auto measured = measure(problem, 0.5, cases, quick());
  REQUIRE_MESSAGE(measured.ok(), measured.message());
  CHECK(measured->cases[0].error.find("k_tile") != std::string::npos);
  CHECK(measured->cases[0].samples == 0);
  CHECK(measured->cases[1].error == "");
  CHECK(measured->cases[1].samples == 1);
  CHECK(measured->cases[2].error.find("no-such-vendor") != std::string::npos);
}

TEST_CASE("bad requests are refused") {
  const Problem problem = small(1, false);
  const std::vector<CaseRequest> neither(1), both{{default_plan(problem, Strategy::unfused), "onednn"}}, masked{{.vendor = "onednn", .exact_mask = true}};
  CHECK(measure(problem, 0.5, neither, quick()).status().code() == StatusCode::invalid_argument);
  CHECK(measure(problem, 0.5, both, quick()).status().code() == StatusCode::invalid_argument);
  CHECK(measure(problem, 0.5, masked, quick()).message().find("exact mask") != std::string::npos);
  CHECK_FALSE(measure({}, 0.5, {}, quick()).ok());
  CHECK_FALSE(measure(problem, 0.0, {}, quick()).ok());
}

TEST_CASE("a vendor has so many copies that a rotation is read before one comes round again") {
  const auto executor = cpu_executor({});
  const auto copies = [&](double rotation, double own, double others) {
    return executor->vendor_copies(sim::Residency::cold, rotation, own, others);
  };
  CHECK(copies(1000, 100, 150) == 4);  // two turns of two calls: 2 · 2 · (100 + 150)
  CHECK(copies(2000, 100, 150) == 8);
  CHECK(copies(1000, 100, 0) == 10);
  CHECK(copies(1, 100, 0) == 2);
  CHECK(executor->vendor_copies(sim::Residency::warm, 1000, 100, 0) == 1);
}

TEST_CASE("without the read probe and without cases, measuring ends") {
  MeasureOptions options = quick();
  options.measure_read_bandwidth = false;
  options.budget_s = 3600;
  const auto measured = measure(small(1, false), 0.5, {}, options);
  REQUIRE_MESSAGE(measured.ok(), measured.message());
  CHECK(measured->read_bandwidth_Bps == 0);
}

TEST_CASE("the read probe takes any number of lines, ranges and threads") {
  AlignedBuffer buffer(64 * 1000);
  REQUIRE(buffer.data() != nullptr);
  const std::span<const std::byte> all(buffer.data(), buffer.size());
  for (const int threads : {0, 1, 2, 7}) {
    for (const std::size_t lines : {0u, 1u, 3u, 5u, 1000u}) {
      const std::vector<std::span<const std::byte>> ranges{all.first(64 * lines), all.last(64 * lines)};
      read_all(ranges, threads);
    }
  }
  read_all({}, 2);
}

#if defined(__linux__)
TEST_CASE("what Linux tells of memory") {
  CHECK(available_memory_bytes() > 0);
  AlignedBuffer buffer(std::size_t{8} << 20);
  REQUIRE(buffer.data() != nullptr);
  std::memset(buffer.data(), 1, buffer.size());
  const std::vector<std::span<const std::byte>> ranges{{buffer.data(), buffer.size()}};
  const double fraction = huge_page_fraction(ranges);
  CHECK(fraction >= 0);
  CHECK(fraction <= 1);
  CHECK(huge_page_fraction({}) == 0);
}
#endif
