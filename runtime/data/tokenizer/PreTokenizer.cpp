#include "runtime/data/tokenizer/PreTokenizer.h"

#include "runtime/data/tokenizer/ReadParts.h"
#include "runtime/data/tokenizer/Utf8.h"

#include <fmt/format.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <utility>

namespace switchyard {

namespace {

// GPT-2's.
constexpr const char *kWords =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// A part of a text, and whether it is what was looked for.
struct Part {
  TextRange range;
  bool isMatch;
};

/// All of `text`, in order.
std::vector<Part> partsOf(std::string_view text, const std::vector<TextRange> &matches) {
  std::vector<Part> parts;
  size_t at = 0;
  for (TextRange match : matches) {
    if (match.begin > at)
      parts.push_back({{at, match.begin}, false});
    parts.push_back({match, true});
    at = match.end;
  }
  if (at < text.size())
    parts.push_back({{at, text.size()}, false});
  return parts;
}

} // namespace

/// Makes the pieces of a step.
class PreTokenizer::Cutter {
public:
  Cutter(TextStore &texts, bool isLast) : texts_(texts), isLast_(isLast) {}

  std::vector<TextPiece> &pieces() { return pieces_; }

  Status operator()(const ByteLevel &step, TextPiece piece) {
    if (step.addsSpace && !piece.text.starts_with(' ')) {
      SY_ASSIGN_OR_RETURN(piece.text, texts_.keep(" " + std::string(piece.text)));
    }
    const size_t first = pieces_.size();
    if (step.words) {
      SY_ASSIGN_OR_RETURN(std::vector<TextRange> matches, step.words->find(piece.text));
      cut(piece, partsOf(piece.text, matches), Behavior::Isolated);
    } else {
      pieces_.push_back(piece);
    }
    if (isLast_)
      return {};
    for (size_t i = first; i < pieces_.size(); ++i) {
      SY_ASSIGN_OR_RETURN(pieces_[i].text, texts_.keep(step.alphabet.ofBytes(pieces_[i].text)));
    }
    return {};
  }

  Status operator()(const Digits &step, TextPiece piece) {
    std::vector<TextRange> matches;
    for (size_t at = 0; at < piece.text.size();) {
      size_t begin = at;
      if (step.numbers.contains(nextCharacter(piece.text, at)))
        matches.push_back({begin, at});
    }
    cut(piece, partsOf(piece.text, matches),
        step.isEachAlone ? Behavior::Isolated : Behavior::Contiguous);
    return {};
  }

  Status operator()(const Metaspace &step, TextPiece piece) {
    std::vector<TextRange> spaces;
    for (size_t at = piece.text.find(' '); at != std::string_view::npos;
         at = piece.text.find(' ', at + 1))
      spaces.push_back({at, at + 1});
    if (!spaces.empty()) {
      SY_ASSIGN_OR_RETURN(piece.text, texts_.keepReplaced(piece.text, spaces, step.replacement));
    }
    using Prepends = Metaspace::Prepends;
    if (!piece.text.starts_with(step.replacement) &&
        (step.prepends == Prepends::Always ||
         (step.prepends == Prepends::First && piece.isAtStart))) {
      SY_ASSIGN_OR_RETURN(piece.text, texts_.keep(step.replacement + std::string(piece.text)));
    }
    if (!step.cuts) {
      pieces_.push_back(piece);
      return {};
    }
    SY_ASSIGN_OR_RETURN(std::vector<TextRange> matches,
                        TextPattern::ofText(step.replacement).find(piece.text));
    cut(piece, partsOf(piece.text, matches), Behavior::MergedWithNext);
    return {};
  }

  Status operator()(const Split &step, TextPiece piece) {
    SY_ASSIGN_OR_RETURN(std::vector<TextRange> matches, step.pattern.find(piece.text));
    std::vector<Part> parts = partsOf(piece.text, matches);
    for (Part &part : parts)
      part.isMatch = part.isMatch != step.isInverted;
    cut(piece, std::move(parts), step.behavior);
    return {};
  }

private:
  /// Adds the parts of `piece` that are not removed and not empty, joined as `behavior` says.
  void cut(TextPiece piece, std::vector<Part> parts, Behavior behavior) {
    if (behavior == Behavior::MergedWithNext)
      std::ranges::reverse(parts);
    std::vector<TextRange> ranges;
    bool wasMatch = false;
    for (const Part &part : parts) {
      bool joins = false;
      switch (behavior) {
      case Behavior::Removed:
        if (part.isMatch)
          continue;
        break;
      case Behavior::Isolated:
        break;
      case Behavior::MergedWithPrevious:
      case Behavior::MergedWithNext:
        joins = part.isMatch && !wasMatch;
        break;
      case Behavior::Contiguous:
        joins = part.isMatch == wasMatch;
        break;
      }
      wasMatch = part.isMatch;
      if (!joins || ranges.empty())
        ranges.push_back(part.range);
      else if (behavior == Behavior::MergedWithNext)
        ranges.back().begin = part.range.begin;
      else
        ranges.back().end = part.range.end;
    }
    if (behavior == Behavior::MergedWithNext)
      std::ranges::reverse(ranges);
    for (TextRange range : ranges)
      if (range.begin < range.end)
        pieces_.push_back({piece.text.substr(range.begin, range.end - range.begin), -1,
                           piece.isAtStart && range.begin == 0});
  }

  TextStore &texts_;
  bool isLast_;
  std::vector<TextPiece> pieces_;
};

Result<PreTokenizer> PreTokenizer::read(const Json &json, bool isNormalized,
                                        const UnicodeClasses &classes) {
  PreTokenizer preTokenizer;
  if (!json.isNull())
    SY_RETURN_IF_ERROR(preTokenizer.add(json, isNormalized, classes));
  return preTokenizer;
}

Status PreTokenizer::add(const Json &json, bool isNormalized, const UnicodeClasses &classes) {
  SY_ASSIGN_OR_RETURN(std::string type, getString(json, "type"));
  if (type == "Sequence") {
    SY_ASSIGN_OR_RETURN(const Json *inner, getArray(json, "pretokenizers"));
    for (const Json &one : inner->items())
      SY_RETURN_IF_ERROR(add(one, isNormalized, classes));
    return {};
  }
  if (type == "ByteLevel") {
    SY_ASSIGN_OR_RETURN(ByteLevel step, readByteLevel(json, classes));
    steps_.emplace_back(std::move(step));
  } else if (type == "Digits") {
    SY_ASSIGN_OR_RETURN(bool isEachAlone, getBool(json, "individual_digits"));
    Digits step{isEachAlone, classes.numbers()};
    step.numbers.freeze();
    steps_.emplace_back(std::move(step));
  } else if (type == "Metaspace") {
    SY_ASSIGN_OR_RETURN(Metaspace step, readMetaspace(json, isNormalized));
    steps_.emplace_back(std::move(step));
  } else if (type == "Split") {
    SY_ASSIGN_OR_RETURN(Split step, readSplit(json, classes));
    steps_.emplace_back(std::move(step));
  } else {
    return unknownType("a pre-tokenizer of the type", type,
                       "is not read; ByteLevel, Digits, Metaspace, Split and Sequence are");
  }
  return checkStepCount(steps_.size());
}

Result<PreTokenizer::ByteLevel> PreTokenizer::readByteLevel(const Json &json,
                                                            const UnicodeClasses &classes) {
  ByteLevel step;
  SY_ASSIGN_OR_RETURN(step.addsSpace, getBool(json, "add_prefix_space"));
  bool usesRegex = true;
  if (json.find("use_regex")) {
    SY_ASSIGN_OR_RETURN(usesRegex, getBool(json, "use_regex"));
  }
  if (usesRegex) {
    SY_ASSIGN_OR_RETURN(step.words, TextPattern::ofRegex(kWords, classes));
  }
  return step;
}

Result<PreTokenizer::Metaspace> PreTokenizer::readMetaspace(const Json &json,
                                                            bool isNormalized) const {
  using Prepends = Metaspace::Prepends;
  Metaspace step;
  SY_ASSIGN_OR_RETURN(step.replacement, getString(json, "replacement"));
  if (std::ranges::count_if(step.replacement, [](char c) { return !U8_IS_TRAIL(c); }) != 1)
    return Status::invalidInput("\"replacement\" is " + quoteJson(step.replacement) +
                                ", expected one character");
  const Json *scheme = json.find("prepend_scheme");
  if (scheme) {
    SY_ASSIGN_OR_RETURN(std::string name, getString(json, "prepend_scheme"));
    if (name != "always" && name != "first" && name != "never")
      return Status::invalidInput("\"prepend_scheme\" is " + quoteJson(name) +
                                  ", expected \"always\", \"first\" or \"never\"");
    step.prepends = name == "always"  ? Prepends::Always
                    : name == "first" ? Prepends::First
                                      : Prepends::Never;
  }
  if (const Json *adds = json.find("add_prefix_space"); adds && !adds->isNull()) {
    SY_ASSIGN_OR_RETURN(bool addsSpace, getBool(json, "add_prefix_space"));
    if (!addsSpace && step.prepends != Prepends::Never)
      return Status::invalidInput("\"add_prefix_space\" is false, but \"prepend_scheme\" is not "
                                  "\"never\"; remove the former, which is the older form");
  }
  if (const Json *cuts = json.find("split"); cuts && !cuts->isNull()) {
    SY_ASSIGN_OR_RETURN(step.cuts, getBool(json, "split"));
  }
  // Where the text begins is known as long as nothing was changed in it.
  bool isChanged = isNormalized || std::ranges::any_of(steps_, [](const Step &before) {
                     return std::holds_alternative<ByteLevel>(before) ||
                            std::holds_alternative<Metaspace>(before);
                   });
  if (step.prepends == Prepends::First && isChanged)
    return Status::invalidInput("a Metaspace with the \"prepend_scheme\" \"first\" is not read "
                                "behind a normalizer, a ByteLevel or another Metaspace");
  return step;
}

Result<PreTokenizer::Split> PreTokenizer::readSplit(const Json &json,
                                                    const UnicodeClasses &classes) {
  constexpr std::pair<const char *, Behavior> kBehaviors[] = {
      {"Removed", Behavior::Removed},
      {"Isolated", Behavior::Isolated},
      {"MergedWithPrevious", Behavior::MergedWithPrevious},
      {"MergedWithNext", Behavior::MergedWithNext},
      {"Contiguous", Behavior::Contiguous}};
  SY_ASSIGN_OR_RETURN(TextPattern pattern, TextPattern::read(json, classes));
  SY_ASSIGN_OR_RETURN(std::string name, getString(json, "behavior"));
  SY_ASSIGN_OR_RETURN(bool isInverted, getBool(json, "invert"));
  for (auto [known, behavior] : kBehaviors)
    if (name == known)
      return Split{std::move(pattern), behavior, isInverted};
  return Status::invalidInput("\"behavior\" is " + quoteJson(name) +
                              ", expected Removed, Isolated, MergedWithPrevious, MergedWithNext or "
                              "Contiguous");
}

bool PreTokenizer::endsInBytes() const {
  return !steps_.empty() && std::holds_alternative<ByteLevel>(steps_.back());
}

Status PreTokenizer::apply(std::vector<TextPiece> &pieces, TextStore &texts) const {
  for (const Step &step : steps_) {
    Cutter cutter(texts, &step == &steps_.back());
    for (const TextPiece &piece : pieces) {
      if (piece.token >= 0)
        cutter.pieces().push_back(piece);
      else
        SY_RETURN_IF_ERROR(std::visit([&](const auto &one) { return cutter(one, piece); }, step));
    }
    pieces = std::move(cutter.pieces());
  }
  return {};
}

} // namespace switchyard
