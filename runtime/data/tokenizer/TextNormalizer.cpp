#include "runtime/data/tokenizer/TextNormalizer.h"

#include "runtime/data/tokenizer/ReadParts.h"

#include <fmt/format.h>
#include <unicode/bytestream.h>

#include <algorithm>

namespace switchyard {

Result<TextNormalizer> TextNormalizer::read(const Json &json, const UnicodeClasses &classes) {
  TextNormalizer normalizer;
  if (!json.isNull())
    SY_RETURN_IF_ERROR(normalizer.add(json, classes));
  return normalizer;
}

Status TextNormalizer::add(const Json &json, const UnicodeClasses &classes) {
  SY_ASSIGN_OR_RETURN(std::string type, getString(json, "type"));
  if (type == "Sequence") {
    SY_ASSIGN_OR_RETURN(const Json *inner, getArray(json, "normalizers"));
    for (const Json &one : inner->items())
      SY_RETURN_IF_ERROR(add(one, classes));
    return {};
  }
  if (type == "Prepend") {
    SY_ASSIGN_OR_RETURN(std::string text, getString(json, "prepend"));
    steps_.emplace_back(Prepend{std::move(text)});
  } else if (type == "Replace") {
    SY_ASSIGN_OR_RETURN(TextPattern pattern, TextPattern::read(json, classes));
    SY_ASSIGN_OR_RETURN(std::string with, getString(json, "content"));
    steps_.emplace_back(Replace{std::move(pattern), std::move(with)});
  } else {
    SY_RETURN_IF_ERROR(addForm(type));
  }
  return checkStepCount(steps_.size());
}

Status TextNormalizer::addForm(const std::string &type) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2 *form = type == "NFC"    ? icu::Normalizer2::getNFCInstance(error)
                                 : type == "NFD"  ? icu::Normalizer2::getNFDInstance(error)
                                 : type == "NFKC" ? icu::Normalizer2::getNFKCInstance(error)
                                 : type == "NFKD" ? icu::Normalizer2::getNFKDInstance(error)
                                                  : nullptr;
  if (U_FAILURE(error))
    return Status::failed(type + " is not in this machine's ICU: " + u_errorName(error));
  if (!form)
    return unknownType("a normalizer of the type", type,
                       "is not read; NFC, NFD, NFKC, NFKD, Prepend, Replace and Sequence are");
  auto known = std::make_unique<icu::UnicodeSet>(normalizedCharacters());
  known->freeze();
  auto filtered = std::make_unique<icu::FilteredNormalizer2>(*form, *known);
  steps_.emplace_back(Form{std::move(known), std::move(filtered)});
  return {};
}

Result<std::string_view> TextNormalizer::apply(std::string_view text, TextStore &texts) const {
  for (const auto &step : steps_) {
    Result<std::string_view> changed =
        std::visit([&](const auto &one) { return apply(one, text, texts); }, step);
    if (!changed.ok())
      return changed.status();
    text = *changed;
  }
  return text;
}

Result<std::string_view> TextNormalizer::apply(const Form &form, std::string_view text,
                                               TextStore &texts) {
  if (std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; }))
    return text;
  if (text.size() > INT32_MAX)
    return Status::failed(fmt::format("can't normalize a text of {} bytes", text.size()));
  UErrorCode error = U_ZERO_ERROR;
  std::string normalized;
  icu::StringByteSink<std::string> sink(&normalized, static_cast<int32_t>(text.size()));
  form.normalizer->normalizeUTF8(0, icu::StringPiece(text), sink, nullptr, error);
  if (U_FAILURE(error))
    return Status::failed(std::string("can't normalize a text: ICU says ") + u_errorName(error));
  return texts.keep(std::move(normalized));
}

Result<std::string_view> TextNormalizer::apply(const Prepend &prepend, std::string_view text,
                                               TextStore &texts) {
  if (text.empty())
    return text;
  SY_RETURN_IF_ERROR(texts.checkRoom(prepend.text.size() + text.size()));
  return texts.keep(prepend.text + std::string(text));
}

Result<std::string_view> TextNormalizer::apply(const Replace &replace, std::string_view text,
                                               TextStore &texts) {
  SY_ASSIGN_OR_RETURN(std::vector<TextRange> matches, replace.pattern.find(text));
  if (matches.empty())
    return text;
  return texts.keepReplaced(text, matches, replace.with);
}

} // namespace switchyard
