// Where the model is that a scenario names.
#pragma once

#include "runtime/core/Status.h"

#include <cstdint>
#include <string>

namespace switchyard::bench {

/// The folder of the model `name`: a folder with a config.json, from here or beside `file` or above
/// it, or the snapshot of that name in the hub's cache (HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME or
/// ~/.cache, as huggingface_hub has it). Nothing is downloaded. InvalidInput: it is in none of
/// them.
Result<std::string> findModel(const std::string &name, const std::string &file);

/// What the config.json in `folder` says; 0 if it says nothing that is known. moe-compile reads it
/// strictly.
int64_t numExperts(const std::string &folder);

} // namespace switchyard::bench
