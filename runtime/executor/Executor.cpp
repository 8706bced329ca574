#include "runtime/executor/Executor.h"

#include "runtime/comm/DeviceGroup.h"
#include "runtime/executor/Collective.h"
#include "runtime/plan/Layout.h"
#include "runtime/plan/Verify.h"

#include <algorithm>
#include <cstring>

namespace switchyard {
namespace {

/// Raises `reach` to the end of `bytes` bytes at `buffer`'s place. The padding behind a buffer
/// counts when it is full, as in the plan's peak, so that what is smaller than planned is seen to
/// be.
void extend(std::array<uint64_t, kNumArenas> &reach, const Buffer &buffer, uint64_t bytes,
            std::span<const int64_t> bounds) {
  uint64_t &end = reach[static_cast<size_t>(buffer.arena)];
  uint64_t last = buffer.offset + bytes;
  if (bytes > 0)
    end = std::max(end, bytes >= bytesOf(buffer, bounds) ? alignUp(last) : last);
}

std::string valuesText(const Plan &plan, std::span<const int64_t> values) {
  std::string text;
  for (size_t i = 0; i < values.size(); ++i)
    text += (i > 0 ? ", " : "") + plan.symbols[i].name + "=" + std::to_string(values[i]);
  return text;
}

Status noSuchPort(const Program &program, const char *what, std::string_view name) {
  return Status::failed("program " + program.name + " has no " + what + " '" + std::string(name) +
                        "'");
}

/// `elements` values of `dtype` are what the port has.
Status checkPort(const Program &program, const char *what, std::string_view name, DType dtype,
                 size_t elements, DType expected, int64_t expectedElements) {
  if (dtype == expected && static_cast<int64_t>(elements) == expectedElements)
    return {};
  return Status::failed(
      "program " + program.name + ", " + what + " '" + std::string(name) + "': got " +
      std::to_string(elements) + " values of " + std::string(kernels::name(dtype)) + "; expected " +
      std::to_string(expectedElements) + " of " + std::string(kernels::name(expected)));
}

Status checkRanks(const Plan &plan, const Communicator *communicator) {
  int64_t expected = plan.mesh.numRanks();
  int64_t found = communicator ? communicator->size() : 1;
  if (found == expected)
    return {};
  auto ranks = [](int64_t count) {
    return std::to_string(count) + (count == 1 ? " rank" : " ranks");
  };
  std::string mesh = expected > 1 ? " (" + text(plan.mesh) + ")" : "";
  return Status::usage("the plan is for " + ranks(expected) + mesh + ", this job has " +
                       ranks(found) + "; start " + std::to_string(expected) +
                       ", or compile the plan with another --mesh");
}

} // namespace

Binding::Binding() = default;
Binding::~Binding() = default;

const Binding::BoundPort *Binding::find(std::string_view name) const {
  for (const BoundPort &port : ports_)
    if (port.port->name == name)
      return &port;
  return nullptr;
}

int64_t Binding::portElements(std::string_view name) const {
  const BoundPort *port = find(name);
  return port ? port->elements : -1;
}

std::optional<DType> Binding::portDType(std::string_view name) const {
  const BoundPort *port = find(name);
  return port ? std::optional<DType>(port->dtype) : std::nullopt;
}

Result<std::unique_ptr<Executor>> Executor::create(Plan plan, std::unique_ptr<Device> device,
                                                   Communicator *communicator) {
  SY_RETURN_IF_ERROR(verify(plan));
  SY_RETURN_IF_ERROR(checkRanks(plan, communicator));
  std::unique_ptr<Executor> executor(
      new Executor(std::move(plan), std::move(device), communicator));
  SY_RETURN_IF_ERROR(executor->allocate());
  SY_RETURN_IF_ERROR(executor->makeGroups());
  return executor;
}

Status Executor::makeGroups() {
  std::array<bool, std::tuple_size_v<decltype(groups_)>> isUsed = {}, exchanges = {};
  for (const Program &program : plan_.programs)
    for (const Instruction &instruction : program.instructions)
      if (const auto *collective = std::get_if<CollectiveInstruction>(&instruction)) {
        isUsed[collective->axes.bits()] = true;
        if (collective->kind == CollectiveKind::TokenExchange)
          exchanges[collective->axes.bits()] = true;
      }
  for (size_t bits = 0; bits < groups_.size(); ++bits) {
    AxisSet axes(static_cast<uint8_t>(bits));
    if (!isUsed[bits])
      continue;
    if (!communicator_)
      return Status::usage("the plan has collectives; expected a communicator, even for one rank");
    std::vector<int64_t> members = plan_.mesh.groupOf(rank(), axes);
    auto group = communicator_->createGroup(std::vector<int>(members.begin(), members.end()));
    if (!group.ok())
      return group.status().within("the group over " + text(axes));
    groups_[bits] = *group;
    if (plan_.target.kind == kernels::Target::Kind::Cuda && !(*group)->onDevice())
      return Status::usage("the plan's ranks are on GPUs, and these cannot exchange what is in GPU "
                           "memory; start them with moe-run --ranks N, torchrun, mpirun or srun");
    if (exchanges[bits])
      SY_RETURN_IF_ERROR(makeExchanger(axes));
  }
  return {};
}

/// All ranks reach each other's transient arena, where exchanges have their buffers, or none.
Status Executor::makeExchanger(AxisSet axes) {
  DeviceGroup *onDevice = groups_[axes.bits()]->onDevice();
  if (!onDevice)
    return {};
  const DeviceMemory &memory = arenas_[static_cast<size_t>(Arena::Transient)];
  auto exchanger = onDevice->shareMemory({memory.data(), memory.bytes()});
  if (!exchanger.ok())
    return exchanger.status().within("sharing memory over " + text(axes));
  exchangers_[axes.bits()] = std::move(*exchanger);
  return {};
}

Status Executor::allocate() {
  uint64_t available = device_->memoryBytes();
  if (plan_.peakBytes > available)
    return Status::doesNotFit(
        "the plan needs " + std::to_string(plan_.peakBytes) + " bytes of memory, the device has " +
        std::to_string(available) +
        "; compile it for fewer tokens (--coalesce, --max-seq-length) or a smaller precision");
  for (int i = 0; i < kNumArenas; ++i) {
    auto memory = device_->allocate(plan_.arenaBytes[i]);
    if (!memory.ok())
      return memory.status().within("arena " + std::string(name(Arena(i))));
    arenas_[i] = std::move(*memory);
  }
  bounds_ = symbolBounds(plan_);
  for (const State &state : plan_.states)
    stateBytes_.push_back(localBytesOf(state, plan_.mesh));
  bindings_.resize(plan_.programs.size());
  return {};
}

std::byte *Executor::addressOf(const Buffer &buffer) const {
  return arenas_[static_cast<size_t>(buffer.arena)].data() + buffer.offset;
}

kernels::Tensor Executor::tensorOf(const Buffer &buffer, std::span<const int64_t> values) const {
  kernels::Tensor tensor;
  tensor.data = addressOf(buffer);
  tensor.dtype = buffer.dtype;
  tensor.rank = static_cast<int>(buffer.shape.size());
  for (int i = 0; i < tensor.rank; ++i)
    tensor.dims[i] = valueOf(buffer.shape[i], values);
  return tensor;
}

Status Executor::checkValues(const Program &program, std::span<const int64_t> values) const {
  if (values.size() != plan_.symbols.size())
    return Status::failed("program " + program.name + ": " + std::to_string(values.size()) +
                          " symbol values were given; the plan has " +
                          std::to_string(plan_.symbols.size()) + " symbols");
  for (size_t i = 0; i < values.size(); ++i)
    if (values[i] < 0 || values[i] > plan_.symbols[i].bound)
      return Status::failed("program " + program.name + ": " + plan_.symbols[i].name + " is " +
                            std::to_string(values[i]) + "; the plan is made for 0 to " +
                            std::to_string(plan_.symbols[i].bound));
  int32_t tokens = findSymbol(plan_, "T");
  for (size_t i = 0; i < values.size() && tokens >= 0; ++i) {
    int64_t expected = valueFor(plan_.symbols[i], values[tokens]);
    if (plan_.symbols[i].rowsPerToken != 0 && values[i] != expected)
      return Status::failed("program " + program.name + ": " + plan_.symbols[i].name + " is " +
                            std::to_string(values[i]) + "; expected " + std::to_string(expected) +
                            ", which follows from T=" + std::to_string(values[tokens]));
  }
  return {};
}

Status Executor::prepareStep(const Instruction &instruction, const Binding &binding,
                             Binding::Step &step) {
  step.stream = streamOf(instruction);
  if (const auto *event = std::get_if<RecordInstruction>(&instruction))
    step.action = Binding::Event{event->event, false};
  if (const auto *event = std::get_if<WaitInstruction>(&instruction))
    step.action = Binding::Event{event->event, true};
  if (const auto *launch = std::get_if<LaunchInstruction>(&instruction))
    return prepare(*launch, binding, step);
  if (const auto *copy = std::get_if<CopyInstruction>(&instruction))
    return prepare(*copy, binding, step);
  if (const auto *collective = std::get_if<CollectiveInstruction>(&instruction))
    return prepare(*collective, binding, step);
  if (const auto *repeat = std::get_if<RepeatInstruction>(&instruction))
    return prepare(*repeat, binding, step);
  return {};
}

Status Executor::prepare(const CopyInstruction &copy, const Binding &binding, Binding::Step &step) {
  const Buffer &from = binding.program_->buffers[copy.from];
  const Buffer &to = binding.program_->buffers[copy.to];
  uint64_t bytes = bytesOf(to, binding.values_);
  extend(step.reach, from, bytes, bounds_);
  extend(step.reach, to, bytes, bounds_);
  step.action = Binding::Copy{addressOf(to), addressOf(from), bytes};
  return {};
}

Status Executor::prepare(const LaunchInstruction &launch, const Binding &binding,
                         Binding::Step &step) {
  const std::vector<Buffer> &buffers = binding.program_->buffers;
  const kernels::Signature &signature = *kernels::findSignature(launch.kernel);
  std::vector<kernels::Tensor> operands;
  std::vector<kernels::OperandType> types;
  for (uint32_t operand : launch.operands) {
    const Buffer &buffer = buffers[operand];
    operands.push_back(tensorOf(buffer, binding.values_));
    types.push_back({buffer.dtype, buffer.shape});
    extend(step.reach, buffer, bytesOf(buffer, binding.values_), bounds_);
  }
  std::span<std::byte> workspace;
  if (launch.workspace >= 0) {
    // What the kernel may use at these extents; the whole buffer where that is what it was made
    // for.
    const Buffer &buffer = buffers[launch.workspace];
    auto needed = [&](std::span<const int64_t> values) {
      return static_cast<uint64_t>(
          kernels::workspaceBytes(signature, types, launch.attributes, values, plan_.target));
    };
    uint64_t bytes = needed(binding.values_);
    bool isWhole = bytes >= needed(bounds_);
    workspace = {addressOf(buffer), isWhole ? bytesOf(buffer, bounds_) : bytes};
    extend(step.reach, buffer, workspace.size(), bounds_);
  }
  SY_ASSIGN_OR_RETURN(std::unique_ptr<PreparedLaunch> prepared,
                      device_->prepare(signature, std::move(operands), launch.attributes, workspace,
                                       launch.stream));
  step.action = std::move(prepared);
  return {};
}

int64_t Executor::rowsReceivedAtOnce(std::span<const int64_t> values) const {
  int32_t symbol = findSymbol(plan_, "R");
  return symbol < 0 ? 0 : values[symbol];
}

Status Executor::prepare(const CollectiveInstruction &collective, const Binding &binding,
                         Binding::Step &step) {
  std::vector<kernels::Tensor> operands;
  for (uint32_t operand : collective.operands) {
    const Buffer &buffer = binding.program_->buffers[operand];
    operands.push_back(tensorOf(buffer, binding.values_));
    // What is gathered, and what is summed into parts, has padding behind it that is used too.
    extend(step.reach, buffer, capacityOf(buffer, binding.values_), bounds_);
  }
  step.action = prepareCollective(collective, operands, rowsReceivedAtOnce(binding.values_),
                                  *groups_[collective.axes.bits()],
                                  exchangers_[collective.axes.bits()].get());
  return {};
}

Status Executor::prepare(const RepeatInstruction &repeat, const Binding &binding,
                         Binding::Step &step) {
  const Buffer &counts = binding.program_->buffers[repeat.allCounts];
  const Buffer &round = binding.program_->buffers[repeat.round];
  extend(step.reach, counts, bytesOf(counts, binding.values_), bounds_);
  extend(step.reach, round, bytesOf(round, binding.values_), bounds_);
  step.action = std::make_unique<PreparedRepeat>(
      tensorOf(counts, binding.values_), reinterpret_cast<int32_t *>(addressOf(round)),
      plan_.mesh.groupSize(repeat.axes), rowsReceivedAtOnce(binding.values_),
      exchangers_[repeat.axes.bits()].get());
  return {};
}

void Executor::bindPorts(Binding &binding) {
  const Program &program = *binding.program_;
  for (const auto *ports : {&program.inputs, &program.outputs})
    for (const Port &port : *ports) {
      const Buffer &buffer = program.buffers[port.buffer];
      kernels::Tensor tensor = tensorOf(buffer, binding.values_);
      binding.ports_.push_back(
          {&port, ports == &program.inputs, buffer.dtype, tensor.as<std::byte>(), tensor.count()});
      extend(binding.portReach_, buffer, static_cast<uint64_t>(tensor.bytes()), bounds_);
    }
}

/// Besides the plan's events there is one for each stream, by which it starts behind stream 0 and
/// stream 0 ends behind it.
Status Executor::bindStreams(Binding &binding) {
  for (const Instruction &instruction : binding.program_->instructions) {
    binding.streams_ = std::max(binding.streams_, streamOf(instruction) + 1);
    if (const auto *record = std::get_if<RecordInstruction>(&instruction))
      binding.events_ = std::max(binding.events_, record->event + 1);
  }
  for (const Binding::Step &step : binding.steps_) {
    const auto *collective = std::get_if<std::unique_ptr<PreparedCollective>>(&step.action);
    const auto *repeat = std::get_if<std::unique_ptr<PreparedRepeat>>(&step.action);
    if ((collective && !(*collective)->canRecord()) || (repeat && !(*repeat)->canRecord()))
      binding.canRecord_ = false;
  }
  return device_->reserve(binding.streams_, binding.events_ + binding.streams_);
}

Result<std::shared_ptr<const Binding>> Executor::bind(std::string_view name,
                                                      std::span<const int64_t> symbolValues) {
  const Program *program = plan_.findProgram(name);
  if (!program)
    return Status::failed("the plan has no program " + std::string(name));
  auto &known = bindings_[static_cast<size_t>(program - plan_.programs.data())];
  for (auto it = known.begin(); it != known.end(); ++it)
    if (std::equal(symbolValues.begin(), symbolValues.end(), (*it)->values_.begin(),
                   (*it)->values_.end())) {
      std::rotate(it, it + 1, known.end());
      return std::shared_ptr<const Binding>(known.back());
    }
  SY_RETURN_IF_ERROR(checkValues(*program, symbolValues));
  auto binding = std::make_shared<Binding>();
  binding->program_ = program;
  binding->values_.assign(symbolValues.begin(), symbolValues.end());
  binding->steps_.resize(program->instructions.size());
  for (size_t i = 0; i < program->instructions.size(); ++i)
    if (Status status = prepareStep(program->instructions[i], *binding, binding->steps_[i]);
        !status.ok())
      return status.within(instructionText(*program, i) + " with " +
                           valuesText(plan_, symbolValues));
  bindPorts(*binding);
  SY_RETURN_IF_ERROR(bindStreams(*binding));
  if (known.size() == kMaxBindings)
    known.erase(known.begin());
  known.push_back(binding);
  return std::shared_ptr<const Binding>(std::move(binding));
}

Result<std::unique_ptr<Outputs>> Executor::createOutputs(std::string_view name) {
  const Program *program = plan_.findProgram(name);
  if (!program)
    return Status::failed("the plan has no program " + std::string(name));
  uint64_t bytes = 0;
  for (const Port &port : program->outputs) {
    const Buffer &buffer = program->buffers[port.buffer];
    bytes = std::max(bytes, buffer.offset + bytesOf(buffer, bounds_));
  }
  // As in the arena, from the first output on.
  uint64_t first = bytes;
  for (const Port &port : program->outputs)
    first = std::min(first, program->buffers[port.buffer].offset);
  auto outputs = std::make_unique<Outputs>();
  outputs->program_ = program;
  outputs->communicator_ = waitingCommunicator();
  for (const Port &port : program->outputs)
    outputs->values_.push_back({.at = program->buffers[port.buffer].offset - first});
  outputs->pieces_.resize(program->outputs.size());
  uint64_t end = alignUp(bytes - first);
  for (const auto &exchanger : exchangers_)
    if (exchanger) {
      outputs->pieces_.push_back({exchanger->totals(), sizeof(ExchangeTotals), end});
      end += sizeof(ExchangeTotals);
    }
  SY_ASSIGN_OR_RETURN(outputs->readback_, device_->createReadback(end));
  return outputs;
}

Status Executor::readBack(const Binding &binding, Outputs &outputs) {
  SY_RETURN_IF_ERROR(mark(binding, -1));
  size_t i = 0;
  for (const Binding::BoundPort &port : binding.ports_) {
    if (port.isInput)
      continue;
    Outputs::Value &value = outputs.values_[i];
    value.dtype = port.dtype;
    value.elements = port.elements;
    outputs.pieces_[i++] = {
        port.data, static_cast<uint64_t>(port.elements * kernels::byteSize(port.dtype)), value.at};
  }
  if (Status status = outputs.readback_->begin(outputs.pieces_); !status.ok())
    return status.within("program " + binding.program_->name);
  return {};
}

Status Outputs::wait() {
  Communicator::DeviceWait waiting(communicator_);
  Status status = readback_->wait();
  return status.ok() ? status : status.within("program " + program_->name);
}

ExchangeTotals Outputs::exchanged() const {
  ExchangeTotals sum;
  for (size_t i = values_.size(); i < pieces_.size(); ++i) {
    ExchangeTotals totals;
    std::memcpy(&totals, readback_->bytes().data() + pieces_[i].at, sizeof totals);
    sum += totals;
  }
  return sum;
}

Result<ExchangeTotals> Executor::exchanged() {
  Communicator::DeviceWait waiting(waitingCommunicator());
  ExchangeTotals sum;
  for (const auto &exchanger : exchangers_) {
    if (!exchanger)
      continue;
    ExchangeTotals totals;
    SY_RETURN_IF_ERROR(device_->copyOut(&totals, exchanger->totals(), sizeof totals));
    sum += totals;
  }
  return sum;
}

Status Outputs::copyTo(std::string_view name, DType dtype, void *host, size_t elements) const {
  for (size_t i = 0; i < values_.size(); ++i) {
    if (program_->outputs[i].name != name)
      continue;
    const Value &value = values_[i];
    SY_RETURN_IF_ERROR(
        checkPort(*program_, "output", name, dtype, elements, value.dtype, value.elements));
    if (elements > 0)
      std::memcpy(host, readback_->bytes().data() + value.at,
                  elements * static_cast<size_t>(kernels::byteSize(dtype)));
    return {};
  }
  return noSuchPort(*program_, "output", name);
}

Status Executor::copyPort(const Binding &binding, std::string_view name, bool isInput, DType dtype,
                          void *host, size_t elements) {
  const Binding::BoundPort *port = binding.find(name);
  const char *what = isInput ? "input" : "output";
  if (!port || port->isInput != isInput)
    return noSuchPort(*binding.program_, what, name);
  SY_RETURN_IF_ERROR(
      checkPort(*binding.program_, what, name, dtype, elements, port->dtype, port->elements));
  uint64_t bytes = elements * static_cast<uint64_t>(kernels::byteSize(dtype));
  return isInput ? device_->copyIn(port->data, host, bytes)
                 : device_->copyOut(host, port->data, bytes);
}

Result<size_t> Executor::findState(std::string_view name) const {
  for (size_t i = 0; i < plan_.states.size(); ++i)
    if (plan_.states[i].name == name)
      return i;
  return Status::failed("the plan has no state '" + std::string(name) + "'");
}

Status Executor::checkStateRange(size_t state, uint64_t byteOffset, uint64_t bytes) const {
  uint64_t size = stateBytes_[state];
  if (byteOffset > size || bytes > size - byteOffset)
    return Status::failed("state '" + plan_.states[state].name + "' has " + std::to_string(size) +
                          " bytes; bytes " + std::to_string(byteOffset) + " to " +
                          std::to_string(byteOffset + bytes) + " were asked for");
  return {};
}

Status Executor::writeState(size_t state, uint64_t byteOffset, std::span<const std::byte> bytes) {
  SY_RETURN_IF_ERROR(checkStateRange(state, byteOffset, bytes.size()));
  uint64_t begin = plan_.states[state].offset + byteOffset;
  uint64_t &reached = highWater_[static_cast<size_t>(Arena::State)];
  reached = std::max(reached, alignUp(begin + bytes.size()));
  return device_->copyIn(arenas_[static_cast<size_t>(Arena::State)].data() + begin, bytes.data(),
                         bytes.size());
}

Status Executor::readState(size_t state, uint64_t byteOffset, std::span<std::byte> bytes) {
  SY_RETURN_IF_ERROR(checkStateRange(state, byteOffset, bytes.size()));
  return device_->copyOut(bytes.data(),
                          arenas_[static_cast<size_t>(Arena::State)].data() +
                              plan_.states[state].offset + byteOffset,
                          bytes.size());
}

Status Executor::readBuffer(const Binding &binding, uint32_t buffer, uint64_t byteOffset,
                            std::span<std::byte> bytes) {
  return device_->copyOut(bytes.data(), addressOf(binding.program_->buffers[buffer]) + byteOffset,
                          bytes.size());
}

Status Executor::zeroState(size_t index) {
  const State &state = plan_.states[index];
  const uint64_t bytes = stateBytes_[index];
  uint64_t &reached = highWater_[static_cast<size_t>(Arena::State)];
  reached = std::max(reached, alignUp(state.offset + bytes));
  return device_->fillZero(arenas_[static_cast<size_t>(Arena::State)].data() + state.offset, bytes);
}

Status Executor::zeroGradients() {
  for (size_t i = 0; i < plan_.states.size(); ++i)
    if (plan_.states[i].kind == StateKind::Gradient)
      SY_RETURN_IF_ERROR(zeroState(i));
  return {};
}

uint64_t Executor::highWaterBytes() const {
  uint64_t sum = 0;
  for (uint64_t bytes : highWater_)
    sum += bytes;
  return sum;
}

} // namespace switchyard
