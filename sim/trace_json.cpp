#include <nlohmann/json.hpp>

#include "signsplit/sim/events.hpp"

namespace signsplit::sim {

using Json = nlohmann::ordered_json;

std::string_view to_string(Slice::What what) noexcept {
  switch (what) {
    case Slice::What::up: return "product 1";
    case Slice::What::down: return "product 2";
    case Slice::What::reduce: return "reduction";
    case Slice::What::wait: return "wait";
    case Slice::What::fork_join: return "fork or barrier";
    case Slice::What::item: return "part";
  }
  return "part";
}

std::string trace_json(std::span<const NamedTimeline> timelines) {
  Json events = Json::array();
  int process = 0;
  for (const NamedTimeline& named : timelines) {
    ++process;
    events.push_back({{"name", "process_name"}, {"ph", "M"}, {"pid", process}, {"tid", 0}, {"args", {{"name", named.name}}}});
    for (int worker = 0; worker < named.timeline->workers; ++worker) {
      events.push_back({{"name", "thread_name"}, {"ph", "M"}, {"pid", process}, {"tid", worker},
                        {"args", {{"name", "worker " + std::to_string(worker)}}}});
    }
    for (const Slice& slice : named.timeline->slices) {
      events.push_back({{"name", to_string(slice.what)},
                        {"ph", "X"},
                        {"pid", process},
                        {"tid", slice.worker},
                        {"ts", slice.begin_s * 1e6},
                        {"dur", (slice.end_s - slice.begin_s) * 1e6},
                        {"args", {{"phase", slice.phase}, {"item", slice.item}}}});
    }
  }
  return Json{{"traceEvents", std::move(events)}, {"displayTimeUnit", "ns"}}.dump();
}

}  // namespace signsplit::sim
