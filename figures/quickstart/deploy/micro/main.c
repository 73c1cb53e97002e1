/* A check for any C99 compiler, on the host or on the board, without TensorFlow Lite Micro:
     cc -std=c99 -Wall -Werror main.c preprocess.c labels.c test_image.c -o check && ./check
   It turns the stored test image into the model's input and compares the checksum with edgeq's. */
#include <inttypes.h>
#include <stdio.h>

#include "labels.h"
#include "preprocess.h"
#include "test_image.h"

static model_input_t input[MODEL_INPUTS];

int main(void) {
  uint32_t sum;
  int best = model_best_class(kTestOutput);
  model_preprocess(kTestImage, input);
  sum = model_checksum(input);
  printf("checksum %08" PRIx32 ", edgeq's %08" PRIx32 "\n", sum, kTestChecksum);
  printf("the micro runtime answered %s (%.6g)\n", kLabels[best],
         (double)model_dequantize(kTestOutput[MODEL_OUTPUTS > 1 ? best : 0]));
  return sum == kTestChecksum ? 0 : 1;
}
