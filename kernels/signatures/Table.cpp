#include "kernels/signatures/Table.h"

#include "kernels/signatures/attention.h"
#include "kernels/signatures/elementwise.h"
#include "kernels/signatures/embedding.h"
#include "kernels/signatures/gated_activation.h"
#include "kernels/signatures/grouped_gemm.h"
#include "kernels/signatures/grouped_gemm_gated.h"
#include "kernels/signatures/grouped_gemm_gather.h"
#include "kernels/signatures/linear.h"
#include "kernels/signatures/linear_cross_entropy.h"
#include "kernels/signatures/load_balance_loss.h"
#include "kernels/signatures/optimizer.h"
#include "kernels/signatures/permute.h"
#include "kernels/signatures/qk_norm.h"
#include "kernels/signatures/rms_norm.h"
#include "kernels/signatures/rotary.h"
#include "kernels/signatures/router.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

namespace switchyard::kernels {
namespace {

constexpr auto kTable = [] {
  auto table = std::to_array<const Signature *>({
      &kAccumulate,
      &kAdamw,
      &kAdamwMaster,
      &kAdd,
      &kAttention,
      &kAttentionGrad,
      &kCast,
      &kClip,
      &kConstant,
      &kEmbedding,
      &kEmbeddingGrad,
      &kGatedActivation,
      &kGatedActivationGrad,
      &kGatherRows,
      &kGroupedGemm,
      &kGroupedGemmDgrad,
      &kGroupedGemmDgradGated,
      &kGroupedGemmDgradGatedGather,
      &kGroupedGemmDgradGatedWeighted,
      &kGroupedGemmGated,
      &kGroupedGemmGatedGather,
      &kGroupedGemmWgrad,
      &kGroupedGemmWgradAccumulate,
      &kGroupedGemmWgradGatherDy,
      &kGroupedGemmWgradGatherDyAccumulate,
      &kGroupedGemmWgradGatherX,
      &kGroupedGemmWgradGatherXAccumulate,
      &kGroupedGemmWgradSquared,
      &kLinear,
      &kLinearCrossEntropy,
      &kLinearCrossEntropyGrad,
      &kLinearDgrad,
      &kLinearWgrad,
      &kLoadBalanceLoss,
      &kLoadBalanceLossGrad,
      &kPermute,
      &kPermuteGrad,
      &kPermuteGradAdd,
      &kQkNorm,
      &kQkNormGrad,
      &kRmsNorm,
      &kRmsNormGrad,
      &kRotary,
      &kRouter,
      &kRouterGrad,
      &kRouterGradRenormalized,
      &kRowsOfTokens,
      &kScale,
      &kSortByExpert,
      &kSum,
      &kSumOfSquares,
      &kUnpermute,
      &kUnpermuteAdd,
      &kUnpermuteGrad,
  });
  std::sort(table.begin(), table.end(),
            [](const Signature *a, const Signature *b) { return a->name < b->name; });
  return table;
}();

constexpr int64_t kLargestExtent = static_cast<int64_t>(kMaxExtent);

std::string_view trim(std::string_view text) {
  while (text.starts_with(' '))
    text.remove_prefix(1);
  while (text.ends_with(' '))
    text.remove_suffix(1);
  return text;
}

/// The parts of `text` between the separators, trimmed. An empty text has none.
std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  if (text.empty())
    return parts;
  for (;;) {
    size_t end = text.find(separator);
    parts.push_back(trim(text.substr(0, end)));
    if (end == std::string_view::npos)
      return parts;
    text.remove_prefix(end + 1);
  }
}

bool isIdentifier(std::string_view text) {
  auto isLetter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  return !text.empty() && isLetter(text[0]) && std::all_of(text.begin(), text.end(), [&](char c) {
    return isLetter(c) || c == '_' || (c >= '0' && c <= '9');
  });
}

std::optional<int64_t> parseInteger(std::string_view text) {
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0)
    return std::nullopt;
  return value;
}

constexpr Extent constantExtent(int64_t value) {
  return {0, -1, value};
}

/// A zero scale names no symbol, so that equal extents compare equal.
Extent canonical(Extent extent) {
  if (extent.scale == 0 || extent.symbol < 0)
    return constantExtent(extent.offset);
  return extent;
}

bool isConstant(const Extent &extent) {
  return extent.scale == 0;
}

/// a * b for two extents of which one at least is constant, or nothing.
std::optional<Extent> product(Extent a, Extent b) {
  if (!isConstant(a))
    std::swap(a, b);
  Extent result = b;
  if (!isConstant(a) || __builtin_mul_overflow(b.scale, a.offset, &result.scale) ||
      __builtin_mul_overflow(b.offset, a.offset, &result.offset))
    return std::nullopt;
  return canonical(result);
}

/// a + b for two extents that do not name different symbols, or nothing.
std::optional<Extent> sum(const Extent &a, const Extent &b) {
  Extent result = isConstant(a) ? b : a;
  if ((!isConstant(a) && !isConstant(b) && a.symbol != b.symbol) ||
      __builtin_add_overflow(a.scale, b.scale, &result.scale) ||
      __builtin_add_overflow(a.offset, b.offset, &result.offset))
    return std::nullopt;
  return canonical(result);
}

/// The values of a launch's symbols and integer attributes.
class Bindings {
public:
  const Extent *find(std::string_view name) const {
    for (const auto &[bound, extent] : values_)
      if (bound == name)
        return &extent;
    return nullptr;
  }
  void bind(std::string_view name, Extent extent) { values_.emplace_back(name, extent); }

  /// The value of a sum of products, or nothing if it names an unbound symbol, does not parse,
  /// overflows or is not affine.
  std::optional<Extent> evaluate(std::string_view expression) const {
    Extent total = constantExtent(0);
    for (std::string_view term : split(expression, '+')) {
      Extent value = constantExtent(1);
      for (std::string_view factor : split(term, '*')) {
        std::optional<Extent> operand = evaluateFactor(factor);
        std::optional<Extent> next = operand ? product(value, *operand) : std::nullopt;
        if (!next)
          return std::nullopt;
        value = *next;
      }
      std::optional<Extent> next = sum(total, value);
      if (!next)
        return std::nullopt;
      total = *next;
    }
    return total;
  }

private:
  std::optional<Extent> evaluateFactor(std::string_view factor) const {
    if (std::optional<int64_t> value = parseInteger(factor))
      return constantExtent(*value);
    const Extent *bound = find(factor);
    return bound ? std::optional<Extent>(*bound) : std::nullopt;
  }

  std::vector<std::pair<std::string_view, Extent>> values_;
};

/// Matches the parts of a launch in turn; each function returns its first fault.
class Matcher {
public:
  Matcher(const Signature &signature, std::span<const OperandType> operands,
          std::span<const AttributeValue> attributes)
      : signature_(signature), operands_(operands), attributes_(attributes),
        count_(static_cast<int>(operands.size())) {}

  std::optional<std::string> match() {
    for (auto part : {&Matcher::matchCounts, &Matcher::matchAttributes, &Matcher::matchDTypes,
                      &Matcher::checkExtents, &Matcher::bindSymbols, &Matcher::matchShapes})
      if (std::optional<std::string> fault = (this->*part)())
        return fault;
    return std::nullopt;
  }

  const Bindings &bindings() const { return bindings_; }

private:
  const OperandSpec &spec(int index) const {
    return signature_.operands[specOfOperand(signature_, index, count_)];
  }
  std::string kernel() const { return "kernel '" + std::string(signature_.name) + "'"; }
  std::string at(int index) const {
    return kernel() + ", operand '" + operandName(signature_, index, count_) + "': ";
  }

  std::optional<std::string> matchCounts();
  std::optional<std::string> matchAttributes();
  std::optional<std::string> matchDTypes();
  std::optional<std::string> checkExtents();
  std::optional<std::string> bindSymbols();
  std::optional<std::string> matchShapes();
  std::optional<std::string> matchExtent(int index, size_t dimension, std::string_view expression);

  const Signature &signature_;
  std::span<const OperandType> operands_;
  std::span<const AttributeValue> attributes_;
  int count_;
  Bindings bindings_;
};

std::optional<std::string> Matcher::matchCounts() {
  int specs = static_cast<int>(signature_.operands.size());
  bool repeats = std::any_of(signature_.operands.begin(), signature_.operands.end(),
                             [](const OperandSpec &spec) { return spec.repeated; });
  if (operands_.size() > 65536 || count_ < specs || (count_ > specs && !repeats))
    return kernel() + " takes " + (repeats ? "at least " : "") + std::to_string(specs) +
           " operands, found " + std::to_string(operands_.size());
  if (attributes_.size() != signature_.attributes.size())
    return kernel() + " takes " + std::to_string(signature_.attributes.size()) +
           " attributes, found " + std::to_string(attributes_.size());
  bindings_.bind("L", constantExtent(count_ - specs + 1));
  return std::nullopt;
}

std::optional<std::string> Matcher::matchAttributes() {
  for (size_t i = 0; i < attributes_.size(); ++i) {
    const AttributeSpec &spec = signature_.attributes[i];
    const AttributeValue &value = attributes_[i];
    std::string prefix = kernel() + ", attribute '" + std::string(spec.name) + "': ";
    if (spec.kind == AttributeSpec::Kind::Float) {
      if (!(value.real >= spec.low && value.real <= spec.high)) // also refuses NaN
        return prefix + "is " + std::to_string(value.real) + ", expected a number from " +
               std::to_string(spec.low) + " to " + std::to_string(spec.high);
      continue;
    }
    auto low = static_cast<int64_t>(spec.low), high = static_cast<int64_t>(spec.high);
    if (value.integer < low || value.integer > high)
      return prefix + "is " + std::to_string(value.integer) + ", expected " + std::to_string(low) +
             " to " + std::to_string(high);
    if (spec.kind == AttributeSpec::Kind::Integer)
      bindings_.bind(spec.name, constantExtent(value.integer));
  }
  return std::nullopt;
}

std::optional<std::string> Matcher::matchDTypes() {
  int firstOf[3] = {-1, -1, -1};
  for (int i = 0; i < count_; ++i) {
    DTypeRule rule = spec(i).dtype;
    DType found = operands_[i].dtype;
    if (rule == DTypeRule::F32 || rule == DTypeRule::I32) {
      DType expected = rule == DTypeRule::F32 ? DType::F32 : DType::I32;
      if (found != expected)
        return at(i) + "is " + std::string(name(found)) + ", expected " +
               std::string(name(expected));
      continue;
    }
    if (found != DType::F32 && found != DType::BF16)
      return at(i) + "is " + std::string(name(found)) + ", expected f32 or bf16";
    if (rule == DTypeRule::F32OrA && found == DType::F32)
      continue;
    DTypeRule variable = rule == DTypeRule::F32OrA ? DTypeRule::A : rule;
    int &first = firstOf[static_cast<int>(variable) - static_cast<int>(DTypeRule::A)];
    if (first < 0)
      first = i;
    if (operands_[first].dtype != found)
      return at(i) + "is " + std::string(name(found)) + ", expected " +
             std::string(name(operands_[first].dtype)) + " as '" +
             operandName(signature_, first, count_) + "' is";
  }
  return std::nullopt;
}

std::optional<std::string> Matcher::checkExtents() {
  for (int i = 0; i < count_; ++i) {
    const std::vector<Extent> &shape = operands_[i].shape;
    if (shape.size() > kMaxRank)
      return at(i) + "has rank " + std::to_string(shape.size()) + ", at most " +
             std::to_string(kMaxRank) + " is supported";
    int64_t elements = 1;
    for (size_t dimension = 0; dimension < shape.size(); ++dimension) {
      const Extent &extent = shape[dimension];
      if (extent.offset < 0 || extent.offset > kLargestExtent || extent.scale < 0 ||
          extent.scale > kLargestExtent || extent.symbol < -1)
        return at(i) + "dimension " + std::to_string(dimension) + " is " + toString(extent) +
               ", expected scale and offset from 0 to " + std::to_string(kLargestExtent);
      if (isConstant(canonical(extent)) &&
          (__builtin_mul_overflow(elements, extent.offset, &elements) || elements > kMaxElements))
        return at(i) + "has more than " + std::to_string(kMaxElements) + " elements";
    }
  }
  return std::nullopt;
}

/// Extents that are just a symbol give it its value, and check it where it has one.
std::optional<std::string> Matcher::bindSymbols() {
  for (int i = 0; i < count_; ++i) {
    std::string_view text = spec(i).shape;
    if (text == "...")
      continue;
    std::vector<std::string_view> expected = split(text, ',');
    const std::vector<Extent> &shape = operands_[i].shape;
    if (shape.size() != expected.size())
      return at(i) + "has rank " + std::to_string(shape.size()) + ", expected " +
             std::to_string(expected.size()) + " [" + std::string(text) + "]";
    for (size_t dimension = 0; dimension < shape.size(); ++dimension)
      if (isIdentifier(expected[dimension]) && !bindings_.find(expected[dimension]))
        bindings_.bind(expected[dimension], canonical(shape[dimension]));
  }
  return std::nullopt;
}

std::optional<std::string> Matcher::matchShapes() {
  const std::vector<Extent> *any = nullptr;
  int anyIndex = 0;
  for (int i = 0; i < count_; ++i) {
    const std::vector<Extent> &shape = operands_[i].shape;
    if (spec(i).shape != "...") {
      std::vector<std::string_view> expected = split(spec(i).shape, ',');
      for (size_t dimension = 0; dimension < shape.size(); ++dimension)
        if (auto fault = matchExtent(i, dimension, expected[dimension]))
          return fault;
      continue;
    }
    if (!any) {
      any = &shape;
      anyIndex = i;
    }
    bool same =
        std::equal(shape.begin(), shape.end(), any->begin(), any->end(),
                   [](const Extent &a, const Extent &b) { return canonical(a) == canonical(b); });
    if (!same)
      return at(i) + "has another shape than '" + operandName(signature_, anyIndex, count_) + "'";
  }
  return std::nullopt;
}

std::optional<std::string> Matcher::matchExtent(int index, size_t dimension,
                                                std::string_view expression) {
  Extent found = canonical(operands_[index].shape[dimension]);
  std::optional<Extent> expected = bindings_.evaluate(expression);
  std::string where = at(index) + "dimension " + std::to_string(dimension) + " is " +
                      toString(found) + ", expected " + std::string(expression);
  if (!expected)
    return where + ", which is not a multiple of one symbol within 64 bits";
  if (*expected != found)
    return where + " = " + toString(*expected);
  return std::nullopt;
}

/// The bindings with the plan's symbols at their bounds.
class DimsAtBounds final : public Dims {
public:
  DimsAtBounds(const Bindings &bindings, std::span<const int64_t> bounds,
               const Signature &signature, std::span<const OperandType> operands)
      : bindings_(bindings), bounds_(bounds), signature_(signature), operands_(operands) {}

  int64_t operator[](std::string_view symbol) const override {
    const Extent *extent = bindings_.find(symbol);
    return extent ? atBound(*extent).value_or(0) : 0;
  }
  int64_t elementBytes(DTypeRule variable) const override {
    int count = static_cast<int>(operands_.size());
    for (int i = 0; i < count; ++i)
      if (signature_.operands[specOfOperand(signature_, i, count)].dtype == variable)
        return byteSize(operands_[i].dtype);
    return 0;
  }

  std::optional<int64_t> atBound(const Extent &extent) const {
    if (isConstant(canonical(extent)))
      return extent.offset;
    int64_t value = 0;
    if (static_cast<size_t>(extent.symbol) >= bounds_.size() || bounds_[extent.symbol] < 0 ||
        __builtin_mul_overflow(extent.scale, bounds_[extent.symbol], &value) ||
        __builtin_add_overflow(value, extent.offset, &value) || value > kLargestExtent)
      return std::nullopt;
    return value;
  }
  bool fits() const {
    for (const OperandType &operand : operands_) {
      int64_t elements = 1;
      for (const Extent &extent : operand.shape) {
        std::optional<int64_t> value = atBound(extent);
        if (!value || __builtin_mul_overflow(elements, *value, &elements) ||
            elements > kMaxElements)
          return false;
      }
    }
    return true;
  }

private:
  const Bindings &bindings_;
  std::span<const int64_t> bounds_;
  const Signature &signature_;
  std::span<const OperandType> operands_;
};

/// The fault of one operand's shape, given the names that have a value.
std::optional<std::string> checkShape(const OperandSpec &spec, const Bindings &bindings) {
  if (spec.shape == "...")
    return std::nullopt;
  std::vector<std::string_view> extents = split(spec.shape, ',');
  if (extents.size() > kMaxRank)
    return "the rank of '" + std::string(spec.name) + "' is over " + std::to_string(kMaxRank);
  for (std::string_view extent : extents)
    for (std::string_view term : split(extent, '+'))
      for (std::string_view factor : split(term, '*')) {
        if (!isIdentifier(factor) && !parseInteger(factor))
          return "the shape of '" + std::string(spec.name) + "' does not parse";
        if (isIdentifier(factor) && !bindings.find(factor))
          return "the symbol " + std::string(factor) + " of '" + std::string(spec.name) +
                 "' never stands alone, so no launch can bind it";
      }
  return std::nullopt;
}

} // namespace

std::span<const Signature *const> allSignatures() {
  return kTable;
}

const Signature *findSignature(std::string_view name) {
  auto found = std::lower_bound(
      kTable.begin(), kTable.end(), name,
      [](const Signature *signature, std::string_view key) { return signature->name < key; });
  return found != kTable.end() && (*found)->name == name ? *found : nullptr;
}

std::optional<std::string> matchLaunch(const Signature &signature,
                                       std::span<const OperandType> operands,
                                       std::span<const AttributeValue> attributes) {
  return Matcher(signature, operands, attributes).match();
}

int64_t workspaceBytes(const Signature &signature, std::span<const OperandType> operands,
                       std::span<const AttributeValue> attributes,
                       std::span<const int64_t> symbolBounds, Target target) {
  constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  Matcher matcher(signature, operands, attributes);
  if (target.threads < 1 || target.threads > kMaxThreads || matcher.match())
    return kNever;
  DimsAtBounds dims(matcher.bindings(), symbolBounds, signature, operands);
  return dims.fits() ? signature.workspace(dims, target) : kNever;
}

std::optional<std::string> checkSignature(const Signature &signature) {
  Bindings bindings;
  bindings.bind("L", constantExtent(1));
  for (const AttributeSpec &attribute : signature.attributes) {
    if (!(attribute.low <= attribute.high))
      return "the range of attribute '" + std::string(attribute.name) + "' is empty";
    if (attribute.kind == AttributeSpec::Kind::Integer)
      bindings.bind(attribute.name, constantExtent(1));
  }
  int repeated = 0;
  for (const OperandSpec &spec : signature.operands) {
    repeated += spec.repeated;
    for (std::string_view extent : split(spec.shape, ','))
      if (isIdentifier(extent) && !bindings.find(extent))
        bindings.bind(extent, constantExtent(1));
  }
  if (repeated > 1)
    return "more than one operand repeats";
  for (const OperandSpec &spec : signature.operands) {
    if (auto fault = checkShape(spec, bindings))
      return fault;
    if (spec.overlay < 0)
      continue;
    if (spec.role != Role::Out || static_cast<size_t>(spec.overlay) >= signature.operands.size() ||
        signature.operands[spec.overlay].role != Role::In ||
        signature.operands[spec.overlay].shape != spec.shape ||
        signature.operands[spec.overlay].dtype != spec.dtype)
      return "'" + std::string(spec.name) + "' may not overlay that operand";
  }
  return std::nullopt;
}

int specOfOperand(const Signature &signature, int index, int count) {
  int specs = static_cast<int>(signature.operands.size());
  int extra = count - specs;
  for (int i = 0; i < specs; ++i)
    if (signature.operands[i].repeated)
      return index < i ? index : index <= i + extra ? i : index - extra;
  return index;
}

std::string operandName(const Signature &signature, int index, int count) {
  int spec = specOfOperand(signature, index, count);
  std::string name(signature.operands[spec].name);
  if (signature.operands[spec].repeated)
    name += "[" + std::to_string(index - spec) + "]";
  return name;
}

std::string toString(const Extent &extent) {
  Extent value = canonical(extent);
  if (isConstant(value))
    return std::to_string(value.offset);
  std::string text = value.scale == 1 ? "" : std::to_string(value.scale) + "*";
  text += "symbol" + std::to_string(value.symbol);
  return value.offset == 0 ? text : text + " + " + std::to_string(value.offset);
}

} // namespace switchyard::kernels
