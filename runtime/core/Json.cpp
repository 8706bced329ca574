#include "runtime/core/Json.h"

#include "runtime/core/File.h"
#include "runtime/core/JsonScan.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace switchyard {

// Small objects are searched member by member; larger ones keep the order of their keys.
struct Json::Object {
  static constexpr size_t kUnsorted = 8;

  std::vector<Member> members;
  std::vector<uint32_t> order; // the members by key; empty while there are at most kUnsorted

  const std::string &keyAt(uint32_t place) const { return members[place].key; }

  Member *find(std::string_view key) {
    if (order.empty()) {
      auto found = std::ranges::find(members, key, &Member::key);
      return found == members.end() ? nullptr : &*found;
    }
    auto found = std::ranges::lower_bound(order, key, {},
                                          [&](uint32_t i) -> std::string_view { return keyAt(i); });
    return found == order.end() || keyAt(*found) != key ? nullptr : &members[*found];
  }

  /// Builds `order`; returns a key that is there twice, or null.
  const std::string *index() {
    order.resize(members.size());
    for (uint32_t i = 0; i < order.size(); ++i)
      order[i] = i;
    std::ranges::sort(order, {}, [&](uint32_t i) -> std::string_view { return keyAt(i); });
    auto twice = std::ranges::adjacent_find(
        order, {}, [&](uint32_t i) -> std::string_view { return keyAt(i); });
    const std::string *key = twice == order.end() ? nullptr : &keyAt(*twice);
    if (members.size() <= kUnsorted)
      order.clear();
    return key;
  }
};

Json::Json() = default;
Json::Json(bool value) : value_(value) {}
Json::Json(int value) : value_(int64_t{value}) {}
Json::Json(int64_t value) : value_(value) {}
Json::Json(double value) : value_(value) {}
Json::Json(std::string value) : value_(std::move(value)) {}
Json::Json(const char *value) : value_(std::string(value)) {}
Json::Json(Json &&) noexcept = default;
Json &Json::operator=(Json &&) noexcept = default;
Json::~Json() = default;

Json Json::array() {
  Json result;
  result.value_ = std::make_unique<Array>();
  return result;
}

Json Json::object() {
  Json result;
  result.value_ = std::make_unique<Object>();
  return result;
}

Json::Kind Json::kind() const {
  return static_cast<Kind>(value_.index());
}

bool Json::boolean() const {
  return std::get<bool>(value_);
}
int64_t Json::integer() const {
  return std::get<int64_t>(value_);
}
double Json::real() const {
  return isInteger() ? static_cast<double>(integer()) : std::get<double>(value_);
}
const std::string &Json::string() const {
  return std::get<std::string>(value_);
}

std::span<const Json> Json::items() const {
  return isArray() ? std::span<const Json>(*std::get<std::unique_ptr<Array>>(value_))
                   : std::span<const Json>();
}

std::span<const Json::Member> Json::members() const {
  return isObject() ? std::span<const Member>(std::get<std::unique_ptr<Object>>(value_)->members)
                    : std::span<const Member>();
}

const Json *Json::find(std::string_view key) const {
  if (!isObject())
    return nullptr;
  const Member *member = std::get<std::unique_ptr<Object>>(value_)->find(key);
  return member ? &member->value : nullptr;
}

void Json::set(std::string key, Json value) {
  Object &object = *std::get<std::unique_ptr<Object>>(value_);
  if (Member *member = object.find(key)) {
    member->value = std::move(value);
    return;
  }
  object.members.push_back({std::move(key), std::move(value)});
  auto place = static_cast<uint32_t>(object.members.size() - 1);
  if (!object.order.empty()) {
    auto behind =
        std::ranges::upper_bound(object.order, std::string_view(object.keyAt(place)), {},
                                 [&](uint32_t i) -> std::string_view { return object.keyAt(i); });
    object.order.insert(behind, place);
  } else if (object.members.size() > Object::kUnsorted) {
    object.index();
  }
}

void Json::append(Json value) {
  std::get<std::unique_ptr<Array>>(value_)->push_back(std::move(value));
}

static std::string realText(double value) {
  if (!std::isfinite(value))
    return "null";
  std::string text = fmt::format("{}", value);
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

namespace {

class Writer {
public:
  explicit Writer(int indent) : indent_(indent) {}

  void write(const Json &json, int depth) {
    switch (json.kind()) {
    case Json::Kind::Null:
      text += "null";
      break;
    case Json::Kind::Boolean:
      text += json.boolean() ? "true" : "false";
      break;
    case Json::Kind::Integer:
      text += std::to_string(json.integer());
      break;
    case Json::Kind::Real:
      text += realText(json.real());
      break;
    case Json::Kind::String:
      text += quoteJson(json.string());
      break;
    case Json::Kind::Array:
      list('[', ']', json.items(), depth, [&](const Json &item) { write(item, depth + 1); });
      break;
    case Json::Kind::Object:
      list('{', '}', json.members(), depth, [&](const Json::Member &member) {
        text += quoteJson(member.key);
        text += indent_ > 0 ? ": " : ":";
        write(member.value, depth + 1);
      });
      break;
    }
  }

  std::string text;

private:
  template <typename Item, typename Body>
  void list(char open, char close, std::span<const Item> items, int depth, const Body &body) {
    text += open;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0)
        text += ',';
      newLine(depth + 1);
      body(items[i]);
    }
    if (!items.empty())
      newLine(depth);
    text += close;
  }

  void newLine(int depth) {
    if (indent_ <= 0)
      return;
    text += '\n';
    text.append(static_cast<size_t>(indent_) * depth, ' ');
  }

  int indent_;
};

} // namespace

std::string Json::dump(int indent) const {
  Writer writer(indent);
  writer.write(*this, 0);
  return std::move(writer.text);
}

std::string Json::describe() const {
  constexpr size_t kShown = 40;
  switch (kind()) {
  case Kind::String: {
    if (string().size() <= kShown)
      return quoteJson(string());
    size_t cut = kShown; // not inside a UTF-8 sequence
    while (cut > 0 && (static_cast<unsigned char>(string()[cut]) & 0xc0) == 0x80)
      --cut;
    std::string text = quoteJson(std::string_view(string()).substr(0, cut));
    return text.insert(text.size() - 1, "...");
  }
  case Kind::Array:
    return fmt::format("an array of {}", items().size());
  case Kind::Object:
    return "an object";
  default:
    return dump();
  }
}

std::string quoteJson(std::string_view text) {
  std::string quoted = "\"";
  for (char c : text) {
    switch (c) {
    case '"':
      quoted += "\\\"";
      break;
    case '\\':
      quoted += "\\\\";
      break;
    case '\n':
      quoted += "\\n";
      break;
    case '\r':
      quoted += "\\r";
      break;
    case '\t':
      quoted += "\\t";
      break;
    default:
      if (static_cast<unsigned char>(c) < 0x20)
        quoted += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
      else
        quoted += c;
    }
  }
  return quoted += '"';
}

namespace {

/// From simdjson's document to a tree of our own.
class Builder {
public:
  Builder(uint64_t maxValues, int maxDepth) : left_(maxValues), levelsLeft_(maxDepth) {}

  // The recursion is as deep as the document, which the parser has capped.
  Json build(simdjson::dom::element element, const std::string &where) {
    if (left_ == 0) {
      fail("it has more values than are read at once; split it");
      return {};
    }
    --left_;
    using simdjson::dom::element_type;
    switch (element.type()) {
    case element_type::ARRAY:
      return nested([&] { return array(simdjson::dom::array(element), where); });
    case element_type::OBJECT:
      return nested([&] { return object(simdjson::dom::object(element), where); });
    case element_type::INT64:
      return int64_t(element);
    case element_type::UINT64:
      return static_cast<double>(uint64_t(element));
    case element_type::DOUBLE:
      return double(element);
    case element_type::STRING:
      return std::string(std::string_view(element));
    case element_type::BOOL:
      return bool(element);
    case element_type::NULL_VALUE:
      break;
    }
    return {};
  }

  const std::string &fault() const { return fault_; }
  bool tooDeep() const { return tooDeep_; }

private:
  template <typename Body>
  Json nested(const Body &body) {
    if (levelsLeft_ == 0) {
      tooDeep_ = true;
      fail("it is nested too deep");
      return {};
    }
    --levelsLeft_;
    Json result = body();
    ++levelsLeft_;
    return result;
  }

  Json array(simdjson::dom::array array, const std::string &where) {
    Json result = Json::array();
    for (simdjson::dom::element item : array) {
      result.append(build(item, where));
      if (!fault_.empty())
        break;
    }
    return result;
  }

  Json object(simdjson::dom::object object, const std::string &where) {
    std::vector<Json::Member> members;
    for (auto [key, value] : object) {
      members.push_back({std::string(key), build(value, std::string(key))});
      if (!fault_.empty())
        return {};
    }
    std::string twice;
    Json result = Json::objectOf(std::move(members), twice);
    if (!twice.empty())
      fail(fmt::format("the key {} is there twice{}; keep one of them", twice,
                       where.empty() ? "" : " in " + quoteJson(where)));
    return result;
  }

  void fail(std::string message) {
    if (fault_.empty())
      fault_ = std::move(message);
  }

  uint64_t left_;
  int levelsLeft_;
  bool tooDeep_ = false;
  std::string fault_;
};

} // namespace

Json Json::objectOf(std::vector<Member> members, std::string &twice) {
  Json result = object();
  Object &object = *std::get<std::unique_ptr<Object>>(result.value_);
  object.members = std::move(members);
  if (const std::string *key = object.index())
    twice = quoteJson(*key);
  return result;
}

static Status jsonFault(const std::string &file, const std::string &message) {
  return Status::invalidInput(file + ": " + message);
}

/// Whether `number` is written as an integer, and has more than 64 bits.
static bool isLongInteger(std::string_view number) {
  if (number.find_first_of(".eE") != std::string_view::npos)
    return false;
  int64_t integer;
  uint64_t positive;
  const char *begin = number.data(), *end = begin + number.size();
  return std::from_chars(begin, end, integer).ec == std::errc::result_out_of_range &&
         std::from_chars(begin, end, positive).ec != std::errc();
}

/// `text` with its long integers as reals, which simdjson takes.
static std::string withoutLongIntegers(std::string_view text) {
  std::string result;
  bool isInString = false;
  for (size_t at = 0; at < text.size();) {
    size_t begin = at++;
    char c = text[begin];
    if (c == '"')
      isInString = !isInString;
    else if (isInString && c == '\\' && at < text.size())
      ++at;
    else if (!isInString && (c == '-' || (c >= '0' && c <= '9')))
      at = std::min(text.find_first_not_of("+-.eE0123456789", at), text.size());
    std::string_view piece = text.substr(begin, at - begin);
    result += piece;
    if (isLongInteger(piece))
      result += "e0";
  }
  return result;
}

Result<Json> parseJson(std::string_view text, const std::string &file, const JsonLimits &limits) {
  if (text.size() > limits.maxBytes)
    return jsonFault(file, fmt::format("has {} bytes, at most {} are read as JSON; split it",
                                       text.size(), limits.maxBytes));
  if (text.starts_with("\xef\xbb\xbf"))
    text.remove_prefix(3);
  int maxDepth = std::min(limits.maxDepth, kMaxJsonDepth);
  simdjson::dom::parser parser;
  // simdjson counts one level more, and none for an empty array or object: the builder counts
  // those.
  if (parser.allocate(std::max<size_t>(text.size(), 1), static_cast<size_t>(maxDepth) + 1))
    return jsonFault(file, "no memory to parse it");
  simdjson::dom::element root;
  auto error = parser.parse(text.data(), text.size()).get(root);
  if (error == simdjson::NUMBER_ERROR) {
    // transformers writes 1000000000000000019884624838656 for no limit.
    std::string rewritten = withoutLongIntegers(text);
    error = parser.parse(rewritten).get(root);
  }
  Builder builder(limits.maxValues, maxDepth);
  Json result = error ? Json() : builder.build(root, "");
  if (error || builder.tooDeep()) {
    // simdjson knows no place: a scan of our own finds it.
    JsonFault fault = findJsonFault(text, maxDepth);
    std::string message = fault.message.empty() ? simdjson::error_message(error) : fault.message;
    std::string place = fault.message.empty()
                            ? ""
                            : fmt::format(" at line {}, column {}", fault.line, fault.column);
    return jsonFault(file, fmt::format("is not valid JSON{}: {}", place, message));
  }
  if (!builder.fault().empty())
    return jsonFault(file, builder.fault());
  return result;
}

Result<Json> readJson(const std::string &path, const JsonLimits &limits) {
  SY_ASSIGN_OR_RETURN(std::string text, readFile(path, limits.maxBytes));
  return parseJson(text, path, limits);
}

namespace {

Status mismatch(const Json *value, std::string_view key, const std::string &expected) {
  std::string found = value ? "is " + value->describe() : "is missing";
  return Status::invalidInput(fmt::format("{} {}, expected {}", quoteJson(key), found, expected));
}

Result<const Json *> getKind(const Json &object, std::string_view key, Json::Kind kind,
                             const char *expected) {
  const Json *value = object.find(key);
  if (!value || value->kind() != kind)
    return mismatch(value, key, expected);
  return value;
}

} // namespace

Result<std::string> getString(const Json &object, std::string_view key) {
  SY_ASSIGN_OR_RETURN(const Json *value, getKind(object, key, Json::Kind::String, "a string"));
  return value->string();
}

Result<bool> getBool(const Json &object, std::string_view key) {
  SY_ASSIGN_OR_RETURN(const Json *value,
                      getKind(object, key, Json::Kind::Boolean, "true or false"));
  return value->boolean();
}

Result<int64_t> getInteger(const Json &object, std::string_view key, int64_t low, int64_t high) {
  const Json *value = object.find(key);
  if (!value || !value->isInteger() || value->integer() < low || value->integer() > high)
    return mismatch(value, key, fmt::format("an integer in [{}, {}]", low, high));
  return value->integer();
}

Result<double> getNumber(const Json &object, std::string_view key, double low, double high) {
  const Json *value = object.find(key);
  if (!value || !value->isNumber() || !(value->real() >= low && value->real() <= high))
    return mismatch(value, key, fmt::format("a number in [{}, {}]", low, high));
  return value->real();
}

Result<const Json *> getArray(const Json &object, std::string_view key) {
  return getKind(object, key, Json::Kind::Array, "an array");
}

Result<const Json *> getObject(const Json &object, std::string_view key) {
  return getKind(object, key, Json::Kind::Object, "an object");
}

} // namespace switchyard
