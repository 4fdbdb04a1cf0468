// A layer as files hold it: what save_weights writes, and golden data contain.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "signsplit/safetensors.hpp"
#include "signsplit/weights.hpp"

namespace signsplit {

/// Tensors and metadata as load_weights reads them. Tensors borrow from `buffers`, `down_scales` and the weights, which
/// must stay; moving a StoredLayer leaves them where they are.
struct StoredLayer {
  std::map<std::string, SafetensorsFile::Tensor> tensors;
  std::map<std::string, std::string> metadata;
  std::vector<AlignedBuffer> buffers;
  std::vector<bf16> down_scales;  // [D, G2]
};

/// io_error when there is no memory for the unpacked matrices.
[[nodiscard]] Result<StoredLayer> stored_layer(const Weights& weights);

}  // namespace signsplit
