// SPDX-License-Identifier: Apache-2.0
//
// CopyManifest: all values of a manifest, known or not, from one storage to another.
#ifndef DAMO_STORAGE_COPY_MANIFEST_H_
#define DAMO_STORAGE_COPY_MANIFEST_H_

#include "damo/base/status.h"
#include "damo/storage/storage.h"

namespace damo {

// In several batches, for it goes through memory. On failure some of it may be there.
Status CopyManifest(const StorageSnapshot& from, Storage& to);

}  // namespace damo

#endif  // DAMO_STORAGE_COPY_MANIFEST_H_
