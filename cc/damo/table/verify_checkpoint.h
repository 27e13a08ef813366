// SPDX-License-Identifier: Apache-2.0
//
// VerifyCheckpoint: whether a checkpoint, full or a delta, is whole.
#ifndef DAMO_TABLE_VERIFY_CHECKPOINT_H_
#define DAMO_TABLE_VERIFY_CHECKPOINT_H_

#include <string>

#include "damo/base/status.h"
#include "damo/table/verification.h"
#include "damo/table/verifier.h"

namespace damo {

// Looks for damage in the checkpoint in `directory` and in all that it builds on, and changes nothing: files,
// sizes and checksums against the descriptions, every checksum in the databases, the newest description
// against its manifest, whether the rows of the chain can be rows, are finite and as many as the manifest
// says, and whether the pages of its admission filters can be pages. Problems are found, not failures; a link
// of the chain that is missing is one, too. NotFound if `directory` itself is no checkpoint. `progress` may
// be null.
StatusOr<Verification> VerifyCheckpoint(const std::string& directory, const VerifyProgress& progress);

}  // namespace damo

#endif  // DAMO_TABLE_VERIFY_CHECKPOINT_H_
