#include "runtime/data/tokenizer/PatternSyntax.h"

#include "runtime/core/Json.h"
#include "runtime/data/tokenizer/Utf8.h"

#include <fmt/format.h>

#include <algorithm>

namespace switchyard {

namespace {

constexpr size_t kMaxPatternBytes = size_t{1} << 16;
constexpr int32_t kMaxWrittenUnits = 1 << 22;
constexpr int kMaxDepth = 32;
constexpr int kMaxRepeats = 1000;

bool isAsciiLetter(UChar32 c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool isAsciiDigit(UChar32 c) {
  return c >= '0' && c <= '9';
}

class Translator {
public:
  Translator(std::string_view pattern, const UnicodeClasses &classes)
      : pattern_(pattern), classes_(classes) {}

  Result<icu::UnicodeString> translate() {
    if (pattern_.size() > kMaxPatternBytes)
      return Status::invalidInput(fmt::format("the pattern has {} bytes, at most {} are read",
                                              pattern_.size(), kMaxPatternBytes));
    SY_RETURN_IF_ERROR(alternatives(0).status());
    if (!atEnd())
      return refuse(at_, ")", "no ( before it");
    return std::move(out_);
  }

private:
  enum class Atom : uint8_t {
    Place,      // matches between characters
    MaybeEmpty, // may match characters or none
    Characters
  };
  static constexpr int kUnbounded = INT32_MAX;
  struct Interval {
    int least;
    int most;
  };

  // Reading.
  bool atEnd() const { return at_ >= pattern_.size(); }
  bool atRepetition() const {
    return !atEnd() && std::string_view("*+?{").find(pattern_[at_]) != std::string_view::npos;
  }
  bool startsWith(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  bool take(std::string_view text) {
    if (!startsWith(text))
      return false;
    at_ += text.size();
    return true;
  }
  UChar32 next() { return std::max(nextCharacter(pattern_, at_), 0); } // JSON is UTF-8

  Status refuse(size_t at, std::string_view what, const std::string &why) const {
    return Status::invalidInput(fmt::format("the pattern {} is not read: at byte {}, {}: {}",
                                            Json(std::string(pattern_)).describe(), at,
                                            quoteJson(what), why));
  }
  Status refuse(size_t at, const std::string &why) const {
    return refuse(at, pattern_.substr(at, at_ - at), why);
  }

  // Writing.
  void write(const char *ascii) { out_ += icu::UnicodeString::fromUTF8(ascii); }
  void write(const icu::UnicodeSet &set) {
    icu::UnicodeSet ranges = set;
    write("[");
    if (ranges.contains(0) && ranges.contains(0x10ffff) && ranges.getRangeCount() > 1) {
      ranges.complement();
      write("^");
    }
    if (ranges.isEmpty())
      write("^\\x{0}-\\x{10FFFF}");
    for (int32_t i = 0; i < ranges.getRangeCount(); ++i)
      write(fmt::format("\\x{{{:X}}}-\\x{{{:X}}}", ranges.getRangeStart(i), ranges.getRangeEnd(i))
                .c_str());
    write("]");
  }
  Status checkSize() const {
    if (out_.length() > kMaxWrittenUnits)
      return Status::invalidInput(
          fmt::format("the pattern {} is not read: it has too many classes of characters",
                      Json(std::string(pattern_)).describe()));
    return {};
  }

  /// Up to a ) or the end. Whether it may match no characters at all.
  Result<bool> alternatives(int depth) {
    bool mayBeEmpty = false;
    bool isEmptySoFar = true; // this alternative
    lastLetter_ = 0;
    while (!atEnd() && !startsWith(")")) {
      if (take("|")) {
        write("|");
        lastLetter_ = 0;
        mayBeEmpty = mayBeEmpty || isEmptySoFar;
        isEmptySoFar = true;
        continue;
      }
      SY_ASSIGN_OR_RETURN(bool mayOneBeEmpty, repeated(depth));
      isEmptySoFar = isEmptySoFar && mayOneBeEmpty;
      SY_RETURN_IF_ERROR(checkSize());
    }
    lastLetter_ = 0;
    return mayBeEmpty || isEmptySoFar;
  }

  /// Whether it may match no characters.
  Result<bool> repeated(int depth) {
    size_t begin = at_;
    SY_ASSIGN_OR_RETURN(Atom atom, this->atom(depth));
    size_t end = at_;
    if (!atRepetition())
      return atom != Atom::Characters;
    lastLetter_ = 0;
    if (atom == Atom::Place)
      return refuse(begin, pattern_.substr(begin, end + 1 - begin),
                    "this can't be repeated, as it takes no characters");
    Interval times{0, kUnbounded};
    if (take("{")) {
      SY_ASSIGN_OR_RETURN(times, interval(end));
    } else {
      char sign = pattern_[at_++];
      times = {sign == '+' ? 1 : 0, sign == '?' ? 1 : kUnbounded};
      write(std::string(1, sign).c_str());
      if (take("?"))
        write("?");
      else if (take("+"))
        write("+");
    }
    if (atRepetition())
      return refuse(end, pattern_.substr(end, at_ + 1 - end),
                    "one repetition behind another; put the first into (?: )");
    // ICU may go on for ever, or stop where Oniguruma doesn't.
    if (atom == Atom::MaybeEmpty && times.most > 1)
      return refuse(begin, "this is repeated, but may match no characters");
    return atom == Atom::MaybeEmpty || times.least == 0;
  }

  /// Behind a {.
  Result<Interval> interval(size_t begin) {
    int low = number();
    bool hasComma = take(",");
    int high = hasComma ? number() : low;
    if (!take("}") || (low < 0 && (!hasComma || high < 0)))
      return refuse(begin, "expected {n}, {n,}, {,m} or {n,m}; \\{ is the character");
    if (high >= 0 && low > high)
      return refuse(begin, "the second number is less than the first");
    if (std::max(low, high) > kMaxRepeats)
      return refuse(begin, fmt::format("at most {} repetitions are read", kMaxRepeats));
    write(fmt::format("{{{},{}}}", std::max(low, 0), high < 0 ? "" : std::to_string(high)).c_str());
    if (startsWith("?") && !hasComma)
      return refuse(begin, pattern_.substr(begin, at_ + 1 - begin),
                    "a number of repetitions can't be lazy");
    if (take("?"))
      write("?");
    return Interval{std::max(low, 0), high < 0 ? kUnbounded : high};
  }

  /// The digits here, -1 if there are none; capped, far above kMaxRepeats.
  int number() {
    int value = -1;
    for (; !atEnd() && isAsciiDigit(pattern_[at_]); ++at_)
      value = std::min(std::max(value, 0) * 10 + (pattern_[at_] - '0'), 1 << 20);
    return value;
  }

  Result<Atom> atom(int depth) {
    size_t begin = at_;
    UChar32 c = next();
    switch (c) {
    case '(':
      return group(begin, depth);
    case '[': {
      lastLetter_ = 0;
      SY_ASSIGN_OR_RETURN(icu::UnicodeSet set, bracket(begin, depth));
      write(set);
      return Atom::Characters;
    }
    case '\\':
      return escape(begin);
    case '.':
      lastLetter_ = 0;
      write("[^\\x{A}]");
      return Atom::Characters;
    case '^':
      lastLetter_ = 0;
      write("(?:\\A|(?<=\\x{A})(?!\\z))");
      return Atom::Place;
    case '$':
      lastLetter_ = 0;
      write("(?=\\x{A}|\\z)");
      return Atom::Place;
    case '*':
    case '+':
    case '?':
      return refuse(begin, "nothing to repeat before it");
    case '{':
      return refuse(begin, "\\{ is the character");
    default:
      return literal(begin, c);
    }
  }

  Result<Atom> group(size_t begin, int depth) {
    struct Opening {
      std::string_view read;
      const char *written;
      bool takesCharacters;
    };
    constexpr Opening kOpenings[] = {
        {"?:", "(?:", true},  {"?>", "(?>", true},    {"?=", "(?=", false},   {"?!", "(?!", false},
        {"?i:", "(?:", true}, {"?<=", "(?<=", false}, {"?<!", "(?<!", false}, {"", "(?:", true}};
    if (depth == kMaxDepth)
      return refuse(begin, fmt::format("groups are read {} deep at most", kMaxDepth));
    const Opening *opening =
        std::ranges::find_if(kOpenings, [&](const Opening &o) { return take(o.read); });
    if (opening->read.empty() && startsWith("?")) {
      at_ = std::min(at_ + 2, pattern_.size());
      return refuse(begin, "of groups that begin with (? only (?: (?> (?= (?! (?<= (?<! and (?i: "
                           "are read");
    }
    bool ignoredCase = ignoresCase_;
    ignoresCase_ = ignoresCase_ || opening->read == "?i:";
    write(opening->written);
    SY_ASSIGN_OR_RETURN(bool mayBeEmpty, alternatives(depth + 1));
    if (!take(")"))
      return refuse(begin, "(", "no ) behind it");
    write(")");
    ignoresCase_ = ignoredCase;
    if (!opening->takesCharacters)
      return Atom::Place;
    return mayBeEmpty ? Atom::MaybeEmpty : Atom::Characters;
  }

  Result<Atom> literal(size_t begin, UChar32 c) {
    SY_ASSIGN_OR_RETURN(icu::UnicodeSet set, withOtherCase(begin, icu::UnicodeSet(c, c)));
    if (ignoresCase_) {
      // Oniguruma also takes one character for two letters.
      for (std::string_view pair : {"ss", "ff", "fi", "fl", "st"})
        if (lastLetter_ == pair[0] && (c | 0x20) == pair[1])
          return refuse(begin, "in (?i: ) the letters " + std::string(pair) +
                                   " one behind the other have other forms, which are not read");
      lastLetter_ = isAsciiLetter(c) ? static_cast<char>(c | 0x20) : '\0';
    }
    if (set.size() == 1)
      write(fmt::format("\\x{{{:X}}}", c).c_str());
    else
      write(set);
    return Atom::Characters;
  }

  /// `set`, and in (?i: ) what differs from it only in case.
  Result<icu::UnicodeSet> withOtherCase(size_t begin, icu::UnicodeSet set) const {
    if (!ignoresCase_)
      return set;
    if (!icu::UnicodeSet(0, 0x7f).containsAll(set))
      return refuse(begin, "in (?i: ) only ASCII characters are read");
    for (char c = 'a'; c <= 'z'; ++c) {
      char upper = static_cast<char>(c - 'a' + 'A');
      if (set.contains(c) || set.contains(upper))
        set.add(c).add(upper);
    }
    if (set.contains('s'))
      set.add(0x17f); // long s
    if (set.contains('k'))
      set.add(0x212a); // the sign of Kelvin
    return set;
  }

  /// Behind a \ outside brackets.
  Result<Atom> escape(size_t begin) {
    if (take("A") || take("z")) {
      lastLetter_ = 0;
      write(pattern_[at_ - 1] == 'A' ? "\\A" : "\\z");
      return Atom::Place;
    }
    if (take("b") || take("B")) {
      lastLetter_ = 0;
      wordBorder(pattern_[at_ - 1] == 'b');
      return Atom::Place;
    }
    icu::UnicodeSet set;
    UChar32 c = 0;
    SY_ASSIGN_OR_RETURN(bool isClass, escaped(begin, classes_.words(), set, c));
    if (!isClass)
      return literal(begin, c);
    lastLetter_ = 0;
    write(set);
    return Atom::Characters;
  }

  void wordBorder(bool isThere) {
    write(isThere ? "(?:(?<=" : "(?:(?<!");
    write(classes_.words());
    write(")(?!");
    write(classes_.words());
    write(isThere ? ")|(?<!" : ")|(?<=");
    write(classes_.words());
    write(")(?=");
    write(classes_.words());
    write("))");
  }

  /// Behind a \: a class into `set` (`words` for \w), or a character into `c`. Whether it was a
  /// class.
  Result<bool> escaped(size_t begin, const icu::UnicodeSet &words, icu::UnicodeSet &set,
                       UChar32 &c) {
    if (atEnd())
      return refuse(begin, "nothing behind it");
    c = next();
    constexpr std::string_view kLetters = "tnvfrae";
    constexpr std::string_view kControls = "\t\n\v\f\r\a\x1b";
    size_t control = c < 0x80 ? kLetters.find(static_cast<char>(c)) : std::string_view::npos;
    if (control != std::string_view::npos) {
      c = static_cast<unsigned char>(kControls[control]);
      return false;
    }
    switch (c) {
    case 'd':
    case 'D':
      set = classes_.decimals();
      break;
    case 's':
    case 'S':
      set = classes_.spaces();
      break;
    case 'w':
    case 'W':
      set = words;
      break;
    case 'p':
    case 'P': {
      SY_ASSIGN_OR_RETURN(set, property(begin));
      break;
    }
    case 'x':
    case 'u':
      SY_RETURN_IF_ERROR(codePoint(begin, c == 'u', c));
      return false;
    default:
      if (c >= 0x80 || isAsciiLetter(c) || isAsciiDigit(c))
        return refuse(begin, "of \\ and a letter or digit only \\d \\D \\s \\S \\w \\W \\p{ } "
                             "\\P{ } \\A \\z \\b \\B \\t \\n \\v \\f \\r \\a \\e \\x \\u are read");
      return false;
    }
    if (ignoresCase_ && c != 's' && c != 'd')
      return refuse(begin, "in (?i: ) it is not read");
    if (c == 'D' || c == 'S' || c == 'W' || c == 'P')
      set.complement();
    return true;
  }

  /// Behind \p or \P.
  Result<icu::UnicodeSet> property(size_t begin) {
    size_t end = pattern_.find('}', at_);
    if (!take("{") || end == std::string_view::npos)
      return refuse(begin, "expected { } and a name in it");
    bool isNegated = take("^");
    std::optional<icu::UnicodeSet> set = classes_.property(pattern_.substr(at_, end - at_));
    at_ = end + 1;
    if (!set)
      return refuse(begin, fmt::format("only {} are read", UnicodeClasses::properties()));
    if (isNegated)
      set->complement();
    return *set;
  }

  /// Behind \x (two digits, or any number in braces) or \u (four digits).
  Status codePoint(size_t begin, bool hasFour, UChar32 &c) {
    bool inBraces = !hasFour && take("{");
    int most = inBraces ? 6 : hasFour ? 4 : 2;
    c = 0;
    int digits = 0;
    for (; digits < most && !atEnd(); ++digits, ++at_) {
      char digit = pattern_[at_];
      if (isAsciiDigit(digit))
        c = c * 16 + (digit - '0');
      else if ((digit | 0x20) >= 'a' && (digit | 0x20) <= 'f')
        c = c * 16 + ((digit | 0x20) - 'a' + 10);
      else
        break;
    }
    if (inBraces ? digits == 0 || !take("}") : digits < most)
      return refuse(begin, "expected \\xHH, \\x{H} or \\uHHHH");
    if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
      return refuse(begin, "is no character");
    if (!inBraces && !hasFour && c >= 0x80)
      return refuse(begin, "\\xHH is read below 80; write \\x{H}");
    return {};
  }

  /// Behind a [, to behind its ].
  Result<icu::UnicodeSet> bracket(size_t begin, int depth) {
    if (depth == kMaxDepth)
      return refuse(begin, fmt::format("classes are read {} deep at most", kMaxDepth));
    bool isNegated = take("^");
    if (isNegated && ignoresCase_)
      return refuse(begin, "in (?i: ) it is not read");
    icu::UnicodeSet all(0, 0x10ffff), set;
    for (bool isEmpty = true;; isEmpty = false) {
      if (startsWith("]") || startsWith("&&")) {
        if (isEmpty)
          return refuse(begin, "a class without characters; \\] is the character");
        all.retainAll(set);
        if (take("]"))
          break;
        take("&&");
        set.clear();
        if (startsWith("]") || startsWith("&&"))
          return refuse(begin, "nothing behind &&");
      }
      SY_RETURN_IF_ERROR(member(begin, depth, set));
    }
    if (isNegated && (all.isEmpty() || all.size() == 0x110000))
      return refuse(begin, "a negated class of no character, or of every one");
    if (isNegated)
      all.complement();
    return withOtherCase(begin, all);
  }

  /// A character, a range or a class inside brackets, added to `set`.
  Status member(size_t bracketBegin, int depth, icu::UnicodeSet &set) {
    size_t begin = at_;
    if (atEnd())
      return refuse(bracketBegin, "[", "no ] behind it");
    if (startsWith("[:"))
      return refuse(begin, "[:", "POSIX classes are not read; \\[ is the character");
    if (take("[")) {
      SY_ASSIGN_OR_RETURN(icu::UnicodeSet inner, bracket(begin, depth + 1));
      set.addAll(inner);
      return {};
    }
    if (startsWith("-") && !(begin == bracketBegin + 1 || startsWith("-]") ||
                             pattern_.substr(bracketBegin, begin - bracketBegin) == "[^"))
      return refuse(begin, "-",
                    "in brackets - stands first, last or in a range; \\- is the "
                    "character");
    UChar32 first = 0;
    SY_ASSIGN_OR_RETURN(bool isClass, character(begin, set, first));
    if (isClass)
      return {};
    UChar32 last = first;
    if (startsWith("-") && !startsWith("-]")) {
      take("-");
      icu::UnicodeSet ignored;
      if (atEnd() || startsWith("[") || startsWith("&&"))
        return refuse(begin, "a range without its last character");
      SY_ASSIGN_OR_RETURN(isClass, character(at_, ignored, last));
      if (isClass || last < first)
        return refuse(begin, isClass ? "a class can't end a range"
                                     : "a range whose last character is before its first");
    }
    set.add(first, last);
    return {};
  }

  /// One character of a class into `c`, or what an escape stands for into `set`. Whether it was the
  /// latter.
  Result<bool> character(size_t begin, icu::UnicodeSet &set, UChar32 &c) {
    c = next();
    if (c != '\\')
      return false;
    icu::UnicodeSet escapedSet;
    SY_ASSIGN_OR_RETURN(bool isClass, escaped(begin, classes_.wordsInBrackets(), escapedSet, c));
    set.addAll(escapedSet);
    return isClass;
  }

  std::string_view pattern_;
  const UnicodeClasses &classes_;
  size_t at_ = 0;
  icu::UnicodeString out_;
  bool ignoresCase_ = false;
  char lastLetter_ = '\0'; // in (?i: ), where a letter is right before; small
};

} // namespace

Result<icu::UnicodeString> toIcuPattern(std::string_view pattern, const UnicodeClasses &classes) {
  return Translator(pattern, classes).translate();
}

} // namespace switchyard
