#include "runtime/data/tokenizer/UnicodeClasses.h"

#include <unicode/uscript.h>

#include <algorithm>
#include <string>

namespace switchyard {

namespace {

constexpr uint8_t kPatternVersion = 16;
constexpr uint8_t kNormalizerVersion = 9;
constexpr UChar32 kLast = 0x10ffff;

template <typename Value>
struct Range {
  UChar32 first;
  UChar32 last;
  Value value;
};

// What Unicode 15.1 and 16 added to 15, which ICU 72 has, by general category; and the one
// character before that they put into another one, U+1171E.
constexpr UCharCategory kMn = U_NON_SPACING_MARK, kMc = U_COMBINING_SPACING_MARK,
                        kLu = U_UPPERCASE_LETTER, kLl = U_LOWERCASE_LETTER, kLm = U_MODIFIER_LETTER,
                        kLo = U_OTHER_LETTER, kNd = U_DECIMAL_DIGIT_NUMBER,
                        kPd = U_DASH_PUNCTUATION, kPo = U_OTHER_PUNCTUATION, kSm = U_MATH_SYMBOL,
                        kSo = U_OTHER_SYMBOL;
constexpr Range<UCharCategory> kCategoriesOf16[] = {
    {0x897, 0x897, kMn},     {0x1b4e, 0x1b4f, kPo},   {0x1b7f, 0x1b7f, kPo},
    {0x1c89, 0x1c89, kLu},   {0x1c8a, 0x1c8a, kLl},   {0x2427, 0x2429, kSo},
    {0x2ffc, 0x2fff, kSo},   {0x31e4, 0x31e5, kSo},   {0x31ef, 0x31ef, kSo},
    {0xa7cb, 0xa7cc, kLu},   {0xa7cd, 0xa7cd, kLl},   {0xa7da, 0xa7da, kLu},
    {0xa7db, 0xa7db, kLl},   {0xa7dc, 0xa7dc, kLu},   {0x105c0, 0x105f3, kLo},
    {0x10d40, 0x10d49, kNd}, {0x10d4a, 0x10d4d, kLo}, {0x10d4e, 0x10d4e, kLm},
    {0x10d4f, 0x10d4f, kLo}, {0x10d50, 0x10d65, kLu}, {0x10d69, 0x10d6d, kMn},
    {0x10d6e, 0x10d6e, kPd}, {0x10d6f, 0x10d6f, kLm}, {0x10d70, 0x10d85, kLl},
    {0x10d8e, 0x10d8f, kSm}, {0x10ec2, 0x10ec4, kLo}, {0x10efc, 0x10efc, kMn},
    {0x11380, 0x11389, kLo}, {0x1138b, 0x1138b, kLo}, {0x1138e, 0x1138e, kLo},
    {0x11390, 0x113b5, kLo}, {0x113b7, 0x113b7, kLo}, {0x113b8, 0x113ba, kMc},
    {0x113bb, 0x113c0, kMn}, {0x113c2, 0x113c2, kMc}, {0x113c5, 0x113c5, kMc},
    {0x113c7, 0x113ca, kMc}, {0x113cc, 0x113cd, kMc}, {0x113ce, 0x113ce, kMn},
    {0x113cf, 0x113cf, kMc}, {0x113d0, 0x113d0, kMn}, {0x113d1, 0x113d1, kLo},
    {0x113d2, 0x113d2, kMn}, {0x113d3, 0x113d3, kLo}, {0x113d4, 0x113d5, kPo},
    {0x113d7, 0x113d8, kPo}, {0x113e1, 0x113e2, kMn}, {0x116d0, 0x116e3, kNd},
    {0x1171e, 0x1171e, kMc}, {0x11bc0, 0x11be0, kLo}, {0x11be1, 0x11be1, kPo},
    {0x11bf0, 0x11bf9, kNd}, {0x11f5a, 0x11f5a, kMn}, {0x13460, 0x143fa, kLo},
    {0x16100, 0x1611d, kLo}, {0x1611e, 0x16129, kMn}, {0x1612a, 0x1612c, kMc},
    {0x1612d, 0x1612f, kMn}, {0x16130, 0x16139, kNd}, {0x16d40, 0x16d42, kLm},
    {0x16d43, 0x16d6a, kLo}, {0x16d6b, 0x16d6c, kLm}, {0x16d6d, 0x16d6f, kPo},
    {0x16d70, 0x16d79, kNd}, {0x18cff, 0x18cff, kLo}, {0x1cc00, 0x1ccef, kSo},
    {0x1ccf0, 0x1ccf9, kNd}, {0x1cd00, 0x1ceb3, kSo}, {0x1e5d0, 0x1e5ed, kLo},
    {0x1e5ee, 0x1e5ef, kMn}, {0x1e5f0, 0x1e5f0, kLo}, {0x1e5f1, 0x1e5fa, kNd},
    {0x1e5ff, 0x1e5ff, kPo}, {0x1f8b2, 0x1f8bb, kSo}, {0x1f8c0, 0x1f8c1, kSo},
    {0x1fa89, 0x1fa89, kSo}, {0x1fa8f, 0x1fa8f, kSo}, {0x1fabe, 0x1fabe, kSo},
    {0x1fac6, 0x1fac6, kSo}, {0x1fadc, 0x1fadc, kSo}, {0x1fadf, 0x1fadf, kSo},
    {0x1fae9, 0x1fae9, kSo}, {0x1fbcb, 0x1fbef, kSo}, {0x2ebf0, 0x2ee5d, kLo}};

// The same by script, for those that properties() names.
constexpr Range<UScriptCode> kScriptsOf16[] = {
    {0x897, 0x897, USCRIPT_ARABIC},     {0x1c89, 0x1c8a, USCRIPT_CYRILLIC},
    {0xa7cb, 0xa7cd, USCRIPT_LATIN},    {0xa7da, 0xa7dc, USCRIPT_LATIN},
    {0x10ec2, 0x10ec4, USCRIPT_ARABIC}, {0x10efc, 0x10efc, USCRIPT_ARABIC},
    {0x2ebf0, 0x2ee5d, USCRIPT_HAN}};

struct Name {
  std::string_view name;
  uint32_t categories = 0; // a mask of U_GC_*
  UScriptCode script = USCRIPT_INVALID_CODE;
};

constexpr Name kNames[] = {{"l", U_GC_L_MASK},
                           {"letter", U_GC_L_MASK},
                           {"m", U_GC_M_MASK},
                           {"mark", U_GC_M_MASK},
                           {"n", U_GC_N_MASK},
                           {"number", U_GC_N_MASK},
                           {"p", U_GC_P_MASK},
                           {"punctuation", U_GC_P_MASK},
                           {"s", U_GC_S_MASK},
                           {"symbol", U_GC_S_MASK},
                           {"z", U_GC_Z_MASK},
                           {"separator", U_GC_Z_MASK},
                           {"c", U_GC_C_MASK},
                           {"other", U_GC_C_MASK},
                           {"lu", U_GC_LU_MASK},
                           {"ll", U_GC_LL_MASK},
                           {"lt", U_GC_LT_MASK},
                           {"lm", U_GC_LM_MASK},
                           {"lo", U_GC_LO_MASK},
                           {"mn", U_GC_MN_MASK},
                           {"mc", U_GC_MC_MASK},
                           {"me", U_GC_ME_MASK},
                           {"nd", U_GC_ND_MASK},
                           {"nl", U_GC_NL_MASK},
                           {"no", U_GC_NO_MASK},
                           {"pc", U_GC_PC_MASK},
                           {"pd", U_GC_PD_MASK},
                           {"ps", U_GC_PS_MASK},
                           {"pe", U_GC_PE_MASK},
                           {"pi", U_GC_PI_MASK},
                           {"pf", U_GC_PF_MASK},
                           {"po", U_GC_PO_MASK},
                           {"sm", U_GC_SM_MASK},
                           {"sc", U_GC_SC_MASK},
                           {"sk", U_GC_SK_MASK},
                           {"so", U_GC_SO_MASK},
                           {"zs", U_GC_ZS_MASK},
                           {"zl", U_GC_ZL_MASK},
                           {"zp", U_GC_ZP_MASK},
                           {"cc", U_GC_CC_MASK},
                           {"cf", U_GC_CF_MASK},
                           {"cn", U_GC_CN_MASK},
                           {"co", U_GC_CO_MASK},
                           {"cs", U_GC_CS_MASK},
                           {"han", 0, USCRIPT_HAN},
                           {"hiragana", 0, USCRIPT_HIRAGANA},
                           {"katakana", 0, USCRIPT_KATAKANA},
                           {"hangul", 0, USCRIPT_HANGUL},
                           {"latin", 0, USCRIPT_LATIN},
                           {"greek", 0, USCRIPT_GREEK},
                           {"cyrillic", 0, USCRIPT_CYRILLIC},
                           {"arabic", 0, USCRIPT_ARABIC},
                           {"hebrew", 0, USCRIPT_HEBREW},
                           {"devanagari", 0, USCRIPT_DEVANAGARI},
                           {"thai", 0, USCRIPT_THAI}};

/// Whether ICU knows `c` and it is in Unicode `version`.
bool isAssigned(UChar32 c, uint8_t version) {
  UVersionInfo age;
  u_charAge(c, age);
  return age[0] != 0 && age[0] <= version;
}

template <typename Predicate>
icu::UnicodeSet charactersWhere(const Predicate &predicate) {
  icu::UnicodeSet set;
  for (UChar32 c = 0; c <= kLast; ++c)
    if (predicate(c))
      set.add(c);
  return set;
}

icu::UnicodeSet charactersOf(UScriptCode script) {
  icu::UnicodeSet set = charactersWhere([script](UChar32 c) {
    UErrorCode error = U_ZERO_ERROR;
    return uscript_getScript(c, &error) == script && isAssigned(c, kPatternVersion);
  });
  for (const auto &range : kScriptsOf16)
    if (range.value == script)
      set.add(range.first, range.last);
  return set;
}

} // namespace

UnicodeClasses::UnicodeClasses() {
  auto add = [](const void *categories, UChar32 first, UChar32 end, UCharCategory category) {
    (*static_cast<decltype(categories_) *>(const_cast<void *>(categories)))[category].add(first,
                                                                                          end - 1);
    return static_cast<UBool>(true);
  };
  u_enumCharTypes(add, &categories_);
  wordsInBrackets_ = charactersWhere(u_isUAlphabetic);
  for (const auto &range : kCategoriesOf16) {
    for (icu::UnicodeSet &category : categories_)
      category.remove(range.first, range.last);
    categories_[range.value].add(range.first, range.last);
    if (U_MASK(range.value) & U_GC_L_MASK)
      wordsInBrackets_.add(range.first, range.last);
  }
  UVersionInfo version;
  u_getUnicodeVersion(version);
  if (version[0] > kPatternVersion) {
    icu::UnicodeSet later = charactersWhere(
        [](UChar32 c) { return isAssigned(c, UINT8_MAX) && !isAssigned(c, kPatternVersion); });
    for (icu::UnicodeSet &category : categories_)
      category.removeAll(later);
    categories_[U_UNASSIGNED].addAll(later);
    wordsInBrackets_.removeAll(later);
  }
  spaces_.add(0x9, 0xd).add(' ').add(0x85).add(0xa0).add(0x1680).add(0x2000, 0x200a);
  spaces_.add(0x2028, 0x2029).add(0x202f).add(0x205f).add(0x3000);
  for (UCharCategory category : {kMn, kMc, U_ENCLOSING_MARK, kNd, U_CONNECTOR_PUNCTUATION})
    wordsInBrackets_.addAll(categories_[category]);
  wordBorders_ = wordsInBrackets_;
  wordBorders_.add(0x200c, 0x200d); // Join_Control
  // Outside of brackets Oniguruma has a table of its own for the first 256.
  words_ = wordsInBrackets_;
  words_.add(0xb2, 0xb3).add(0xb9).add(0xbc, 0xbe);
  for (UCharCategory category : {kNd, U_LETTER_NUMBER, U_OTHER_NUMBER})
    numbers_.addAll(categories_[category]);
  numbers_.add(0x11de0, 0x11de9).add(0x16ff4, 0x16ff6); // of Unicode 17
}

std::optional<icu::UnicodeSet> UnicodeClasses::property(std::string_view name) const {
  std::string folded;
  for (char c : name)
    if (c != ' ' && c != '_' && c != '-')
      folded += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  const Name *known = std::ranges::find(kNames, folded, &Name::name);
  if (known == std::end(kNames))
    return std::nullopt;
  if (known->script != USCRIPT_INVALID_CODE)
    return charactersOf(known->script);
  icu::UnicodeSet set;
  for (int category = 0; category < U_CHAR_CATEGORY_COUNT; ++category)
    if (known->categories & U_MASK(category))
      set.addAll(categories_[category]);
  return set;
}

const char *UnicodeClasses::properties() {
  return "general categories (L, Lu, Letter, ...) and the scripts Arabic, Cyrillic, Devanagari, "
         "Greek, Han, Hangul, Hebrew, Hiragana, Katakana, Latin and Thai";
}

icu::UnicodeSet normalizedCharacters() {
  return charactersWhere([](UChar32 c) { return isAssigned(c, kNormalizerVersion); });
}

} // namespace switchyard
