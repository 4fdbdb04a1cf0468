// What the opaque handles of signsplit.h are.
#pragma once

#include <memory>
#include <string>

#include "signsplit/cpu.hpp"
#include "signsplit/reference.hpp"
#include "signsplit/signsplit.h"
#include "signsplit/weights.hpp"

struct signsplit_weights {
  std::shared_ptr<const signsplit::Weights> layer;  // shared with the FFNs, which may live longer
  std::string activation;
};

struct signsplit_ffn {
  std::shared_ptr<const signsplit::Weights> layer;
  signsplit::cpu::Ffn ffn;
  std::string plan, label, isa;
};

struct signsplit_reference {
  signsplit::ReferenceResult result;
};

namespace signsplit::capi {

/// threads and isa (NULL: the best) as the functions take them.
[[nodiscard]] Result<cpu::Options> executor_options(int threads, const char* isa);

}  // namespace signsplit::capi
