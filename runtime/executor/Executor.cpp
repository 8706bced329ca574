#include "runtime/executor/Executor.h"

#include "runtime/plan/Layout.h"
#include "runtime/plan/Verify.h"

#include <algorithm>

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
    end = std::max(end, bytes == bytesOf(buffer, bounds) ? alignUp(last) : last);
}

std::string instructionText(const Program &program, size_t index) {
  return "program " + program.name + ", instruction " + std::to_string(index) + " (" +
         std::string(nameOf(program.instructions[index])) + ")";
}

std::string valuesText(const Plan &plan, std::span<const int64_t> values) {
  std::string text;
  for (size_t i = 0; i < values.size(); ++i)
    text += (i > 0 ? ", " : "") + plan.symbols[i].name + "=" + std::to_string(values[i]);
  return text;
}

} // namespace

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

Result<std::unique_ptr<Executor>> Executor::create(Plan plan, std::unique_ptr<Device> device) {
  SY_RETURN_IF_ERROR(verify(plan));
  std::unique_ptr<Executor> executor(new Executor(std::move(plan), std::move(device)));
  SY_RETURN_IF_ERROR(executor->allocate());
  return executor;
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
  return {};
}

Status Executor::prepareStep(const Instruction &instruction, Binding &binding) {
  const std::vector<Buffer> &buffers = binding.program_->buffers;
  Binding::Step step;
  if (const auto *copy = std::get_if<CopyInstruction>(&instruction)) {
    step.to = addressOf(buffers[copy->to]);
    step.from = addressOf(buffers[copy->from]);
    step.bytes = bytesOf(buffers[copy->to], binding.values_);
    extend(step.reach, buffers[copy->from], step.bytes, bounds_);
    extend(step.reach, buffers[copy->to], step.bytes, bounds_);
    binding.steps_.push_back(std::move(step));
    return {};
  }
  const auto &launch = std::get<LaunchInstruction>(instruction);
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
  SY_ASSIGN_OR_RETURN(
      step.launch, device_->prepare(signature, std::move(operands), launch.attributes, workspace));
  binding.steps_.push_back(std::move(step));
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
  binding->steps_.reserve(program->instructions.size());
  for (size_t i = 0; i < program->instructions.size(); ++i)
    if (Status status = prepareStep(program->instructions[i], *binding); !status.ok())
      return status.within(instructionText(*program, i) + " with " +
                           valuesText(plan_, symbolValues));
  bindPorts(*binding);
  if (known.size() == kMaxBindings)
    known.erase(known.begin());
  known.push_back(binding);
  return std::shared_ptr<const Binding>(std::move(binding));
}

void Executor::touch(const Binding::Reach &reach) {
  for (int i = 0; i < kNumArenas; ++i)
    highWater_[i] = std::max(highWater_[i], reach[i]);
}

Status Executor::runStep(const Binding::Step &step) {
  touch(step.reach);
  return step.launch ? device_->run(*step.launch) : device_->copy(step.to, step.from, step.bytes);
}

Status Executor::run(const Binding &binding) {
  touch(binding.portReach_);
  using Clock = std::chrono::steady_clock;
  Clock::time_point start = observer_ ? Clock::now() : Clock::time_point();
  for (size_t i = 0; i < binding.steps_.size(); ++i) {
    Status status = runStep(binding.steps_[i]);
    if (status.ok() && observer_) {
      status = device_->synchronize();
      Clock::time_point end = Clock::now();
      observer_(*binding.program_, i, end - start);
      start = end;
    }
    if (!status.ok())
      return status.within(instructionText(*binding.program_, i));
  }
  if (Status status = device_->synchronize(); !status.ok())
    return status.within("program " + binding.program_->name);
  return {};
}

Status Executor::copyPort(const Binding &binding, std::string_view name, bool isInput, DType dtype,
                          void *host, size_t elements) {
  const Binding::BoundPort *port = binding.find(name);
  const char *what = isInput ? "input" : "output";
  if (!port || port->isInput != isInput)
    return Status::failed("program " + binding.program_->name + " has no " + what + " '" +
                          std::string(name) + "'");
  if (port->dtype != dtype || port->elements != static_cast<int64_t>(elements))
    return Status::failed("program " + binding.program_->name + ", " + what + " '" +
                          std::string(name) + "': got " + std::to_string(elements) + " values of " +
                          std::string(kernels::name(dtype)) + "; expected " +
                          std::to_string(port->elements) + " of " +
                          std::string(kernels::name(port->dtype)));
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
  uint64_t size = bytesOf(plan_.states[state]);
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

Status Executor::zeroGradients() {
  uint64_t &reached = highWater_[static_cast<size_t>(Arena::State)];
  for (const State &state : plan_.states) {
    if (state.kind != StateKind::Gradient)
      continue;
    uint64_t bytes = bytesOf(state);
    reached = std::max(reached, alignUp(state.offset + bytes));
    SY_RETURN_IF_ERROR(
        device_->fillZero(arenas_[static_cast<size_t>(Arena::State)].data() + state.offset, bytes));
  }
  return {};
}

uint64_t Executor::highWaterBytes() const {
  uint64_t sum = 0;
  for (uint64_t bytes : highWater_)
    sum += bytes;
  return sum;
}

} // namespace switchyard
