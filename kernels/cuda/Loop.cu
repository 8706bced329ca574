// Loops in graphs: a kernel says before the first turn, and another behind each, whether there is
// another one.
#include "kernels/cuda/Loop.h"

namespace switchyard::kernels::cuda {
namespace {

__global__ void beginLoopKernel(const int32_t *trips, int32_t *turn,
                                cudaGraphConditionalHandle handle) {
  *turn = 1;
  cudaGraphSetConditional(handle, *trips >= 1);
}

__global__ void nextTurnKernel(const int32_t *trips, int32_t *turn,
                               cudaGraphConditionalHandle handle) {
  *turn += 1;
  cudaGraphSetConditional(handle, *turn <= *trips);
}

/// A graph under construction by a stream, and what the stream's next work depends on.
struct Capture {
  cudaGraph_t graph = nullptr;
  const cudaGraphNode_t *dependencies = nullptr;
  const cudaGraphEdgeData *edges = nullptr;
  size_t count = 0;
};

Fault captureOf(cudaStream_t stream, Capture &capture) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  unsigned long long id = 0;
#if CUDART_VERSION >= 13000
  cudaError_t error = cudaStreamGetCaptureInfo(
      stream, &status, &id, &capture.graph, &capture.dependencies, &capture.edges, &capture.count);
#else
  cudaError_t error = cudaStreamGetCaptureInfo_v3(
      stream, &status, &id, &capture.graph, &capture.dependencies, &capture.edges, &capture.count);
#endif
  if (error == cudaSuccess && status != cudaStreamCaptureStatusActive)
    return "a loop is recorded only while its stream records";
  return faultOf(error, "cudaStreamGetCaptureInfo");
}

/// Adds the conditional node behind what the stream has, and makes the stream go on behind it.
Fault addLoopNode(cudaStream_t stream, cudaGraphConditionalHandle handle, cudaGraph_t &body) {
  Capture capture;
  if (Fault fault = captureOf(stream, capture))
    return fault;
  cudaGraphNodeParams params{};
  params.type = cudaGraphNodeTypeConditional;
  params.conditional.handle = handle;
  params.conditional.type = cudaGraphCondTypeWhile;
  params.conditional.size = 1;
  cudaGraphNode_t node = nullptr;
#if CUDART_VERSION >= 13000
  cudaError_t error = cudaGraphAddNode(&node, capture.graph, capture.dependencies, capture.edges,
                                       capture.count, &params);
#else
  cudaError_t error = cudaGraphAddNode_v2(&node, capture.graph, capture.dependencies, capture.edges,
                                          capture.count, &params);
#endif
  if (Fault fault = faultOf(error, "cudaGraphAddNode of a loop"))
    return fault;
  body = params.conditional.phGraph_out[0];
#if CUDART_VERSION >= 13000
  error = cudaStreamUpdateCaptureDependencies(stream, &node, nullptr, 1,
                                              cudaStreamSetCaptureDependencies);
#else
  error = cudaStreamUpdateCaptureDependencies(stream, &node, 1, cudaStreamSetCaptureDependencies);
#endif
  return faultOf(error, "cudaStreamUpdateCaptureDependencies");
}

/// Records the body, and the kernel behind it.
Fault recordBody(cudaGraph_t graph, cudaStream_t stream, const int32_t *trips, int32_t *turn,
                 cudaGraphConditionalHandle handle, const std::function<Fault()> &body) {
  if (Fault fault = faultOf(cudaStreamBeginCaptureToGraph(stream, graph, nullptr, nullptr, 0,
                                                          cudaStreamCaptureModeThreadLocal),
                            "cudaStreamBeginCaptureToGraph"))
    return fault;
  Fault fault = body();
  if (!fault) {
    nextTurnKernel<<<1, 1, 0, stream>>>(trips, turn, handle);
    fault = launchFault("the next turn of a loop");
  }
  cudaGraph_t recorded = nullptr; // is `graph`
  Fault ended = faultOf(cudaStreamEndCapture(stream, &recorded), "cudaStreamEndCapture");
  return fault ? fault : ended;
}

} // namespace

Fault recordLoop(cudaStream_t stream, cudaStream_t bodyStream, const int32_t *trips, int32_t *turn,
                 const std::function<Fault()> &body) {
  Capture capture;
  if (Fault fault = captureOf(stream, capture))
    return fault;
  cudaGraphConditionalHandle handle = 0;
  if (Fault fault = faultOf(
          cudaGraphConditionalHandleCreate(&handle, capture.graph, 0, cudaGraphCondAssignDefault),
          "cudaGraphConditionalHandleCreate"))
    return fault;
  beginLoopKernel<<<1, 1, 0, stream>>>(trips, turn, handle);
  if (Fault fault = launchFault("the beginning of a loop"))
    return fault;
  cudaGraph_t graph = nullptr;
  if (Fault fault = addLoopNode(stream, handle, graph))
    return fault;
  return recordBody(graph, bodyStream, trips, turn, handle, body);
}

} // namespace switchyard::kernels::cuda
