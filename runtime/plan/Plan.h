// The plan in memory: what each rank does, as plain data. serialize() and load() (PlanFile.h) turn
// it into a file (plan.fbs) and back; verify() (Verify.h) checks every field of it before anything
// is allocated.
#pragma once

#include "kernels/signatures/Table.h"
#include "runtime/plan/Source.h"

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace switchyard {

using kernels::DType;
using kernels::Extent;

/// A size that is known when a pass is dealt: T (tokens), S (segments), M (micro-batches). `bound`
/// is certified.
struct Symbol {
  std::string name;
  int64_t bound = 0;
};

/// state: persists over programs, the same addresses in all of them. io: inputs and outputs of
/// programs. comm: equal offsets on all ranks. transient: programs overlay each other.
enum class Arena : uint8_t { State, Io, Comm, Transient };
inline constexpr int kNumArenas = 4;

enum class StateKind : uint8_t { Parameter, Master, Gradient, Moment };

/// Storage that outlives a program. `offset` is in the state arena.
struct State {
  std::string name;
  StateKind kind = StateKind::Parameter;
  DType dtype = DType::F32;
  std::vector<int64_t> shape;
  uint64_t offset = 0;
  int32_t layer = -1;     // -1: belongs to no layer
  int32_t of = -1;        // Master, Gradient, Moment: the index of its parameter
  bool decay = false;     // Parameter: weight decay applies to it
  std::string moduleName; // the transformers module parameter equal to the whole state, where it is
                          // not the source
  Source source;          // Parameter, Master: the HF tensors it is made of
};

/// Memory that instructions name. `state` >= 0: that state's memory (and `arena`, `offset` are the
/// state's).
struct Buffer {
  DType dtype = DType::F32;
  std::vector<Extent> shape; // at most one symbolic extent, the first
  Arena arena = Arena::Transient;
  uint64_t offset = 0;
  int32_t state = -1;
};

/// A launch of the kernel `kernel`: `operands` index the program's buffers, in the signature's
/// order; `attributes` are in the signature's order; `workspace` is a buffer index or -1.
struct LaunchInstruction {
  std::string kernel;
  std::vector<uint32_t> operands;
  std::vector<kernels::AttributeValue> attributes;
  int32_t workspace = -1;
  uint32_t stream = 0;
};

struct CopyInstruction {
  uint32_t from = 0;
  uint32_t to = 0;
  uint32_t stream = 0;
};

using Instruction = std::variant<LaunchInstruction, CopyInstruction>;

/// A named input or output of a program, in the io arena.
struct Port {
  std::string name;
  uint32_t buffer = 0;
};

struct Program {
  std::string name; // micro_step, optimizer_step, evaluate, logits
  std::vector<Buffer> buffers;
  std::vector<Port> inputs;
  std::vector<Port> outputs;
  std::vector<Instruction> instructions;
};

/// What the trainer needs to know of the model and of how the plan was made; the plan's programs do
/// not depend on it.
struct Training {
  std::string modelType; // "mixtral"
  int64_t vocabSize = 0;
  int64_t numLayers = 0;
  int64_t numExperts = 0;
  int64_t topK = 0;
  int64_t activeParameters = 0;  // parameters that one token's forward pass multiplies with
  double auxLossCoef = 0;        // 0: the loss has no aux term
  std::string precision;         // f32, bf16, bf16_f32_state
  std::string lossNormalization; // micro_batch, global
  std::string weightDecayScope;  // hf, all
  int64_t perDeviceTrainBatchSize = 1;
  int64_t gradientAccumulationSteps = 1;
  int64_t maxSeqLength = 0;
  bool packing = false;
};

struct Plan {
  std::string compilerVersion;
  std::string modelFingerprint; // of the model's config.json
  kernels::Target target;
  int32_t numRanks = 1;
  std::vector<Symbol> symbols;
  std::vector<State> states;
  std::vector<Program> programs;
  uint64_t arenaBytes[kNumArenas] = {}; // indexed by Arena
  uint64_t peakBytes = 0;               // their sum
  Training training;

  const Program *findProgram(std::string_view name) const {
    for (const Program &program : programs)
      if (program.name == name)
        return &program;
    return nullptr;
  }
};

/// Every buffer and state starts at a multiple of this.
inline constexpr uint64_t kBufferAlignment = 256;

} // namespace switchyard
