/* w4a8_classifier4 as an array that the runtime reads where it lies, in flash. Written by edgeq. */
#ifndef EDGEQ_MODEL_H_
#define EDGEQ_MODEL_H_

/* SHA-256 of the bytes: b350b4c748f3214c5e1bc561eef53c3d56c8ed30bbf147a6d0669e59bed8f8f0 */
extern const unsigned char kModel[];
extern const unsigned int kModelBytes; /* 52,352 */

#endif /* EDGEQ_MODEL_H_ */
