// Keeps a library's small allocations off the heap while a thread is inside a scope.
//
// Why: a training step makes no heap allocation, so that its time and its memory are what the plan
// says. oneDNN's execute call builds a map of its arguments with six to eight operator new of some
// 300 bytes together and frees them before it returns; its scratchpad is ours, the map is not.
//
// How: NoHeapScope.cpp replaces the global operator new and operator delete. Outside a scope they
// are malloc and free. Inside, an allocation comes from a fixed slab that the scope holds; operator
// delete knows a slab's address wherever it is called from. A scope takes a slab in which nothing
// is alive, and uses it from its start: oneDNN makes some of its kernels in the first call that
// needs them, and keeps them. What does not fit goes to malloc. Under AddressSanitizer, which
// replaces operator new itself, a scope does nothing.
#pragma once

namespace switchyard::kernels::cpu {

class NoHeapScope {
public:
  NoHeapScope();
  ~NoHeapScope();
  NoHeapScope(const NoHeapScope &) = delete;
  NoHeapScope &operator=(const NoHeapScope &) = delete;
};

} // namespace switchyard::kernels::cpu
