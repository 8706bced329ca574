// Collectives and repeats against the mesh: what the ops of dialects/dist ask for, of a plan.
#include "runtime/plan/Layout.h"
#include "runtime/plan/VerifyProgram.h"

#include <algorithm>
#include <optional>

namespace switchyard {
namespace {

class CollectiveVerifier {
public:
  CollectiveVerifier(const Plan &plan, const Program &program)
      : plan_(plan), program_(program), received_(findSymbol(plan, "R")) {}

  Status verifyAxes(AxisSet axes) const {
    if (axes.empty())
      return Status::invalidInput("is over no axes; expected some of dp, fsdp and ep");
    if (axes.bits() >> kNumAxes != 0)
      return Status::invalidInput("is over unknown axes; expected some of dp, fsdp and ep");
    return {};
  }

  Status verifyOperands(std::span<const uint32_t> operands) const {
    for (size_t i = 0; i < operands.size(); ++i)
      if (operands[i] >= program_.buffers.size())
        return Status::invalidInput("operand " + std::to_string(i) + " names buffer " +
                                    std::to_string(operands[i]) + "; the program has " +
                                    std::to_string(program_.buffers.size()));
    return {};
  }

  Status verifyPairs(const CollectiveInstruction &collective) const {
    const std::vector<uint32_t> &operands = collective.operands;
    if (operands.empty() || operands.size() % 2 != 0)
      return Status::invalidInput("has " + std::to_string(operands.size()) +
                                  " operands; expected pairs of an input and an output");
    for (size_t i = 0; i < operands.size(); i += 2) {
      const Buffer &in = program_.buffers[operands[i]], &out = program_.buffers[operands[i + 1]];
      std::string pair = "in[" + std::to_string(i / 2) + "] is " + typeOf(in) + " and out[" +
                         std::to_string(i / 2) + "] " + typeOf(out);
      if (in.dtype != out.dtype)
        return Status::invalidInput(pair + "; expected the same element type");
      switch (collective.kind) {
      case CollectiveKind::AllGather:
        SY_RETURN_IF_ERROR(verifyParts(out, in, collective, pair));
        break;
      case CollectiveKind::ReduceScatter:
        if (in.dtype == DType::I32)
          return Status::invalidInput(pair + "; expected floats to sum");
        SY_RETURN_IF_ERROR(verifyParts(in, out, collective, pair));
        break;
      default:
        if (in.shape != out.shape)
          return Status::invalidInput(pair + "; expected the same shape");
        if (isReceived(in))
          return Status::invalidInput(pair + ": the rows received differ between ranks; expected "
                                             "no extent over R");
      }
    }
    return {};
  }

  Status verifyExchange(const CollectiveInstruction &collective) const {
    const std::vector<uint32_t> &operands = collective.operands;
    bool isReturn = collective.kind == CollectiveKind::TokenReturn;
    size_t count = isReturn ? 3 : 4;
    if (operands.size() != count && operands.size() != count + 1)
      return Status::invalidInput(
          "has " + std::to_string(operands.size()) + " operands; expected rows, all_counts, " +
          (isReturn ? "returned" : "received, group_sizes") + " and perhaps round");
    SY_RETURN_IF_ERROR(verifyCounts(operands[1], collective.axes));
    if (operands.size() > count)
      SY_RETURN_IF_ERROR(verifyRound(operands[count]));
    if (received_ < 0)
      return Status::invalidInput("moves rows; the plan has no symbol R for those received");
    const Buffer &rows = program_.buffers[operands[0]], &result = program_.buffers[operands[2]];
    const char *name = isReturn ? "returned" : "received";
    if (rows.shape.size() != 2 || rows.dtype == DType::I32)
      return Status::invalidInput("rows is " + typeOf(rows) + "; expected floats of rank 2");
    if (result.shape.size() != 2 || result.dtype != rows.dtype || result.shape[1] != rows.shape[1])
      return Status::invalidInput(std::string(name) + " is " + typeOf(result) +
                                  "; expected rows like those of " + typeOf(rows));
    const Buffer &atOnce = isReturn ? rows : result;
    if (atOnce.shape[0] != Extent{1, received_, 0} || (isReturn && isReceived(result)))
      return Status::invalidInput(std::string(isReturn ? "rows is " : "received is ") +
                                  typeOf(atOnce) +
                                  (isReturn ? " and returned " + typeOf(result) : "") +
                                  "; expected R rows" + (isReturn ? " and not R rows" : ""));
    if (isReturn)
      return {};
    int64_t ranks = plan_.mesh.groupSize(collective.axes);
    const Buffer &sizes = program_.buffers[operands[3]];
    int64_t experts = program_.buffers[operands[1]].shape[1].offset / ranks;
    if (sizes.dtype != DType::I32 || sizes.shape != std::vector<Extent>{{0, -1, experts}})
      return Status::invalidInput("group_sizes is " + typeOf(sizes) + "; expected i32[" +
                                  std::to_string(experts) + "], the experts of a rank");
    return {};
  }

  /// i32 [n, E], n ranks of a group, E a multiple of n.
  Status verifyCounts(uint32_t index, AxisSet axes) const {
    const Buffer &counts = program_.buffers[index];
    int64_t ranks = plan_.mesh.groupSize(axes);
    auto shape = fixedShape(counts);
    if (counts.dtype == DType::I32 && shape && shape->size() == 2 && (*shape)[0] == ranks &&
        (*shape)[1] % ranks == 0 && (*shape)[1] <= kMaxExperts)
      return {};
    return Status::invalidInput("all_counts is " + typeOf(counts) + "; expected i32[" +
                                std::to_string(ranks) +
                                ", experts], the experts divisible by the " +
                                std::to_string(ranks) + " ranks of " + text(axes));
  }

  Status verifyRound(uint32_t index) const {
    const Buffer &round = program_.buffers[index];
    if (round.dtype != DType::I32 || !round.shape.empty())
      return Status::invalidInput("round is " + typeOf(round) + "; expected i32[]");
    return {};
  }

  Status verifyRepeat(size_t index) const {
    const auto &repeat = std::get<RepeatInstruction>(program_.instructions[index]);
    SY_RETURN_IF_ERROR(verifyAxes(repeat.axes));
    SY_RETURN_IF_ERROR(verifyOperands(std::array{repeat.allCounts, repeat.round}));
    SY_RETURN_IF_ERROR(verifyCounts(repeat.allCounts, repeat.axes));
    SY_RETURN_IF_ERROR(verifyRound(repeat.round));
    if (received_ < 0)
      return Status::invalidInput("counts rounds; the plan has no symbol R for the rows of one");
    size_t left = program_.instructions.size() - index - 1;
    if (repeat.length == 0 || repeat.length > left)
      return Status::invalidInput("repeats " + std::to_string(repeat.length) +
                                  " instructions; expected 1 to " + std::to_string(left) +
                                  ", those that follow");
    for (size_t i = index + 1; i <= index + repeat.length; ++i) {
      const Instruction &instruction = program_.instructions[i];
      if (std::holds_alternative<RepeatInstruction>(instruction))
        return Status::invalidInput("repeats instruction " + std::to_string(i) +
                                    ", which is a repeat; expected none inside another");
      const auto *collective = std::get_if<CollectiveInstruction>(&instruction);
      if (collective && !repeat.axes.contains(collective->axes))
        return Status::invalidInput(
            "repeats instruction " + std::to_string(i) + " (" + std::string(nameOf(instruction)) +
            ") over " + text(collective->axes) + "; expected some of its own axes, " +
            text(repeat.axes) + ", over which the number of rounds is the same");
    }
    return {};
  }

private:
  /// Tables over [n, E] stay small.
  static constexpr int64_t kMaxExperts = int64_t{1} << 20;

  std::string typeOf(const Buffer &buffer) const {
    return typeText(plan_, buffer.dtype, buffer.shape);
  }

  bool isReceived(const Buffer &buffer) const {
    return !buffer.shape.empty() && received_ >= 0 && buffer.shape[0].symbol == received_;
  }

  static std::optional<std::vector<int64_t>> fixedShape(const Buffer &buffer) {
    std::vector<int64_t> shape;
    for (const Extent &extent : buffer.shape) {
      if (extent.symbol >= 0)
        return std::nullopt;
      shape.push_back(extent.offset);
    }
    return shape;
  }

  static int64_t elementsOf(std::span<const int64_t> shape) {
    int64_t count = 1;
    for (int64_t extent : shape)
      count *= extent;
    return count;
  }

  /// That `whole` is made of the `part` of n ranks: flat shards, rows, or one entry of a new
  /// dimension 0 each; and has room for all of them.
  Status verifyParts(const Buffer &whole, const Buffer &part,
                     const CollectiveInstruction &collective, const std::string &pair) const {
    int64_t ranks = plan_.mesh.groupSize(collective.axes);
    auto wholeShape = fixedShape(whole), partShape = fixedShape(part);
    if (!wholeShape || !partShape)
      return Status::invalidInput(pair + "; expected fixed sizes");
    int64_t shard = flatShardElements(elementsOf(*wholeShape), ranks);
    std::vector<int64_t> stacked = *partShape, joined = *partShape;
    stacked.insert(stacked.begin(), ranks);
    if (!joined.empty())
      joined[0] *= ranks;
    bool isFlat = *partShape == std::vector<int64_t>{shard};
    if (!isFlat && *wholeShape != stacked && (joined.empty() || *wholeShape != joined))
      return Status::invalidInput(pair + "; expected the parts of " + std::to_string(ranks) +
                                  " ranks of " + text(collective.axes) + ": flat shards of " +
                                  std::to_string(shard) + " elements, or equal rows");
    int64_t needed = elementsOf(*partShape) * ranks;
    int64_t room = std::max(elementsOf(*wholeShape), whole.reserve);
    if (room < needed)
      return Status::invalidInput(pair + ", with room for " + std::to_string(room) +
                                  " elements; expected " + std::to_string(needed) +
                                  ", for the padding of the last flat shards");
    return {};
  }

  const Plan &plan_;
  const Program &program_;
  int32_t received_;
};

} // namespace

Status verifyCollective(const Plan &plan, const Program &program,
                        const CollectiveInstruction &collective) {
  CollectiveVerifier verifier(plan, program);
  SY_RETURN_IF_ERROR(verifier.verifyAxes(collective.axes));
  SY_RETURN_IF_ERROR(verifier.verifyOperands(collective.operands));
  if (collective.isMax && collective.kind != CollectiveKind::AllReduce)
    return Status::invalidInput("takes a maximum; expected a sum, as only all_reduce has others");
  if (collective.adds && collective.kind != CollectiveKind::TokenReturn)
    return Status::invalidInput("adds to its output, which only token_return does");
  bool isExchange = collective.kind == CollectiveKind::TokenExchange ||
                    collective.kind == CollectiveKind::TokenReturn;
  return isExchange ? verifier.verifyExchange(collective) : verifier.verifyPairs(collective);
}

Status verifyRepeat(const Plan &plan, const Program &program, size_t index) {
  return CollectiveVerifier(plan, program).verifyRepeat(index);
}

} // namespace switchyard
