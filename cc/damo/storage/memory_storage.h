// SPDX-License-Identifier: Apache-2.0
//
// A Storage in a sorted map: the plain twin of RocksDbStorage, for tests and as oracle. Nothing reaches a
// disk.
#ifndef DAMO_STORAGE_MEMORY_STORAGE_H_
#define DAMO_STORAGE_MEMORY_STORAGE_H_

#include <memory>

#include "damo/storage/storage.h"

namespace damo {

std::unique_ptr<Storage> NewMemoryStorage();

}  // namespace damo

#endif  // DAMO_STORAGE_MEMORY_STORAGE_H_
