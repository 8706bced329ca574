// JSON that comes from outside: config.json, data files, headers of safetensors files. Parsed by
// simdjson into a tree that owns its text, with caps on size, nesting and number of values, and
// duplicate keys refused. Also writes JSON.
//
// Messages name the file (as given to the parser) and the field, what was found and what was
// expected:
//   config.json: "hidden_size" is "big", expected an integer in [1, 262144]
// The get functions below know only the field; callers add the file with Status::within.
#pragma once

#include "runtime/core/Status.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace switchyard {

/// A JSON value. Integers that fit int64 are Integer, all other numbers Real.
class Json {
public:
  enum class Kind : uint8_t { Null, Boolean, Integer, Real, String, Array, Object };
  struct Member;

  Json();
  Json(bool value);
  Json(int value);
  Json(int64_t value);
  Json(double value);
  Json(std::string value);
  Json(const char *value);
  static Json array();
  static Json object();
  /// An object of `members` in that order. A key that is there twice is returned in `twice`,
  /// quoted.
  static Json objectOf(std::vector<Member> members, std::string &twice);
  Json(Json &&) noexcept;
  Json &operator=(Json &&) noexcept;
  ~Json();

  Kind kind() const;
  bool isNull() const { return kind() == Kind::Null; }
  bool isObject() const { return kind() == Kind::Object; }
  bool isArray() const { return kind() == Kind::Array; }
  bool isString() const { return kind() == Kind::String; }
  bool isInteger() const { return kind() == Kind::Integer; }
  bool isNumber() const { return kind() == Kind::Integer || kind() == Kind::Real; }

  /// Each is for values of its kind only; real() is also for integers.
  bool boolean() const;
  int64_t integer() const;
  double real() const;
  const std::string &string() const;
  /// The elements of an array; of any other kind none.
  std::span<const Json> items() const;
  /// The members of an object in the file's order; of any other kind none.
  std::span<const Member> members() const;
  /// The value of `key`; null if there is none or this is no object. Logarithmic in the number of
  /// members.
  const Json *find(std::string_view key) const;

  /// Object: sets `key`, in its place if it is there, else behind the others.
  void set(std::string key, Json value);
  /// Array: appends.
  void append(Json value);

  /// As text: one line, or with `indent` > 0 one line per value. Reals keep a point or an exponent
  /// and read back as the same double. Not for infinities or NaN, which JSON has no text for: they
  /// become null.
  std::string dump(int indent = 0) const;

  /// What messages show: `"text"`, cut after 40 characters; `3`; `null`; `an array of 3`; `an
  /// object`.
  std::string describe() const;

private:
  struct Object;
  using Array = std::vector<Json>;
  // In the order of Kind. Behind pointers: the types are recursive, and a value stays small.
  std::variant<std::monostate, bool, int64_t, double, std::string, std::unique_ptr<Array>,
               std::unique_ptr<Object>>
      value_;
};

struct Json::Member {
  std::string key;
  Json value;
};

struct JsonLimits {
  uint64_t maxBytes = uint64_t{100} << 20;
  int maxDepth = 32; // of arrays and objects inside each other, at most kMaxJsonDepth
  uint64_t maxValues = uint64_t{1} << 24;
};
inline constexpr int kMaxJsonDepth = 256;

/// Parses `text`; `file` is what messages call it. A byte order mark is skipped. Fails with
/// InvalidInput: no JSON (with line and column), text after the value, a key twice in an object, a
/// cap exceeded.
Result<Json> parseJson(std::string_view text, const std::string &file,
                       const JsonLimits &limits = {});

/// Parses the file at `path`.
Result<Json> readJson(const std::string &path, const JsonLimits &limits = {});

/// The member `key` of `object`, which must be there and of that kind (and in that range). Fails
/// with InvalidInput:
///   "key" is missing, expected a string        "key" is 3, expected a string
Result<std::string> getString(const Json &object, std::string_view key);
Result<bool> getBool(const Json &object, std::string_view key);
Result<int64_t> getInteger(const Json &object, std::string_view key, int64_t low, int64_t high);
Result<double> getNumber(const Json &object, std::string_view key, double low, double high);
Result<const Json *> getArray(const Json &object, std::string_view key);
Result<const Json *> getObject(const Json &object, std::string_view key);

/// `text` as a JSON string with its quotes, escaped to ASCII control characters only.
std::string quoteJson(std::string_view text);

} // namespace switchyard
