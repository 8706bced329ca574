#include "runtime/plan/VerifyProgram.h"

#include "runtime/plan/Layout.h"

#include <algorithm>
#include <map>
#include <set>

namespace switchyard {
namespace {

using kernels::Role;

/// Which instruction last wrote each byte of an arena, and through which buffer.
class ByteOwners {
public:
  struct Owner {
    uint64_t end = 0;
    int64_t buffer = -1; // -1: scratch that nobody may read
    int64_t instruction = -1;
  };

  void write(uint64_t begin, uint64_t end, int64_t buffer, int64_t instruction) {
    split(begin);
    split(end);
    owners_.erase(owners_.lower_bound(begin), owners_.lower_bound(end));
    owners_[begin] = {end, buffer, instruction};
  }

  /// The owner of the first byte in [begin, end) that `buffer` does not own, or of none if it owns
  /// all. `found` is false if nothing was ever written there.
  std::optional<Owner> otherOwner(uint64_t begin, uint64_t end, int64_t buffer) const {
    for (uint64_t at = begin; at < end;) {
      auto next = owners_.upper_bound(at);
      if (next == owners_.begin() || std::prev(next)->second.end <= at)
        return Owner();
      const Owner &owner = std::prev(next)->second;
      if (owner.buffer != buffer)
        return owner;
      at = owner.end;
    }
    return std::nullopt;
  }

private:
  /// Makes `at` a border between owners.
  void split(uint64_t at) {
    auto next = owners_.lower_bound(at);
    if (next == owners_.begin())
      return;
    auto previous = std::prev(next);
    if (previous->second.end <= at)
      return;
    owners_[at] = previous->second;
    previous->second.end = at;
  }

  std::map<uint64_t, Owner> owners_;
};

class ProgramVerifier {
public:
  ProgramVerifier(const Plan &plan, const Program &program)
      : plan_(plan), program_(program), bounds_(symbolBounds(plan)), used_(program.buffers.size()),
        written_(program.buffers.size()), stateWriter_(plan.states.size(), -1) {}

  Status verify(ArenaEnds &ends) {
    for (size_t i = 0; i < program_.buffers.size(); ++i)
      SY_RETURN_IF_ERROR(verifyBuffer(program_.buffers[i]).within("buffer " + std::to_string(i)));
    SY_RETURN_IF_ERROR(verifyPortBuffers());
    SY_RETURN_IF_ERROR(verifyPorts(plan_, program_));
    SY_RETURN_IF_ERROR(placeInputs());
    for (size_t i = 0; i < program_.instructions.size(); ++i)
      SY_RETURN_IF_ERROR(verifyForm(i).within(instructionText(static_cast<int64_t>(i))));
    SY_RETURN_IF_ERROR(followAll());
    for (const Port &port : program_.outputs)
      SY_RETURN_IF_ERROR(checkReadable(port.buffer, "output '" + port.name + "'"));
    SY_RETURN_IF_ERROR(verifyOrder(plan_, program_));
    return raiseEnds(ends);
  }

private:
  // Names for messages.
  std::string instructionText(int64_t index) const {
    return "instruction " + std::to_string(index) + " (" +
           std::string(nameOf(program_.instructions[index])) + ")";
  }
  std::string typeOf(const Buffer &buffer) const {
    return typeText(plan_, buffer.dtype, buffer.shape);
  }
  std::string placeOf(uint32_t index) const {
    const Buffer &buffer = program_.buffers[index];
    return "buffer " + std::to_string(index) + " (" + typeOf(buffer) + " at " +
           std::string(name(buffer.arena)) + "+" + std::to_string(buffer.offset) + ")";
  }

  // Ranges at the symbols' bounds. At smaller values they only shrink, so what is disjoint stays
  // disjoint.
  uint64_t endOf(const Buffer &buffer) const { return buffer.offset + capacityOf(buffer, bounds_); }
  bool overlap(uint32_t a, uint32_t b) const {
    const Buffer &first = program_.buffers[a], &second = program_.buffers[b];
    return first.arena == second.arena && first.offset < endOf(second) &&
           second.offset < endOf(first);
  }

  Status verifyShape(const Buffer &buffer) const;
  Status verifyReserve(const Buffer &buffer) const;
  Status verifyBuffer(const Buffer &buffer) const;
  Status verifyPortBuffers() const;
  Status placeInputs();
  Status verifyForm(size_t index) const;
  Status verifyLaunch(const LaunchInstruction &launch) const;
  Status verifyCopy(const CopyInstruction &copy) const;
  Status verifyWorkspace(const LaunchInstruction &launch, const kernels::Signature &signature,
                         std::span<const kernels::OperandType> types) const;
  Status checkOverlaps(const Instruction &instruction, const std::vector<Access> &accesses) const;
  bool mayOverlay(const Instruction &instruction, const std::vector<Access> &accesses,
                  size_t writer, size_t other) const;
  Status followAll();
  Status follow(size_t index);
  Status followRepeat(size_t index, uint32_t length);
  bool isReadable(uint32_t index) const;
  Status checkReadable(uint32_t index, const std::string &reader) const;
  Status write(uint32_t index, const Access &access);
  Status writeState(const Buffer &buffer);
  Status raiseEnds(ArenaEnds &ends) const;

  const Plan &plan_;
  const Program &program_;
  std::vector<int64_t> bounds_;
  std::vector<bool> used_;
  std::vector<bool> written_;
  std::vector<int64_t> stateWriter_; // the last instruction that wrote the state, or -1
  ByteOwners owners_[kNumArenas];
  int64_t instruction_ = -1;
};

Status ProgramVerifier::verifyShape(const Buffer &buffer) const {
  if (buffer.shape.size() > kernels::kMaxRank)
    return Status::invalidInput("has rank " + std::to_string(buffer.shape.size()) +
                                "; expected at most " + std::to_string(kernels::kMaxRank));
  std::vector<int64_t> shape;
  for (size_t i = 0; i < buffer.shape.size(); ++i) {
    const Extent &extent = buffer.shape[i];
    std::string what = "extent " + std::to_string(i) + " of " + typeOf(buffer);
    constexpr auto kLargest = static_cast<int64_t>(kernels::kMaxExtent);
    if (extent.symbol < -1 || extent.symbol >= static_cast<int64_t>(plan_.symbols.size()))
      return Status::invalidInput(what + " names symbol " + std::to_string(extent.symbol) +
                                  "; the plan has " + std::to_string(plan_.symbols.size()));
    if (extent.symbol >= 0 && i > 0)
      return Status::invalidInput(what + " is symbolic; expected only the first to be");
    if (extent.symbol < 0 ? extent.scale != 0 || extent.offset < 1 || extent.offset > kLargest
                          : extent.scale < 1 || extent.scale > kLargest || extent.offset < 0 ||
                                extent.offset > kLargest)
      return Status::invalidInput(what + " is " + std::to_string(extent.scale) + "*symbol + " +
                                  std::to_string(extent.offset) +
                                  "; expected a positive extent up to 2^40");
    // Scale and bound are at most 2^40 each, so the product may not fit.
    __int128 bound = extent.offset;
    if (extent.symbol >= 0)
      bound += static_cast<__int128>(extent.scale) * bounds_[extent.symbol];
    shape.push_back(bound > kLargest ? -1 : static_cast<int64_t>(bound));
  }
  if (!checkedBytes(buffer.dtype, shape))
    return Status::invalidInput(
        typeOf(buffer) + " has more than 2^50 bytes or an extent over 2^40 at the symbols' bounds");
  return {};
}

Status ProgramVerifier::verifyReserve(const Buffer &buffer) const {
  if (buffer.reserve == 0)
    return {};
  if (!buffer.shape.empty() && buffer.shape[0].symbol >= 0)
    return Status::invalidInput(typeOf(buffer) +
                                " reserves room; expected a fixed size, as only parts of states "
                                "have padding");
  auto elements = static_cast<int64_t>(bytesOf(buffer, bounds_)) / kernels::byteSize(buffer.dtype);
  if (buffer.reserve <= elements || buffer.reserve > kernels::kMaxElements)
    return Status::invalidInput(
        typeOf(buffer) + " reserves room for " + std::to_string(buffer.reserve) +
        " elements; expected more than its " + std::to_string(elements) + " and at most 2^48");
  return {};
}

Status ProgramVerifier::verifyBuffer(const Buffer &buffer) const {
  SY_RETURN_IF_ERROR(verifyShape(buffer));
  SY_RETURN_IF_ERROR(verifyReserve(buffer));
  if (buffer.state < -1 || buffer.state >= static_cast<int64_t>(plan_.states.size()))
    return Status::invalidInput("names state " + std::to_string(buffer.state) + "; the plan has " +
                                std::to_string(plan_.states.size()));
  if (buffer.state >= 0) {
    const State &state = plan_.states[buffer.state];
    std::string expected =
        typeText(state.dtype, localShape(state.shape, state.sharding, plan_.mesh));
    if (typeOf(buffer) != expected)
      return Status::invalidInput("is " + typeOf(buffer) + "; expected " + expected +
                                  " as state '" + state.name + "' is" +
                                  (state.sharding.empty() ? "" : " on a rank"));
    if (buffer.reserve != state.reserve)
      return Status::invalidInput("reserves room for " + std::to_string(buffer.reserve) +
                                  " elements; expected " + std::to_string(state.reserve) +
                                  " as state '" + state.name + "' does");
    if (buffer.arena != Arena::State || buffer.offset != state.offset)
      return Status::invalidInput("is at " + std::string(name(buffer.arena)) + "+" +
                                  std::to_string(buffer.offset) + "; expected state+" +
                                  std::to_string(state.offset) + " where state '" + state.name +
                                  "' is");
    return {};
  }
  if (buffer.arena == Arena::State)
    return Status::invalidInput("is in the state arena but names no state");
  if (buffer.offset % kBufferAlignment != 0)
    return Status::invalidInput("is at offset " + std::to_string(buffer.offset) +
                                "; expected a multiple of " + std::to_string(kBufferAlignment));
  uint64_t arenaBytes = plan_.arenaBytes[static_cast<size_t>(buffer.arena)];
  if (buffer.offset > arenaBytes || endOf(buffer) > arenaBytes)
    return Status::invalidInput(typeOf(buffer) + " at offset " + std::to_string(buffer.offset) +
                                " leaves its arena: " + std::string(name(buffer.arena)) + " has " +
                                std::to_string(arenaBytes) + " bytes");
  return {};
}

Status ProgramVerifier::verifyPortBuffers() const {
  std::set<std::string_view> names;
  for (const auto *ports : {&program_.inputs, &program_.outputs})
    for (const Port &port : *ports) {
      std::string what = (ports == &program_.inputs ? "input '" : "output '") + port.name + "'";
      if (!names.insert(port.name).second)
        return Status::invalidInput(what + " is listed twice");
      if (port.buffer >= program_.buffers.size())
        return Status::invalidInput(what + " names buffer " + std::to_string(port.buffer) +
                                    "; the program has " + std::to_string(program_.buffers.size()));
      Arena arena = program_.buffers[port.buffer].arena;
      if (arena != Arena::Io)
        return Status::invalidInput(what + " is in the " + std::string(name(arena)) +
                                    " arena; expected io");
    }
  return {};
}

/// The inputs are written when the program starts, all of them.
Status ProgramVerifier::placeInputs() {
  ByteOwners &io = owners_[static_cast<size_t>(Arena::Io)];
  for (const Port &port : program_.inputs) {
    const Buffer &buffer = program_.buffers[port.buffer];
    for (const Port &other : program_.inputs)
      if (&other != &port && overlap(port.buffer, other.buffer))
        return Status::invalidInput("input '" + port.name + "' overlaps input '" + other.name +
                                    "'");
    io.write(buffer.offset, endOf(buffer), port.buffer, -1);
    written_[port.buffer] = used_[port.buffer] = true;
  }
  for (const Port &port : program_.outputs)
    used_[port.buffer] = true;
  return {};
}

Status ProgramVerifier::verifyWorkspace(const LaunchInstruction &launch,
                                        const kernels::Signature &signature,
                                        std::span<const kernels::OperandType> types) const {
  int64_t needed =
      kernels::workspaceBytes(signature, types, launch.attributes, bounds_, plan_.target);
  if (launch.workspace < 0) {
    if (launch.workspace != -1 || needed > 0)
      return Status::invalidInput("has no workspace; expected one of " + std::to_string(needed) +
                                  " bytes");
    return {};
  }
  if (needed <= 0)
    return Status::invalidInput("has a workspace; its kernel uses none");
  if (static_cast<size_t>(launch.workspace) >= program_.buffers.size())
    return Status::invalidInput("workspace names buffer " + std::to_string(launch.workspace) +
                                "; the program has " + std::to_string(program_.buffers.size()));
  const Buffer &buffer = program_.buffers[launch.workspace];
  if (buffer.arena != Arena::Transient)
    return Status::invalidInput("workspace is in the " + std::string(name(buffer.arena)) +
                                " arena; expected transient");
  if (!buffer.shape.empty() && buffer.shape[0].symbol >= 0)
    return Status::invalidInput("workspace is " + typeOf(buffer) + "; expected a fixed size");
  if (bytesOf(buffer, bounds_) < static_cast<uint64_t>(needed))
    return Status::invalidInput("workspace has " + std::to_string(bytesOf(buffer, bounds_)) +
                                " bytes; expected at least " + std::to_string(needed));
  return {};
}

Status ProgramVerifier::verifyLaunch(const LaunchInstruction &launch) const {
  const kernels::Signature *signature = kernels::findSignature(launch.kernel);
  if (!signature)
    return Status::invalidInput("there is no kernel called '" + launch.kernel + "'");
  std::vector<kernels::OperandType> types;
  for (size_t i = 0; i < launch.operands.size(); ++i) {
    if (launch.operands[i] >= program_.buffers.size())
      return Status::invalidInput("operand " + std::to_string(i) + " names buffer " +
                                  std::to_string(launch.operands[i]) + "; the program has " +
                                  std::to_string(program_.buffers.size()));
    const Buffer &buffer = program_.buffers[launch.operands[i]];
    types.push_back({buffer.dtype, buffer.shape});
  }
  if (auto fault = kernels::matchLaunch(*signature, types, launch.attributes))
    return Status::invalidInput(*fault);
  return verifyWorkspace(launch, *signature, types);
}

Status ProgramVerifier::verifyCopy(const CopyInstruction &copy) const {
  if (std::max(copy.from, copy.to) >= program_.buffers.size())
    return Status::invalidInput("names buffer " + std::to_string(std::max(copy.from, copy.to)) +
                                "; the program has " + std::to_string(program_.buffers.size()));
  const Buffer &from = program_.buffers[copy.from], &to = program_.buffers[copy.to];
  if (from.dtype != to.dtype || from.shape != to.shape)
    return Status::invalidInput("is from " + typeOf(from) + " to " + typeOf(to) +
                                "; expected the same type");
  return {};
}

bool ProgramVerifier::mayOverlay(const Instruction &instruction,
                                 const std::vector<Access> &accesses, size_t writer,
                                 size_t other) const {
  const Buffer &a = program_.buffers[accesses[writer].buffer],
               &b = program_.buffers[accesses[other].buffer];
  bool isSame = a.offset == b.offset && a.dtype == b.dtype && a.shape == b.shape;
  if (const auto *collective = std::get_if<CollectiveInstruction>(&instruction))
    // Operands are in, out, in, out, ...
    return isSame && collective->kind == CollectiveKind::AllReduce && writer == other + 1;
  const auto *launch = std::get_if<LaunchInstruction>(&instruction);
  if (!launch || !isSame || accesses[writer].isWorkspace || accesses[other].isWorkspace)
    return false;
  const kernels::Signature &signature = *kernels::findSignature(launch->kernel);
  int count = static_cast<int>(launch->operands.size());
  int overlay =
      signature.operands[kernels::specOfOperand(signature, static_cast<int>(writer), count)]
          .overlay;
  return overlay >= 0 &&
         kernels::specOfOperand(signature, static_cast<int>(other), count) == overlay;
}

/// What an instruction writes may share bytes with nothing else it names, except as its signature
/// says.
Status ProgramVerifier::checkOverlaps(const Instruction &instruction,
                                      const std::vector<Access> &accesses) const {
  for (size_t writer = 0; writer < accesses.size(); ++writer) {
    if (accesses[writer].role == Role::In)
      continue;
    for (size_t other = 0; other < accesses.size(); ++other)
      if (other != writer && overlap(accesses[writer].buffer, accesses[other].buffer) &&
          !mayOverlay(instruction, accesses, writer, other))
        return Status::invalidInput(
            "writes '" + accesses[writer].operand + "', " + placeOf(accesses[writer].buffer) +
            ", over '" + accesses[other].operand + "', " + placeOf(accesses[other].buffer) +
            "; the " +
            (std::holds_alternative<LaunchInstruction>(instruction) ? "kernel" : "instruction") +
            " does not allow it");
  }
  return {};
}

bool ProgramVerifier::isReadable(uint32_t index) const {
  const Buffer &buffer = program_.buffers[index];
  return written_[index] && !owners_[static_cast<size_t>(buffer.arena)].otherOwner(
                                buffer.offset, endOf(buffer), index);
}

Status ProgramVerifier::checkReadable(uint32_t index, const std::string &reader) const {
  const Buffer &buffer = program_.buffers[index];
  if (buffer.state >= 0) {
    // A program sees parameters and moments as they were when it began; gradients are accumulated
    // in place.
    int64_t writer = stateWriter_[buffer.state];
    if (writer >= 0 && plan_.states[buffer.state].kind != StateKind::Gradient)
      return Status::invalidInput(reader + " reads state '" + plan_.states[buffer.state].name +
                                  "' after " + instructionText(writer) +
                                  " wrote it; expected every read before the write");
    return {};
  }
  if (!written_[index])
    return Status::invalidInput(reader + " reads " + placeOf(index) + " before anything wrote it");
  auto other =
      owners_[static_cast<size_t>(buffer.arena)].otherOwner(buffer.offset, endOf(buffer), index);
  if (!other)
    return {};
  std::string through =
      other->buffer < 0 ? "its workspace" : placeOf(static_cast<uint32_t>(other->buffer));
  return Status::invalidInput(reader + " reads " + placeOf(index) + ", but " +
                              instructionText(other->instruction) + " has overwritten it through " +
                              through);
}

/// Only optimizer_step and train_step change what outlives a step; micro_step adds to gradients;
/// evaluate and logits change nothing.
Status ProgramVerifier::writeState(const Buffer &buffer) {
  const State &state = plan_.states[buffer.state];
  bool allowed = program_.name == "optimizer_step" || program_.name == "train_step" ||
                 (program_.name == "micro_step" && state.kind == StateKind::Gradient);
  if (!allowed)
    return Status::invalidInput("writes " + std::string(name(state.kind)) + " '" + state.name +
                                "', which program " + program_.name + " may not write");
  if (stateWriter_[buffer.state] >= 0 && state.kind != StateKind::Gradient)
    return Status::invalidInput("writes state '" + state.name + "', which " +
                                instructionText(stateWriter_[buffer.state]) +
                                " wrote; expected one write in a program");
  stateWriter_[buffer.state] = instruction_;
  return {};
}

Status ProgramVerifier::write(uint32_t index, const Access &access) {
  const Buffer &buffer = program_.buffers[index];
  if (buffer.state >= 0)
    return writeState(buffer).within("operand '" + access.operand + "'");
  written_[index] = !access.isWorkspace;
  owners_[static_cast<size_t>(buffer.arena)].write(
      buffer.offset, endOf(buffer), access.isWorkspace ? -1 : int64_t{index}, instruction_);
  return {};
}

/// What can be said of an instruction by itself.
Status ProgramVerifier::verifyForm(size_t index) const {
  const Instruction &instruction = program_.instructions[index];
  if (uint32_t stream = streamOf(instruction); stream >= kMaxStreams)
    return Status::invalidInput("is on stream " + std::to_string(stream) + "; expected less than " +
                                std::to_string(kMaxStreams));
  if (const auto *launch = std::get_if<LaunchInstruction>(&instruction))
    return verifyLaunch(*launch);
  if (const auto *copy = std::get_if<CopyInstruction>(&instruction))
    return verifyCopy(*copy);
  if (const auto *collective = std::get_if<CollectiveInstruction>(&instruction))
    return verifyCollective(plan_, program_, *collective);
  if (std::holds_alternative<RepeatInstruction>(instruction))
    return verifyRepeat(plan_, program_, index);
  return {};
}

/// Follows which buffer holds what from instruction to instruction.
Status ProgramVerifier::followAll() {
  for (size_t i = 0; i < program_.instructions.size(); ++i) {
    const auto *repeat = std::get_if<RepeatInstruction>(&program_.instructions[i]);
    SY_RETURN_IF_ERROR(repeat ? followRepeat(i, repeat->length) : follow(i));
    if (repeat)
      i += repeat->length;
  }
  return {};
}

Status ProgramVerifier::follow(size_t index) {
  const Instruction &instruction = program_.instructions[index];
  instruction_ = static_cast<int64_t>(index);
  auto check = [&]() -> Status {
    std::vector<Access> accesses = accessesOf(instruction);
    SY_RETURN_IF_ERROR(checkOverlaps(instruction, accesses));
    for (const Access &access : accesses) {
      used_[access.buffer] = true;
      if (access.role != Role::Out)
        SY_RETURN_IF_ERROR(checkReadable(access.buffer, "operand '" + access.operand + "'"));
    }
    for (const Access &access : accesses)
      if (access.role != Role::In)
        SY_RETURN_IF_ERROR(write(access.buffer, access));
    return {};
  };
  return check().within(instructionText(instruction_));
}

/// The body runs any number of times: what it reads is there in the first round and in later ones,
/// and what it writes is there afterwards only if it was before.
Status ProgramVerifier::followRepeat(size_t index, uint32_t length) {
  std::vector<uint32_t> made; // buffers that hold nothing before and something after a round
  for (size_t i = index; i <= index + length; ++i)
    for (const Access &access : accessesOf(program_.instructions[i]))
      if (access.role != Role::In && program_.buffers[access.buffer].state < 0 &&
          !isReadable(access.buffer))
        made.push_back(access.buffer);
  for (bool isFirst : {true, false})
    for (size_t i = index; i <= index + length; ++i)
      SY_RETURN_IF_ERROR(isFirst ? follow(i) : follow(i).within("in a later round"));
  for (uint32_t buffer : made) {
    const Buffer &memory = program_.buffers[buffer];
    written_[buffer] = false;
    owners_[static_cast<size_t>(memory.arena)].write(memory.offset, endOf(memory), -1,
                                                     static_cast<int64_t>(index));
  }
  return {};
}

Status ProgramVerifier::raiseEnds(ArenaEnds &ends) const {
  for (size_t i = 0; i < program_.buffers.size(); ++i) {
    const Buffer &buffer = program_.buffers[i];
    if (!used_[i])
      return Status::invalidInput(placeOf(static_cast<uint32_t>(i)) +
                                  " is neither a port nor used by an instruction");
    uint64_t &end = ends[static_cast<size_t>(buffer.arena)];
    end = std::max(end, alignUp(endOf(buffer)));
  }
  return {};
}

} // namespace

Status verifyProgram(const Plan &plan, const Program &program, ArenaEnds &ends) {
  return ProgramVerifier(plan, program).verify(ends).within("program " + program.name);
}

} // namespace switchyard
