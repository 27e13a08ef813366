// SPDX-License-Identifier: Apache-2.0
#include "damo/storage/copy_manifest.h"

#include <memory>
#include <string_view>

namespace damo {
namespace {

// A batch is written when it has grown to about this size.
constexpr size_t kBatchBytes = size_t{1} << 20;

}  // namespace

Status CopyManifest(const StorageSnapshot& from, Storage& to) {
  std::unique_ptr<StorageBatch> batch = to.NewBatch();
  size_t num_bytes = 0;
  DAMO_RETURN_IF_ERROR(from.ScanManifest([&](std::string_view name, std::string_view value) -> Status {
    DAMO_RETURN_IF_ERROR(batch->PutManifest(name, value));
    num_bytes += name.size() + value.size();
    if (num_bytes < kBatchBytes) return Status();
    num_bytes = 0;
    DAMO_RETURN_IF_ERROR(to.Write(*batch));
    batch = to.NewBatch();
    return Status();
  }));
  return to.Write(*batch);
}

}  // namespace damo
