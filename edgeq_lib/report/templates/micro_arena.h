// The memory that $name needs at run time. Written by edgeq.
//
// Measured: it ran in $measured bytes, of which activations and scratch buffers took $head
//   ($runtime on a computer, reference kernels).
// Reserve: $reserve bytes. $columns of them for the column buffer that CMSIS-NN asks for in the
//   largest convolution (estimated), $slack for what differs between versions of the runtime.
// If the arena is too small, AllocateTensors() fails and says how many bytes are missing.
#ifndef EDGEQ_ARENA_H_
#define EDGEQ_ARENA_H_

constexpr int kTensorArenaSize = $size;  // $measured + $reserve, in steps of $alignment

#endif  // EDGEQ_ARENA_H_
