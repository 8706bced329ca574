// YAML that a person brings: scenario files, defaults, configurations. Read by yaml-cpp into a tree
// of texts that knows its lines, with caps on size, nesting and number of values (aliases count
// as often as they are used), and keys that are there twice refused.
#pragma once

#include "runtime/core/Status.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::bench {

/// A value and where it stands. Numbers and truth values are texts: who reads one knows what it
/// has to be.
struct YamlValue {
  enum class Kind : uint8_t { Null, Text, List, Map };
  struct Member;

  Kind kind = Kind::Null;
  std::string text;             // Text
  std::vector<YamlValue> items; // List
  std::vector<Member> members;  // Map, in the file's order
  int line = 0;                 // from 1

  bool isNull() const { return kind == Kind::Null; }
  /// The value of `key`; null if there is none or this is no map.
  const YamlValue *find(std::string_view key) const;
  /// What messages show: `"text"`, cut after 40 characters; `nothing`; `a list`; `a mapping`.
  std::string describe() const;
};

struct YamlValue::Member {
  std::string key;
  YamlValue value;
  int line = 0; // the key's
};

/// The one document in the file at `path`. InvalidInput, with the line: no YAML, several documents,
/// a key that is no text or is there twice, a cap exceeded.
Result<YamlValue> readYaml(const std::string &path);

/// true, yes and on, false, no and off, in any case, as YAML has them.
std::optional<bool> truthValue(const YamlValue &value);

/// "FILE: line 3".
std::string place(const std::string &file, int line);

} // namespace switchyard::bench
