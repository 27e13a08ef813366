// SPDX-License-Identifier: Apache-2.0
//
// RowOrder: holds a sorted batch to its order. Checked always: a row out of order would be hidden by another.
#ifndef DAMO_STORAGE_ROW_ORDER_H_
#define DAMO_STORAGE_ROW_ORDER_H_

#include <cstdint>
#include <optional>
#include <utility>

#include "damo/base/status.h"

namespace damo {

class RowOrder {
 public:
  // Internal, and no change, unless (group, key) comes after all that was added before.
  Status Add(uint8_t group, uint64_t key) {
    const std::pair<uint8_t, uint64_t> next(group, key);
    if (last_ && *last_ >= next) {
      return Internal("rows of a sorted batch must be in strictly ascending order. Received: group ",
                      int{group}, " key ", key, " after group ", int{last_->first}, " key ", last_->second);
    }
    last_ = next;
    return Status();
  }

 private:
  std::optional<std::pair<uint8_t, uint64_t>> last_;
};

}  // namespace damo

#endif  // DAMO_STORAGE_ROW_ORDER_H_
