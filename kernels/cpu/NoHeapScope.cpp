#include "kernels/cpu/NoHeapScope.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

namespace switchyard::kernels::cpu {

NoHeapScope::NoHeapScope() = default;
NoHeapScope::~NoHeapScope() = default;

} // namespace switchyard::kernels::cpu

#else

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace switchyard::kernels::cpu {
namespace {

constexpr int kSlabs = 256; // more threads inside scopes at once use malloc
constexpr size_t kSlabBytes = 4096;

struct Slab {
  alignas(64) std::byte memory[kSlabBytes] = {};
  /// Only the scope that holds the slab reads and writes it.
  size_t used = 0;
  std::atomic<int32_t> alive{0};
  std::atomic<bool> held{false};
};

constinit Slab slabs[kSlabs];

// The slab of the scope that this thread is in, and the one it held last.
constinit thread_local Slab *current = nullptr;
constinit thread_local int preferred = -1;
constinit std::atomic<int> nextPreferred{0};

void *allocateFromSlab(Slab &slab, size_t bytes) {
  if (bytes > kSlabBytes)
    return nullptr;
  size_t rounded = (bytes + 15) / 16 * 16;
  if (rounded > kSlabBytes - slab.used)
    return nullptr;
  void *memory = slab.memory + slab.used;
  slab.used += rounded;
  slab.alive.fetch_add(1, std::memory_order_relaxed);
  return memory;
}

/// The slab that holds `memory`, or null.
Slab *slabOf(void *memory) {
  auto offset = reinterpret_cast<uintptr_t>(memory) - reinterpret_cast<uintptr_t>(slabs);
  return offset < sizeof slabs ? &slabs[offset / sizeof(Slab)] : nullptr;
}

} // namespace

NoHeapScope::NoHeapScope() {
  if (current) // nested: the outer scope goes on
    return;
  if (preferred < 0)
    preferred = nextPreferred.fetch_add(1, std::memory_order_relaxed) % kSlabs;
  for (int i = 0; i < kSlabs; ++i) {
    Slab &slab = slabs[(preferred + i) % kSlabs];
    if (slab.held.exchange(true, std::memory_order_acquire))
      continue;
    // What is alive may be what a library keeps for good.
    if (slab.alive.load(std::memory_order_acquire) != 0) {
      slab.held.store(false, std::memory_order_release);
      continue;
    }
    slab.used = 0;
    preferred = (preferred + i) % kSlabs;
    current = &slab;
    return;
  }
}

NoHeapScope::~NoHeapScope() {
  if (!current)
    return;
  current->held.store(false, std::memory_order_release);
  current = nullptr;
}

namespace {

void *allocate(size_t bytes) {
  if (current)
    if (void *memory = allocateFromSlab(*current, bytes))
      return memory;
  for (;;) {
    if (void *memory = std::malloc(bytes ? bytes : 1))
      return memory;
    std::new_handler handler = std::get_new_handler();
    if (!handler)
      throw std::bad_alloc();
    handler();
  }
}

void release(void *memory) {
  if (Slab *slab = slabOf(memory))
    slab->alive.fetch_sub(1, std::memory_order_release);
  else
    std::free(memory);
}

} // namespace
} // namespace switchyard::kernels::cpu

// The array, nothrow and sized forms of the standard library call these two; the aligned ones do
// not, and stay as they are.
void *operator new(std::size_t bytes) {
  return switchyard::kernels::cpu::allocate(bytes);
}
void operator delete(void *memory) noexcept {
  switchyard::kernels::cpu::release(memory);
}
void operator delete(void *memory, std::size_t) noexcept {
  switchyard::kernels::cpu::release(memory);
}

#endif
