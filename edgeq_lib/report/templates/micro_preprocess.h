/* Pixels to the input of $name, and its output to scores. Written by edgeq; standard C99. */
#ifndef EDGEQ_PREPROCESS_H_
#define EDGEQ_PREPROCESS_H_

#include <stdint.h>

#define MODEL_HEIGHT $height
#define MODEL_WIDTH $width
#define MODEL_CHANNELS $channels
#define MODEL_INPUTS (MODEL_HEIGHT * MODEL_WIDTH * MODEL_CHANNELS)
#define MODEL_OUTPUTS $outputs

typedef $input_type model_input_t;   /* scale $input_scale, zero point $input_zero */
typedef $output_type model_output_t; /* scale $output_scale, zero point $output_zero */

#ifdef __cplusplus
extern "C" {
#endif

/* Turn an image into the values of the model's input tensor.
   pixels: MODEL_INPUTS bytes: rows from the top, then columns, then channels ($order).
   input: MODEL_INPUTS values in the type of the tensor. */
void model_preprocess(const uint8_t *pixels, model_input_t *input);

/* The score that one value of the output tensor stands for ($meaning). */
float model_dequantize(model_output_t value);

/* The index of the likeliest class; of classes that tie the first. */
int model_best_class(const model_output_t *output);

/* A checksum (FNV-1a, 32 bits, low byte first) of MODEL_INPUTS values of the input tensor. */
uint32_t model_checksum(const model_input_t *input);

#ifdef __cplusplus
}
#endif

#endif /* EDGEQ_PREPROCESS_H_ */
