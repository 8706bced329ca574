#include "dialects/interfaces/LinearOpInterface.h"

#include "dialects/interfaces/LinearOpInterface.cpp.inc"
