/* Written by edgeq for $name. Nothing here computes in floats but model_dequantize. */
#include "preprocess.h"

#include <string.h>

/* What each pixel becomes: $formula,
   computed by edgeq itself in float32, halves to the even code. $rows_are. */
static const model_input_t kValues[$rows][256] = {
$table
};

void model_preprocess(const uint8_t *pixels, model_input_t *input) {
  int32_t place;
  int channel;
  for (place = 0; place < (int32_t)MODEL_HEIGHT * MODEL_WIDTH; ++place) {
    for (channel = 0; channel < MODEL_CHANNELS; ++channel) {
      input[channel] = kValues[$row][pixels[$source]];
    }
    pixels += MODEL_CHANNELS;
    input += MODEL_CHANNELS;
  }
}

float model_dequantize(model_output_t value) { return $dequantized; }

int model_best_class(const model_output_t *output) {
$best
}

uint32_t model_checksum(const model_input_t *input) {
  uint32_t sum = UINT32_C(2166136261);
  int32_t place;
  unsigned byte;
  for (place = 0; place < (int32_t)MODEL_INPUTS; ++place) {
    $bits_type bits;
    memcpy(&bits, &input[place], sizeof bits);
    for (byte = 0; byte < sizeof bits; ++byte) {
      sum = (sum ^ (((uint32_t)bits >> (8 * byte)) & 0xffu)) * UINT32_C(16777619);
    }
  }
  return sum;
}
