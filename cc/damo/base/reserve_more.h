// SPDX-License-Identifier: Apache-2.0
//
// ReserveMore: room in a vector before something that must not fail for want of it.
#ifndef DAMO_BASE_RESERVE_MORE_H_
#define DAMO_BASE_RESERVE_MORE_H_

#include <algorithm>
#include <cstddef>
#include <vector>

namespace damo {

// Makes room for `n` elements more, and for as many again as there was room for: asked for one element at a
// time, it copies no more than push_back() would.
template <typename T>
void ReserveMore(std::vector<T>& elements, size_t n) {
  const size_t needed = elements.size() + n;
  if (needed > elements.capacity()) elements.reserve(std::max(needed, 2 * elements.capacity()));
}

}  // namespace damo

#endif  // DAMO_BASE_RESERVE_MORE_H_
