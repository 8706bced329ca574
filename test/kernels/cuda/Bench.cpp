#include "test/kernels/cuda/Bench.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>

namespace switchyard::kernels::cuda {
namespace {

/// Several times the second-level cache.
constexpr double kPastCache = 256e6;
constexpr int64_t kMostCopies = 16;
constexpr int kWarmups = 3;
constexpr int kRuns = 20;

std::vector<OperandType> typesOf(const std::vector<Tensor> &tensors) {
  std::vector<OperandType> types;
  for (const Tensor &tensor : tensors) {
    OperandType &type = types.emplace_back();
    type.dtype = tensor.dtype;
    for (int i = 0; i < tensor.rank; ++i)
      type.shape.push_back({0, -1, tensor.dims[i]});
  }
  return types;
}

} // namespace

void check(const Fault &fault) {
  if (!fault)
    return;
  std::fprintf(stderr, "%s\n", fault->c_str());
  std::exit(1);
}

void check(cudaError_t error, const char *call) {
  check(faultOf(error, call));
}

Machine::Machine() {
  context.gemms = &gemms_;
  check(cudaStreamCreate(&context.stream), "cudaStreamCreate");
  std::vector<uint32_t> wide(kBlock / 4);
  std::vector<uint16_t> narrow(kBlock / 2);
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (uint32_t &bits : wide)
    bits = std::bit_cast<uint32_t>(uniform(random));
  for (uint16_t &bits : narrow)
    bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(uniform(random)) >> 16);
  const void *hosts[] = {wide.data(), narrow.data()};
  for (int i = 0; i < 2; ++i) {
    check(cudaMalloc(&numbers_[i], kBlock), "cudaMalloc");
    check(cudaMemcpy(numbers_[i], hosts[i], kBlock, cudaMemcpyHostToDevice), "cudaMemcpy");
  }
}

void Machine::fill(const Tensor &tensor) {
  const void *numbers = numbers_[tensor.dtype == DType::BF16 ? 1 : 0];
  for (int64_t done = 0; done < tensor.bytes(); done += kBlock)
    check(cudaMemcpy(tensor.as<std::byte>() + done, numbers,
                     static_cast<size_t>(std::min(kBlock, tensor.bytes() - done)),
                     cudaMemcpyDeviceToDevice),
          "cudaMemcpy");
}

Bench::~Bench() {
  for (void *memory : memory_)
    cudaFree(memory);
}

Bench &Bench::operand(DType dtype, std::vector<int64_t> dims) {
  machine_.fill(allocate(dtype, std::move(dims)));
  return *this;
}

Bench &Bench::integers(std::vector<int64_t> dims, const std::vector<int32_t> &values) {
  Tensor &tensor = allocate(DType::I32, std::move(dims));
  check(cudaMemcpy(tensor.data, values.data(), static_cast<size_t>(tensor.bytes()),
                   cudaMemcpyHostToDevice),
        "cudaMemcpy");
  return *this;
}

Bench &Bench::scalar(float value) {
  Tensor &tensor = allocate(DType::F32, {});
  check(cudaMemcpy(tensor.data, &value, 4, cudaMemcpyHostToDevice), "cudaMemcpy");
  return *this;
}

Bench &Bench::attribute(int64_t value) {
  attributes_.push_back({value, 0});
  return *this;
}

Bench &Bench::real(double value) {
  attributes_.push_back({0, value});
  return *this;
}

Tensor &Bench::allocate(DType dtype, std::vector<int64_t> dims) {
  Tensor &tensor = tensors_.emplace_back();
  tensor.dtype = dtype;
  tensor.rank = static_cast<int>(dims.size());
  std::copy(dims.begin(), dims.end(), tensor.dims);
  check(cudaMalloc(&tensor.data, static_cast<size_t>(tensor.bytes())), "cudaMalloc");
  memory_.push_back(tensor.data);
  return tensor;
}

double Bench::countBytes() const {
  const Signature &signature = *findSignature(kernel_);
  int count = static_cast<int>(tensors_.size());
  double bytes = 0;
  for (int i = 0; i < count; ++i) {
    bool updated = signature.operands[specOfOperand(signature, i, count)].role == Role::Update;
    bytes += static_cast<double>(tensors_[i].bytes()) * (updated ? 2 : 1);
  }
  return bytes;
}

int64_t Bench::workspace() const {
  const Signature &signature = *findSignature(kernel_);
  std::vector<OperandType> types = typesOf(tensors_);
  check(matchLaunch(signature, types, attributes_));
  return workspaceBytes(signature, types, attributes_, {}, {Target::Kind::Cuda, 1});
}

std::vector<Tensor> Bench::copyOperands() {
  std::vector<Tensor> originals = tensors_;
  tensors_.clear();
  for (const Tensor &original : originals) {
    Tensor &copy = allocate(original.dtype, {original.dims, original.dims + original.rank});
    check(cudaMemcpy(copy.data, original.data, static_cast<size_t>(original.bytes()),
                     cudaMemcpyDeviceToDevice),
          "cudaMemcpy");
  }
  std::swap(originals, tensors_);
  return originals;
}

double Bench::median(const std::vector<std::vector<Tensor>> &sets, void *workspace,
                     int64_t bytes) const {
  const Kernel &kernel = *findKernel(kernel_);
  cudaStream_t stream = machine_.context.stream;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "cudaStreamBeginCapture");
  for (const std::vector<Tensor> &set : sets) {
    Launch launch{set,
                  attributes_,
                  {static_cast<std::byte *>(workspace), static_cast<size_t>(bytes)},
                  &machine_.context};
    check(kernel.run(launch));
  }
  check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  check(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
  cudaEvent_t begin = nullptr, end = nullptr;
  check(cudaEventCreate(&begin), "cudaEventCreate");
  check(cudaEventCreate(&end), "cudaEventCreate");
  std::vector<float> times;
  for (int i = 0; i < kWarmups + kRuns; ++i) {
    check(cudaEventRecord(begin, stream), "cudaEventRecord");
    check(cudaGraphLaunch(executable, stream), "cudaGraphLaunch");
    check(cudaEventRecord(end, stream), "cudaEventRecord");
    check(cudaEventSynchronize(end), "cudaEventSynchronize");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin, end), "cudaEventElapsedTime");
    if (i >= kWarmups)
      times.push_back(milliseconds);
  }
  check(cudaGraphExecDestroy(executable), "cudaGraphExecDestroy");
  check(cudaGraphDestroy(graph), "cudaGraphDestroy");
  check(cudaEventDestroy(begin), "cudaEventDestroy");
  check(cudaEventDestroy(end), "cudaEventDestroy");
  std::nth_element(times.begin(), times.begin() + kRuns / 2, times.end());
  return times[kRuns / 2] * 1e-3 / static_cast<double>(sets.size());
}

void Bench::run(const std::string &label, double count, double flops, double bytes) {
  bytes = bytes > 0 ? bytes : countBytes();
  int64_t scratch = workspace();
  void *memory = nullptr;
  check(cudaMalloc(&memory, static_cast<size_t>(std::max<int64_t>(scratch, 1))), "cudaMalloc");
  memory_.push_back(memory);
  const Kernel &kernel = *findKernel(kernel_);
  if (kernel.prepare)
    check(kernel.prepare({tensors_,
                          attributes_,
                          {static_cast<std::byte *>(memory), static_cast<size_t>(scratch)},
                          &machine_.context}));
  std::vector<std::vector<Tensor>> sets{tensors_};
  auto copies = static_cast<int64_t>(kPastCache / bytes);
  for (int64_t i = 0; i < std::min(copies, kMostCopies - 1); ++i)
    sets.push_back(copyOperands());
  double seconds = median(sets, memory, scratch);
  double floor = std::max(bytes / kBytesPerSecond, flops / kFlopsPerSecond);
  std::printf("%-26s %-30s %9.1f us %6.0f GB/s", std::string(kernel_).c_str(), label.c_str(),
              seconds * 1e6, bytes / seconds * 1e-9);
  if (flops > 0)
    std::printf(" %6.1f TFLOP/s", flops / seconds * 1e-12);
  else
    std::printf(" %14s", "");
  std::printf(" %4.0f%% x%-4.4g %8.3f ms\n", 100 * floor / seconds, count,
              count * (seconds - floor) * 1e3);
  std::fflush(stdout);
}

} // namespace switchyard::kernels::cuda
