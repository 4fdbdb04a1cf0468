/* Compiled as strict C99 with every warning: that is the test. The calls keep the types of the interface what they are. */
#include "signsplit/signsplit.h"

signsplit_status run_one_token(const float* up, const float* down, const float* x, float* y);

signsplit_status run_one_token(const float* up, const float* down, const float* x, float* y) {
  signsplit_layer layer = signsplit_layer_make(4, 8, SIGNSPLIT_F32);
  signsplit_weights* weights = NULL;
  signsplit_ffn* ffn = NULL;
  signsplit_statistics statistics;
  signsplit_status status;
  layer.up = up;
  layer.down = down;
  status = signsplit_weights_create(&layer, &weights);
  if (status == SIGNSPLIT_OK) status = signsplit_ffn_create(weights, 1, "row_fused+skip", 0, NULL, &ffn);
  if (status == SIGNSPLIT_OK) status = signsplit_ffn_run(ffn, x, 4, y, 4, NULL, 0);
  if (status == SIGNSPLIT_OK) status = signsplit_ffn_statistics(ffn, &statistics, sizeof statistics);
  signsplit_ffn_destroy(ffn);
  signsplit_weights_destroy(weights);
  return status;
}
