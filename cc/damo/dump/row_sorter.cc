// SPDX-License-Identifier: Apache-2.0
#include "damo/dump/row_sorter.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <queue>
#include <tuple>
#include <utility>

#include "damo/base/endian.h"

namespace damo {
namespace {

// A row in the file: uint64 key, uint32 size, uint8 group, then its bytes. Never read by another process.
constexpr size_t kRunHeaderBytes = 13;

constexpr size_t kLeastRunBufferBytes = size_t{4} << 10;
constexpr size_t kWriteBytes = size_t{1} << 20;

std::tuple<uint8_t, uint64_t> OrderOf(const ImportedRow& row) { return {row.group, row.key}; }

}  // namespace

// ---- sources ----

class RowSorter::MemorySource final : public RowSource {
 public:
  explicit MemorySource(const RowSorter& sorter) : sorter_(sorter) {}

  StatusOr<std::optional<ImportedRow>> Next() override {
    if (next_ == sorter_.entries_.size()) return std::optional<ImportedRow>();
    const Entry& entry = sorter_.entries_[next_++];
    const std::string_view bytes = std::string_view(sorter_.rows_).substr(entry.offset, entry.size);
    return std::optional<ImportedRow>({entry.group, entry.key, bytes});
  }

 private:
  const RowSorter& sorter_;
  size_t next_ = 0;
};

class RowSorter::RunSource final : public RowSource {
 public:
  RunSource(const RowSorter& sorter, const Run& run, size_t buffer_bytes)
      : reader_(sorter.file_.fd(), sorter.options_.directory, run.begin, run.end, buffer_bytes) {}

  StatusOr<std::optional<ImportedRow>> Next() override {
    if (reader_.remaining() == 0) return std::optional<ImportedRow>();
    DAMO_ASSIGN_OR_RETURN(const std::string_view header, reader_.Take(kRunHeaderBytes));
    ImportedRow row{};
    row.key = LoadLittleEndian<uint64_t>(header.data());
    const auto size = LoadLittleEndian<uint32_t>(header.data() + 8);
    row.group = static_cast<uint8_t>(header[12]);
    DAMO_ASSIGN_OR_RETURN(row.bytes, reader_.Take(size));
    return std::optional<ImportedRow>(row);
  }

 private:
  RangeReader reader_;
};

// The rows of several sources; of equal ones, those of the earlier source come first.
class RowSorter::MergeSource final : public RowSource {
 public:
  explicit MergeSource(std::vector<std::unique_ptr<RowSource>> sources) : sources_(std::move(sources)) {}

  Status Begin() {
    for (size_t i = 0; i < sources_.size(); ++i) DAMO_RETURN_IF_ERROR(Pull(i));
    return Status();
  }

  StatusOr<std::optional<ImportedRow>> Next() override {
    if (last_) DAMO_RETURN_IF_ERROR(Pull(*last_));  // not before: the bytes of its last row were in use
    last_.reset();
    if (heads_.empty()) return std::optional<ImportedRow>();
    const Head head = heads_.top();
    heads_.pop();
    last_ = head.source;
    return std::optional<ImportedRow>(head.row);
  }

 private:
  struct Head {
    ImportedRow row;
    size_t source;
    bool operator>(const Head& other) const {
      return std::tuple_cat(OrderOf(row), std::tuple(source)) >
             std::tuple_cat(OrderOf(other.row), std::tuple(other.source));
    }
  };

  Status Pull(size_t source) {
    DAMO_ASSIGN_OR_RETURN(const std::optional<ImportedRow> row, sources_[source]->Next());
    if (row) heads_.push({*row, source});
    return Status();
  }

  const std::vector<std::unique_ptr<RowSource>> sources_;
  std::priority_queue<Head, std::vector<Head>, std::greater<>> heads_;
  std::optional<size_t> last_;  // whose row was returned last
};

// ---- sorter ----

Status RowSorter::Add(uint8_t group, uint64_t key, std::string_view row) {
  entries_.push_back({key, rows_.size(), static_cast<uint32_t>(row.size()), group});
  rows_.append(row);
  return rows_.size() + entries_.size() * sizeof(Entry) < options_.buffer_bytes ? Status() : Spill();
}

void RowSorter::SortEntries() {
  std::stable_sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.group, a.key) < std::tie(b.group, b.key);
  });
}

Status RowSorter::OpenFile() {
  const std::string& directory = options_.directory;
  if (mkdir(directory.c_str(), 0777) != 0 && errno != EEXIST) return FileError("create directory", directory);
  std::string path = directory + "/sort-XXXXXX";
  file_ = File(mkostemp(path.data(), O_CLOEXEC));
  if (!file_.is_open()) return FileError("create file", path);
  return unlink(path.c_str()) == 0 ? Status() : FileError("remove file", path);
}

Status RowSorter::Spill() {
  if (!file_.is_open()) DAMO_RETURN_IF_ERROR(OpenFile());
  SortEntries();
  Run run{file_bytes_, file_bytes_};
  std::string buffer;
  const auto write = [&]() -> Status {
    DAMO_RETURN_IF_ERROR(WriteAllAt(file_.fd(), buffer, run.end, options_.directory));
    run.end += buffer.size();
    buffer.clear();
    return Status();
  };
  for (const Entry& entry : entries_) {
    char header[kRunHeaderBytes];
    StoreLittleEndian<uint64_t>(entry.key, header);
    StoreLittleEndian<uint32_t>(entry.size, header + 8);
    header[12] = static_cast<char>(entry.group);
    buffer.append(header, sizeof(header)).append(rows_, entry.offset, entry.size);
    if (buffer.size() >= kWriteBytes) DAMO_RETURN_IF_ERROR(write());
  }
  DAMO_RETURN_IF_ERROR(write());
  file_bytes_ = run.end;
  runs_.push_back(run);
  entries_.clear();
  rows_.clear();
  return Status();
}

StatusOr<std::unique_ptr<RowSource>> RowSorter::Finish() {
  SortEntries();
  if (runs_.empty()) return std::unique_ptr<RowSource>(std::make_unique<MemorySource>(*this));
  const size_t run_buffer = std::max(kLeastRunBufferBytes, options_.merge_buffer_bytes / runs_.size());
  std::vector<std::unique_ptr<RowSource>> sources;
  for (const Run& run : runs_) sources.push_back(std::make_unique<RunSource>(*this, run, run_buffer));
  sources.push_back(std::make_unique<MemorySource>(*this));
  auto merged = std::make_unique<MergeSource>(std::move(sources));
  DAMO_RETURN_IF_ERROR(merged->Begin());
  return std::unique_ptr<RowSource>(std::move(merged));
}

}  // namespace damo
