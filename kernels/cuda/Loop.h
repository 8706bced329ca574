// A loop in a CUDA graph whose trip count is data on the device: a conditional node (CUDA 12.4).
#pragma once

#include "kernels/cuda/Kernels.h"

#include <functional>

namespace switchyard::kernels::cuda {

/// While `stream` records a graph: adds to it what `body` puts on `bodyStream`, to be done *trips
/// times when the graph is replayed, with *turn = 1, 2, ...; both are read then, and are the
/// device's. The body's work is kernels, copies and fills on the device; it starts behind what
/// `stream` has so far, and waits for no event. Fails as `body` does.
Fault recordLoop(cudaStream_t stream, cudaStream_t bodyStream, const int32_t *trips, int32_t *turn,
                 const std::function<Fault()> &body);

} // namespace switchyard::kernels::cuda
