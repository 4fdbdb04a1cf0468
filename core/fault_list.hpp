// The faults of a kernel that can be recomputed: which model of a wrong kernel stands for which cause.
#pragma once

#include <string>
#include <vector>

#include "kernel_model.hpp"

namespace signsplit {

struct Fault {
  Cause cause;
  std::string text;
  KernelModel model;
};

/// Every fault that is recomputed, the likeliest and the most telling first. The weights' shapes decide which make sense.
std::vector<Fault> recomputed_faults(const Weights& weights);

}  // namespace signsplit
