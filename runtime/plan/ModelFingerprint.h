// The fingerprint that ties a plan to a model: made of what config.json says about training, so
// that the compiler (which writes it into the plan) and the trainer (which compares) need nothing
// else in common.
#pragma once

#include "runtime/core/Json.h"

#include <span>
#include <string>
#include <string_view>

namespace switchyard {

/// Keys of config.json that change nothing about how a model trains: caching, generation, names.
/// Sorted.
std::span<const std::string_view> configKeysWithoutEffect();

/// The fingerprint of a config.json's object, 16 hexadecimal digits. The order of the keys, members
/// that are null, keys without effect and the stored dtype (the precision is a choice of its own)
/// do not matter.
std::string modelFingerprint(const Json &config);

} // namespace switchyard
