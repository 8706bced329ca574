#include "dialects/interfaces/RecomputableOpInterface.h"

#include "dialects/interfaces/RecomputableOpInterface.cpp.inc"
