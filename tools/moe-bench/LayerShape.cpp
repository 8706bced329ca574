#include "tools/moe-bench/LayerShape.h"

#include <algorithm>
#include <charconv>

namespace switchyard::bench {

namespace {

struct Model {
  const char *name;
  LayerShape shape; // of no tokens
};

constexpr Model kModels[] = {
    {"mixtral-8x7b", {0, 4096, 14336, 8, 2}},     {"mixtral-8x22b", {0, 6144, 16384, 8, 2}},
    {"olmoe-1b-7b", {0, 2048, 1024, 64, 8}},      {"qwen3-30b-a3b", {0, 2048, 768, 128, 8}},
    {"deepseek-v2-lite", {0, 2048, 1408, 64, 6}}, {"granite-3b", {0, 1536, 512, 40, 8}},
};

} // namespace

Result<LayerShape> parseLayerShape(const std::string &text) {
  LayerShape shape;
  int64_t *const extents[] = {&shape.tokens, &shape.width, &shape.expertSize, &shape.experts,
                              &shape.topK};
  const char *at = text.data(), *const end = at + text.size();
  bool isGood = true;
  for (int64_t *extent : extents) {
    auto [stop, error] = std::from_chars(at, end, *extent);
    const bool isLast = extent == &shape.topK;
    isGood &= error == std::errc() && *extent >= 1 && *extent <= (int64_t{1} << 20) &&
              (isLast ? stop == end : stop != end && *stop == ',');
    if (!isGood)
      break;
    at = stop + (isLast ? 0 : 1);
  }
  if (!isGood || shape.topK > shape.experts)
    return Status::usage("found the shape \"" + text +
                         "\", expected T,D,F,E,K: tokens, hidden size, expert size, experts and "
                         "experts of a token, integers from 1 to 2^20, and K at most E");
  return shape;
}

std::vector<std::string> modelNames() {
  std::vector<std::string> names;
  for (const Model &model : kModels)
    names.emplace_back(model.name);
  return names;
}

LayerShape modelShape(const std::string &name, int64_t tokens) {
  LayerShape shape = std::ranges::find(kModels, name, &Model::name)->shape;
  shape.tokens = tokens;
  return shape;
}

} // namespace switchyard::bench
