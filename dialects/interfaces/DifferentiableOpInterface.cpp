#include "dialects/interfaces/DifferentiableOpInterface.h"

#include "dialects/interfaces/DifferentiableOpInterface.cpp.inc"
