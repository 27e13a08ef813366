// SPDX-License-Identifier: Apache-2.0
#include "damo/dump/write_dump.h"

#include <cstring>
#include <memory>
#include <string_view>

#include "damo/dump/dump_format.h"
#include "damo/dump/output_file.h"
#include "damo/storage/directory.h"

namespace damo {
namespace {

// Appends the records of a group's rows to `file`; returns how many.
StatusOr<uint64_t> WriteGroup(const StoreSnapshot& snapshot, int group, const RowFilter& filter,
                              RowReporter& reporter, OutputFile& file) {
  const size_t weight_bytes = sizeof(float) * snapshot.groups().at(group).recipe->layout.dim();
  uint64_t num_rows = 0;
  const auto write = [&](const RowHeader& header, std::string_view row) -> Status {
    DAMO_ASSIGN_OR_RETURN(char* const record, file.Append(kDumpRecordHeaderBytes + weight_bytes));
    EncodeDumpRecordHeader(header.group, header.key, record);
    std::memcpy(record + kDumpRecordHeaderBytes, row.data() + kRowHeaderBytes, weight_bytes);
    ++num_rows;
    return reporter.Add();
  };
  DAMO_RETURN_IF_ERROR(VisitRows(snapshot, group, filter, write));
  return num_rows;
}

StatusOr<int64_t> WriteRows(const Store& store, std::optional<int64_t> only, const RowFilter& filter,
                            const RowProgress& progress, OutputFile& file) {
  DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<StoreSnapshot> snapshot, store.TakeSnapshot());
  int64_t num_total = 0;
  for (const auto& [group, content] : snapshot->groups()) {
    if (!only || *only == group) num_total += content.state.num_rows;
  }
  RowReporter reporter(progress, num_total);
  // How many rows there will be is known at the end: the header is written twice.
  DumpHeader header;
  DAMO_RETURN_IF_ERROR(file.Append(EncodeDumpHeader(header)));
  int64_t num_rows = 0;
  for (const auto& [group, content] : snapshot->groups()) {
    if (only && *only != group) continue;
    header.dims[group] = static_cast<int32_t>(content.recipe->config.dim);
    DAMO_ASSIGN_OR_RETURN(header.counts[group], WriteGroup(*snapshot, group, filter, reporter, file));
    num_rows += static_cast<int64_t>(header.counts[group]);
  }
  DAMO_RETURN_IF_ERROR(file.Overwrite(0, EncodeDumpHeader(header)));
  DAMO_RETURN_IF_ERROR(reporter.Report());
  return num_rows;
}

}  // namespace

StatusOr<int64_t> WriteDump(const Store& store, const std::string& path, std::optional<int64_t> group,
                            const RowFilter& filter, const RowProgress& progress) {
  if (path.empty()) return InvalidArgument("`path` must be a path. Received: path=''");
  DAMO_RETURN_IF_ERROR(filter.Validate());
  if (group) DAMO_RETURN_IF_ERROR(store.Table(*group).status());
  const auto write = [&]() -> StatusOr<int64_t> {
    DAMO_RETURN_IF_ERROR(CheckOutsideStore(path, store.directory()));
    DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<OutputFile> file, OutputFile::Create(path));
    DAMO_ASSIGN_OR_RETURN(const int64_t num_rows, WriteRows(store, group, filter, progress, *file));
    DAMO_RETURN_IF_ERROR(file->Finish());
    return num_rows;
  };
  StatusOr<int64_t> num_rows = write();
  if (!num_rows.ok()) {
    return num_rows.status().WithContext(StrCat("dump store '", store.directory(), "'"));
  }
  return num_rows;
}

}  // namespace damo
