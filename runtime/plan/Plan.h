// The plan in memory: what each rank does, as plain data. serialize() and load() (PlanFile.h) turn
// it into a file (plan.fbs) and back; verify() (Verify.h) checks every field of it before anything
// is allocated.
#pragma once

#include "kernels/signatures/Table.h"
#include "runtime/plan/Mesh.h"
#include "runtime/plan/Source.h"

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace switchyard {

using kernels::DType;
using kernels::Extent;

/// A size that is known when a pass is dealt: T (tokens), S (segments), M (micro-batches), and
/// follows T: R (the rows that a token exchange receives at once). `bound` is certified.
struct Symbol {
  std::string name;
  int64_t bound = 0;
  double rowsPerToken = 0; // R: it is ceil(rowsPerToken * T), at most the bound; others: 0
};

/// state: persists over programs, the same addresses in all of them. io: inputs and outputs of
/// programs. comm: equal offsets on all ranks. transient: programs overlay each other.
enum class Arena : uint8_t { State, Io, Comm, Transient };
inline constexpr int kNumArenas = 4;

enum class StateKind : uint8_t { Parameter, Master, Gradient, Moment };

/// Storage that outlives a program. `shape` is the logical, global one; a rank holds the part that
/// `sharding` says (Layout.h). `offset` is in the state arena.
struct State {
  std::string name;
  StateKind kind = StateKind::Parameter;
  DType dtype = DType::F32;
  std::vector<int64_t> shape;
  Sharding sharding;
  uint64_t offset = 0;
  int64_t reserve = 0;    // elements that it has room for, where more than its local part's; else 0
  int32_t layer = -1;     // -1: belongs to no layer
  int32_t of = -1;        // Master, Gradient, Moment: the index of its parameter
  bool decay = false;     // Parameter: weight decay applies to it
  std::string moduleName; // the transformers module parameter equal to the whole state, where it is
                          // not the source
  Source source;          // Parameter, Master: the HF tensors it is made of
};

/// Memory that instructions name. `state` >= 0: that state's memory (and `arena`, `offset`,
/// `reserve` are the state's).
struct Buffer {
  DType dtype = DType::F32;
  std::vector<Extent> shape; // at most one symbolic extent, the first
  Arena arena = Arena::Transient;
  uint64_t offset = 0;
  int32_t state = -1;
  int64_t reserve = 0; // elements that it has room for, where more than its shape's; else 0
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

/// What ranks do together; the ops of dialects/dist of the same names say what exactly.
enum class CollectiveKind : uint8_t {
  AllGather,
  ReduceScatter,
  AllReduce,
  TokenExchange,
  TokenReturn
};

/// A collective over the groups along `axes`. Operands index the program's buffers:
///
///   AllGather, ReduceScatter, AllReduce  in, out, in, out, ...: one grouped call
///   TokenExchange                        rows, all_counts, received, group_sizes[, round]
///   TokenReturn                          rows, all_counts, returned[, round]
///
/// `adds`: a TokenReturn adds to `returned` what comes back; else it overwrites it.
struct CollectiveInstruction {
  CollectiveKind kind = CollectiveKind::AllGather;
  AxisSet axes;
  bool isMax = false; // AllReduce: the maximum, not the sum
  bool adds = false;
  std::vector<uint32_t> operands;
  uint32_t stream = 0;
};

/// Runs the next `length` instructions (no repeats among them) once for each overflow round of
/// `allCounts` i32 [n, E] over the groups along `axes`, with the round, from 1, in `round`, an i32
/// scalar.
struct RepeatInstruction {
  uint32_t round = 0;
  uint32_t allCounts = 0;
  AxisSet axes;
  uint32_t length = 0;
  uint32_t stream = 0;
};

/// Event `event` (from 0, each recorded once in a program) is behind all that was put on the stream
/// before.
struct RecordInstruction {
  uint32_t event = 0;
  uint32_t stream = 0;
};

/// What is put on the stream afterwards starts only behind `event`, which was recorded before.
struct WaitInstruction {
  uint32_t event = 0;
  uint32_t stream = 0;
};

/// Streams are numbered from 0, which computes. The list's order is one in which instructions may
/// run one after the other.
using Instruction = std::variant<LaunchInstruction, CopyInstruction, CollectiveInstruction,
                                 RepeatInstruction, RecordInstruction, WaitInstruction>;
inline constexpr uint32_t kMaxStreams = 8;

/// A named input or output of a program, in the io arena.
struct Port {
  std::string name;
  uint32_t buffer = 0;
};

struct Program {
  std::string name; // micro_step and optimizer_step, or train_step; evaluate, logits
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
  std::string auxLossScope = "micro_batch"; // micro_batch, pass
  bool syncEachBatch = true; // gradients are reduced over ranks in each micro_step, else in
                             // optimizer_step: the states then hold each rank's own sums
};

struct Plan {
  std::string compilerVersion;
  std::string modelFingerprint; // of the model's config.json
  kernels::Target target;
  Mesh mesh;
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
