/* The classes, in the order of the outputs; UTF-8. Written by edgeq. */
#ifndef EDGEQ_LABELS_H_
#define EDGEQ_LABELS_H_

#ifdef __cplusplus
extern "C" {
#endif
extern const char *const kLabels[10];
#ifdef __cplusplus
}
#endif

#endif /* EDGEQ_LABELS_H_ */
