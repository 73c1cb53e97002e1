// $name, written by edgeq.
#include "model.h"

alignas($alignment) const unsigned char kModel[] = {
$table
};
const unsigned int kModelBytes = sizeof kModel;
