#include "runtime/comm/mpi/MpiCommunicator.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>

namespace switchyard {
namespace {

std::optional<int> integerOf(const char *variable) {
  const char *text = std::getenv(variable);
  if (!text)
    return std::nullopt;
  int value = 0;
  auto [end, error] = std::from_chars(text, text + std::strlen(text), value);
  if (error != std::errc() || *end != 0)
    return std::nullopt;
  return value;
}

} // namespace

std::optional<MpiPlace> mpiPlace() {
  // Open MPI's own; PMI is MPICH's and srun's.
  constexpr const char *kVariables[][3] = {
      {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"},
      {"PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"}};
  for (const auto &[rankVariable, sizeVariable, hostVariable] : kVariables) {
    std::optional<int> rank = integerOf(rankVariable);
    std::optional<int> size = integerOf(sizeVariable);
    if (rank && size && *rank >= 0 && *rank < *size)
      return MpiPlace{*rank, *size, std::clamp(integerOf(hostVariable).value_or(*size), 1, *size)};
  }
  return std::nullopt;
}

} // namespace switchyard
