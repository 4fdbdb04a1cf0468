/* C: pack a layer from memory, run it, and compare with the exact result.   05_c_api */
#include <signsplit/signsplit.h>
#include <stdio.h>

enum { D = 96, F = 256 };

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, signsplit_last_error());
  return 1;
}

/* Numbers like a real layer's: small, of both signs, always the same. */
static void fill(float* values, size_t count, uint32_t seed) {
  for (size_t i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    values[i] = (float)(int32_t)seed / 2147483648.0f / 8.0f;
  }
}

int main(void) {
  static float up[F * D], down[D * F], x[D], y[D];
  static double bound[D];
  fill(up, F * D, 1);
  fill(down, D * F, 2);
  fill(x, D, 3);

  signsplit_layer layer = signsplit_layer_make(D, F, SIGNSPLIT_F32);
  layer.activation = "relu";
  layer.up = up;     /* [F, D] */
  layer.down = down; /* [D, F] */
  signsplit_weights* weights;
  if (signsplit_weights_create(&layer, &weights) != SIGNSPLIT_OK) return failed("weights");

  signsplit_ffn* ffn;
  if (signsplit_ffn_create(weights, 1, "row_fused+skip", 0, NULL, &ffn) != SIGNSPLIT_OK) return failed("ffn");
  if (signsplit_ffn_run(ffn, x, D, y, D, NULL, 0) != SIGNSPLIT_OK) return failed("run");
  signsplit_statistics counted;
  signsplit_ffn_statistics(ffn, &counted, sizeof counted);
  printf("signsplit %s, plan %s\n", signsplit_version(), signsplit_ffn_plan(ffn));
  printf("%d of %d hidden units active, y[0] = %a\n", (int)counted.active, F, (double)y[0]);

  signsplit_reference* exact;
  signsplit_check_result result;
  if (signsplit_reference_create(weights, SIGNSPLIT_COMPOSITE, 1, x, D, 0, &exact) != SIGNSPLIT_OK) return failed("reference");
  if (signsplit_error_bound(weights, "row_fused+skip", 1, x, D, bound, D) != SIGNSPLIT_OK) return failed("bound");
  signsplit_check(y, signsplit_reference_y(exact), bound, D, &result, sizeof result);
  printf("%s: %zu of %d outputs exact, at most %.3f of what rounding may do\n", result.passed ? "right" : "WRONG", result.equal, D,
         result.worst_bound_fraction);

  signsplit_reference_destroy(exact);
  signsplit_ffn_destroy(ffn);
  signsplit_weights_destroy(weights);
  return result.passed ? 0 : 1;
}
