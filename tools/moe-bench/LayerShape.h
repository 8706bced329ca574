// The shape of a mixture-of-experts layer, and those of models that people train.
#pragma once

#include "runtime/core/Status.h"

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard::bench {

struct LayerShape {
  int64_t tokens = 0;     // T
  int64_t width = 0;      // D
  int64_t expertSize = 0; // F
  int64_t experts = 0;    // E
  int64_t topK = 0;       // K
};

/// "16384,4096,14336,8,2", T,D,F,E,K. Usage, saying so, if it is anything else, an extent is out of
/// its range or K is more than E.
Result<LayerShape> parseLayerShape(const std::string &text);

/// "mixtral-8x7b" and others, each once. bench/peers/shapes.py has the same.
std::vector<std::string> modelNames();

/// Of a name that is one of these.
LayerShape modelShape(const std::string &name, int64_t tokens);

} // namespace switchyard::bench
