/* $name as an array that the runtime reads where it lies, in flash. Written by edgeq. */
#ifndef EDGEQ_MODEL_H_
#define EDGEQ_MODEL_H_

/* SHA-256 of the bytes: $sha256 */
extern const unsigned char kModel[];
extern const unsigned int kModelBytes; /* $bytes */

#endif /* EDGEQ_MODEL_H_ */
