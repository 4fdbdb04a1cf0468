#include "cpu/baselines/openblas.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

#include "cpu/baselines/smooth_step.hpp"
#include "signsplit/activation.hpp"
#include "signsplit/aligned_buffer.hpp"

namespace signsplit::baselines {
namespace {

// The C interface of BLAS (cblas.h): row-major, transposed or not.
enum Order : int { kRowMajor = 101 };
enum Transpose : int { kNoTranspose = 111, kTransposed = 112 };

struct Library {
  void (*sgemv)(Order, Transpose, int m, int n, float alpha, const float* a, int lda, const float* x, int incx, float beta,
                float* y, int incy) = nullptr;
  void (*sgemm)(Order, Transpose, Transpose, int m, int n, int k, float alpha, const float* a, int lda, const float* b,
                int ldb, float beta, float* c, int ldc) = nullptr;
  void (*set_threads)(int) = nullptr;
  char* (*config)() = nullptr;
};

template <class Function>
void find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
}

/// Loaded once, never unloaded: its threads live as long as the process. Empty pointers when there is none.
const Library& library() {
  static const Library loaded = [] {
    setenv("OPENBLAS_THREAD_TIMEOUT", "4", 0);  // the smallest: 2^4 cycles
    Library found;
    void* const handle = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) return found;
    find(handle, "cblas_sgemv", found.sgemv);
    find(handle, "cblas_sgemm", found.sgemm);
    find(handle, "openblas_set_num_threads", found.set_threads);
    find(handle, "openblas_get_config", found.config);
    return found;
  }();
  return loaded;
}

AlignedBuffer floats(std::size_t count) {
  AlignedBuffer buffer(count * sizeof(float));
  if (buffer.data() == nullptr) throw std::bad_alloc();
  return buffer;
}

/// [F, D] as it is, or [D, F] of down.
AlignedBuffer row_major_copy(const Weights& weights, Matrix matrix) {
  const auto d = static_cast<std::size_t>(weights.d_model()), f = static_cast<std::size_t>(weights.d_ff());
  AlignedBuffer buffer = floats(d * f);
  auto* const out = reinterpret_cast<float*>(buffer.data());
  std::vector<float> row(d);
  for (std::size_t j = 0; j < f; ++j) {
    weights.read_row(matrix, static_cast<index_t>(j), 0, row);
    if (matrix == Matrix::down) {
      for (std::size_t k = 0; k < d; ++k) out[k * f + j] = row[k];
    } else {
      std::copy(row.begin(), row.end(), out + j * d);
    }
  }
  return buffer;
}

}  // namespace

bool has_openblas() {
  const Library& l = library();
  return l.sgemv != nullptr && l.sgemm != nullptr && l.set_threads != nullptr && l.config != nullptr;
}

struct OpenBlasFfn::State {
  Problem problem;
  int threads = 0;
  AlignedBuffer up, gate, down;
  std::vector<float> up_bias, gate_bias, down_bias;
  std::vector<float> h, u;  // [B, F]

  /// out [B, rows] = x [B, columns] · Wᵀ + bias.
  void product(const AlignedBuffer& matrix, index_t rows, index_t columns, const std::vector<float>& bias, const float* x, float* out) const {
    const int m = static_cast<int>(rows), n = static_cast<int>(columns), b = static_cast<int>(problem.batch);
    const auto* const w = reinterpret_cast<const float*>(matrix.data());
    if (problem.batch == 1) {
      library().sgemv(kRowMajor, kNoTranspose, m, n, 1.0f, w, n, x, 1, 0.0f, out, 1);
    } else {
      library().sgemm(kRowMajor, kNoTranspose, kTransposed, b, m, n, 1.0f, x, n, w, n, 0.0f, out, m);
    }
    if (bias.empty()) return;
    for (index_t t = 0; t < problem.batch; ++t) {
      for (index_t i = 0; i < rows; ++i) out[t * rows + i] += bias[static_cast<std::size_t>(i)];
    }
  }

  /// h = act(h), gated act(h) · u.
  void activate_hidden() {
    const bool smooth = is_smooth(problem.activation);
    if (smooth) smooth_step(problem.activation.kind, static_cast<index_t>(h.size()), h.data());
    const Activation rest = smooth ? Activation{ActivationKind::identity} : problem.activation;
    for (std::size_t i = 0; i < h.size(); ++i) h[i] = problem.gated ? activate_gated(rest, h[i], u[i], true) : activate(rest, h[i]);
  }

  void execute(const float* x, float* y) {
    if (threads > 0) library().set_threads(threads);
    const index_t d = problem.d_model, f = problem.d_ff;
    product(problem.gated ? gate : up, f, d, problem.gated ? gate_bias : up_bias, x, h.data());
    if (problem.gated) product(up, f, d, up_bias, x, u.data());
    activate_hidden();
    product(down, d, f, down_bias, h.data(), y);
  }
};

Result<OpenBlasFfn> OpenBlasFfn::create(const Weights& weights, index_t batch, int threads) try {
  const Problem problem = weights.problem(batch);
  if (Status status = validate(problem); !status.ok()) return status;
  if (!has_openblas()) return unsupported("OpenBLAS (libopenblas.so.0) is not installed");
  if (problem.dtype != DType::f32) return unsupported("OpenBLAS multiplies f32 weights only");
  if (Status status = weights.require_first_matrix(); !status) return status;
  auto state = std::make_unique<State>();
  state->problem = problem;
  state->threads = threads;
  state->up = row_major_copy(weights, Matrix::up);
  if (problem.gated) state->gate = row_major_copy(weights, Matrix::gate);
  state->down = row_major_copy(weights, Matrix::down);
  state->up_bias.assign(weights.up_bias().begin(), weights.up_bias().end());
  state->gate_bias.assign(weights.gate_bias().begin(), weights.gate_bias().end());
  state->down_bias.assign(weights.down_bias().begin(), weights.down_bias().end());
  state->h.resize(static_cast<std::size_t>(batch * problem.d_ff));
  if (problem.gated) state->u.resize(state->h.size());
  return OpenBlasFfn(std::move(state));
} catch (const std::bad_alloc&) {
  return io_error("not enough memory for OpenBLAS's copy of the weights");
}

Status OpenBlasFfn::run(std::span<const float> x, std::span<float> y) {
  const auto elems = static_cast<std::size_t>(state_->problem.batch * state_->problem.d_model);
  if (x.size() != elems) return invalid_argument("x must have batch * d_model elements");
  if (y.size() != elems) return invalid_argument("y must have batch * d_model elements");
  state_->execute(x.data(), y.data());
  return {};
}

OpenBlasFfn::OpenBlasFfn(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
OpenBlasFfn::OpenBlasFfn(OpenBlasFfn&&) noexcept = default;
OpenBlasFfn& OpenBlasFfn::operator=(OpenBlasFfn&&) noexcept = default;
OpenBlasFfn::~OpenBlasFfn() = default;

std::size_t OpenBlasFfn::weight_bytes() const noexcept { return state_->up.size() + state_->gate.size() + state_->down.size(); }
std::string OpenBlasFfn::description() const {
  return std::string(library().config()) + (state_->problem.batch == 1 ? ", sgemv" : ", sgemm");
}

}  // namespace signsplit::baselines
