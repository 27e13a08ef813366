// SPDX-License-Identifier: Apache-2.0
//
// GradientRows: where the gradients of a call's keys lie. Keys of one bag share the gradient of their bag,
// each times a factor of its own, so that there never is an array of one gradient per key.
#ifndef DAMO_TABLE_GRADIENT_ROWS_H_
#define DAMO_TABLE_GRADIENT_ROWS_H_

#include <cstddef>
#include <cstdint>

namespace damo {

// Borrows what it points to. The gradient of the key at position i is row(i)[j] * coefficient(i), for each j.
struct GradientRows {
  // Where a key's gradient comes from.
  struct Source {
    uint32_t row;
    float factor;
  };

  const char* first;  // row i begins stride_bytes * i behind it, aligned for float
  size_t stride_bytes;
  float scale;                      // every gradient is multiplied by it
  const Source* sources = nullptr;  // of each position; null: position i has row i, and factor 1

  const float* row(size_t position) const {
    const size_t i = sources == nullptr ? position : sources[position].row;
    return reinterpret_cast<const float*>(first + i * stride_bytes);
  }
  float coefficient(size_t position) const {
    return sources == nullptr ? scale : sources[position].factor * scale;
  }
};

}  // namespace damo

#endif  // DAMO_TABLE_GRADIENT_ROWS_H_
