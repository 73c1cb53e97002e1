// The operations of w4a8_classifier4 and no others, so that the linker takes no others. Written by edgeq.
#ifndef EDGEQ_RESOLVER_H_
#define EDGEQ_RESOLVER_H_

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

using ModelResolver = tflite::MicroMutableOpResolver<4>;

inline TfLiteStatus AddModelOperations(ModelResolver& resolver) {
  TF_LITE_ENSURE_STATUS(resolver.AddAdd());
  TF_LITE_ENSURE_STATUS(resolver.AddConv2D());
  TF_LITE_ENSURE_STATUS(resolver.AddMean());
  TF_LITE_ENSURE_STATUS(resolver.AddReshape());
  return kTfLiteOk;
}

#endif  // EDGEQ_RESOLVER_H_
