/** @file
 * The C interface: exact, fused feed-forward networks from C, and from every language that calls C. (docs/c-api.md)
 *
 *     y = W2·act(W1·x + b1) + b2,   or gated   y = W2·(act(Wg·x + bg) ⊙ (W1·x + b1)) + b2
 *
 * Errors. Every function that can fail returns a signsplit_status. When it is not SIGNSPLIT_OK, signsplit_last_error() gives
 * one line that names what was wrong and the rule it broke; results are left as they were, and created handles are NULL. No
 * exception ever comes out, nothing is printed, and the process is never ended.
 *
 * Threads. The message of signsplit_last_error belongs to the calling thread. signsplit_weights and signsplit_reference
 * never change once created: any number of threads may use one at once. A signsplit_ffn holds scratch memory: use it in one
 * thread at a time; for more, create one each, on the same weights. Whoever destroys a handle makes sure that no other thread
 * is using it.
 *
 * Ownership. What a _create, _load or reference function hands out is released with the matching _destroy, which takes NULL
 * too. Memory passed in is copied or only read during the call. Pointers that getters return live as long as their handle,
 * unless said otherwise.
 *
 * Arrays are row-major and dense. Extents are int64_t, element counts size_t; floats are IEEE binary32. Arrays passed to one
 * call do not overlap.
 */
#ifndef SIGNSPLIT_SIGNSPLIT_H
#define SIGNSPLIT_SIGNSPLIT_H

#include <stddef.h>
#include <stdint.h>

#if defined(SIGNSPLIT_C_STATIC) || !defined(__GNUC__)
#define SIGNSPLIT_API
#else
#define SIGNSPLIT_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** The version of this header; that of the library is signsplit_version(). While the major version is 0, the second number
 *  counts incompatible changes. */
#define SIGNSPLIT_VERSION_MAJOR 0
#define SIGNSPLIT_VERSION_MINOR 1
#define SIGNSPLIT_VERSION_PATCH 0

/** How a call ended. The numbers never change; later versions may add some. */
typedef enum signsplit_status {
  SIGNSPLIT_OK = 0,
  SIGNSPLIT_INVALID_ARGUMENT = 1, /**< A value given by the caller breaks a documented rule. */
  SIGNSPLIT_UNSUPPORTED = 2,      /**< The request is well-formed, but this build or this machine cannot do it. */
  SIGNSPLIT_NOT_FOUND = 3,        /**< A file, a name or a tensor that was asked for does not exist. */
  SIGNSPLIT_CORRUPT_FILE = 4,     /**< A file exists, and its content breaks its format. */
  SIGNSPLIT_IO_ERROR = 5,         /**< The operating system refused to read, to write or to give memory. */
  SIGNSPLIT_OUT_OF_MEMORY = 6,    /**< A small allocation failed. */
  SIGNSPLIT_INTERNAL_ERROR = 7,   /**< A defect of the library; please report it with the message. */
  SIGNSPLIT_STATUS_FORCE_INT = 0x7fffffff /**< no status; makes the type as wide as an int, in C++ too */
} signsplit_status;

/** Element type of stored matrices. */
typedef enum signsplit_dtype {
  SIGNSPLIT_F32 = 0,  /**< IEEE binary32 */
  SIGNSPLIT_BF16 = 1, /**< bfloat16, the upper 16 bits of a binary32, as uint16_t */
  SIGNSPLIT_F16 = 2,  /**< IEEE binary16, as uint16_t */
  SIGNSPLIT_INT8 = 3, /**< int8_t in [-127, 127] times a bfloat16 scale; not for signsplit_weights_create */
  SIGNSPLIT_DTYPE_FORCE_INT = 0x7fffffff /**< no dtype, see SIGNSPLIT_STATUS_FORCE_INT */
} signsplit_dtype;

/** What the exact reference rounds. */
typedef enum signsplit_reference_mode {
  SIGNSPLIT_STAGED = 0,    /**< z, h and y are each correctly rounded: what an ideal f32 pipeline gives */
  SIGNSPLIT_COMPOSITE = 1, /**< the real-number value of the whole FFN, rounded once; not of gelu, gelu_tanh and silu */
  SIGNSPLIT_REFERENCE_MODE_FORCE_INT = 0x7fffffff /**< no mode, see SIGNSPLIT_STATUS_FORCE_INT */
} signsplit_reference_mode;

/** One layer in packed form. Immutable. */
typedef struct signsplit_weights signsplit_weights;
/** Weights, a plan and scratch memory: ready to run. */
typedef struct signsplit_ffn signsplit_ffn;
/** An exact result. Immutable. */
typedef struct signsplit_reference signsplit_reference;

/* ---- The library, and what went wrong ---------------------------------------------------------------------------- */

/** "0.1.0"; lives for ever. */
SIGNSPLIT_API const char* signsplit_version(void);

/** "ok", "invalid_argument", ...; "unknown" for a number that is none. Lives for ever. */
SIGNSPLIT_API const char* signsplit_status_name(signsplit_status status);

/** Why the last call of this thread that failed did so; "" when none has. Never NULL, at most 2047 bytes, UTF-8 as far as the
 *  file names in it are. Valid until this thread's next call that fails. A call that succeeds leaves it as it is. */
SIGNSPLIT_API const char* signsplit_last_error(void);

/* ---- Weights ----------------------------------------------------------------------------------------------------- */

/** A layer as frameworks store it, borrowed for the duration of the call. Start from signsplit_layer_make(). */
typedef struct signsplit_layer {
  size_t struct_size;      /**< sizeof(signsplit_layer): tells the library which version of this struct it was given */
  int64_t d_model;         /**< D, elements of x and y of one token */
  int64_t d_ff;            /**< F, hidden units */
  signsplit_dtype dtype;   /**< of up, gate and down: SIGNSPLIT_F32, SIGNSPLIT_BF16 or SIGNSPLIT_F16 */
  const char* activation;  /**< "relu", "relu2", "fatrelu:0.01", "identity", "gelu", "gelu_tanh", "silu"; with a gate "reglu",
                                "drelu", "geglu", "geglu_tanh", "swiglu"; NULL is relu */
  const void* up;          /**< W1 [F, D] */
  const void* gate;        /**< Wg [F, D], or NULL: not gated */
  const void* down;        /**< W2 [D, F] */
  const float* up_bias;    /**< [F] or NULL */
  const float* gate_bias;  /**< [F] or NULL; only with a gate */
  const float* down_bias;  /**< [D] or NULL */
} signsplit_layer;

/** A layer of this shape without pointers: fill in up, down and what else there is. */
static inline signsplit_layer signsplit_layer_make(int64_t d_model, int64_t d_ff, signsplit_dtype dtype) {
  signsplit_layer layer;
  layer.struct_size = sizeof layer;
  layer.d_model = d_model;
  layer.d_ff = d_ff;
  layer.dtype = dtype;
  layer.activation = NULL;
  layer.up = NULL;
  layer.gate = NULL;
  layer.down = NULL;
  layer.up_bias = NULL;
  layer.gate_bias = NULL;
  layer.down_bias = NULL;
  return layer;
}

/** Packs a copy of a layer. */
SIGNSPLIT_API signsplit_status signsplit_weights_create(const signsplit_layer* layer, signsplit_weights** weights);

/** Reads a safetensors file: up.weight [F, D], down.weight [D, F], optional gate.weight [F, D], up.bias [F], gate.bias [F],
 *  down.bias [D], metadata `activation`; with I8 matrices up.scale, down.scale, gate.scale, metadata `group`. `activation`
 *  replaces the metadata's unless NULL. */
SIGNSPLIT_API signsplit_status signsplit_weights_load(const char* file, const char* activation,
                                                      signsplit_weights** weights);

/** A copy whose matrices are rounded to int8: `group` weights along a stored row share a scale (a multiple of 64; 0: the row).
 *  SIGNSPLIT_INVALID_ARGUMENT when a weight is not finite, or the layer is int8 already. */
SIGNSPLIT_API signsplit_status signsplit_weights_quantize(const signsplit_weights* weights, int64_t group,
                                                          signsplit_weights** quantized);

/** Writes what signsplit_weights_load reads. The file is whole or not there. */
SIGNSPLIT_API signsplit_status signsplit_weights_save(const signsplit_weights* weights, const char* file);

SIGNSPLIT_API void signsplit_weights_destroy(signsplit_weights* weights);

/** Properties of a layer. Of NULL: 0, SIGNSPLIT_F32, "". */
SIGNSPLIT_API int64_t signsplit_weights_d_model(const signsplit_weights* weights);
SIGNSPLIT_API int64_t signsplit_weights_d_ff(const signsplit_weights* weights);
SIGNSPLIT_API signsplit_dtype signsplit_weights_dtype(const signsplit_weights* weights);
SIGNSPLIT_API int signsplit_weights_gated(const signsplit_weights* weights);              /**< 1 or 0 */
SIGNSPLIT_API const char* signsplit_weights_activation(const signsplit_weights* weights); /**< as in signsplit_layer */

/* ---- Running ----------------------------------------------------------------------------------------------------- */

/* Plans are text: the name of a schedule or the JSON of a plan. NULL is "row_fused".
 *
 *   names   unfused, row_fused, sign_split, sign_split/VARIANT, sign_split/VARIANT/REPAIR, each with or without +skip;
 *           certified (which skips always)
 *           VARIANT: interim, streams, telescoping, ignore;  REPAIR: selective, full, redo
 *   JSON    {"strategy": "row_fused", "parts": 8, ...}: the keys of signsplit_ffn_plan; missing keys have their defaults
 *
 * A plan fixes every order of additions: with the weights and x it determines every bit of y, on every machine. */

/** Binds weights to a plan for `batch` tokens per call. `threads` 0: as many as OpenMP would use. `isa`: "scalar", "avx2",
 *  "avx512", or NULL for what the environment variable SIGNSPLIT_ISA names, else the best; one that this machine lacks is an
 *  error. The FFN keeps what it needs of the weights: they may be destroyed first. */
SIGNSPLIT_API signsplit_status signsplit_ffn_create(const signsplit_weights* weights, int64_t batch, const char* plan,
                                                    int threads, const char* isa, signsplit_ffn** ffn);

SIGNSPLIT_API void signsplit_ffn_destroy(signsplit_ffn* ffn);

/** y [batch, D] = FFN(x [batch, D]). `active` [batch, F] receives 1 where the hidden unit is open, else 0; or NULL with
 *  active_count 0. The counts are the lengths of the arrays in elements, and must be exactly these. Allocates nothing. */
SIGNSPLIT_API signsplit_status signsplit_ffn_run(signsplit_ffn* ffn, const float* x, size_t x_count, float* y,
                                                 size_t y_count, uint8_t* active, size_t active_count);

/** Goes on with another layer of the same shape, dtype and activation; plan and scratch memory stay. */
SIGNSPLIT_API signsplit_status signsplit_ffn_rebind(signsplit_ffn* ffn, const signsplit_weights* weights);

/** The plan as JSON of one line; and its short name, "row_fused+skip". Of NULL "". */
SIGNSPLIT_API const char* signsplit_ffn_plan(const signsplit_ffn* ffn);
SIGNSPLIT_API const char* signsplit_ffn_label(const signsplit_ffn* ffn);
/** The instruction set whose kernels run; the number of threads. Of NULL "" and 0. */
SIGNSPLIT_API const char* signsplit_ffn_isa(const signsplit_ffn* ffn);
SIGNSPLIT_API int signsplit_ffn_threads(const signsplit_ffn* ffn);

/** What the last run did, counted while it ran. Bytes are those that the kernels asked for. */
typedef struct signsplit_statistics {
  uint64_t bytes_up;         /**< of W1, first reads and re-reads */
  uint64_t bytes_gate;       /**< of Wg */
  uint64_t bytes_down;       /**< of W2 */
  uint64_t bytes_plane;      /**< of the certificate's plane, its scales and norms */
  uint64_t bytes_scales;     /**< of the scales of int8 weights */
  uint64_t bytes_up_again;   /**< part of bytes_up and bytes_gate that the run had read before */
  uint64_t bytes_down_again; /**< part of bytes_down that the run had read before */
  uint64_t bytes_x;          /**< of x, once per part */
  uint64_t bytes_h;          /**< of h, stored and loaded */
  uint64_t bytes_y;          /**< of the partial y: written, and read by the reduction */
  uint64_t tiles;            /**< tiles of both products */
  uint64_t active;           /**< open units, counted per token */
  uint64_t active_union;     /**< units open for at least one token */
  uint64_t pushed_rows;      /**< rows of W2 read to add what a tile gave */
  uint64_t repaired;         /**< rows of W2 read to repair (sign_split) */
  uint64_t redone;           /**< rows of W1 and Wg read again to repair (sign_split) */
  uint64_t rechecked;        /**< signs settled by exact arithmetic (sign_split) */
  uint64_t certified;        /**< units proven dead without reading their full row */
  uint64_t refined;          /**< units that a certificate could not settle */
} signsplit_statistics;

/** Statistics of the last run; all zero before the first. `struct_size` is sizeof(signsplit_statistics): a library that knows
 *  more fields fills the caller's, one that knows fewer leaves the rest zero. */
SIGNSPLIT_API signsplit_status signsplit_ffn_statistics(const signsplit_ffn* ffn, signsplit_statistics* statistics,
                                                        size_t struct_size);

/* ---- The exact reference, and checks against it ------------------------------------------------------------------ */

/** Computes the FFN exactly for x [batch, D], x_count = batch·D. `threads` 0: all. */
SIGNSPLIT_API signsplit_status signsplit_reference_create(const signsplit_weights* weights, signsplit_reference_mode mode,
                                                          int64_t batch, const float* x, size_t x_count, int threads,
                                                          signsplit_reference** reference);

SIGNSPLIT_API void signsplit_reference_destroy(signsplit_reference* reference);

/** The exact y [batch, D]; the pre-activations z and the activations h [batch, F] (of a gated FFN, z is the gate's); which
 *  units are open [batch, F], 1 or 0, decided on real numbers. Of NULL: NULL. */
SIGNSPLIT_API const float* signsplit_reference_y(const signsplit_reference* reference);
SIGNSPLIT_API const float* signsplit_reference_z(const signsplit_reference* reference);
SIGNSPLIT_API const float* signsplit_reference_h(const signsplit_reference* reference);
SIGNSPLIT_API const uint8_t* signsplit_reference_active(const signsplit_reference* reference);

/** For every output of a correct execution of `plan`, how far it can be from the real-number result, before that is rounded:
 *  bound [batch, D]. +∞ where a value is not finite. */
SIGNSPLIT_API signsplit_status signsplit_error_bound(const signsplit_weights* weights, const char* plan, int64_t batch,
                                                     const float* x, size_t x_count, double* bound, size_t bound_count);

/** The same for a kernel of yours, whatever the order of its additions, with fused multiply-adds or without. `accumulation`:
 *  "f32" (all in f32), "f64" (sums in f64; z, h and y may be rounded to f32) or "bf16-activations" (x and h rounded to bf16
 *  before they are multiplied, sums in f32). 0 where no order rounds. Computes the exact reference on the way. */
SIGNSPLIT_API signsplit_status signsplit_kernel_bound(const signsplit_weights* weights, const char* accumulation,
                                                      int64_t batch, const float* x, size_t x_count, double* bound,
                                                      size_t bound_count);

/** How an output compares with the exact one. */
typedef struct signsplit_check_result {
  int passed;                 /**< 1 when no element is wrong, else 0 */
  size_t wrong;               /**< elements outside their bound, or NaN or infinite where the exact one is not, or the reverse */
  size_t first_wrong;         /**< index of the first of them; `count` when there is none */
  size_t worst;               /**< index of the element that uses most of its bound; without bounds, the most ulps away */
  uint64_t max_ulp;           /**< most floats between an element and the exact one; UINT64_MAX: a NaN against a number */
  size_t equal;               /**< elements equal to the exact ones (−0 equals +0, NaN equals NaN) */
  double worst_bound_fraction; /**< largest |actual − exact| over what is allowed; 0 without bounds, ∞ for a wrong NaN */
} signsplit_check_result;

/** Compares `actual` with the composite reference `exact`, `count` elements each. With `bound` (of signsplit_error_bound or
 *  signsplit_kernel_bound), an element may be off by its bound and half an ulp of the exact value, which was rounded; an
 *  infinite bound allows anything but a number in place of a NaN. Without (NULL), only equal elements pass. Answers
 *  SIGNSPLIT_OK whether or not the check passed: look at result->passed. `struct_size` is sizeof(signsplit_check_result). */
SIGNSPLIT_API signsplit_status signsplit_check(const float* actual, const float* exact, const double* bound, size_t count,
                                               signsplit_check_result* result, size_t struct_size);

/* ---- Predictions ------------------------------------------------------------------------------------------------- */

/** Predicts times without running anything. `request` is a JSON object:
 *
 *    d_model, d_ff   the shape (required)
 *    hardware        "host", a built-in profile's name, or a file (default "host")
 *    dtype, activation, gated, batch     as for the weights (bf16, relu, false, 1)
 *    active          fraction of units that are open, in (0, 1] (default 1)
 *    residency       "cold" or "warm" (default cold)
 *    launch_mode     of a GPU: "stream", "graph", "programmatic" or "cooperative" (default graph)
 *    threads, isa    0 and "" for the machine's
 *    plans           names or plan objects (default: every schedule that is valid for the problem)
 *
 *  `answer` receives a JSON object with the keys of `signsplit predict --json`: cases[], decision and auto. Free it with
 *  signsplit_string_destroy. */
SIGNSPLIT_API signsplit_status signsplit_predict(const char* request, char** answer);

/** The plan that `auto` is for these weights on this machine, and a batch of tokens like x [batch, D], of which one call tells
 *  which units are open. `mode` is "estimate" (NULL: the same; the simulator decides, on the profile that `signsplit calibrate`
 *  wrote, and what was measured before is remembered) or "measure" (times the candidates on these weights and this x, and
 *  remembers the answer; about a second). threads and isa as for signsplit_ffn_create, whose plan `plan` can be: JSON, to be
 *  freed with signsplit_string_destroy. Its bits are those of row_fused. */
SIGNSPLIT_API signsplit_status signsplit_choose_plan(const signsplit_weights* weights, int64_t batch, const float* x, size_t x_count,
                                                     const char* mode, int threads, const char* isa, char** plan);

SIGNSPLIT_API void signsplit_string_destroy(char* string);

#ifdef __cplusplus
}
#endif

#endif /* SIGNSPLIT_SIGNSPLIT_H */
