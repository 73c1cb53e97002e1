// The memory that w4a8_classifier4 needs at run time. Written by edgeq.
//
// Measured: it ran in 47968 bytes, of which activations and scratch buffers took 40960
//   (tflite-micro 0.dev20261023182759 on a computer, reference kernels).
// Reserve: 3328 bytes. 2304 of them for the column buffer that CMSIS-NN asks for in the
//   largest convolution (estimated), 1024 for what differs between versions of the runtime.
// If the arena is too small, AllocateTensors() fails and says how many bytes are missing.
#ifndef EDGEQ_ARENA_H_
#define EDGEQ_ARENA_H_

constexpr int kTensorArenaSize = 51296;  // 47968 + 3328, in steps of 16

#endif  // EDGEQ_ARENA_H_
