// Random numbers that are the same on any machine and with any number of threads: each follows from
// a seed and its place alone.
#pragma once

#include "kernels/signatures/Signature.h"

#include <cstddef>
#include <cstdint>
#include <span>

namespace switchyard::bench {

/// 64 random bits of `counter`: SplitMix64 (Steele, Lea, Flood 2014).
uint64_t randomBits(uint64_t counter);

/// Fills `values`, elements of `dtype` (F32 or BF16), with elements [begin, ...) of the tensor that
/// `seed` stands for: uniform around 0 with standard deviation `deviation`. Works with as many
/// threads as the host has cores.
void fillUniform(uint64_t seed, int64_t begin, float deviation, kernels::DType dtype,
                 std::span<std::byte> values);

} // namespace switchyard::bench
