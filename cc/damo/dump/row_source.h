// SPDX-License-Identifier: Apache-2.0
//
// RowSource: rows on their way into a store, in order.
#ifndef DAMO_DUMP_ROW_SOURCE_H_
#define DAMO_DUMP_ROW_SOURCE_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "damo/base/status.h"

namespace damo {

struct ImportedRow {
  uint8_t group;
  uint64_t key;
  std::string_view bytes;  // the stored form
};

// Thread-compatible.
class RowSource {
 public:
  virtual ~RowSource() = default;
  // The next row, in ascending order of (group, key), equal ones allowed; nullopt after the last. Its bytes
  // are valid until the next call.
  virtual StatusOr<std::optional<ImportedRow>> Next() = 0;
};

}  // namespace damo

#endif  // DAMO_DUMP_ROW_SOURCE_H_
