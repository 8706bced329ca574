// Reads a model's config.json with strict field discipline: every key is either read by the
// family's importer, known to have no effect on training, or refused by name. Nothing is silently
// ignored.
#pragma once

#include "runtime/core/Json.h"
#include "runtime/core/Status.h"

#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace switchyard::compiler {

/// The first fault is kept; after it every accessor returns a harmless value (within the bounds
/// asked for), so that a family reads its fields one after the other and asks status() once. A key
/// that was asked for counts as read.
class ConfigReader {
public:
  /// `path` names the file in messages. `object` outlives the reader.
  ConfigReader(std::string path, const Json &object);

  const std::string &path() const { return path_; }
  const Status &status() const { return status_; }

  /// Whether `key` stands there, with a value other than null.
  bool has(std::string_view key);

  /// An integer in [low, high]; without `fallback` the key must be there. null counts as absent.
  int64_t integer(std::string_view key, int64_t low, int64_t high,
                  std::optional<int64_t> fallback = std::nullopt);
  /// A number in [low, high].
  double number(std::string_view key, double low, double high,
                std::optional<double> fallback = std::nullopt);
  bool boolean(std::string_view key, bool fallback);
  std::string string(std::string_view key, std::optional<std::string> fallback = std::nullopt);

  /// The theta of unscaled rotary embeddings: `rope_parameters` (transformers 5) or `rope_theta` at
  /// the top level (before), with `rope_scaling` null. Any other kind of rotary embedding is
  /// refused by its name.
  double ropeTheta(double fallback);

  /// "float32" or "bfloat16" as `dtype` (transformers 5) or `torch_dtype` (before); "" if neither
  /// is there. Another dtype is returned as it stands.
  std::string dtype();

  /// Refuses a value of `key` that changes the result and that is not built. `expected` says what
  /// is ("0", "null").
  void refuse(std::string_view key, const std::string &found, const std::string &expected);
  void requireZero(std::string_view key);
  void requireNull(std::string_view key);
  void requireFalse(std::string_view key);

  /// pad_token_id: transformers gives that row of the embedding no gradient. Tokens are unpadded
  /// here, so that the row is never read and its gradient is zero too, unless the id has a second
  /// role: that is refused.
  void checkPadToken(int64_t vocabSize);

  /// `architectures`, where it is there, names exactly this one.
  void requireArchitecture(std::string_view architecture);

  /// Records a fault of the config as a whole.
  void fail(const std::string &message);

  /// Refuses the first key that was not read and is not known to have no effect.
  void finish();

private:
  const Json *find(std::string_view key);
  void readRopeObject(std::string_view key, const Json &object, std::optional<double> &theta);

  std::string path_;
  const Json &object_;
  std::set<std::string, std::less<>> read_;
  Status status_;
};

} // namespace switchyard::compiler
