// The operations of $name and no others, so that the linker takes no others. Written by edgeq.
#ifndef EDGEQ_RESOLVER_H_
#define EDGEQ_RESOLVER_H_

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

using ModelResolver = tflite::MicroMutableOpResolver<$count>;

inline TfLiteStatus AddModelOperations(ModelResolver& resolver) {
$operations
  return kTfLiteOk;
}

#endif  // EDGEQ_RESOLVER_H_
