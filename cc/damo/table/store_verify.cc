// SPDX-License-Identifier: Apache-2.0
//
// Store::Verify(): reads every file and every row, and goes on after each problem.
#include <memory>
#include <string>
#include <utility>

#include "damo/checkpoint/description.h"
#include "damo/storage/directory.h"
#include "damo/table/described_groups.h"
#include "damo/table/store.h"

namespace damo {
namespace {

Verifier::Groups ExpectedGroups(const StoreSnapshot& snapshot) {
  Verifier::Groups groups;
  for (const auto& [number, group] : snapshot.groups()) {
    groups[number] = {group.recipe, group.state.num_rows, group.rows_released};
  }
  return groups;
}

// Of a store that is a checkpoint: whether it is what its description says.
Status CheckDescription(Storage& storage, const std::string& directory) {
  DAMO_ASSIGN_OR_RETURN(const CheckpointDescription description, ReadDescription(directory));
  DAMO_RETURN_IF_ERROR(CheckFiles(description, directory));
  DAMO_ASSIGN_OR_RETURN(const Manifest manifest,
                        LoadOrCreateManifest(storage, std::nullopt, /*read_only=*/true));
  return CheckDescribedGroups(description, manifest);
}

}  // namespace

StatusOr<Verification> Store::Verify(const VerifyProgress& progress) const {
  const auto verify = [&]() -> StatusOr<Verification> {
    DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<StoreSnapshot> snapshot, TakeSnapshot());
    Verifier verifier(ExpectedGroups(*snapshot), progress);
    {
      DAMO_ASSIGN_OR_RETURN(const StoreSession::Use storage, session_->BeginRead());
      if (HasCheckpoint(directory())) {
        verifier.AddOutcome("checkpoint", CheckDescription(*storage, directory()));
      }
      DAMO_RETURN_IF_ERROR(storage->VerifyFiles(
          [&](const std::string& name, const Status& outcome) { return verifier.AddFile(name, outcome); }));
      DAMO_RETURN_IF_ERROR(verifier.VerifyFilters(*storage));
    }
    const auto scan = [&](int group, const ScanVisitor& visit) {
      const bool is_known = snapshot->groups().count(group) != 0;
      return is_known ? snapshot->Scan(group, visit)
                      : snapshot->stored().Scan(static_cast<uint8_t>(group), visit);
    };
    DAMO_RETURN_IF_ERROR(verifier.VerifyGroups(scan));
    return verifier.TakeFound();
  };
  StatusOr<Verification> found = verify();
  if (!found.ok()) return found.status().WithContext(StrCat("verify store '", directory(), "'"));
  return found;
}

}  // namespace damo
