// SPDX-License-Identifier: Apache-2.0
#include "damo/table/store_snapshot.h"

namespace damo {

Status StoreSnapshot::Scan(int group, const ScanVisitor& visit) const {
  const auto it = groups_.find(group);
  if (it == groups_.end()) return Status();
  const std::vector<StoredRow>& newer = it->second.newer_rows;
  size_t next = 0;
  const auto merge = [&](uint64_t key, std::string_view row) -> Status {
    for (; next < newer.size() && newer[next].key < key; ++next) {
      DAMO_RETURN_IF_ERROR(visit(newer[next].key, newer[next].bytes));
    }
    if (next == newer.size() || newer[next].key != key) return visit(key, row);
    return visit(key, newer[next++].bytes);
  };
  DAMO_RETURN_IF_ERROR(rows_->Scan(static_cast<uint8_t>(group), merge));
  for (; next < newer.size(); ++next) DAMO_RETURN_IF_ERROR(visit(newer[next].key, newer[next].bytes));
  return Status();
}

}  // namespace damo
