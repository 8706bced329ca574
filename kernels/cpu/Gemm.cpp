#include "kernels/cpu/Gemm.h"

#include "kernels/cpu/NoHeapScope.h"
#include "kernels/cpu/PlainProduct.h"

#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <unordered_map>
#include <utility>
#include <vector>

namespace switchyard::kernels::cpu {
namespace {

/// A handle of oneDNN's C interface, destroyed at the end.
template <typename T, dnnl_status_t (*Destroy)(T)>
class Handle {
public:
  Handle() = default;
  ~Handle() {
    if (value_)
      Destroy(value_);
  }
  Handle(Handle &&other) noexcept : value_(std::exchange(other.value_, nullptr)) {}
  Handle &operator=(Handle &&other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  T get() const { return value_; }
  T *out() { return &value_; }

private:
  T value_ = nullptr;
};

using Engine = Handle<dnnl_engine_t, dnnl_engine_destroy>;
using Stream = Handle<dnnl_stream_t, dnnl_stream_destroy>;
using Memory = Handle<dnnl_memory_t, dnnl_memory_destroy>;
using Attributes = Handle<dnnl_primitive_attr_t, dnnl_primitive_attr_destroy>;
using PostOps = Handle<dnnl_post_ops_t, dnnl_post_ops_destroy>;
using PrimitiveDesc = Handle<dnnl_primitive_desc_t, dnnl_primitive_desc_destroy>;
using Primitive = Handle<dnnl_primitive_t, dnnl_primitive_destroy>;

dnnl_data_type_t dataType(DType dtype) {
  return dtype == DType::BF16 ? dnnl_bf16 : dnnl_f32;
}

std::string describe(const GemmShape &shape) {
  return std::string(name(shape.input)) + " [" + std::to_string(shape.m) + ", " +
         std::to_string(shape.k) + "] x [" + std::to_string(shape.k) + ", " +
         std::to_string(shape.n) + "] -> " + std::string(name(shape.output));
}

bool isEmpty(const GemmShape &shape) {
  return shape.m == 0 || shape.n == 0 || shape.k == 0;
}

struct HashShape {
  size_t operator()(const GemmShape &shape) const {
    auto mix = [](uint64_t hash, uint64_t value) {
      return (hash ^ value) * 0x9e3779b97f4a7c15ull + (hash >> 29);
    };
    uint64_t flags = static_cast<uint64_t>(shape.input) | static_cast<uint64_t>(shape.output) << 2 |
                     uint64_t{shape.transposeA} << 4 | uint64_t{shape.transposeB} << 5 |
                     uint64_t{shape.accumulate} << 6;
    return mix(mix(mix(mix(0, flags), shape.m), shape.n), shape.k);
  }
};

dnnl_memory_desc_t denseMatrix(int64_t rows, int64_t columns, DType dtype, bool transposed,
                               dnnl_status_t &status) {
  dnnl_dims_t dims = {rows, columns};
  dnnl_dims_t strides = {transposed ? 1 : columns, transposed ? rows : 1};
  dnnl_memory_desc_t desc = {};
  if (status == dnnl_success)
    status = dnnl_memory_desc_init_by_strides(&desc, 2, dims, dataType(dtype), strides);
  return desc;
}

/// The four memories of one thread's call; a call only moves their pointers.
struct Arguments {
  Memory a, b, c, scratch;
};

/// Without a primitive it is a plain product.
struct Entry {
  Primitive primitive;
  std::vector<Arguments> ofThread;
};

/// Of instruction sets that oneDNN orders, the better ones have the others' bits.
bool hasInstructions(dnnl_cpu_isa_t set) {
  return (dnnl_get_effective_cpu_isa() & set) == set;
}

} // namespace

struct GemmCache::State {
  Engine engine;
  std::vector<Stream> streams;
  std::unordered_map<GemmShape, Entry, HashShape> entries;
  dnnl_status_t status = dnnl_success;

  /// Runs the calls until one fails.
  template <typename... Calls>
  static dnnl_status_t inTurn(const Calls &...calls) {
    dnnl_status_t status = dnnl_success;
    ((status = status == dnnl_success ? calls() : status), ...);
    return status;
  }

  dnnl_status_t create(const GemmShape &shape, Entry &entry, int64_t &scratchBytes);
};

bool allocatesInProducts(DType input) {
  if (input == DType::BF16) // plain products allocate nothing
    return hasInstructions(dnnl_cpu_isa_avx512_core) &&
           !hasInstructions(dnnl_cpu_isa_avx512_core_bf16);
  return !hasInstructions(dnnl_cpu_isa_avx512_core);
}

GemmCache::GemmCache(int threads) : state_(std::make_unique<State>()) {
  State &state = *state_;
  state.status = dnnl_engine_create(state.engine.out(), dnnl_cpu, 0);
  state.streams.resize(threads);
  for (Stream &stream : state.streams)
    if (state.status == dnnl_success)
      state.status =
          dnnl_stream_create(stream.out(), state.engine.get(), dnnl_stream_default_flags);
}

GemmCache::~GemmCache() = default;

dnnl_status_t GemmCache::State::create(const GemmShape &shape, Entry &entry,
                                       int64_t &scratchBytes) {
  dnnl_status_t described = dnnl_success;
  dnnl_memory_desc_t a = denseMatrix(shape.m, shape.k, shape.input, shape.transposeA, described);
  dnnl_memory_desc_t b = denseMatrix(shape.k, shape.n, shape.input, shape.transposeB, described);
  dnnl_memory_desc_t c = denseMatrix(shape.m, shape.n, shape.output, false, described);
  dnnl_matmul_desc_t matmul = {};
  Attributes attributes;
  PostOps postOps;
  PrimitiveDesc desc;
  dnnl_status_t result = inTurn(
      [&] { return described; },
      [&] { return dnnl_matmul_desc_init(&matmul, &a, &b, nullptr, &c); },
      [&] { return dnnl_primitive_attr_create(attributes.out()); },
      [&] {
        return dnnl_primitive_attr_set_scratchpad_mode(attributes.get(), dnnl_scratchpad_mode_user);
      },
      [&] { return dnnl_post_ops_create(postOps.out()); },
      [&] {
        return shape.accumulate ? dnnl_post_ops_append_sum(postOps.get(), 1.0f) : dnnl_success;
      },
      [&] { return dnnl_primitive_attr_set_post_ops(attributes.get(), postOps.get()); },
      [&] {
        return dnnl_primitive_desc_create(desc.out(), &matmul, attributes.get(), engine.get(),
                                          nullptr);
      },
      [&] { return dnnl_primitive_create(entry.primitive.out(), desc.get()); });
  if (result != dnnl_success)
    return result;
  const dnnl_memory_desc_t *scratch =
      dnnl_primitive_desc_query_md(desc.get(), dnnl_query_scratchpad_md, 0);
  scratchBytes = static_cast<int64_t>(dnnl_memory_desc_get_size(scratch));
  entry.ofThread.resize(streams.size());
  for (Arguments &arguments : entry.ofThread) {
    auto memory = [&](Memory &slot, const dnnl_memory_desc_t *layout) {
      return [&slot, layout, this] {
        return dnnl_memory_create(slot.out(), layout, engine.get(), DNNL_MEMORY_NONE);
      };
    };
    result = inTurn(memory(arguments.a, &a), memory(arguments.b, &b), memory(arguments.c, &c),
                    memory(arguments.scratch, scratch));
    if (result != dnnl_success)
      return result;
  }
  return dnnl_success;
}

std::optional<std::string> GemmCache::prepare(const GemmShape &shape) {
  if (isEmpty(shape) || state_->entries.contains(shape))
    return std::nullopt;
  omp_set_num_threads(1); // a primitive is made for the threads of the thread that makes it
  Entry entry;
  int64_t scratchBytes = 0;
  dnnl_status_t status = state_->status;
  if (status == dnnl_success)
    status = state_->create(shape, entry, scratchBytes);
  if (status == dnnl_unimplemented && shape.input == DType::BF16) {
    state_->entries.emplace(shape, Entry());
    return std::nullopt;
  }
  if (status == dnnl_unimplemented)
    return "oneDNN has no product " + describe(shape) + " on this machine";
  if (status != dnnl_success)
    return "oneDNN fails to prepare the product " + describe(shape) + " (dnnl_status_t " +
           std::to_string(status) + ")";
  if (scratchBytes > kGemmLibraryScratch)
    return "oneDNN wants " + std::to_string(scratchBytes) + " bytes of scratch for the product " +
           describe(shape) + ", the kernels' signatures grant " +
           std::to_string(kGemmLibraryScratch);
  state_->entries.emplace(shape, std::move(entry));
  return std::nullopt;
}

void GemmCache::run(const GemmShape &shape, const void *a, const void *b, void *c,
                    std::byte *scratch, int thread) const {
  if (isEmpty(shape)) {
    if (!shape.accumulate && shape.m > 0 && shape.n > 0)
      std::memset(c, 0, shape.m * shape.n * byteSize(shape.output));
    return;
  }
  auto found = state_->entries.find(shape);
  assert(found != state_->entries.end() && "a product that nobody prepared");
  if (!found->second.primitive.get())
    return runPlainProduct(shape, a, b, c);
  const Arguments &arguments = found->second.ofThread[thread];
  omp_set_num_threads(1);
  NoHeapScope noHeap;
  // oneDNN's interface has no const pointers; it does not write to a and b.
  dnnl_memory_set_data_handle(arguments.a.get(), const_cast<void *>(a));
  dnnl_memory_set_data_handle(arguments.b.get(), const_cast<void *>(b));
  dnnl_memory_set_data_handle(arguments.c.get(), c);
  dnnl_memory_set_data_handle(arguments.scratch.get(), scratch);
  const dnnl_exec_arg_t list[] = {{DNNL_ARG_SRC, arguments.a.get()},
                                  {DNNL_ARG_WEIGHTS, arguments.b.get()},
                                  {DNNL_ARG_DST, arguments.c.get()},
                                  {DNNL_ARG_SCRATCHPAD, arguments.scratch.get()}};
  dnnl_status_t status =
      dnnl_primitive_execute(found->second.primitive.get(), state_->streams[thread].get(), 4, list);
  if (status != dnnl_success) {
    // The shapes and pointers were prepared, so this is a fault inside the library.
    std::fprintf(stderr, "oneDNN failed in the product %lld x %lld x %lld\n",
                 static_cast<long long>(shape.m), static_cast<long long>(shape.n),
                 static_cast<long long>(shape.k));
    std::abort();
  }
}

} // namespace switchyard::kernels::cpu
