#include "compiler/import/ConfigReader.h"

#include "runtime/plan/ModelFingerprint.h"

#include <algorithm>

namespace switchyard::compiler {

ConfigReader::ConfigReader(std::string path, const Json &object)
    : path_(std::move(path)), object_(object) {
  if (!object_.isObject())
    fail("holds " + object_.describe() + ", expected an object");
}

void ConfigReader::fail(const std::string &message) {
  if (status_.ok())
    status_ = Status::invalidInput(path_ + ": " + message);
}

/// Takes over the fault of a Result, or gives its value.
template <typename T>
static T take(ConfigReader &reader, const Result<T> &result, T otherwise) {
  if (result.ok())
    return *result;
  reader.fail(result.status().message());
  return otherwise;
}

const Json *ConfigReader::find(std::string_view key) {
  read_.emplace(key);
  const Json *value = object_.find(key);
  return value && !value->isNull() ? value : nullptr;
}

bool ConfigReader::has(std::string_view key) {
  return find(key) != nullptr;
}

int64_t ConfigReader::integer(std::string_view key, int64_t low, int64_t high,
                              std::optional<int64_t> fallback) {
  if (!find(key) && fallback)
    return *fallback;
  return take(*this, getInteger(object_, key, low, high), low);
}

double ConfigReader::number(std::string_view key, double low, double high,
                            std::optional<double> fallback) {
  if (!find(key) && fallback)
    return *fallback;
  return take(*this, getNumber(object_, key, low, high), low);
}

bool ConfigReader::boolean(std::string_view key, bool fallback) {
  return find(key) ? take(*this, getBool(object_, key), fallback) : fallback;
}

std::string ConfigReader::string(std::string_view key, std::optional<std::string> fallback) {
  if (!find(key) && fallback)
    return *fallback;
  return take(*this, getString(object_, key), std::string());
}

void ConfigReader::refuse(std::string_view key, const std::string &found,
                          const std::string &expected) {
  fail(quoteJson(key) + " is " + found +
       ", which changes the result and is not implemented; only " + expected + " is");
}

void ConfigReader::requireZero(std::string_view key) {
  if (const Json *value = find(key); value && !(value->isNumber() && value->real() == 0))
    refuse(key, value->describe(), "0");
}

void ConfigReader::requireNull(std::string_view key) {
  if (const Json *value = find(key))
    refuse(key, value->describe(), "null");
}

void ConfigReader::requireFalse(std::string_view key) {
  if (boolean(key, false))
    refuse(key, "true", "false");
}

void ConfigReader::requireArchitecture(std::string_view architecture) {
  const Json *value = find("architectures");
  if (!value)
    return;
  std::span<const Json> items = value->items();
  if (items.size() != 1 || !items[0].isString())
    return fail("\"architectures\" is " + value->describe() + ", expected an array of one name");
  if (items[0].string() != architecture)
    fail("\"architectures\" names " + items[0].describe() + ", which can't be imported; expected " +
         quoteJson(architecture));
}

std::string ConfigReader::dtype() {
  std::string dtype = string("dtype", "");
  std::string older = string("torch_dtype", "");
  if (!dtype.empty() && !older.empty() && dtype != older)
    fail("\"dtype\" is " + quoteJson(dtype) + " and \"torch_dtype\" is " + quoteJson(older) +
         "; keep one of them");
  return dtype.empty() ? older : dtype;
}

double ConfigReader::ropeTheta(double fallback) {
  std::optional<double> theta;
  if (find("rope_theta"))
    theta = number("rope_theta", 1, 1e12);
  for (std::string_view key : {"rope_parameters", "rope_scaling"})
    if (const Json *object = find(key))
      readRopeObject(key, *object, theta);
  return theta.value_or(fallback);
}

void ConfigReader::readRopeObject(std::string_view key, const Json &object,
                                  std::optional<double> &theta) {
  const std::string name = quoteJson(key);
  if (!object.isObject())
    return fail(name + " is " + object.describe() + ", expected an object or null");
  for (const Json::Member &member : object.members()) {
    const Json &value = member.value;
    if (member.key == "rope_type" || member.key == "type") {
      if (!value.isString() || value.string() != "default")
        return refuse(key, "of the rope type " + value.describe(), "\"default\"");
    } else if (member.key == "rope_theta") {
      Result<double> found = getNumber(object, "rope_theta", 1, 1e12);
      if (!found.ok())
        return fail(name + ": " + found.status().message());
      if (theta && *theta != *found)
        return fail(name + " and the top level give different values of \"rope_theta\"; keep one");
      theta = *found;
    } else if (!value.isNull()) {
      return fail(
          name + " has the key " + quoteJson(member.key) +
          ", which is not implemented; only \"rope_type\": \"default\" with \"rope_theta\" is");
    }
  }
}

void ConfigReader::checkPadToken(int64_t vocabSize) {
  if (!find("pad_token_id"))
    return;
  int64_t pad = integer("pad_token_id", 0, vocabSize - 1);
  for (std::string_view key : {"bos_token_id", "eos_token_id"}) {
    const Json *value = object_.find(key);
    auto isPad = [&](const Json &id) { return id.isInteger() && id.integer() == pad; };
    if (value && (isPad(*value) || std::ranges::any_of(value->items(), isPad)))
      fail("\"pad_token_id\" is " + std::to_string(pad) + ", as is " + quoteJson(key) +
           "; transformers would not train that token's embedding, which is not implemented; set "
           "\"pad_token_id\" to null");
  }
}

void ConfigReader::finish() {
  for (const Json::Member &member : object_.members())
    if (!read_.contains(member.key) &&
        !std::ranges::binary_search(configKeysWithoutEffect(), member.key))
      fail(
          "the key " + quoteJson(member.key) + " (" + member.value.describe() +
          ") is not known, and nothing in a config is ignored; remove it if it does not change the "
          "model");
}

} // namespace switchyard::compiler
