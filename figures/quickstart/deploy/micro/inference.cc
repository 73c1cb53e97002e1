// w4a8_classifier4 in TensorFlow Lite Micro: call model_setup() once, then model_classify() per image.
// Written by edgeq. It needs the runtime's headers, so edgeq has not compiled it against them.
#include "arena.h"
#include "model.h"
#include "preprocess.h"
#include "resolver.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace {
alignas(16) uint8_t arena[kTensorArenaSize];
ModelResolver resolver;
tflite::MicroInterpreter* interpreter = nullptr;
}  // namespace

// Returns false where the runtime lacks an operation or the arena is too small; it says which.
bool model_setup() {
  if (AddModelOperations(resolver) != kTfLiteOk) return false;
  static tflite::MicroInterpreter made(tflite::GetModel(kModel), resolver, arena, kTensorArenaSize);
  interpreter = &made;
  return made.AllocateTensors() == kTfLiteOk;
}

// pixels: as model_preprocess takes them. Returns the class, its score in *score; -1 on failure.
int model_classify(const uint8_t* pixels, float* score) {
  model_preprocess(pixels, static_cast<model_input_t*>(interpreter->input(0)->data.data));
  if (interpreter->Invoke() != kTfLiteOk) return -1;
  const auto* output = static_cast<const model_output_t*>(interpreter->output(0)->data.data);
  const int best = model_best_class(output);
  *score = model_dequantize(output[MODEL_OUTPUTS > 1 ? best : 0]);
  return best;
}
