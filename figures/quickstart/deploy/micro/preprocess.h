/* Pixels to the input of w4a8_classifier4, and its output to scores. Written by edgeq; standard C99. */
#ifndef EDGEQ_PREPROCESS_H_
#define EDGEQ_PREPROCESS_H_

#include <stdint.h>

#define MODEL_HEIGHT 16
#define MODEL_WIDTH 16
#define MODEL_CHANNELS 3
#define MODEL_INPUTS (MODEL_HEIGHT * MODEL_WIDTH * MODEL_CHANNELS)
#define MODEL_OUTPUTS 10

typedef int8_t model_input_t;   /* scale 0.00787401572, zero point -1 */
typedef int8_t model_output_t; /* scale 0.0548708625, zero point -34 */

#ifdef __cplusplus
extern "C" {
#endif

/* Turn an image into the values of the model's input tensor.
   pixels: MODEL_INPUTS bytes: rows from the top, then columns, then channels (red, green, blue).
   input: MODEL_INPUTS values in the type of the tensor. */
void model_preprocess(const uint8_t *pixels, model_input_t *input);

/* The score that one value of the output tensor stands for (logits). */
float model_dequantize(model_output_t value);

/* The index of the likeliest class; of classes that tie the first. */
int model_best_class(const model_output_t *output);

/* A checksum (FNV-1a, 32 bits, low byte first) of MODEL_INPUTS values of the input tensor. */
uint32_t model_checksum(const model_input_t *input);

#ifdef __cplusplus
}
#endif

#endif /* EDGEQ_PREPROCESS_H_ */
