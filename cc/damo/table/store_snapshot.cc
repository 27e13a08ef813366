// SPDX-License-Identifier: Apache-2.0
#include "damo/table/store_snapshot.h"

namespace damo {

Status StoreSnapshot::Scan(int group, const ScanVisitor& visit) const {
  return groups_.count(group) == 0 ? Status() : rows_->Scan(static_cast<uint8_t>(group), visit);
}

}  // namespace damo
