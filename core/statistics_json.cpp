#include <nlohmann/json.hpp>

#include "signsplit/statistics.hpp"

namespace signsplit {

std::string to_json(const Statistics& s) {
  const nlohmann::ordered_json json = {{"bytes_up", s.bytes_up},
                                       {"bytes_gate", s.bytes_gate},
                                       {"bytes_down", s.bytes_down},
                                       {"bytes_plane", s.bytes_plane},
                                       {"bytes_scales", s.bytes_scales},
                                       {"bytes_up_again", s.bytes_up_again},
                                       {"bytes_down_again", s.bytes_down_again},
                                       {"bytes_x", s.bytes_x},
                                       {"bytes_h", s.bytes_h},
                                       {"bytes_y", s.bytes_y},
                                       {"tiles", s.tiles},
                                       {"active", s.active},
                                       {"active_union", s.active_union},
                                       {"pushed_rows", s.pushed_rows},
                                       {"repaired", s.repaired},
                                       {"redone", s.redone},
                                       {"rechecked", s.rechecked},
                                       {"certified", s.certified},
                                       {"refined", s.refined}};
  return json.dump();
}

}  // namespace signsplit
