// Executes a plan on a device: allocates its arenas once, prepares a program's launches for given
// extents, runs them.
//
//   create(plan, device, ranks)   verifies the plan, allocates
//   bind("micro_step", {T, S, M}) prepares; what was bound before is found again
//   setInput, run, getOutput      allocate nothing
//   setInput, start, readBack     and do not wait for the device either
//
// One executor is used from one thread. Failures name the program and the instruction. Each rank of
// a plan for many has an executor, and runs the same programs in the same order, at the same symbol
// values. Instructions are put on the device in the list's order, on their streams. A device that
// has graphs runs a binding's instructions one by one the first time, records them the second time,
// and replays the record from then on: the same work in the same order.
#pragma once

#include "runtime/comm/Communicator.h"
#include "runtime/comm/RowExchanger.h"
#include "runtime/device/Device.h"
#include "runtime/plan/Plan.h"
#include "runtime/plan/Traffic.h"

#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

namespace switchyard {

class PreparedCollective;
class PreparedRepeat;

/// The element types of ports: float, int32_t, and uint16_t for the bits of a bfloat16.
template <typename T>
inline constexpr bool kIsPortType =
    std::is_same_v<T, float> || std::is_same_v<T, int32_t> || std::is_same_v<T, uint16_t>;

template <typename T>
  requires kIsPortType<T>
inline constexpr DType kPortDType = std::is_same_v<T, float>     ? DType::F32
                                    : std::is_same_v<T, int32_t> ? DType::I32
                                                                 : DType::BF16;

/// A program with its launches prepared for one set of symbol values. It must not outlive its
/// executor.
class Binding {
public:
  Binding();
  ~Binding();
  const Program &program() const { return *program_; }
  std::span<const int64_t> symbolValues() const { return values_; }

  /// The elements of the port called `name` at these extents, or -1 if the program has none.
  int64_t portElements(std::string_view name) const;

  /// Its dtype, where the program has it.
  std::optional<DType> portDType(std::string_view name) const;

private:
  friend class Executor;

  /// The bytes that an instruction or the ports reach in each arena, from its start.
  using Reach = std::array<uint64_t, kNumArenas>;

  struct Copy {
    void *to = nullptr;
    const void *from = nullptr;
    uint64_t bytes = 0;
  };
  struct Event {
    uint32_t number = 0;
    bool isWait = false;
  };
  /// One for each instruction.
  struct Step {
    std::variant<std::monostate, std::unique_ptr<PreparedLaunch>, Copy,
                 std::unique_ptr<PreparedCollective>, std::unique_ptr<PreparedRepeat>, Event>
        action;
    uint32_t stream = 0;
    Reach reach = {};
  };
  struct BoundPort {
    const Port *port = nullptr;
    bool isInput = false;
    DType dtype = DType::F32;
    std::byte *data = nullptr;
    int64_t elements = 0;
  };

  const BoundPort *find(std::string_view name) const;

  const Program *program_ = nullptr;
  std::vector<int64_t> values_;
  std::vector<Step> steps_;
  std::vector<BoundPort> ports_;
  Reach portReach_ = {};
  uint32_t streams_ = 1;
  uint32_t events_ = 0;

  // What runs leave behind.
  mutable bool canRecord_ = true; // nothing in it needs the host, and the device has graphs
  mutable bool wasRun_ = false;
  mutable std::unique_ptr<PreparedGraph> graph_;
  mutable Reach graphReach_ = {};
  mutable TrafficByKind graphTraffic_ = {};
};

/// Room for the outputs of one run of a program on their way to the host. It must not outlive its
/// executor.
class Outputs {
public:
  /// Waits until what was read back last is there. Fails with the program's name if something has
  /// failed on the device since the last wait.
  Status wait();

  /// After wait(): what this rank has exchanged by counts on the device (RowExchanger.h) up to the
  /// end of that run, since the executor was made.
  ExchangeTotals exchanged() const;

  /// An output, after wait(). Fails as Executor::getOutput does.
  template <typename T>
  Status get(std::string_view name, std::span<T> values) const {
    return copyTo(name, kPortDType<T>, values.data(), values.size());
  }
  template <typename T>
  Result<T> getScalar(std::string_view name) const {
    T value{};
    SY_RETURN_IF_ERROR(get<T>(name, std::span<T>(&value, 1)));
    return value;
  }

private:
  friend class Executor;
  Status copyTo(std::string_view name, DType dtype, void *host, size_t elements) const;

  /// What was read back last: an output of the program, in its order.
  struct Value {
    DType dtype = DType::F32;
    int64_t elements = 0;
    uint64_t at = 0; // in the readback's bytes
  };

  const Program *program_ = nullptr;
  Communicator *communicator_ = nullptr; // where ranks wait for their devices
  std::unique_ptr<Readback> readback_;
  std::vector<Value> values_;
  std::vector<Readback::Piece> pieces_; // the outputs, then the exchangers' totals
};

/// Looks at programs while they run, between instructions.
class Watch {
public:
  virtual ~Watch() = default;
  /// The instruction is about to be executed, or was; the device is done with all before. A failure
  /// ends the run.
  virtual Status before(const Binding &binding, size_t instruction) = 0;
  virtual Status after(const Binding &binding, size_t instruction) = 0;
};

class Executor {
public:
  /// Verifies `plan` and allocates its arenas, zeroed, on `device`. DoesNotFit if they are more
  /// than the device has. A plan for several ranks needs a communicator of as many, which outlives
  /// the executor; all ranks create theirs at once, which makes the groups that the plan's
  /// collectives are over. Usage if there are more or fewer ranks than the plan's.
  static Result<std::unique_ptr<Executor>> create(Plan plan, std::unique_ptr<Device> device,
                                                  Communicator *communicator = nullptr);

  const Plan &plan() const { return plan_; }
  /// This rank, in [0, plan().mesh.numRanks()).
  int rank() const { return communicator_ ? communicator_->rank() : 0; }
  Device &device() { return *device_; }

  /// The program called `program` with the plan's symbols, in the plan's order, at `symbolValues`:
  /// each from 0 to its bound, and the rows that are received at once as many as follow from T
  /// (valueFor() in Layout.h). The latest kMaxBindings bindings of each program are kept.
  Result<std::shared_ptr<const Binding>> bind(std::string_view program,
                                              std::span<const int64_t> symbolValues);
  static constexpr size_t kMaxBindings = 64;

  /// Executes the program on what its inputs hold, and returns when it is done. Allocates nothing.
  Status run(const Binding &binding);

  /// Puts the program on the device and returns. Inputs that are set afterwards are for the next
  /// run. The second run of a binding may record it, for which it allocates.
  Status start(const Binding &binding);

  /// Room for the outputs of `program`.
  Result<std::unique_ptr<Outputs>> createOutputs(std::string_view program);
  /// Starts to copy the binding's outputs, as its latest run leaves them, to `outputs`, which was
  /// made for its program.
  Status readBack(const Binding &binding, Outputs &outputs);

  /// Whether runs may be recorded and replayed; as a rule they are. Runs that an observer or a
  /// watch sees never are.
  void allowGraphs(bool allow) { allowsGraphs_ = allow; }

  /// Sets a whole input: as many values as the port has elements at the binding's extents. T: float
  /// or int32_t.
  template <typename T>
  Status setInput(const Binding &binding, std::string_view name, std::span<const T> values) {
    return copyPort(binding, name, true, kPortDType<T>, const_cast<T *>(values.data()),
                    values.size());
  }
  template <typename T>
  Status setScalar(const Binding &binding, std::string_view name, T value) {
    return setInput<T>(binding, name, std::span<const T>(&value, 1));
  }

  /// Reads a whole output of the binding's program, after run().
  template <typename T>
  Status getOutput(const Binding &binding, std::string_view name, std::span<T> values) {
    return copyPort(binding, name, false, kPortDType<T>, values.data(), values.size());
  }
  template <typename T>
  Result<T> getScalar(const Binding &binding, std::string_view name) {
    T value{};
    SY_RETURN_IF_ERROR(getOutput<T>(binding, name, std::span<T>(&value, 1)));
    return value;
  }

  /// The index in plan().states of the state called `name`.
  Result<size_t> findState(std::string_view name) const;

  /// Writes or reads bytes of this rank's part of a state (localRange() in Mesh.h says which
  /// elements these are) from `byteOffset` on, in the state's own dtype, row-major. What is behind
  /// the last element of a flat shard is zero and has to stay zero.
  Status writeState(size_t state, uint64_t byteOffset, std::span<const std::byte> bytes);
  Status readState(size_t state, uint64_t byteOffset, std::span<std::byte> bytes);

  /// Reads bytes of a buffer of the binding's program from `byteOffset` on, as the latest
  /// instructions left them: for a watch. They are within the buffer.
  Status readBuffer(const Binding &binding, uint32_t buffer, uint64_t byteOffset,
                    std::span<std::byte> bytes);

  /// Sets this rank's part of a state to zero.
  Status zeroState(size_t state);
  /// Sets every gradient state to zero.
  Status zeroGradients();

  /// The end of the highest byte touched in each arena, added over the arenas: by every executed
  /// instruction at its extents (workspaces too), by ports and by states. At the symbols' bounds,
  /// with all programs run and overflow rounds where there are any, it is the plan's peak.
  uint64_t highWaterBytes() const;

  /// What this rank has sent to others since the executor was made, by kind of collective: what
  /// trafficOf() (Traffic.h) foresees, with the rows that were really sent. Outputs::exchanged()
  /// has the bytes that the device counts.
  const TrafficByKind &traffic() const { return traffic_; }

  /// The overflow rounds that were run since the executor was made, each of them in each repeat;
  /// but for those of replays, which are in Outputs::exchanged().
  int64_t overflowRounds() const { return overflowRounds_; }

  /// What Outputs::exchanged() says of all runs so far, for which it waits.
  Result<ExchangeTotals> exchanged();

  /// Called after each instruction that run() executes, with the time it took; the device is
  /// synchronized for it. Empty: no calls, and no synchronization between instructions.
  using Observer = std::function<void(const Program &program, size_t instruction,
                                      std::chrono::nanoseconds time)>;
  void setObserver(Observer observer) { observer_ = std::move(observer); }

  /// Null: none. It outlives the runs that it sees.
  void setWatch(Watch *watch) { watch_ = watch; }

  /// Called with the instruction that is put on the device next; with -1 before what is none: the
  /// inputs' copies, a replay as a whole, reading back. Empty: no calls. Unlike an observer it does
  /// not wait for the device.
  using Marker = std::function<Status(const Program &program, int64_t instruction)>;
  void setMarker(Marker marker) { marker_ = std::move(marker); }

private:
  Executor(Plan plan, std::unique_ptr<Device> device, Communicator *communicator)
      : plan_(std::move(plan)), device_(std::move(device)), communicator_(communicator) {}

  using Clock = std::chrono::steady_clock;

  Status makeGroups();
  Status makeExchanger(AxisSet axes);
  Status allocate();
  Status checkValues(const Program &program, std::span<const int64_t> values) const;
  Status prepareStep(const Instruction &instruction, const Binding &binding, Binding::Step &step);
  Status prepare(const LaunchInstruction &launch, const Binding &binding, Binding::Step &step);
  Status prepare(const CopyInstruction &copy, const Binding &binding, Binding::Step &step);
  Status prepare(const CollectiveInstruction &collective, const Binding &binding,
                 Binding::Step &step);
  Status prepare(const RepeatInstruction &repeat, const Binding &binding, Binding::Step &step);
  int64_t rowsReceivedAtOnce(std::span<const int64_t> values) const;
  void bindPorts(Binding &binding);
  Status bindStreams(Binding &binding);
  std::byte *addressOf(const Buffer &buffer) const;
  kernels::Tensor tensorOf(const Buffer &buffer, std::span<const int64_t> values) const;
  void touch(const Binding::Reach &reach);
  Status runDirectly(const Binding &binding);
  Status record(const Binding &binding);
  Status mark(const Binding &binding, int64_t instruction) {
    return marker_ ? marker_(*binding.program_, instruction) : Status();
  }
  /// For waits that the others must know of.
  Communicator *waitingCommunicator() const {
    return device_->runsAhead() ? communicator_ : nullptr;
  }
  Status synchronize();
  Status fork(const Binding &binding);
  Status join(const Binding &binding);
  Status runSteps(const Binding &binding, size_t begin, size_t end, Clock::time_point &start);
  Status runRounds(const Binding &binding, size_t index, Clock::time_point &start);
  Status runBody(const Binding &binding, size_t repeat, Clock::time_point &start);
  Status runStep(const Binding &binding, size_t index);
  Status observe(const Binding &binding, size_t index, Clock::time_point &start);
  Status copyPort(const Binding &binding, std::string_view name, bool isInput, DType dtype,
                  void *host, size_t elements);
  Status checkStateRange(size_t state, uint64_t byteOffset, uint64_t bytes) const;

  Plan plan_;
  std::unique_ptr<Device> device_;
  Communicator *communicator_ = nullptr;
  std::array<Group *, size_t{1} << kNumAxes> groups_ = {}; // by the axes' bits; null where unused
  // Of the groups that exchange tokens, where the device can; likewise.
  std::array<std::unique_ptr<RowExchanger>, size_t{1} << kNumAxes> exchangers_;
  std::vector<int64_t> bounds_;
  std::vector<uint64_t> stateBytes_; // of this rank's parts
  DeviceMemory arenas_[kNumArenas];
  std::vector<std::vector<std::shared_ptr<Binding>>> bindings_; // by program, the latest used last
  Binding::Reach highWater_ = {};
  TrafficByKind traffic_ = {};
  int64_t overflowRounds_ = 0;
  Observer observer_;
  Watch *watch_ = nullptr;
  Marker marker_;
  bool allowsGraphs_ = true;
  bool isRecording_ = false;
};

} // namespace switchyard
