/* Written by edgeq for w4a8_classifier4. Nothing here computes in floats but model_dequantize. */
#include "preprocess.h"

#include <string.h>

/* What each pixel becomes: round((pixel - 127.5) / 127.5 / 0.00787401572) - 1,
   computed by edgeq itself in float32, halves to the even code. One row for all channels. */
static const model_input_t kValues[1][256] = {
  {
    -128,-127,-126,-125,-124,-123,-122,-121,-120,-119,-118,-117,-116,-115,-114,-113,-112,-111,-110,-109,-108,-107,-106,-105,
    -104,-103,-102,-101,-100,-99,-98,-97,-96,-95,-94,-93,-92,-91,-90,-89,-88,-87,-86,-85,-84,-83,-82,-81,
    -80,-79,-78,-77,-76,-75,-74,-73,-72,-71,-70,-69,-68,-67,-66,-65,-64,-63,-62,-61,-60,-59,-58,-57,
    -56,-55,-54,-53,-52,-51,-50,-49,-48,-47,-46,-45,-44,-43,-42,-41,-40,-39,-38,-37,-36,-35,-34,-33,
    -32,-31,-30,-29,-28,-27,-26,-25,-24,-23,-22,-21,-20,-19,-18,-17,-16,-15,-14,-13,-12,-11,-10,-9,
    -8,-7,-6,-5,-4,-3,-2,-1,-1,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,
    15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,
    39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,
    63,64,65,66,67,68,69,70,71,72,73,74,75,76,77,78,79,80,81,82,83,84,85,86,
    87,88,89,90,91,92,93,94,95,96,97,98,99,100,101,102,103,104,105,106,107,108,109,110,
    111,112,113,114,115,116,117,118,119,120,121,122,123,124,125,126
  }
};

void model_preprocess(const uint8_t *pixels, model_input_t *input) {
  int32_t place;
  int channel;
  for (place = 0; place < (int32_t)MODEL_HEIGHT * MODEL_WIDTH; ++place) {
    for (channel = 0; channel < MODEL_CHANNELS; ++channel) {
      input[channel] = kValues[0][pixels[channel]];
    }
    pixels += MODEL_CHANNELS;
    input += MODEL_CHANNELS;
  }
}

float model_dequantize(model_output_t value) { return ((float)value - (-34.0f)) * 0.0548708625f; }

int model_best_class(const model_output_t *output) {
  int best = 0, index;
  for (index = 1; index < MODEL_OUTPUTS; ++index) {
    if (output[index] > output[best]) best = index;
  }
  return best;
}

uint32_t model_checksum(const model_input_t *input) {
  uint32_t sum = UINT32_C(2166136261);
  int32_t place;
  unsigned byte;
  for (place = 0; place < (int32_t)MODEL_INPUTS; ++place) {
    uint8_t bits;
    memcpy(&bits, &input[place], sizeof bits);
    for (byte = 0; byte < sizeof bits; ++byte) {
      sum = (sum ^ (((uint32_t)bits >> (8 * byte)) & 0xffu)) * UINT32_C(16777619);
    }
  }
  return sum;
}
