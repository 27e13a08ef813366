// SPDX-License-Identifier: Apache-2.0
#include "damo/dump/load_dump.h"

#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "damo/dump/dump_reader.h"
#include "damo/dump/row_sorter.h"
#include "damo/storage/directory.h"

namespace damo {
namespace {

using FreshRows = std::map<int64_t, FreshRow>;  // by group

// Rows for each group that the file and the store have.
StatusOr<FreshRows> MakeFreshRows(const Store& store, const DumpHeader& header) {
  FreshRows rows;
  const int64_t now_millis = store.NowMillis();
  for (size_t group = 0; group < kDumpGroups; ++group) {
    if (header.dims[group] == 0) continue;
    const auto table = store.Table(static_cast<int64_t>(group));
    if (table.status().code() == StatusCode::kNotFound && header.counts[group] == 0) continue;
    DAMO_RETURN_IF_ERROR(table.status());
    if ((*table)->dim() != header.dims[group]) {
      return InvalidArgument("group ", group, " has dim ", (*table)->dim(), " in the store, ",
                             header.dims[group], " in the file");
    }
    rows.emplace(group, FreshRow((*table)->recipe()->layout, now_millis));
  }
  return rows;
}

int64_t NumRecords(const DumpHeader& header) {
  return static_cast<int64_t>(std::accumulate(header.counts.begin(), header.counts.end(), uint64_t{0}));
}

// Checks every record. Returns whether they are in ascending order.
StatusOr<bool> CheckRecords(DumpReader& reader, const RowProgress& progress) {
  bool ascending = true;
  const auto report = [&progress](int64_t /*num_checked*/, int64_t num_total) {
    return progress ? progress(0, num_total) : Status();
  };
  RowReporter reporter(report, NumRecords(reader.header()));
  std::optional<std::pair<uint8_t, uint64_t>> last;
  for (;;) {
    DAMO_ASSIGN_OR_RETURN(const std::optional<DumpRecord> record, reader.Next());
    if (!record) return ascending;
    const Status finite = CheckFinite("weights", record->key, record->weights);
    if (!finite.ok()) return finite.WithContext(StrCat("offset ", reader.record_offset()));
    const std::pair<uint8_t, uint64_t> next(record->group, record->key);
    ascending = ascending && (!last || *last <= next);
    last = next;
    DAMO_RETURN_IF_ERROR(reporter.Add());
  }
}

// The rows of a source, reported as they pass.
class ReportedSource final : public RowSource {
 public:
  // Both are borrowed.
  ReportedSource(RowSource& source, RowReporter& reporter) : source_(source), reporter_(reporter) {}

  StatusOr<std::optional<ImportedRow>> Next() override {
    DAMO_ASSIGN_OR_RETURN(const std::optional<ImportedRow> row, source_.Next());
    DAMO_RETURN_IF_ERROR(row ? reporter_.Add() : reporter_.Report());
    return row;
  }

 private:
  RowSource& source_;
  RowReporter& reporter_;
};

class DumpSource final : public RowSource {
 public:
  DumpSource(DumpReader& reader, FreshRows& rows) : reader_(reader), rows_(rows) {}

  StatusOr<std::optional<ImportedRow>> Next() override {
    DAMO_ASSIGN_OR_RETURN(const std::optional<DumpRecord> record, reader_.Next());
    if (!record) return std::optional<ImportedRow>();
    FreshRow& row = rows_.at(record->group);
    return std::optional<ImportedRow>(
        {record->group, record->key, row.Make(record->group, record->key, record->weights)});
  }

 private:
  DumpReader& reader_;
  FreshRows& rows_;
};

StatusOr<int64_t> Load(Store& store, const std::string& path, ImportMode mode, const RowProgress& progress) {
  DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<DumpReader> reader, DumpReader::Open(path));
  DAMO_ASSIGN_OR_RETURN(FreshRows rows, MakeFreshRows(store, reader->header()));
  DAMO_ASSIGN_OR_RETURN(const bool ascending, CheckRecords(*reader, progress));
  reader->Rewind();
  std::vector<int64_t> groups;
  for (const auto& entry : rows) groups.push_back(entry.first);
  DumpSource source(*reader, rows);
  RowReporter reporter(progress, NumRecords(reader->header()));
  const auto import = [&](RowSource& in_order) -> StatusOr<int64_t> {
    ReportedSource reported(in_order, reporter);
    return ImportRows(store, groups, mode, reported);
  };
  if (ascending) return import(source);

  RowSorter::Options options;
  options.directory = store.directory() + "/" + kIngestFolder;
  RowSorter sorter(options);
  for (;;) {
    DAMO_ASSIGN_OR_RETURN(const std::optional<ImportedRow> row, source.Next());
    if (!row) break;
    DAMO_RETURN_IF_ERROR(sorter.Add(row->group, row->key, row->bytes));
  }
  DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<RowSource> sorted, sorter.Finish());
  return import(*sorted);
}

}  // namespace

StatusOr<int64_t> LoadDump(Store& store, const std::string& path, ImportMode mode,
                           const RowProgress& progress) {
  if (path.empty()) return InvalidArgument("`path` must be a path. Received: path=''");
  DAMO_RETURN_IF_ERROR(store.CheckWritable());
  StatusOr<int64_t> num_rows = Load(store, path, mode, progress);
  if (!num_rows.ok()) {
    return num_rows.status().WithContext(StrCat("load '", path, "' into store '", store.directory(), "'"));
  }
  return num_rows;
}

}  // namespace damo
