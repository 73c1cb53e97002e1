/* An image of the study's test split and what becomes of it. By edgeq. */
#ifndef EDGEQ_TEST_IMAGE_H_
#define EDGEQ_TEST_IMAGE_H_

#include "preprocess.h"

#ifdef __cplusplus
extern "C" {
#endif
extern const uint8_t kTestImage[MODEL_INPUTS];
/* Of the input that model_preprocess makes of it. */
extern const uint32_t kTestChecksum;
/* What the micro runtime answered to it on a computer. */
extern const model_output_t kTestOutput[MODEL_OUTPUTS];
#ifdef __cplusplus
}
#endif

#endif /* EDGEQ_TEST_IMAGE_H_ */
