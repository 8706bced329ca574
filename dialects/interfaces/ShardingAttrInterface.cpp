#include "dialects/interfaces/ShardingAttrInterface.h"

#include "dialects/interfaces/ShardingAttrInterface.cpp.inc"
