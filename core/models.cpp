#include "signsplit/models.hpp"

#include <array>

namespace signsplit {
namespace {

constexpr Activation kRelu{ActivationKind::relu};
constexpr Activation kRelu2{ActivationKind::relu2};
constexpr Activation kDrelu{ActivationKind::drelu};
constexpr Activation kGeluTanh{ActivationKind::gelu_tanh};
constexpr Activation kSilu{ActivationKind::silu};
constexpr Activation fatrelu(float threshold) { return {ActivationKind::fatrelu, threshold}; }

// Zeros are what the source after the semicolon reports of that very model; nothing is carried over from a sister model.
constexpr std::array kModels{
    Model{"opt-125m", 768, 3072, kRelu, false, 0, "OPT, arXiv 2205.01068"},
    Model{"opt-350m", 1024, 4096, kRelu, false, 0, "OPT, arXiv 2205.01068"},
    Model{"opt-1.3b", 2048, 8192, kRelu, false, 0, "OPT, arXiv 2205.01068"},
    Model{"opt-2.7b", 2560, 10240, kRelu, false, 0, "OPT, arXiv 2205.01068"},
    Model{"opt-6.7b", 4096, 16384, kRelu, false, 0.97, "OPT, arXiv 2205.01068; ReLU Strikes Back, arXiv 2310.04564"},
    Model{"opt-13b", 5120, 20480, kRelu, false, 0, "OPT, arXiv 2205.01068"},
    Model{"opt-30b", 7168, 28672, kRelu, false, 0, "OPT, arXiv 2205.01068"},
    Model{"opt-66b", 9216, 36864, kRelu, false, 0, "OPT, arXiv 2205.01068"},
    Model{"opt-175b", 12288, 49152, kRelu, false, 0.95, "OPT, arXiv 2205.01068; Deja Vu, arXiv 2310.17157"},
    Model{"nemotron-4-340b", 18432, 73728, kRelu2, false, 0, "Nemotron-4 340B, arXiv 2406.11704"},
    Model{"nemotron-4-15b", 6144, 24576, kRelu2, false, 0, "Nemotron-4 15B, arXiv 2402.16819"},
    Model{"minitron-8b", 4096, 16384, kRelu2, false, 0, "Minitron, arXiv 2407.14679"},
    Model{"minitron-4b", 3072, 9216, kRelu2, false, 0, "Minitron, arXiv 2407.14679"},
    Model{"nemotron-h-8b", 4096, 21504, kRelu2, false, 0, "Nemotron-H, arXiv 2504.03624"},
    Model{"nemotron-3-nano-expert", 2688, 1856, kRelu2, false, 0, "Nemotron 3 Nano 30B-A3B, one of 128 experts"},
    Model{"persimmon-8b", 4096, 16384, kRelu2, false, 0, "Adept Persimmon-8B and Fuyu-8B"},
    Model{"bitnet-b1.58-2b4t", 2560, 6912, kRelu2, true, 0.80,
          "BitNet b1.58 2B4T, arXiv 2504.12285; BitNet a4.8, arXiv 2411.04965"},
    Model{"relullama-7b", 4096, 11008, kRelu, true, 0.67, "SparseLLM ReluLLaMA; ProSparse, arXiv 2402.13516"},
    Model{"relullama-13b", 5120, 13824, kRelu, true, 0.72, "SparseLLM ReluLLaMA; ProSparse, arXiv 2402.13516"},
    Model{"relullama-70b", 8192, 28672, kRelu, true, 0, "SparseLLM ReluLLaMA"},
    Model{"prosparse-7b", 4096, 11008, fatrelu(0.01f), true, 0.893, "ProSparse, arXiv 2402.13516"},
    Model{"prosparse-13b", 5120, 13824, fatrelu(0.01f), true, 0.888, "ProSparse, arXiv 2402.13516"},
    Model{"minicpm-s-1b", 1536, 3840, fatrelu(0.03f), true, 0.879, "ProSparse, arXiv 2402.13516"},
    Model{"turbosparse-mistral-7b", 4096, 14336, kDrelu, true, 0.90, "Turbo Sparse, arXiv 2406.05955"},
    Model{"sparselm-2b", 2048, 5632, kRelu, true, 0, "Sakana AI SparseLM"},
    Model{"gpt2-xl", 1600, 6400, kGeluTanh, false, 0, "GPT-2 1.5B, Language Models are Unsupervised Multitask Learners (2019); its config: n_embd 1600, gelu_new"},
    Model{"llama-2-7b", 4096, 11008, kSilu, true, 0, "Llama 2, arXiv 2307.09288; its config: hidden_size 4096, intermediate_size 11008, silu"},
    Model{"llama-3-8b", 4096, 14336, kSilu, true, 0, "The Llama 3 Herd of Models, arXiv 2407.21783, table 3"},
};

}  // namespace

std::span<const Model> models() noexcept { return kModels; }

std::optional<Model> find_model(std::string_view name) noexcept {
  for (const Model& model : kModels) {
    if (model.name == name) return model;
  }
  return std::nullopt;
}

}  // namespace signsplit
