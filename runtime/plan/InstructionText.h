// What an instruction of a plan does, as one line for people.
#pragma once

#include "runtime/plan/Plan.h"

#include <string>

namespace switchyard {

/// "embed f32[12, 8]" of a state, "loss f32[]" of an input or output, "%7 f32[T, 8]" of other
/// memory, by its number in the program.
std::string bufferText(const Plan &plan, const Program &program, uint32_t buffer);

/// "linear(x = %3 f32[T, 8], w = head f32[12, 8], y = %4 f32[T, 12])", then attributes, axes and
/// the stream where it is not the first. Of a verified plan; what names the same memory has the
/// same text, wherever it lies.
std::string describe(const Plan &plan, const Program &program, const Instruction &instruction);

} // namespace switchyard
