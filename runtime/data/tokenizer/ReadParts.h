// What the readers of tokenizer.json's parts have in common.
#pragma once

#include "runtime/core/Status.h"

#include <cstddef>
#include <string>

namespace switchyard {

/// The part `what` has a type that nothing here is for: "{what} "{type}" {instead}".
Status unknownType(const char *what, const std::string &type, const char *instead);

/// Refuses more steps of a Sequence than any tokenizer has.
Status checkStepCount(size_t count);

} // namespace switchyard
