// SPDX-License-Identifier: Apache-2.0
#include "damo/table/verify_checkpoint.h"

#include <memory>
#include <utility>

#include "damo/checkpoint/checkpoint_chain.h"
#include "damo/table/described_groups.h"

namespace damo {
namespace {

StatusOr<Verifier::Groups> ExpectedGroups(const Manifest& manifest) {
  Verifier::Groups groups;
  for (const auto& [number, config] : manifest.configs) {
    StatusOr<std::shared_ptr<const GroupRecipe>> recipe =
        MakeGroupRecipe(config, /*store_ttl_seconds=*/std::nullopt);
    if (!recipe.ok()) return recipe.status().WithContext(StrCat("group ", number));
    groups[number] = {std::move(*recipe), manifest.states.at(number).num_rows,
                      manifest.released.count(number) != 0};
  }
  return groups;
}

// A checkpoint of which no row can be read.
Verification WithProblem(const Status& failure) {
  Verification found;
  found.AddProblem(failure.message());
  return found;
}

StatusOr<Verification> VerifyChain(CheckpointChain& chain, const VerifyProgress& progress) {
  const StatusOr<Manifest> manifest = LoadOrCreateManifest(chain.newest(), std::nullopt, /*read_only=*/true);
  if (!manifest.ok()) return WithProblem(manifest.status());
  StatusOr<Verifier::Groups> groups = ExpectedGroups(*manifest);
  if (!groups.ok()) return WithProblem(groups.status());
  Verifier verifier(std::move(*groups), progress);
  verifier.AddOutcome("checkpoint", CheckDescribedGroups(chain.description(), *manifest));
  DAMO_RETURN_IF_ERROR(chain.VerifyFiles(
      [&](const std::string& name, const Status& outcome) { return verifier.AddFile(name, outcome); }));
  DAMO_RETURN_IF_ERROR(verifier.VerifyFilters(chain.newest()));
  DAMO_RETURN_IF_ERROR(verifier.VerifyGroups([&](int group, const ScanVisitor& visit) -> Status {
    const std::unique_ptr<RowCursor> rows = chain.NewCursor(static_cast<uint8_t>(group));
    while (rows->Next()) DAMO_RETURN_IF_ERROR(visit(rows->key(), rows->row()));
    return rows->status();
  }));
  return verifier.TakeFound();
}

}  // namespace

StatusOr<Verification> VerifyCheckpoint(const std::string& directory, const VerifyProgress& progress) {
  const auto verify = [&]() -> StatusOr<Verification> {
    const Status described = ReadDescription(directory).status();
    if (described.code() == StatusCode::kNotFound) return described;
    const StatusOr<std::unique_ptr<CheckpointChain>> chain = CheckpointChain::Open(directory);
    if (!chain.ok()) return WithProblem(chain.status());
    return VerifyChain(**chain, progress);
  };
  StatusOr<Verification> found = verify();
  if (!found.ok()) return found.status().WithContext(StrCat("verify checkpoint '", directory, "'"));
  return found;
}

}  // namespace damo
