#include "tools/moe-bench/ModelFolder.h"

#include "runtime/core/File.h"
#include "runtime/core/Json.h"
#include "tools/moe-bench/ScenarioArguments.h"

#include <cstdlib>

namespace switchyard::bench {

namespace {

std::string environment(const char *name) {
  const char *value = std::getenv(name);
  return value ? value : "";
}

/// The folder that huggingface_hub keeps models in.
std::string hubCache() {
  if (std::string cache = environment("HF_HUB_CACHE"); !cache.empty())
    return cache;
  if (std::string home = environment("HF_HOME"); !home.empty())
    return joinPath(home, "hub");
  if (std::string cache = environment("XDG_CACHE_HOME"); !cache.empty())
    return joinPath(cache, "huggingface/hub");
  return joinPath(environment("HOME"), ".cache/huggingface/hub");
}

/// The folder that has the revision "main" of `name`; empty if there is none.
std::string cachedModel(const std::string &name) {
  constexpr uint64_t kMaxReference = 256;
  std::string folder = "models--";
  for (char c : name)
    folder += c == '/' ? std::string("--") : std::string(1, c);
  folder = joinPath(hubCache(), folder);
  Result<std::string> reference = readFile(joinPath(folder, "refs/main"), kMaxReference);
  if (!reference.ok())
    return "";
  const std::string revision = reference->substr(0, reference->find_first_of(" \r\n"));
  if (revision.empty() || revision.find_first_not_of("0123456789abcdef") != std::string::npos)
    return "";
  return joinPath(joinPath(folder, "snapshots"), revision);
}

bool isModel(const std::string &folder) {
  return !folder.empty() && fileExists(joinPath(folder, "config.json"));
}

} // namespace

Result<std::string> findModel(const std::string &name, const std::string &file) {
  const std::string beside = findBeside(name, file).value_or("");
  if (isModel(beside))
    return beside;
  if (std::string cached = cachedModel(name); isModel(cached))
    return cached;
  return Status::invalidInput("the model " + quoteJson(name) +
                              " is no folder with a config.json, neither from here nor from " +
                              file + ", nor in the hub's cache " + hubCache() +
                              "; download it (hf download) or name a folder");
}

int64_t numExperts(const std::string &folder) {
  constexpr int64_t kMost = 1 << 20;
  Result<Json> config = readJson(joinPath(folder, "config.json"));
  if (!config.ok())
    return 0;
  for (const char *key : {"num_local_experts", "num_experts"})
    if (Result<int64_t> experts = getInteger(*config, key, 1, kMost); experts.ok())
      return *experts;
  return 0;
}

} // namespace switchyard::bench
