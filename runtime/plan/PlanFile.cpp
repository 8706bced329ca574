#include "runtime/plan/PlanFile.h"

#include "runtime/core/File.h"
#include "runtime/plan/plan_generated.h"

#include <algorithm>
#include <cstring>

namespace switchyard {
namespace {

namespace fb = planfile;
using flatbuffers::Offset;

// The enumerators of the file and of the plan in memory are the same numbers.
static_assert(int(fb::DType::I32) == int(DType::I32) && int(fb::DType::MAX) == int(DType::I32));
static_assert(int(fb::TargetKind::MAX) == int(kernels::Target::Kind::Cuda));
static_assert(int(fb::Arena::MAX) == int(Arena::Transient) &&
              int(Arena::Transient) + 1 == kNumArenas);
static_assert(int(fb::StateKind::MAX) == int(StateKind::Moment));
static_assert(int(fb::SourceKind::MAX) == int(Source::Kind::Stack));

bool isEmpty(const Source &source) {
  return source.kind == Source::Kind::Leaf && source.name.empty();
}

/// Builds the file. Strings and vectors are never shared: the reader refuses bytes that are used
/// twice.
class Writer {
public:
  std::vector<uint8_t> write(const Plan &plan) {
    auto root = planTable(plan);
    builder_.FinishSizePrefixed(root, fb::PlanIdentifier());
    const uint8_t *data = builder_.GetBufferPointer();
    return {data, data + builder_.GetSize()};
  }

private:
  template <typename T, typename Table>
  auto tables(const std::vector<T> &items, Offset<Table> (Writer::*table)(const T &)) {
    std::vector<Offset<Table>> offsets;
    offsets.reserve(items.size());
    for (const T &item : items)
      offsets.push_back((this->*table)(item));
    return builder_.CreateVector(offsets);
  }

  Offset<flatbuffers::String> optionalString(const std::string &text) {
    return text.empty() ? 0 : builder_.CreateString(text);
  }

  Offset<fb::Symbol> symbolTable(const Symbol &symbol) {
    return fb::CreateSymbol(builder_, builder_.CreateString(symbol.name), symbol.bound,
                            symbol.rowsPerToken);
  }

  Offset<fb::Source> sourceTable(const Source &source) {
    auto children = source.children.empty() ? 0 : tables(source.children, &Writer::sourceTable);
    auto name = optionalString(source.name);
    auto index = optionalString(source.index);
    auto sizes = source.sizes.empty() ? 0 : builder_.CreateVector(source.sizes);
    return fb::CreateSource(builder_, fb::SourceKind(source.kind), name, index, source.begin,
                            source.end, children, sizes);
  }

  Offset<fb::State> stateTable(const State &state) {
    auto name = builder_.CreateString(state.name);
    auto shape = builder_.CreateVector(state.shape);
    auto moduleName = optionalString(state.moduleName);
    Offset<fb::Source> source = isEmpty(state.source) ? 0 : sourceTable(state.source);
    return fb::CreateState(builder_, name, fb::StateKind(state.kind), fb::DType(state.dtype), shape,
                           state.offset, state.layer, state.of, state.decay, moduleName, source,
                           state.sharding.dim0.bits(), state.sharding.flat.bits(), state.reserve);
  }

  Offset<fb::Buffer> bufferTable(const Buffer &buffer) {
    std::vector<fb::Extent> extents;
    for (const Extent &extent : buffer.shape)
      extents.emplace_back(extent.scale, extent.offset, extent.symbol);
    auto shape = builder_.CreateVectorOfStructs(extents);
    return fb::CreateBuffer(builder_, fb::DType(buffer.dtype), shape, fb::Arena(buffer.arena),
                            buffer.offset, buffer.state, buffer.reserve);
  }

  Offset<fb::Port> portTable(const Port &port) {
    return fb::CreatePort(builder_, builder_.CreateString(port.name), port.buffer);
  }

  Offset<void> bodyTable(const LaunchInstruction &launch) {
    std::vector<fb::AttributeValue> values;
    for (const kernels::AttributeValue &value : launch.attributes)
      values.emplace_back(value.integer, value.real);
    auto kernel = builder_.CreateString(launch.kernel);
    auto operands = builder_.CreateVector(launch.operands);
    auto attributes = builder_.CreateVectorOfStructs(values);
    return fb::CreateLaunch(builder_, kernel, operands, attributes, launch.workspace).Union();
  }

  Offset<void> bodyTable(const CopyInstruction &copy) {
    return fb::CreateCopy(builder_, copy.from, copy.to).Union();
  }

  Offset<void> bodyTable(const CollectiveInstruction &collective) {
    auto operands = builder_.CreateVector(collective.operands);
    return fb::CreateCollective(builder_, fb::CollectiveKind(collective.kind),
                                collective.axes.bits(), collective.isMax, collective.adds, operands)
        .Union();
  }

  Offset<void> bodyTable(const RepeatInstruction &repeat) {
    return fb::CreateRepeat(builder_, repeat.round, repeat.allCounts, repeat.axes.bits(),
                            repeat.length)
        .Union();
  }

  Offset<void> bodyTable(const RecordInstruction &record) {
    return fb::CreateRecord(builder_, record.event).Union();
  }

  Offset<void> bodyTable(const WaitInstruction &wait) {
    return fb::CreateWait(builder_, wait.event).Union();
  }

  Offset<fb::Instruction> instructionTable(const Instruction &instruction) {
    // The union lists the variant's alternatives in their order, behind NONE.
    auto type = static_cast<fb::InstructionBody>(instruction.index() + 1);
    auto body =
        std::visit([&](const auto &alternative) { return bodyTable(alternative); }, instruction);
    auto stream =
        std::visit([](const auto &alternative) { return alternative.stream; }, instruction);
    return fb::CreateInstruction(builder_, stream, type, body);
  }

  Offset<fb::Program> programTable(const Program &program) {
    auto name = builder_.CreateString(program.name);
    auto buffers = tables(program.buffers, &Writer::bufferTable);
    auto inputs = tables(program.inputs, &Writer::portTable);
    auto outputs = tables(program.outputs, &Writer::portTable);
    auto instructions = tables(program.instructions, &Writer::instructionTable);
    return fb::CreateProgram(builder_, name, buffers, inputs, outputs, instructions);
  }

  Offset<fb::Training> trainingTable(const Training &training) {
    auto modelType = builder_.CreateString(training.modelType);
    auto precision = builder_.CreateString(training.precision);
    auto normalization = builder_.CreateString(training.lossNormalization);
    auto decayScope = builder_.CreateString(training.weightDecayScope);
    auto auxLossScope = builder_.CreateString(training.auxLossScope);
    return fb::CreateTraining(
        builder_, modelType, training.vocabSize, training.numLayers, training.numExperts,
        training.topK, training.activeParameters, training.auxLossCoef, precision, normalization,
        decayScope, training.perDeviceTrainBatchSize, training.gradientAccumulationSteps,
        training.maxSeqLength, training.packing, auxLossScope, training.syncEachBatch);
  }

  Offset<fb::Plan> planTable(const Plan &plan) {
    auto compilerVersion = builder_.CreateString(plan.compilerVersion);
    auto fingerprint = builder_.CreateString(plan.modelFingerprint);
    auto target = fb::CreateTarget(builder_, fb::TargetKind(plan.target.kind), plan.target.threads);
    auto mesh = fb::CreateMesh(builder_, plan.mesh.size(Axis::Dp), plan.mesh.size(Axis::Fsdp),
                               plan.mesh.size(Axis::Ep));
    auto symbols = tables(plan.symbols, &Writer::symbolTable);
    auto states = tables(plan.states, &Writer::stateTable);
    auto programs = tables(plan.programs, &Writer::programTable);
    auto arenas = builder_.CreateVector(plan.arenaBytes, kNumArenas);
    auto training = trainingTable(plan.training);
    return fb::CreatePlan(builder_, kPlanSchemaVersion, compilerVersion, fingerprint, target, mesh,
                          symbols, states, programs, arenas, plan.peakBytes, training);
  }

  flatbuffers::FlatBufferBuilder builder_;
};

/// Turns a file that FlatBuffers verified into a plan. What it copies may not exceed the file's
/// length: a small file whose offsets all point to one long vector cannot make it allocate more.
class Reader {
public:
  explicit Reader(size_t fileBytes) : budget_(fileBytes) {}

  Result<Plan> read(const fb::Plan *table) {
    Plan plan;
    plan.compilerVersion = text(table->compiler_version());
    plan.modelFingerprint = text(table->model_fingerprint());
    plan.target = {
        enumerator<kernels::Target::Kind>(table->target()->kind(), fb::TargetKind::MAX, "target"),
        table->target()->threads()};
    plan.mesh = {{table->mesh()->dp(), table->mesh()->fsdp(), table->mesh()->ep()}};
    items(table->symbols(), plan.symbols, &Reader::symbol);
    items(table->states(), plan.states, &Reader::state);
    items(table->programs(), plan.programs, &Reader::program);
    std::vector<uint64_t> arenas = numbers(table->arena_bytes());
    if (arenas.size() == kNumArenas)
      std::copy(arenas.begin(), arenas.end(), plan.arenaBytes);
    else
      fail("the file lists " + std::to_string(arenas.size()) + " arenas; expected " +
           std::to_string(kNumArenas));
    plan.peakBytes = table->peak_bytes();
    plan.training = training(table->training());
    if (!fault_.empty())
      return Status::invalidInput("the plan is damaged: " + fault_ + "; compile it again");
    return plan;
  }

private:
  void fail(std::string fault) {
    if (fault_.empty())
      fault_ = std::move(fault);
  }

  /// Takes `bytes` from the budget, or fails.
  bool charge(uint64_t bytes) {
    if (!fault_.empty())
      return false;
    if (bytes > budget_) {
      fail("its parts overlap");
      return false;
    }
    budget_ -= bytes;
    return true;
  }

  /// Takes the elements of `vector` from the budget, or fails. FlatBuffers' verifier does not look
  /// at their alignment.
  template <typename T>
  bool chargeElements(const flatbuffers::Vector<T> &vector, size_t elementBytes, size_t alignment) {
    if (vector.size() > 0 && reinterpret_cast<uintptr_t>(vector.Data()) % alignment != 0)
      fail("a list in it is misaligned");
    return charge(uint64_t{vector.size()} * elementBytes);
  }

  template <typename Enum, typename FileEnum>
  Enum enumerator(FileEnum value, FileEnum last, const char *what) {
    if (value <= last)
      return Enum(value);
    fail(std::string("unknown ") + what + " " + std::to_string(int(value)));
    return Enum{};
  }

  AxisSet axes(uint8_t bits) {
    if (bits >> kNumAxes != 0)
      fail("unknown axes " + std::to_string(bits));
    return AxisSet(bits);
  }

  /// Names end up in messages and tables, so nothing that steers a terminal may be in them.
  std::string text(const flatbuffers::String *string) {
    if (!string || !charge(sizeof(flatbuffers::uoffset_t) + string->size()))
      return {};
    std::string result = string->str();
    if (std::any_of(result.begin(), result.end(),
                    [](unsigned char c) { return c < 0x20 || c == 0x7f; }))
      fail("a name in it has a control character");
    return result;
  }

  /// The elements of `vector`, or none after a fault.
  template <typename T>
  std::vector<T> numbers(const flatbuffers::Vector<T> *vector) {
    if (!chargeElements(*vector, sizeof(T), alignof(T)))
      return {};
    return {vector->begin(), vector->end()};
  }

  template <typename Table, typename T>
  void items(const flatbuffers::Vector<Offset<Table>> *vector, std::vector<T> &result,
             T (Reader::*item)(const Table *)) {
    // A table takes at least its offset in the vector and its offset to the vtable.
    if (!vector || !charge(uint64_t{vector->size()} * 2 * sizeof(flatbuffers::uoffset_t)))
      return;
    result.reserve(vector->size());
    for (const Table *table : *vector) {
      if (!fault_.empty())
        return;
      result.push_back((this->*item)(table));
    }
  }

  Symbol symbol(const fb::Symbol *table) {
    return {text(table->name()), table->bound(), table->rows_per_token()};
  }

  Source source(const fb::Source *table) {
    Source result;
    result.kind = enumerator<Source::Kind>(table->kind(), fb::SourceKind::MAX, "kind of source");
    result.name = text(table->name());
    result.index = text(table->index());
    result.begin = table->begin();
    result.end = table->end();
    items(table->children(), result.children, &Reader::source);
    if (table->sizes())
      result.sizes = numbers(table->sizes());
    return result;
  }

  State state(const fb::State *table) {
    State result;
    result.name = text(table->name());
    result.kind = enumerator<StateKind>(table->kind(), fb::StateKind::MAX, "kind of state");
    result.dtype = enumerator<DType>(table->dtype(), fb::DType::MAX, "dtype");
    result.shape = numbers(table->shape());
    result.offset = table->offset();
    result.layer = table->layer();
    result.of = table->of();
    result.decay = table->decay();
    result.moduleName = text(table->module_name());
    if (table->source())
      result.source = source(table->source());
    result.sharding = {axes(table->dim0_axes()), axes(table->flat_axes())};
    result.reserve = table->reserve();
    return result;
  }

  Buffer buffer(const fb::Buffer *table) {
    Buffer result;
    result.dtype = enumerator<DType>(table->dtype(), fb::DType::MAX, "dtype");
    if (chargeElements(*table->shape(), sizeof(fb::Extent), alignof(fb::Extent)))
      for (const fb::Extent *extent : *table->shape())
        result.shape.push_back({extent->scale(), extent->symbol(), extent->offset()});
    result.arena = enumerator<Arena>(table->arena(), fb::Arena::MAX, "arena");
    result.offset = table->offset();
    result.state = table->state();
    result.reserve = table->reserve();
    return result;
  }

  Port port(const fb::Port *table) { return {text(table->name()), table->buffer()}; }

  Instruction instruction(const fb::Instruction *table) {
    if (const fb::Launch *launch = table->body_as_Launch()) {
      LaunchInstruction result;
      result.kernel = text(launch->kernel());
      result.operands = numbers(launch->operands());
      if (chargeElements(*launch->attributes(), sizeof(fb::AttributeValue),
                         alignof(fb::AttributeValue)))
        for (const fb::AttributeValue *value : *launch->attributes())
          result.attributes.push_back({value->integer(), value->real()});
      result.workspace = launch->workspace();
      result.stream = table->stream();
      return result;
    }
    if (const fb::Copy *copy = table->body_as_Copy())
      return CopyInstruction{copy->from(), copy->to(), table->stream()};
    if (const fb::Collective *collective = table->body_as_Collective())
      return CollectiveInstruction{enumerator<CollectiveKind>(collective->kind(),
                                                              fb::CollectiveKind::MAX,
                                                              "kind of collective"),
                                   axes(collective->axes()),
                                   collective->is_max(),
                                   collective->adds(),
                                   numbers(collective->operands()),
                                   table->stream()};
    if (const fb::Repeat *repeat = table->body_as_Repeat())
      return RepeatInstruction{repeat->round(), repeat->all_counts(), axes(repeat->axes()),
                               repeat->length(), table->stream()};
    if (const fb::Record *record = table->body_as_Record())
      return RecordInstruction{record->event(), table->stream()};
    if (const fb::Wait *wait = table->body_as_Wait())
      return WaitInstruction{wait->event(), table->stream()};
    fail("unknown kind of instruction " + std::to_string(int(table->body_type())));
    return {};
  }

  Program program(const fb::Program *table) {
    Program result;
    result.name = text(table->name());
    items(table->buffers(), result.buffers, &Reader::buffer);
    items(table->inputs(), result.inputs, &Reader::port);
    items(table->outputs(), result.outputs, &Reader::port);
    items(table->instructions(), result.instructions, &Reader::instruction);
    return result;
  }

  Training training(const fb::Training *table) {
    Training result;
    result.modelType = text(table->model_type());
    result.vocabSize = table->vocab_size();
    result.numLayers = table->num_layers();
    result.numExperts = table->num_experts();
    result.topK = table->top_k();
    result.activeParameters = table->active_parameters();
    result.auxLossCoef = table->aux_loss_coef();
    result.precision = text(table->precision());
    result.lossNormalization = text(table->loss_normalization());
    result.weightDecayScope = text(table->weight_decay_scope());
    result.perDeviceTrainBatchSize = table->per_device_train_batch_size();
    result.gradientAccumulationSteps = table->gradient_accumulation_steps();
    result.maxSeqLength = table->max_seq_length();
    result.packing = table->packing();
    result.auxLossScope = text(table->aux_loss_scope());
    result.syncEachBatch = table->sync_each_batch();
    return result;
  }

  uint64_t budget_;
  std::string fault_;
};

/// Refuses what is no plan file, is not all of one, or is another version's.
Status checkEnvelope(std::span<const uint8_t> bytes) {
  constexpr size_t kPrefix = sizeof(flatbuffers::uoffset_t);
  constexpr size_t kHeader =
      kPrefix + sizeof(flatbuffers::uoffset_t) + flatbuffers::kFileIdentifierLength;
  if (bytes.size() < kHeader ||
      !flatbuffers::BufferHasIdentifier(bytes.data(), fb::PlanIdentifier(), true))
    return Status::invalidInput("not a plan file (no \"" + std::string(fb::PlanIdentifier()) +
                                "\" at byte 8); expected what moe-compile writes");
  uint64_t expected =
      kPrefix + uint64_t{flatbuffers::ReadScalar<flatbuffers::uoffset_t>(bytes.data())};
  if (bytes.size() != expected)
    return Status::invalidInput(
        "the plan file has " + std::to_string(bytes.size()) + " bytes, but says that it has " +
        std::to_string(expected) +
        (bytes.size() < expected ? ": it is truncated" : ": something was appended to it") +
        "; copy or compile it again");
  flatbuffers::Verifier verifier(bytes.data(), bytes.size());
  if (!verifier.VerifySizePrefixedBuffer<fb::Version>(fb::PlanIdentifier()))
    return Status::invalidInput(
        "the plan file is damaged: its first table is not readable; compile it again");
  uint32_t version = flatbuffers::GetSizePrefixedRoot<fb::Version>(bytes.data())->schema_version();
  if (version != kPlanSchemaVersion)
    return Status::invalidInput(
        "the plan file has schema version " + std::to_string(version) + "; this program reads " +
        std::to_string(kPlanSchemaVersion) +
        ": compile the model again with the moe-compile of the same release");
  return {};
}

} // namespace

std::vector<uint8_t> serialize(const Plan &plan) {
  return Writer().write(plan);
}

Result<Plan> parse(std::span<const uint8_t> bytes) {
  if (bytes.size() > kMaxPlanFileBytes)
    return Status::invalidInput("the file has " + std::to_string(bytes.size()) +
                                " bytes; no plan has more than " +
                                std::to_string(kMaxPlanFileBytes));
  // Fields are read where they lie, so the file must lie on a boundary of theirs.
  std::vector<uint64_t> aligned;
  if (reinterpret_cast<uintptr_t>(bytes.data()) % alignof(uint64_t) != 0) {
    aligned.resize(bytes.size() / sizeof(uint64_t) + 1);
    std::memcpy(aligned.data(), bytes.data(), bytes.size());
    bytes = {reinterpret_cast<const uint8_t *>(aligned.data()), bytes.size()};
  }
  SY_RETURN_IF_ERROR(checkEnvelope(bytes));
  flatbuffers::Verifier::Options limits;
  limits.max_depth = 32;
  limits.max_tables = 1 << 22;
  flatbuffers::Verifier verifier(bytes.data(), bytes.size(), limits);
  if (!fb::VerifySizePrefixedPlanBuffer(verifier))
    return Status::invalidInput(
        "the plan file is damaged: an offset or a length in it is wrong; compile it again");
  return Reader(bytes.size()).read(fb::GetSizePrefixedPlan(bytes.data()));
}

Result<Plan> load(const std::string &path) {
  SY_ASSIGN_OR_RETURN(std::string bytes, readFile(path, kMaxPlanFileBytes));
  Result<Plan> plan = parse({reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size()});
  if (!plan.ok())
    return plan.status().within(path);
  return plan;
}

Status writePlan(const Plan &plan, const std::string &path) {
  std::vector<uint8_t> bytes = serialize(plan);
  return writeFileAtomically(path, {reinterpret_cast<const char *>(bytes.data()), bytes.size()});
}

} // namespace switchyard
