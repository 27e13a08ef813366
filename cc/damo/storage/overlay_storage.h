// SPDX-License-Identifier: Apache-2.0
//
// A read-only storage with rows of one's own on top: what a reader finds in a writer's redo log. They take no
// more memory than the storage that they are in, and nobody else sees them.
#ifndef DAMO_STORAGE_OVERLAY_STORAGE_H_
#define DAMO_STORAGE_OVERLAY_STORAGE_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "damo/storage/storage.h"
#include "damo/storage/temporary_directory.h"

namespace damo {

// The storage on top.
struct OverlayTop {
  std::unique_ptr<TemporaryDirectory> directory;  // goes after what is in it; null: there is none
  std::unique_ptr<Storage> rows;
};
using MakeOverlayTop = std::function<StatusOr<OverlayTop>()>;

// A Storage that shows the rows of `base`, and in the place of those with the same keys, or beside them, the
// rows of its sorted batches. These go to a storage that `make_top` makes for the first of them. A sorted
// batch takes no deletions and no manifest values (Internal), and its failures are FailedPrecondition, so
// that nobody takes them for the base's; no other call may run while one is committed. All else is done by
// `base`: the manifest, files and their checksums, bytes on disk.
std::unique_ptr<Storage> NewOverlayStorage(std::unique_ptr<Storage> base, MakeOverlayTop make_top);

// A RocksDB database in a TemporaryDirectory, with so much memory, at least
// RocksDbStorageOptions::kMinMemoryBudget.
StatusOr<OverlayTop> MakeTemporaryTop(int64_t memory_budget);

}  // namespace damo

#endif  // DAMO_STORAGE_OVERLAY_STORAGE_H_
