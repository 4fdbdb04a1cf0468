// The report's page and JSON, from made-up numbers: complete, escaped, self-contained; with and without gnuplot.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "fake_report.hpp"
#include "tools/gnuplot.hpp"
#include "tools/html.hpp"
#include "tools/quantity_text.hpp"
#include "tools/report_findings.hpp"
#include "tools/report_page.hpp"
#include "tools/report_plots.hpp"
#include "tools/report_text.hpp"
#include "tools/sha256.hpp"

using namespace signsplit;
using namespace signsplit::tools;

namespace {

constexpr const char* kNoGnuplot = "no-such-gnuplot";

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

std::size_t count_of(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

std::string page_of(const ReportData& data, const char* gnuplot = kNoGnuplot) {
  Plotter plotter(gnuplot);
  return report_page(data, plotter);
}

bool has_gnuplot() { return Plotter().available().ok(); }

/// Tags that are opened and not closed, or closed in the wrong order; "" when the page is well-formed.
std::string nesting_error(std::string_view page) {
  static constexpr std::array<std::string_view, 4> kVoid{"meta", "link", "br", "wbr"};
  std::vector<std::string> open;
  for (std::size_t at = page.find('<'); at != std::string_view::npos; at = page.find('<', at + 1)) {
    const std::size_t end = page.find('>', at);
    if (end == std::string_view::npos) return "unfinished tag";
    const std::string_view tag = page.substr(at + 1, end - at - 1);
    if (tag.starts_with("!")) continue;
    const bool closing = tag.starts_with("/");
    const std::string name(tag.substr(closing ? 1 : 0, tag.find_first_of(" \n/", 1) - (closing ? 1 : 0)));
    if (closing) {
      if (open.empty() || open.back() != name) return "</" + name + "> closes " + (open.empty() ? "nothing" : open.back());
      open.pop_back();
    } else if (!tag.ends_with("/") && std::find(kVoid.begin(), kVoid.end(), name) == kVoid.end()) {
      open.push_back(name);
    }
  }
  return open.empty() ? "" : "<" + open.back() + "> stays open";
}

/// What makes a browser fetch something, in the page; "" when nothing does.
std::string fetching(std::string_view page) {
  for (const std::string_view part : {"<script", "<link", "<img", "<iframe", "<object", "@import", "src=", "url(h", "url('h", "url(\"h",
                                      "http://", "https://", "xmlns"}) {
    if (contains(page, part)) return std::string(part);
  }
  return "";
}

constexpr const char* kHostile = "\"><script>alert('x')</script>{{answer}}&amp; \x01\xff`id`$(id)\\";

}  // namespace

TEST_CASE("the page is well-formed, whole and fetches nothing") {
  const std::string page = page_of(test::fake_report());
  CHECK(nesting_error(page) == "");
  CHECK(fetching(page) == "");
  CHECK_FALSE(contains(page, "{{"));
  for (const char* id : {"answer", "machine", "predictions", "winners", "bytes", "exactness", "errors", "undecided", "reproduce", "glossary"}) {
    CHECK_MESSAGE(contains(page, std::string("<section id=\"") + id + "\">"), id);
  }
}

TEST_CASE("the checkers of this test see a broken page") {
  CHECK(nesting_error("<p><b>x</p></b>") != "");
  CHECK(nesting_error("<p>x") != "");
  CHECK(nesting_error("x</p>") != "");
  CHECK(nesting_error("<p") != "");
  CHECK(fetching("<img src=\"a.png\">") != "");
  CHECK(fetching("<style>@import 'x'</style>") != "");
  CHECK(fetching("<a href=\"https://example.org\">") != "");
}

TEST_CASE("every number of every case is on the page") {
  const ReportData data = test::fake_report();
  const std::string page = page_of(data);
  for (const ValidationGroup& group : data.run.groups) {
    CHECK(contains(page, escape_html(group.name)));
    for (const CaseResult& result : group.measured.cases) {
      CHECK_MESSAGE(contains(page, time_text(result.median_s)), result.label);
      CHECK(contains(page, time_range_text(result.p10_s, result.p90_s)));
      const sim::Prediction* prediction = prediction_of(group, result);
      if (prediction == nullptr) continue;
      CHECK(contains(page, time_text(prediction->time_s)));
      CHECK(contains(page, time_range_text(prediction->low_s, prediction->high_s)));
    }
  }
  CHECK(contains(page, data.predictions_sha256));
  CHECK(contains(page, share_text(data.run.summary.mape)));
  CHECK(contains(page, share_text(data.run.summary.naive.roofline_launch_mape)));
  CHECK(contains(page, "not enough memory"));
  CHECK(contains(page, "this build has no CUDA"));
  for (const RealLayerCase& result : data.real_layer->cases) CHECK(contains(page, schedule_name(result.label).code));
}

TEST_CASE("the machine's caches are in sight, the rates of its kernels folded away") {
  const std::string page = page_of(test::fake_report());
  const std::size_t folded = page.find("<details><summary>Rates of the arithmetic"), end = page.find("</details>", folded);
  REQUIRE(end != std::string::npos);
  const std::string_view inside = std::string_view(page).substr(folded, end - folded);
  for (const char* rate : {"2 numbers", "fma_f32 (avx512)", "up_bf16 (avx512)"}) CHECK(contains(inside, rate));
  CHECK_FALSE(contains(page, "up_bf16 (scalar)"));
  for (const char* fact : {"Clock", "L2", "Read bandwidth, 2 threads"}) CHECK(page.find(fact) < folded);
}

TEST_CASE("what a GPU measured is on the page and in the JSON; so is why nothing was") {
  ReportData data = test::fake_report();
  CHECK(report_json(data)["gpu_run"].is_null());
  data.gpus.emplace_back();
  data.gpus.back().name = "NVIDIA Made Up";
  data.gpus.back().index = 3;
  CHECK(contains(page_of(data), "None was measured: the report was made for the CPU alone."));
  CHECK(contains(page_of(data), "NVIDIA Made Up"));
  CHECK(contains(page_of(data), "Nothing is said about GPUs: the report was made for the CPU alone"));
  data.gpu_run = GpuRun{data.gpus.back(), data.machine, "gpu-predictions.json", data.run, {}};
  std::string page = page_of(data);
  CHECK(nesting_error(page) == "");
  CHECK(contains(page, "NVIDIA Made Up"));
  CHECK(contains(page, "Measured: cuda:3, NVIDIA Made Up."));
  CHECK(contains(page, "gpu-predictions.json"));
  CHECK_FALSE(contains(page, "Nothing is said about GPUs"));
  for (const ValidationGroup& group : data.run.groups) {  // of every case its prediction and what was measured
    for (std::size_t i = 0; i < group.predictions.size(); ++i) {
      const CaseResult& one = group.measured.cases[i];
      const double share = static_cast<double>(one.bytes) / one.median_s / group.measured.read_bandwidth_Bps;
      std::string row = escape_html(one.label) + "</th>";
      for (const std::string& cell : {time_text(group.predictions[i].prediction.time_s), time_text(one.median_s),
                                      time_text(one.p10_s) + " – " + time_text(one.p90_s), percent_text(share)}) {
        row += "<td class=\"n\">" + cell + "</td>";
      }
      row += std::string("<td>") + (one.same_bits_as_row_fused ? "same" : "other");
      CHECK_MESSAGE(contains(page, row), row);
    }
  }
  CHECK(report_json(data)["gpu_run"]["points"].size() == data.run.points.size());
  CHECK(report_json(data)["gpu_run"]["device"] == "NVIDIA Made Up");
  CHECK(report_json(data)["gpu_run"]["index"] == 3);

  data.gpu_run->error = kHostile;
  page = page_of(data);
  CHECK(nesting_error(page) == "");
  CHECK(contains(page, "Nothing was measured on cuda:3: "));
  CHECK_FALSE(contains(page, "Measured: cuda:3"));
  CHECK(fetching(page) == "");
  CHECK(report_json(data)["gpu_run"]["error"] == kHostile);
}

TEST_CASE("text from outside cannot become markup, nor a slot of the template") {
  ReportData data = test::fake_report();
  data.machine.title = data.machine_origin = data.command = data.no_gpu = data.real_layer_missing = kHostile;
  data.machine.read_bandwidth_source = data.machine.barrier_s[0].seconds.source = data.machine.levels[0].name = kHostile;
  data.environment.emplace_back(kHostile, kHostile);
  data.run.problems.emplace_back(kHostile);
  data.run.groups[0].name = data.bytes[0].group = kHostile;
  data.run.groups[0].measured.cases.back().label = kHostile;
  data.run.groups[1].measured.cases[0].error = kHostile;
  data.real_layer->weights_file = data.real_layer->cases[0].error = kHostile;
  for (const char* gnuplot : {kNoGnuplot, "gnuplot"}) {
    const std::string page = page_of(data, gnuplot);
    CHECK(nesting_error(page) == "");
    CHECK(fetching(page) == "");
    CHECK(contains(page, "&lt;script&gt;alert(&#39;x&#39;)"));
    CHECK(contains(page, "{{answer}}"));  // as text
    CHECK(count_of(page, "<h1>") == 1);
    CHECK(count_of(page, "class=\"answer\"") == 1);
    CHECK_FALSE(contains(page, "\xff"));
    CHECK_FALSE(contains(page, "\x01"));
  }
}

TEST_CASE("escape_html") {
  CHECK(escape_html("<a href=\"x\" b='y'>&") == "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;");
  CHECK(escape_html("a\x01" "b\x7f" "c\nd") == "abc d");
  CHECK(escape_html("µ≤𝛼") == "µ≤𝛼");
  CHECK(escape_html("\xc2") == "\xef\xbf\xbd");                      // cut short
  CHECK(escape_html("\xc0\xaf") == "\xef\xbf\xbd\xef\xbf\xbd");      // overlong '/'
  CHECK(escape_html("\xed\xa0\x80") == "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");  // a surrogate
}

TEST_CASE("fill_template puts in what it has, once") {
  CHECK(fill_template("a{{x}}b{{y}}c{{x}}", {{"x", {"{{y}}"}}, {"y", {"Y"}}}) == "a{{y}}bYc{{y}}");
  CHECK(fill_template("a{{unknown}}b{{", {}) == "ab{{");
}

TEST_CASE("without gnuplot the page says what to install, and keeps its tables") {
  const std::string page = page_of(test::fake_report());
  CHECK(contains(page, "gnuplot-nox"));
  CHECK_FALSE(contains(page, "class=\"plot\""));
  CHECK(count_of(page, "<table>") >= 10);
}

TEST_CASE("an empty report still is a page that says what is missing") {
  ReportData data;
  data.real_layer_missing = "data/layer0-relu.safetensors: no such file";
  data.no_gpu = "no driver";
  const std::string page = page_of(data);
  CHECK(nesting_error(page) == "");
  CHECK(contains(page, "data/layer0-relu.safetensors: no such file"));
  CHECK(contains(page, "no driver"));
  CHECK(contains(page, "No schedule could be measured."));
  CHECK_FALSE(contains(page, "nan"));
}

TEST_CASE("a case that failed, and a group that was never measured, are told of") {
  ReportData data = test::fake_report();
  data.run.groups[0].measured.cases[1].error = "out of luck";
  data.run.groups[1].measured.cases.clear();
  const std::string page = page_of(data);
  CHECK(nesting_error(page) == "");
  CHECK(contains(page, "did not run: out of luck"));
  CHECK(findings(data.run)[1].best == nullptr);
  CHECK(findings(data.run)[1].outcome == Outcome::no_data);
}

TEST_CASE("broken promises are shown") {
  ReportData data = test::fake_report();
  CHECK_FALSE(contains(page_of(data), "DIFFERENT"));
  CHECK_FALSE(contains(page_of(data), "OUTSIDE"));
  CHECK(contains(page_of(data), "every count equal to the byte."));
  SUBCASE("bits of the real layer") {
    data.real_layer->cases[1].same_bits_as_row_fused = false;
    CHECK(contains(page_of(data), "DIFFERENT"));
  }
  SUBCASE("the active set") {
    data.real_layer->cases[1].active_set_exact = false;
    CHECK(contains(page_of(data), "DIFFERENT"));
  }
  SUBCASE("the bound") {
    data.real_layer->cases[1].within_bound = false;
    CHECK(contains(page_of(data), "OUTSIDE"));
  }
  SUBCASE("bits of a synthetic layer") {
    data.run.groups[2].measured.cases[1].same_bits_as_row_fused = false;
    CHECK(contains(page_of(data), "Broken promises"));
  }
  SUBCASE("one byte") {
    ++data.bytes[3].recounted.bytes_h;
    CHECK_FALSE(contains(page_of(data), "every count equal to the byte."));
  }
}

TEST_CASE("findings: winners, and what became of the decision") {
  ReportData data = test::fake_report();
  ValidationGroup& group = data.run.groups[0];
  const auto look = [&] { return findings(data.run)[0]; };
  CHECK(look().best->label == "row_fused+skip");
  CHECK(look().best_unfused->label == "unfused+skip");
  CHECK(look().best_sign_split->plan->strategy == Strategy::sign_split);
  CHECK(look().vendor->label == "onednn");

  const auto set_spread = [&](double share) {
    for (CaseResult& result : group.measured.cases) {
      result.p10_s = result.median_s * (1 - share), result.p90_s = result.median_s * (1 + share);
    }
  };
  set_spread(0.5);
  CHECK(look().outcome == Outcome::not_separable);
  set_spread(0.001);
  CHECK(look().outcome == Outcome::right);
  group.decision->verdict = sim::Verdict::keep_unfused;
  CHECK(look().outcome == Outcome::wrong);
  group.decision->verdict = sim::Verdict::too_close;
  CHECK(look().outcome == Outcome::abstained);
  group.decision.reset();
  CHECK(look().outcome == Outcome::no_data);
}

TEST_CASE("findings: ignore computes something else and cannot win") {
  ReportData data = test::fake_report();
  ValidationGroup& group = data.run.groups[0];
  CaseResult wrong = group.measured.cases.front();
  wrong.plan = default_sign_split_plan(group.request.problem, Variant::ignore, Repair::none);
  wrong.label = label(*wrong.plan);
  wrong.median_s = 1e-9;
  group.measured.cases.push_back(wrong);
  CHECK(findings(data.run)[0].best->label == "row_fused+skip");
}

TEST_CASE("report.json holds what the page shows") {
  const ReportData data = test::fake_report();
  const Json json = Json::parse(json_text(report_json(data)));
  CHECK(json["points"].size() == data.run.points.size());
  for (const char* key : {"predicted_s", "low_s", "high_s", "measured_s"}) CHECK(json["points"][0].contains(key));
  for (const char* key : {"decision_accuracy", "abstain_rate", "mape", "p95_ape", "gap_median_abs_s", "coverage_90"}) {
    CHECK(json["summary"].contains(key));
  }
  for (const char* key : {"roofline", "roofline_launch", "always_fuse", "never_fuse"}) CHECK(json["summary"]["naive"].contains(key));
  CHECK(json["groups"].size() == data.run.groups.size());
  CHECK(json["groups"][0]["cases"].size() == data.run.groups[0].measured.cases.size());
  CHECK(json["groups"][0]["cases"][0]["median_s"] == data.run.groups[0].measured.cases[0].median_s);
  CHECK(json["bytes"].size() == data.bytes.size());
  CHECK(json["real_layer"]["cases"].size() == data.real_layer->cases.size());
  CHECK(json["machine"]["meta"]["title"] == data.machine.title);
  CHECK(json["predictions"]["sha256"] == data.predictions_sha256);
  CHECK(json["no_gpu"] == data.no_gpu);
}

TEST_CASE("plots are inline SVG that scales, without ids that clash") {
  if (!has_gnuplot()) {
    MESSAGE("skipped: gnuplot is not installed");
    return;
  }
  const std::string page = page_of(test::fake_report(), "gnuplot");
  CHECK(nesting_error(page) == "");
  CHECK(fetching(page) == "");
  CHECK(count_of(page, "<svg class=\"plot\"") == 7);  // bandwidth, cold and warm, four cases
  CHECK(contains(page, "viewBox=\"0 0 420 "));
  CHECK_FALSE(contains(page, "rgb("));
  CHECK_FALSE(contains(page, "\"black\""));  // would not show on a dark page
  CHECK(contains(page, "var(--sign-split)"));
  CHECK(count_of(page, " id='plot1-gpDot'") == 1);
  CHECK(count_of(page, " id='plot7-gpDot'") == 1);
}

TEST_CASE("gnuplot: a script that fails is an error with gnuplot's words") {
  if (!has_gnuplot()) {
    MESSAGE("skipped: gnuplot is not installed");
    return;
  }
  const Result<std::string> failed = run_gnuplot("gnuplot", "plot no such thing\n");
  CHECK(failed.status().code() == StatusCode::io_error);
  CHECK(contains(failed.message(), "status"));
  CHECK(run_gnuplot(kNoGnuplot, "").status().code() == StatusCode::not_found);
  CHECK(run_gnuplot("gnuplot", "print 'x'\n").ok());
}

TEST_CASE("text inside a gnuplot string cannot end it") {
  CHECK(plot_text("a'b\"c`d\\e$f|g\nh µ") == "a b c d e f g h µ");
}

TEST_CASE("inline_svg refuses what is no SVG") {
  CHECK_FALSE(inline_svg("", "p-", "t").ok());
  CHECK_FALSE(inline_svg("<svg viewBox=\"0 0 1 1\">", "p-", "t").ok());
  CHECK_FALSE(inline_svg("<svg></svg>", "p-", "t").ok());
  const Result<std::string> svg = inline_svg("<?xml?><svg width=\"9\" viewBox=\"0 0 1 1\"><title>Gnuplot</title><g stroke='rgb(1, 1, 3)'/></svg>", "p-", "<t>");
  REQUIRE(svg.ok());
  CHECK(*svg == "<svg class=\"plot\" role=\"img\" viewBox=\"0 0 1 1\" aria-label=\"&lt;t&gt;\"><g stroke='var(--sign-split)'/></svg>");
}

TEST_CASE("numbers have sensible units and no more digits than they are worth") {
  CHECK(time_range_text(11.94e-6, 12.84e-6) == "11.9–12.8 µs");
  CHECK(time_range_text(0.9e-3, 1.24e-3) == "0.900–1.24 ms");
  CHECK(time_range_text(71.4e-6, 14.83e-3) == "71.4 µs–14.8 ms");
  CHECK(ratio_text(0.9971) == "1.00×");
  CHECK(ratio_text(0.0312) == "0.031×");
  CHECK(capacity_text(32.0 * 1024 * 1024) == "32 MiB");
  CHECK(share_text(0.0876) == "8.8 %");
  CHECK(share_text(1.0) == "100 %");
  CHECK(signed_share_text(-0.123) == "−12 %");
  CHECK(ratio_text(0.618) == "0.62×");
  CHECK(ratio_text(1.4521) == "1.45×");
  CHECK(significant_text(9.996, 3) == "10.0");
  CHECK(significant_text(123456, 3) == "123000");
  CHECK(significant_text(std::numeric_limits<double>::quiet_NaN(), 3) == "n/a");
  CHECK(time_range_text(0, std::numeric_limits<double>::infinity()) == "n/a");
}

TEST_CASE("sha256_hex: the examples of FIPS 180-4, and every tail length") {
  CHECK(sha256_hex("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256_hex("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(sha256_hex(std::string(1'000'000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}
